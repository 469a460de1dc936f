"""`DIR/gateway.toml`: what a hospital decides. Written by `gateway init` with comments, read at each start,
strictly.

An unknown key or a value of the wrong type is a `ConfigError` that names the key. Secrets are not in it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from clients.gateway.errors import ConfigError
from clients.gateway.networks import networks_of
from clients.gateway.receiving.routing import DEFAULT, Name, Rule

AeTitle = Annotated[str, Meta(pattern=r"^(?! )[ -\[\]-~]{1,16}(?<! )\Z")]
"""PS3.5 6.2, value representation AE: up to 16 characters, no backslash, no control character."""
Address = Annotated[str, Meta(pattern=r"^[^\s:]*(:[^\s:]*)*:[0-9]{1,5}\Z", max_length=200)]
"""HOST:PORT."""
_LOCAL = ("127.0.0.1", "::1", "localhost")
OptionalAddress = Annotated[str, Meta(pattern=r"^([^\s:]*(:[^\s:]*)*:[0-9]{1,5})?\Z", max_length=200)]
Hl7Name = Annotated[str, Meta(pattern=r"^[ -~]{0,60}\Z")]
"""A name in MSH-3 to MSH-6."""


Networks = Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=64)]
"""Addresses or networks (CIDR)."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


class SiteSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=80)]
    place: Annotated[str, Meta(max_length=80)] = ""
    page: Annotated[str, Meta(pattern=r"^(https?://[^\s]*[^\s/])?\Z", max_length=200)] = ""
    call: Annotated[str, Meta(max_length=80)] = ""
    roles: Annotated[tuple[Literal["send", "receive"], ...], Meta(min_length=1, max_length=2)] = (
        "send",
        "receive",
    )


class RelaySection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    url: Annotated[str, Meta(pattern=r"^https?://[^\s/@?#]+\Z", max_length=200)]
    ca_file: str = ""


class TlsSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """DICOM over TLS: PEM files, all three or none."""

    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""


