"""DICOM over TLS, in both directions, with certificates on both sides (PS3.15 B.12, BCP 195: RFC 8996 and RFC 9325).

TLS 1.2 and 1.3 only; of 1.2 the suites with forward secrecy and authenticated encryption that RFC 9325 4.2
recommends. No fallback: a port that has TLS speaks nothing else, and an SCU that has it sends nothing without.

A peer is trusted if its certificate is in the file of trusted certificates, or is signed by one that is: the
file may hold the hospital's CA, or each peer's own certificate. The SCU also compares the name that it called,
since a CA signs for more machines than the PACS.

The files are named in gateway.toml and read where they are used, so a private key never goes through the door
to a child process.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Protocol

import msgspec
from cryptography import x509

from clients.gateway.errors import ConfigError

_SUITES = "ECDHE+AESGCM"
"""Of TLS 1.2, in OpenSSL's words; those of TLS 1.3 are all good."""
_MAX_FILE = 2**20


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Paths of PEM files: our certificate with its chain, its key, and whom we trust."""

    cert: str
    key: str
    ca: str
    name: str = ""
    """What the PACS's certificate is made out to, if not to the host that is called."""


class TlsSettings(Protocol):
    """A section of gateway.toml; `load_config` saw to it that there are all three files or none."""

    @property
    def tls_cert(self) -> str: ...
    @property
    def tls_key(self) -> str: ...
    @property
    def tls_ca(self) -> str: ...


def tls_files(given: TlsSettings, name: str = "") -> TlsFiles | None:
    """TLS as it is set."""
    if not given.tls_cert:
        return None
    return TlsFiles(cert=given.tls_cert, key=given.tls_key, ca=given.tls_ca, name=name)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For the SCP: who has no certificate that we trust does not come in. Raises `ConfigError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # each association shows its certificate
    return _filled(context, files, "dicom")


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """For the SCU: the PACS must have a certificate that we trust, made out to it. Raises `ConfigError`."""
    return _filled(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files, "pacs")


def ends_at(key: str, path: str) -> int:
    """When a certificate of ours ends, in seconds since 1970. Raises `ConfigError`, which names `key`."""
    try:
        return int(x509.load_pem_x509_certificates(_read(key, path))[0].not_valid_after_utc.timestamp())
    except ValueError:
        raise ConfigError(f"The file of {key} has no certificate in it.", code="dicom-tls") from None


def handshake_trouble(why: Exception) -> str:
    """Why a handshake that we began failed: a code of `TROUBLES`."""
    if isinstance(why, ssl.SSLCertVerificationError):
        return "pacs-certificate"
    reason = (why.reason or "") if isinstance(why, ssl.SSLError) else ""
    agreed = not reason.endswith(("_PROTOCOL_VERSION", "_HANDSHAKE_FAILURE"))
    return "pacs-tls-refused" if "ALERT" in reason and agreed else "pacs-tls"


def _filled(context: ssl.SSLContext, files: TlsFiles, section: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_SUITES)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a certificate in the file is trusted as it is
    for key, path in (("tls_cert", files.cert), ("tls_key", files.key), ("tls_ca", files.ca)):
        _read(f"{section}.{key}", path)  # OpenSSL does not say which of its files is missing
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_passphrase)
    except (OSError, _PassphraseError) as why:
        raise ConfigError(_why_no_identity(why, section), code="dicom-tls") from None
    try:
        context.load_verify_locations(files.ca)
    except OSError:
        raise ConfigError(
            f"{section}.tls_ca has no certificate in it. Give a PEM file with the CA's certificate, or the peers' own.",
            code="dicom-tls",
        ) from None
    return context


class _PassphraseError(Exception):
    """OpenSSL asks for a passphrase, and would ask on the terminal."""


def _no_passphrase() -> str:
    raise _PassphraseError


def _read(key: str, path: str) -> bytes:
    """A PEM file. Raises `ConfigError`, which names `key`."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_FILE + 1)
    except OSError:
        raise ConfigError(
            f"The file of {key} cannot be read. Check its path, owner and rights.", code="dicom-tls"
        ) from None
    if len(text) > _MAX_FILE or b"-----BEGIN " not in text:
        raise ConfigError(f"The file of {key} is no PEM file. Convert it to PEM.", code="dicom-tls")
    return text


def _why_no_identity(why: Exception, section: str) -> str:
    if isinstance(why, _PassphraseError):
        return f"{section}.tls_key has a passphrase. Give a key without one that only the gateway's user can read."
    if isinstance(why, ssl.SSLError) and why.reason == "KEY_VALUES_MISMATCH":
        return f"{section}.tls_key is not the key of {section}.tls_cert. Give the one that it was made for."
    if isinstance(why, ssl.SSLError) and (why.reason or "").endswith(("_TOO_SMALL", "_TOO_WEAK")):
        return f"{section}.tls_cert is too weak for TLS 1.2. Have a certificate of RSA 2048 or P-256 with SHA-256 made."
    return (
        f"{section}.tls_cert or tls_key cannot be used. Give a certificate and its private key, both as PEM."
    )
