"""The relay's own command line: `run` and `enroll`, in words and in JSON."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from relay import service
from relay.__main__ import main
from relay.config import Config
from relay.enroll import DATABASE
from transfer.sites import Identity, fingerprint

IDENTITY = Identity(b"relay main test".ljust(32))
CARD = IDENTITY.card(
    name="Hill Hospital", place="", relay="https://relay.example", page="", roles=["send"], now=1_800_000_000
)


def typed(*argv: str) -> Result:
    """What `python -m relay ...` does."""
    return CliRunner().invoke(main, argv)


@pytest.mark.parametrize("argv", [[], ["--help"], ["run", "--help"], ["enroll", "-h"]])
def test_help(argv: list[str]) -> None:
    done = typed(*argv)
    assert done.exit_code in (0, 2)
    assert "Usage: " in done.output
    assert argv in ([], ["--help"]) or "Example: trauma-transfer relay " in done.output


@pytest.mark.parametrize("as_file", [False, True])
def test_enroll(tmp_path: Path, as_file: bool) -> None:
    (tmp_path / "hill.card").write_text(CARD + "\n")
    card = str(tmp_path / "hill.card") if as_file else CARD
    done = typed("enroll", str(tmp_path / "data"), card, "--json")
    assert done.exit_code == 0
    mark = fingerprint(IDENTITY.site)
    assert msgspec.json.decode(done.stdout) == {
        "site": IDENTITY.site.text, "name": "Hill Hospital", "fingerprint": mark,
    }  # fmt: skip
    again = typed("enroll", str(tmp_path / "data"), card)
    assert again.stdout == f"Enrolled Hill Hospital. Fingerprint: {mark}\n"
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE)) as con:
        assert con.execute("SELECT count(*) FROM sites").fetchone() == (1,)


@pytest.mark.parametrize(
    "card", ["eyJ", CARD[:-8] + "AAAAAAAA", "nothing.card", "", "\N{SNOWMAN}", "x" * 5000]
)
def test_enroll_refuses_what_is_no_card(tmp_path: Path, card: str) -> None:
    done = typed("enroll", str(tmp_path / "data"), card, "--json")
    assert done.exit_code == 1
    line = msgspec.json.decode(done.stdout)
    assert (line["event"], line["code"]) == ("failed", "config")
    said = typed("enroll", str(tmp_path / "data"), card)
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr == f"{line['sentence']} [config]\n"
    assert not (tmp_path / "data").exists()


def test_sites_and_dismiss(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    assert typed("enroll", data, CARD).exit_code == 0
    mark = fingerprint(IDENTITY.site)
    assert typed("sites", data).stdout == f"Hill Hospital ({IDENTITY.site.text}). Fingerprint: {mark}\n"
    line = msgspec.json.decode(typed("sites", data, "--json").stdout)
    assert line == {"site": IDENTITY.site.text, "name": "Hill Hospital", "fingerprint": mark}
    assert typed("dismiss", data, "Hill Hospital").stdout == f"Dismissed Hill Hospital. Fingerprint: {mark}\n"
    assert typed("sites", data).stdout == ""
    again = typed("dismiss", data, "Hill Hospital", "--json")
    assert (again.exit_code, msgspec.json.decode(again.stdout)["code"]) == (1, "config")


def test_enroll_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / DATABASE).write_bytes(b"no database" * 1000)
    for folder in (tmp_path / "file", tmp_path / "file" / "inside", tmp_path / "other"):
        done = typed("enroll", str(folder), CARD, "--json")
        assert done.exit_code == 1
        assert msgspec.json.decode(done.stdout)["code"] == "config"


def test_run_takes_the_file_and_the_options_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Config] = []
    monkeypatch.setattr(service, "run", taken.append)
    file = tmp_path / "relay.toml"
    file.write_text('listen = "127.0.0.1:1"\ndata = "here"\norigins = ["https://relay.example"]\n')
    assert typed("run", "--config", str(file)).exit_code == 0
    assert (
        typed("run", "--config", str(file), "--listen", "127.0.0.1:2", "--data", "there", "--json").exit_code
        == 0
    )
    first, second = taken
    assert (first.listen, first.data, first.json) == ("127.0.0.1:1", tmp_path / "here", False)
    assert (second.listen, second.data, second.json) == ("127.0.0.1:2", Path("there"), True)
    assert first.origins == second.origins == ["https://relay.example"]


def test_run_says_what_is_wrong(tmp_path: Path) -> None:
    done = typed("run", "--data", str(tmp_path / "data"), "--tls-cert", "only.pem")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "tls_cert and tls_key belong together. Give both or neither. [config]\n"


def test_enroll_does_not_load_the_server() -> None:
    code = "import relay.__main__, sys; print(chr(10).join(sys.modules))"
    done: Any = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert "aiohttp" not in done.stdout.split()