class CalledSection(TlsSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An application entity that we call."""

    aet: AeTitle
    address: Address
    tls_name: Annotated[str, Meta(pattern=r"^([^\s.][^\s]*)?\Z", max_length=253)] = ""


class DicomSection(TlsSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    aet: AeTitle = "TRAUMATX"
    listen: Address = "127.0.0.1:11112"
    allow_aets: tuple[AeTitle, ...] = ()
    allow_addresses: Networks = ()
    """Who may connect at all; empty: any address, and then the AE title decides."""
    max_associations: Annotated[int, Meta(ge=1, le=200)] = 20
    max_instance_bytes: Annotated[int, Meta(ge=2**16)] = 2**31
    min_free_bytes: Annotated[int, Meta(ge=0)] = 2**28


class PagesSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    listen: Address = "127.0.0.1:8480"
    cert: str = ""
    key: str = ""


class MetricsSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    listen: OptionalAddress = ""


class PacsSection(CalledSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    associations: Annotated[int, Meta(ge=1, le=4)] = 1
    commit: Literal["auto", "never"] = "auto"
    """Whether the PACS is asked, after the last image, to answer for all of them."""
    commit_seconds: Annotated[int, Meta(ge=1, le=3600)] = 60


class DestinationSection(PacsSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Another PACS, which `[[routes]]` may name."""

    name: Name


class IdentitySection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    policy: Literal["prefix", "match", "as-is"] = "prefix"
    issuer: Annotated[str, Meta(pattern=r"^[ -\[\]-~]*\Z", max_length=64)] = ""
    """Issuer of this hospital's own numbers (IssuerOfPatientID), for `match`."""
    wait_seconds: Annotated[int, Meta(ge=0, le=86400)] = 600
    """How long `match` waits for staff before it files as `prefix` does; 0: for as long as it takes."""


class WorklistSection(CalledSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The modality worklist (MWL) of the hospital's RIS."""


class Hl7Section(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    listen: OptionalAddress = ""
    allow: Networks = ()
    """Addresses or networks (CIDR) that may connect; needed wherever `listen` is not this machine only."""
    adt: OptionalAddress = ""
    application: Hl7Name = "TRAUMATX"
    facility: Hl7Name = ""
    adt_application: Hl7Name = ""
    adt_facility: Hl7Name = ""
    wait_seconds: Annotated[int, Meta(ge=60, le=30 * 86400)] = 86400


class SourceSection(CalledSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    retrieve: Literal["move", "get"] = "move"


Pattern = Annotated[str, Meta(max_length=64)]
"""With * and ? as a shell has them, without regard to case; empty: anything."""


class PrepareSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A study that all of this fits is prepared for a site; nothing is offered by itself."""

    to: Annotated[str, Meta(min_length=1, max_length=80)]
    reason: Literal["transfer", "consult", "drill"] = "transfer"
    calling_aet: Pattern = ""
    station: Pattern = ""
    modality: Pattern = ""
    study_description: Pattern = ""
    series_description: Pattern = ""


class AuditSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    syslog: OptionalAddress = ""
    """Who takes audit messages: syslog over TLS (RFC 5425)."""
    syslog_ca: str = ""
    syslog_cert: str = ""
    syslog_key: str = ""


class PolicySection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    offer_seconds: Annotated[int, Meta(ge=60, le=86400)] = 7200
    quiet_seconds: Annotated[int, Meta(ge=1, le=86400)] = 60
    prefetch_bytes: Annotated[int, Meta(ge=0)] = 20 * 2**30
    deadline_seconds: Annotated[int, Meta(ge=10, le=7 * 86400)] = 7200
    keep_seconds: Annotated[int, Meta(ge=0, le=30 * 86400)] = 86400
    add_seconds: Annotated[int, Meta(ge=0, le=7 * 86400)] = 86400
    """For how long late images and reports follow under the same yes, unless staff choose otherwise; 0: not at all."""
    divert: Literal["new-key", "same-key"] = "new-key"


class Config(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    site: SiteSection
    relay: RelaySection
    dicom: DicomSection = DicomSection()
    pages: PagesSection = PagesSection()
    metrics: MetricsSection = MetricsSection()
    pacs: PacsSection | None = None
    destinations: Annotated[tuple[DestinationSection, ...], Meta(max_length=8)] = ()
    routes: Annotated[tuple[Rule, ...], Meta(max_length=64)] = ()
    source: SourceSection | None = None
    prepare: Annotated[tuple[PrepareSection, ...], Meta(max_length=64)] = ()
    identity: IdentitySection = IdentitySection()
    worklist: WorklistSection | None = None
    hl7: Hl7Section = Hl7Section()
    audit: AuditSection = AuditSection()
    policy: PolicySection = PolicySection()


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT. Raises `ConfigError`."""
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(f"'{address}' is not HOST:PORT. Correct it and start again.")
    return host.strip("[]") or "127.0.0.1", int(port)


def load_config(folder: Path) -> Config:
    """The configuration of `folder`. Raises `ConfigError` with the key that is wrong."""
    path = folder / "gateway.toml"
    try:
        return parse_config(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError("There is no gateway in this folder. Make one with `gateway init DIR`.") from None
    except UnicodeDecodeError:
        raise ConfigError("gateway.toml is not UTF-8. Correct it and start again.") from None
    except OSError:
        raise ConfigError("gateway.toml cannot be read. Check its owner and rights.") from None


def parse_config(text: str) -> Config:
    """The configuration of a TOML text. Raises `ConfigError`."""
    try:
        config = msgspec.convert(tomllib.loads(text), Config)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as why:
        raise ConfigError(f"gateway.toml: {why}. Correct it and start again.") from None
    for key, url in (("relay.url", config.relay.url), ("site.page", config.site.page)):
        _check_url(key, url)
    split_address(config.dicom.listen)
    networks_of("dicom.allow_addresses", config.dicom.allow_addresses)
    _check_tls("dicom", config.dicom)
    _check_destinations(config)
    _check_source(config)
    if config.audit.syslog and not split_address(config.audit.syslog)[1]:
        raise ConfigError("audit.syslog needs the port of the receiver. Correct it and start again.")
    if bool(config.audit.syslog_cert) != bool(config.audit.syslog_key):
        raise ConfigError("audit.syslog_cert and audit.syslog_key belong together. Give both, or neither.")
    if config.worklist is not None:
        _check_tls("worklist", config.worklist)
        if not split_address(config.worklist.address)[1]:
            raise ConfigError("worklist.address needs the port of the worklist. Correct it and start again.")
    if config.metrics.listen:
        split_address(config.metrics.listen)
    _check_hl7(config.hl7)
    if config.pages.key and not config.pages.cert:
        raise ConfigError("pages.key is given without pages.cert. Give both, or neither.")
    host = split_address(config.pages.listen)[0]
    if not config.pages.cert and host not in _LOCAL:
        raise ConfigError(
            "The staff pages may leave this machine only with a certificate. "
            "Give pages.cert and pages.key, or listen on 127.0.0.1."
        )
    return config


def _check_url(key: str, url: str) -> None:
    """What the pattern lets through has a host, and a port that can be one (RFC 3986 3.2)."""
    try:
        parts = urlsplit(url)
        usable = not url or bool(parts.hostname and parts.port != 0)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{key} is no address of a server. Correct it and start again.")


def _check_destinations(config: Config) -> None:
    """Each PACS can be reached in principle, is there once, and every rule names one that is there."""
    named: dict[str, PacsSection] = {} if config.pacs is None else {DEFAULT: config.pacs}
    if (config.destinations or config.routes) and not named:
        raise ConfigError(
            "destinations and routes need [pacs], where all else goes. Give it and start again."
        )
    for i, given in enumerate(config.destinations):
        if given.name in named:
            raise ConfigError(
                f"destinations[{i}].name '{given.name}' is given twice. Correct it and start again."
            )
        named[given.name] = given
    seen: dict[tuple[str, str], str] = {}
    for name, pacs in named.items():
        section = DEFAULT if name == DEFAULT else f"destinations.{name}"
        if not split_address(pacs.address)[1]:
            raise ConfigError(f"{section}.address needs the port of the PACS. Correct it and start again.")
        _check_tls(section, pacs)
        if (other := seen.setdefault((pacs.aet, pacs.address), name)) != name:
            raise ConfigError(f"{section} is the same PACS as {other}. Name it once, and start again.")
    for i, rule in enumerate(config.routes):
        for to in rule.to:
            if to not in named:
                raise ConfigError(
                    f"routes[{i}].to names '{to}', and there is no such destination. Correct it and start again."
                )


def _check_hl7(given: Hl7Section) -> None:
    """HL7 is plain text without a password: beyond this machine only named peers may send."""
    networks_of("hl7.allow", given.allow)
    if given.listen and not given.allow and split_address(given.listen)[0] not in _LOCAL:
        raise ConfigError(
            "hl7.listen leaves this machine, so hl7.allow must say which addresses may send. Give them, or listen on"
            " 127.0.0.1."
        )
    if given.adt and not split_address(given.adt)[1]:
        raise ConfigError("hl7.adt needs the port of the interface. Correct it and start again.")


def _check_source(config: Config) -> None:
    """The archive can be reached in principle, and every rule that prepares says what it looks for."""
    if config.source is not None:
        if not split_address(config.source.address)[1]:
            raise ConfigError("source.address needs the port of the PACS. Correct it and start again.")
        _check_tls("source", config.source)
    for i, rule in enumerate(config.prepare):
        keys = (
            rule.calling_aet,
            rule.station,
            rule.modality,
            rule.study_description,
            rule.series_description,
        )
        if not any(keys):
            raise ConfigError(
                f"prepare[{i}] would fit every study. Say which: calling_aet, station, modality, study_description or"
                " series_description."
            )


def _check_tls(section: str, given: TlsSection) -> None:
    """TLS with certificates on both sides, or none: half of it would be thought to be all of it."""
    files = {"tls_cert": given.tls_cert, "tls_key": given.tls_key, "tls_ca": given.tls_ca}
    missing = " and ".join(f"{section}.{key}" for key, path in files.items() if not path)
    wanted = any(files.values()) or (isinstance(given, CalledSection) and given.tls_name)
    if wanted and missing:
        raise ConfigError(
            f"DICOM over TLS needs {missing} too. Give all three files, or none for plain DICOM."
        )
