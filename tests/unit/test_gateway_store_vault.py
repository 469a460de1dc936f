"""`clients.gateway.store.vault`: one key file, one key for each purpose, and words where they do not fit."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.gateway.errors import ConfigError
from clients.gateway.store.vault import SIZE, Vault

PURPOSES = ("identity", "prekey", "content-key", "q", "pin", "grant", "channel")


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@given(st.binary(max_size=200), st.sampled_from(PURPOSES))
def test_what_is_sealed_opens(plain: bytes, purpose: str) -> None:
    vault = Vault(bytes(SIZE))
    sealed = vault.seal(purpose, plain)
    assert vault.open(purpose, sealed) == plain
    assert sealed != vault.seal(purpose, plain), "a nonce was used twice"
    assert len(plain) < 16 or plain not in sealed


def test_purposes_are_separate() -> None:
    """A sealed PIN put into the column of a key opens there as nothing."""
    vault = Vault(os.urandom(SIZE))
    for purpose in PURPOSES:
        sealed = vault.seal(purpose, b"123456")
        for other in set(PURPOSES) - {purpose}:
            with pytest.raises(ConfigError):
                vault.open(other, sealed)


def test_another_key_or_another_byte_is_said_in_words() -> None:
    vault = Vault(os.urandom(SIZE))
    sealed = vault.seal("q", b"secret")
    for damaged in (b"", sealed[:-1], sealed[:10], bytes([sealed[0] ^ 1]) + sealed[1:], sealed + b"\0"):
        with pytest.raises(ConfigError, match="does not fit"):
            vault.open("q", damaged)
    with pytest.raises(ConfigError, match="does not fit"):
        Vault(os.urandom(SIZE)).open("q", sealed)


def test_the_key_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        made = Vault.create(tmp_path)
    finally:
        os.umask(mask)
    path = tmp_path / "site.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_bytes()) == SIZE
    assert Vault.load(tmp_path).open("q", made.seal("q", b"x")) == b"x"


def test_a_key_file_is_never_made_twice(tmp_path: Path) -> None:
    Vault.create(tmp_path)
    before = (tmp_path / "site.key").read_bytes()
    with pytest.raises(FileExistsError):
        Vault.create(tmp_path)
    assert (tmp_path / "site.key").read_bytes() == before


def test_a_missing_or_short_key_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        Vault.load(tmp_path)
    for damaged in (b"", bytes(SIZE - 1), bytes(SIZE + 1)):
        (tmp_path / "site.key").write_bytes(damaged)
        with pytest.raises(ConfigError, match="damaged"):
            Vault.load(tmp_path)


def test_a_systemd_credential_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LoadCredential=site.key: the key is then not in the folder, or another one is that must not be used."""
    credentials, folder = tmp_path / "credentials", tmp_path / "folder"
    credentials.mkdir()
    folder.mkdir()
    key = os.urandom(SIZE)
    (credentials / "site.key").write_bytes(key)
    Vault.create(folder)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert Vault.load(folder).open("q", Vault(key).seal("q", b"x")) == b"x"


def test_a_service_with_other_credentials_uses_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    made = Vault.create(tmp_path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert Vault.load(tmp_path).open("q", made.seal("q", b"x")) == b"x"


def test_it_shows_nothing(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path)
    key = (tmp_path / "site.key").read_bytes()
    assert repr(vault) == "Vault(...)"
    assert key.hex() not in f"{vault!r} {vault}"
