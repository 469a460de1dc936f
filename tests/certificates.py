"""Certificate authorities and what they sign, made anew for each test."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from clients.gateway.dicom.tls import TlsFiles

_PEM = serialization.Encoding.PEM
_DAY = datetime.timedelta(days=1)
_LIFE = datetime.timedelta(hours=23)
"""Less than a day, also for whoever looks within the second in which it was made."""


class Authority:
    """A CA; its certificate and what it signs are PEM files in `folder`."""

    def __init__(self, folder: Path, name: str = "hospital") -> None:
        self._folder, self._name = folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}-ca.pem"
        builder = _builder(self._name, self._name, self._key, valid=(-_DAY, _LIFE))
        signed = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
            self._key, hashes.SHA256()
        )
        self.file.write_bytes(signed.public_bytes(_PEM))

    def issue(
        self, who: str, *, host: str = "127.0.0.1", expired: bool = False, trusts: Path | None = None
    ) -> TlsFiles:
        """A certificate for `who` at `host`; who has it trusts what is in `trusts`, by default this CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)])
        valid = (-3 * _DAY, -2 * _DAY) if expired else (-_DAY, _LIFE)
        names = [x509.DNSName(who), x509.IPAddress(ipaddress.ip_address(host))]
        signed = (
            _builder(name, self._name, key, valid)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        paths = self._folder / f"{who}.pem", self._folder / f"{who}.key"
        paths[0].write_bytes(signed.public_bytes(_PEM))
        paths[1].write_bytes(key_pem(key))
        return TlsFiles(cert=str(paths[0]), key=str(paths[1]), ca=str(trusts or self.file))


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    """A private key as PEM."""
    kind: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        kind = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, kind)


def _builder(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    valid: tuple[datetime.timedelta, datetime.timedelta],
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid[0])
        .not_valid_after(now + valid[1])
    )
