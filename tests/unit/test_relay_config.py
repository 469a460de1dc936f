"""What an operator may write, and what is refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import Config, canonical_origin, load, split_listen
from relay.errors import ConfigError


def test_defaults_keep_to_this_machine() -> None:
    assert load() == Config()
    assert load().listen.startswith("127.0.0.1:")
    assert load().scheme == "http"


def test_options_win_over_the_file_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(
        'listen = "0.0.0.0:443"\ndata = "d"\ntls_cert = "c.pem"\ntls_key = "/k.pem"\n'
        'origins = ["https://relay.example.org"]\n[quota]\nreserve = 5\n[rates.site]\nper_second = 1\nburst = 2\n'
    )
    config = load(file, listen="127.0.0.1:1", data=None)
    assert config.listen == "127.0.0.1:1"
    assert config.data == tmp_path / "d"
    assert config.tls_cert == tmp_path / "c.pem"
    assert config.tls_key == Path("/k.pem")
    assert config.quota.reserve == 5
    assert config.rates.site.burst == 2
    assert config.scheme == "https"


@pytest.mark.parametrize(
    "text",
    [
        "listen = 5", 'listen = "nowhere"', 'unknown = "x"', "[quota]\nreserve = -1",
        "[rates.site]\nper_second = 0\nburst = 1",
        'tls_cert = "only.pem"', 'origins = ["https://relay.example.org/path"]', 'origins = "https://x"', "not toml",
        "data = 5", "[bounds]\nthreads = 0", 'trusted_proxy = "yes"',
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as why:
        load(file)
    assert why.value.sentence
    assert why.value.next


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError):
        load(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:8440", ("::1", 8440)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_listen(text: str, found: tuple[str, int]) -> None:
    assert split_listen(text) == found


@pytest.mark.parametrize("text", ["", ":80", "host", "host:", "host:x", "host:65536", "host:-1", "host:٣"])
def test_listen_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        split_listen(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://Relay.Example.ORG/", "https://relay.example.org"),
        ("http://127.0.0.1:8440", "http://127.0.0.1:8440"),
        ("http://[::1]:1", "http://[::1]:1"),
        ("ftp://x", ""), ("https://", ""), ("https://a:b@host", ""),
        ("https://host:99999", ""), ("https://[", ""), ("x", ""),
    ],
)  # fmt: skip
def test_origins(text: str, found: str) -> None:
    assert canonical_origin(text) == found
