"""The text of a new gateway.toml: every key with a comment, and what `gateway init` was told.

Values come from a command line, so each is quoted as TOML wants it, and the text is parsed before it is used.
"""

from __future__ import annotations

import msgspec

from clients.gateway.config import parse_config
from clients.gateway.errors import ConfigError

_TEMPLATE = """\
# One hospital's gateway. Restart `trauma-transfer gateway run` after a change.

[site]
name = {name}          # what the other hospital and the patient read
place = ""             # town, for people
call = ""              # whom a patient may call with a question: a ward and its number
page = ""              # where the phone page is served, if not by the relay

[relay]
url = {relay}
{ca}ca_file = {ca_file}           # a CA of your own, PEM; else the machine's

[dicom]                # where scanners and the PACS send studies to
aet = {aet}
listen = {dicom}
allow_aets = {allow}   # calling AE titles that may send; empty: any, from this machine only
# allow_addresses = ["10.1.2.0/24"]   # and from where; anybody else is hung up on, unread
# tls_cert = ""         # DICOM over TLS, PEM files: our certificate with its chain,
# tls_key = ""          # its key, and the CA or the certificates of those who may send.
# tls_ca = ""           # All three, and nothing plain is taken any more; none: plain DICOM

[pages]                # desk and inbox for staff; only 127.0.0.1 without a certificate
listen = {http}
cert = {cert}
key = {key}

[metrics]              # /healthz, /readyz and /metrics for monitoring: no password, keep it on this machine
# listen = "127.0.0.1:9480"

{no_pacs}[pacs]                 # where studies from other hospitals are stored
{no_pacs}aet = {pacs_aet}
{no_pacs}address = {pacs}
{no_pacs}associations = 1       # 2 where the PACS allows it: faster
# commit = "auto"       # after the last image: the PACS is asked to answer for all, by storage commitment or else by
                        # query. "never": its answers to C-STORE are proof enough
# commit_seconds = 60   # how long its report may take
# tls_cert = ""         # the same towards the PACS; tls_ca: its CA, or its certificate
# tls_key = ""
# tls_ca = ""
# tls_name = ""         # whom its certificate names, if not the host above

# [[destinations]]      # another PACS, with the keys of [pacs] and a name
# name = "neuro"
# aet = "NEURO"
# address = "127.0.0.1:105"

# [[routes]]            # the first that matches counts; all else goes to "pacs" alone
# modality = ["MR"]     # and, or instead: body_part = ["HEAD"], sender = ["Valley ED"]
# to = ["pacs", "neuro"]

# [source]              # this hospital's PACS, from which staff get studies (C-FIND, C-MOVE or C-GET)
# aet = "PACS"
# address = "127.0.0.1:104"
# retrieve = "move"     # the PACS sends to dicom.aet above, and must know it; "get" where it may not

# [[prepare]]           # a study that all of this fits waits at the desk, prepared; staff make the offer
# to = "Lakeside"       # the paired site; * and ? in what follows stand for anything
# calling_aet = "CT*"   # also: station, modality, study_description, series_description
# study_description = "*polytrauma*"

[identity]                       # under which patient number a received study is filed
policy = {identity}              # "prefix": the sender's number behind the sender's code; "match": staff say who it
                                 # is here; "as-is": unchanged, for drills and tests
# issuer = "LAKESIDE"            # who gives out this hospital's numbers (IssuerOfPatientID), for "match"
# wait_seconds = 600             # "match": how long for staff before it goes as "prefix"; 0: until they have said it

# [worklist]                     # this hospital's modality worklist, where staff look for the patient; as [pacs]
# aet = "RIS"
# address = "127.0.0.1:105"

[hl7]                  # HL7 v2 by MLLP: plain text, inside the hospital only (docs/operate/gateway.md)
# listen = "127.0.0.1:2575"    # reports (ORU^R01) come in here and go with the images of their study
# allow = ["10.1.2.3"]         # who may send; needed for any other address than this machine's
# adt = "10.1.2.3:6661"        # who is told when staff learn who a patient is (ADT^A40, ADT^A08)
# facility = "LAKESIDE"        # MSH-4; adt_application and adt_facility are MSH-5 and MSH-6

[audit]                # a copy of the audit log as DICOM audit messages, to the hospital's repository
# syslog = "audit.example:6514"  # syslog over TLS only (RFC 5425)
# syslog_ca = ""               # its CA, PEM, if this machine does not know it
# syslog_cert = ""             # our certificate and key, if it asks for one
# syslog_key = ""

[policy]
offer_seconds = 7200   # how long the patient may take to answer
quiet_seconds = 60     # a study with no new image for so long is complete
prefetch_bytes = 21474836480   # sealed bytes to fetch before the yes, for all offers together
deadline_seconds = 7200        # after the last image was announced, how long the PACS may take
keep_seconds = 86400   # how long a study stays here after its last transfer ended
add_seconds = 86400    # how long late images and reports follow under the same yes; the person reads it; 0: not at all
# divert = "same-key"  # faster: a study that one hospital has opened goes to the next under the same key
"""


def render_config(
    *,
    name: str,
    relay: str,
    ca_file: str = "",
    aet: str = "TRAUMATX",
    dicom: str = "127.0.0.1:11112",
    allow_aets: tuple[str, ...] = (),
    http: str = "127.0.0.1:8480",
    http_cert: str = "",
    http_key: str = "",
    pacs: str = "",
    identity: str = "prefix",
) -> str:
    """The commented text of a new gateway.toml; `pacs` is AET@HOST:PORT. Raises `ConfigError`."""
    pacs_aet, _, pacs_address = pacs.rpartition("@")  # an AE title may hold an @, a host cannot
    if pacs and not (pacs_aet and pacs_address):
        raise ConfigError("The PACS is given as AET@HOST:PORT. Correct it and try again.")
    text = _TEMPLATE.format(
        name=_quote(name), relay=_quote(relay.rstrip("/")), ca="" if ca_file else "# ", ca_file=_quote(ca_file),
        aet=_quote(aet), dicom=_quote(dicom), allow="[" + ", ".join(map(_quote, allow_aets)) + "]",
        http=_quote(http), cert=_quote(http_cert), key=_quote(http_key), no_pacs="" if pacs else "# ",
        pacs_aet=_quote(pacs_aet or "PACS"), pacs=_quote(pacs_address or "127.0.0.1:104"),
        identity=_quote(identity),
    )  # fmt: skip
    parse_config(text)
    return text


def _quote(text: str) -> str:
    """A TOML basic string (the same escapes as JSON's). Raises `ConfigError` for what is no Unicode text."""
    try:
        return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
    except UnicodeEncodeError:
        raise ConfigError("A name or path is not UTF-8 text. Type it again.") from None
