"""What an administrator may give for DICOM over TLS, what is wrong with it in words, and whom it lets in."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from clients.gateway.dicom.statuses import TROUBLES
from clients.gateway.dicom.tls import TlsFiles, client_context, handshake_trouble, server_context
from clients.gateway.errors import ConfigError
from tests.certificates import Authority, key_pem


def refusal(files: TlsFiles) -> str:
    """The sentence, which is the same for both directions but for the section."""
    sentences = []
    for make in (server_context, client_context):
        with pytest.raises(ConfigError) as caught:
            make(files)
        assert caught.value.code == "dicom-tls"
        assert not caught.value.__cause__
        sentences.append(caught.value.sentence)
    assert sentences[0].replace("dicom.", "pacs.") == sentences[1]
    return sentences[1]


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_what_is_allowed_is_tls_with_certificates_on_both_sides(ca: Authority) -> None:
    server, client = server_context(ca.issue("gate")), client_context(ca.issue("gate"))
    for context in (server, client):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert {suite["protocol"] for suite in context.get_ciphers()} == {"TLSv1.2", "TLSv1.3"}
        assert all(
            "ECDHE" in suite["name"] and "GCM" in suite["name"]
            for suite in context.get_ciphers()
            if suite["protocol"] == "TLSv1.2"
        )
    assert client.check_hostname


@pytest.mark.parametrize("key", ["cert", "key", "ca"])
def test_each_file_that_is_missing_or_no_pem_is_named(ca: Authority, tmp_path: Path, key: str) -> None:
    good = ca.issue("gate")
    assert f"pacs.tls_{key} cannot be read" in refusal(msgspec.structs.replace(good, **{key: str(tmp_path)}))
    assert f"pacs.tls_{key} cannot be read" in refusal(
        msgspec.structs.replace(good, **{key: str(tmp_path / "x")})
    )
    (tmp_path / "der").write_bytes(b"\x30\x82\x01\x00" + bytes(256))
    assert f"pacs.tls_{key} is no PEM" in refusal(
        msgspec.structs.replace(good, **{key: str(tmp_path / "der")})
    )
    (tmp_path / "long").write_bytes(b"-----BEGIN " + bytes(2**20))
    assert f"pacs.tls_{key} is no PEM" in refusal(
        msgspec.structs.replace(good, **{key: str(tmp_path / "long")})
    )


def test_a_key_of_another_certificate(ca: Authority) -> None:
    assert "not the key of pacs.tls_cert" in refusal(
        msgspec.structs.replace(ca.issue("a"), key=ca.issue("b").key)
    )


def test_a_key_with_a_passphrase_is_not_asked_for(ca: Authority, tmp_path: Path) -> None:
    (tmp_path / "locked").write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    assert "passphrase" in refusal(msgspec.structs.replace(ca.issue("a"), key=str(tmp_path / "locked")))


def test_files_that_were_mixed_up(ca: Authority) -> None:
    files = ca.issue("a")
    assert "cannot be used" in refusal(msgspec.structs.replace(files, cert=files.key))
    assert "tls_ca has no certificate" in refusal(msgspec.structs.replace(files, ca=files.key))


def meet(server: TlsFiles, client: TlsFiles, name: str = "127.0.0.1") -> tuple[str, str]:
    """A handshake over sockets: what went wrong at the server and at the client; empty for nothing."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    theirs.settimeout(60)
    wrong = ["", ""]

    def serve() -> None:
        try:
            with server_context(server).wrap_socket(ours, server_side=True) as tls:
                tls.sendall(tls.recv(1))
        except OSError as why:
            wrong[0] = getattr(why, "reason", None) or "cut"
        finally:
            ours.close()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        with client_context(client).wrap_socket(theirs, server_hostname=name) as tls:
            tls.sendall(b"x")
            wrong[1] = "" if tls.recv(1) == b"x" else "cut"
    except OSError as why:
        wrong[1] = handshake_trouble(why)
        with contextlib.suppress(OSError):
            theirs.close()
    serving.join(60)
    return wrong[0], wrong[1]


def test_a_common_ca_lets_both_in(ca: Authority) -> None:
    assert meet(ca.issue("gate"), ca.issue("scanner")) == ("", "")


def test_each_others_certificates_do_too(ca: Authority, tmp_path: Path) -> None:
    """Without a CA: the file of whom we trust has the peer's own certificate, and no other of its CA counts."""
    other = Authority(tmp_path, "other")
    gate, scanner = ca.issue("gate"), other.issue("scanner")
    gate = msgspec.structs.replace(gate, ca=scanner.cert)
    scanner = msgspec.structs.replace(scanner, ca=gate.cert)
    assert meet(gate, scanner) == ("", "")
    stranger = msgspec.structs.replace(other.issue("stranger"), ca=gate.cert)
    assert meet(gate, stranger)[0] == "CERTIFICATE_VERIFY_FAILED"


def test_whom_the_server_does_not_trust(ca: Authority, tmp_path: Path) -> None:
    gate = ca.issue("gate")
    for bad in (
        Authority(tmp_path, "other").issue("scanner", trusts=ca.file),
        ca.issue("old", expired=True),
    ):
        server, client = meet(gate, bad)
        assert server == "CERTIFICATE_VERIFY_FAILED"
        assert client  # what it was depends on how far it was when the alert came


def test_whom_the_client_does_not_trust(ca: Authority, tmp_path: Path) -> None:
    scanner = ca.issue("scanner")
    for bad in (
        Authority(tmp_path, "other").issue("gate", trusts=ca.file),
        ca.issue("old", expired=True),
        ca.issue("elsewhere", host="10.0.0.1"),
    ):
        assert meet(bad, scanner)[1] == "pacs-certificate"
    assert meet(ca.issue("elsewhere", host="10.0.0.1"), scanner, "elsewhere") == ("", "")


def test_every_trouble_has_words() -> None:
    reasons = [
        "",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "WRONG_VERSION_NUMBER",
    ]
    errors: list[Exception] = [OSError(), ValueError(), ssl.SSLCertVerificationError()]
    for reason in reasons:
        errors.append(ssl.SSLError())
        errors[-1].reason = reason  # type: ignore[attr-defined]
    codes = [handshake_trouble(why) for why in errors]
    assert codes == [
        "pacs-tls", "pacs-tls", "pacs-certificate", "pacs-tls", "pacs-tls-refused", "pacs-tls", "pacs-tls",
    ]  # fmt: skip
    assert {*codes, "pacs-tls-files"} <= TROUBLES.keys()
