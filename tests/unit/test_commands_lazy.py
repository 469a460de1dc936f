"""The command line is what scripts rely on: exactly these commands, arguments and options, each with an example."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from clients.cli import main
from clients.commands.lazy import LazyGroup
from relay.__main__ import main as relay

EXPECTED = {
    "relay run": ["--config", "--listen", "--data", "--tls-cert", "--tls-key"],
    "relay enroll": ["DIR", "CARD"],
    "relay sites": ["DIR"],
    "relay dismiss": ["DIR", "SITE"],
    "gateway init": [
        "DIR", "--name", "--relay", "--ca-file", "--aet", "--dicom", "--allow-aet", "--http", "--http-cert",
        "--http-key", "--pacs", "--identity",
    ],
    "gateway run": ["DIR"],
    "gateway card": ["DIR", "--qr"],
    "gateway pin": ["DIR", "CARD", "--fingerprint"],
    "gateway unpin": ["DIR", "SITE"],
    "gateway call": ["DIR", "SITE", "WHOM"],
    "gateway allow": ["DIR", "SITE", "--attest", "--override"],
    "gateway backup": ["DIR", "FILE", "--without-key"],
    "gateway restore": ["FILE", "DIR", "--key"],
    "gateway echo": ["DIR"],
    "user add": ["DIR", "NAME", "--role"],
    "user remove": ["DIR", "NAME"],
    "send": ["DIR", "--path", "--study", "--latest", "--to", "--alt", "--add", "--reason"],
    "audit verify": ["DIR"],
    "audit export": ["DIR", "--format", "--transfer", "--after", "--out"],
    "audit packet": ["DIR", "TRANSFER", "--out"],
    "report": ["DIR", "STUDY", "FILE", "--title"],
    "phone": ["LINK", "--pin", "--number", "--approve", "--deny", "--as", "--name", "--relationship", "--ca-file"],
    "status": ["DIR", "[TRANSFER]"],
    "pull": ["DIR", "--accession", "--patient-id", "--name", "--date", "--today", "--modality", "--study"],
    "studies": ["DIR", "--limit"],
    "incoming proof": ["DIR", "TRANSFER"],
    "incoming show": ["DIR", "TRANSFER"],
    "incoming worklist": ["DIR", "--mrn", "--accession", "--name"],
    "incoming identify": [
        "DIR", "TRANSFER", "--mrn", "--name", "--birth-date", "--sex", "--confirm", "--whole", "--prefix",
    ],
    "incoming correct": ["DIR", "TRANSFER", "--mrn", "--name", "--birth-date", "--sex", "--confirm"],
    "cancel": ["DIR", "TRANSFER", "--asked-by", "--reason"],
    "reopen": ["DIR", "TRANSFER"],
    "note": ["DIR", "TRANSFER", "--minor", "--interpreter", "--basis"],
    "divert": ["DIR", "TRANSFER", "--to"],
    "close-additions": ["DIR", "TRANSFER"],
    "door": ["DIR", "TRANSFER", "DOOR", "--scanned"],
    "demo": ["--path", "--pacs", "--headless", "--keep"],
}  # fmt: skip
"""Item 6 of the command line's promise; `--json` and `--help` are everywhere."""


def commands(group: click.Command, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command by its full name; those of the relay from its own program."""
    assert isinstance(group, click.Group)
    with click.Context(group) as ctx:
        for name in group.list_commands(ctx):
            command = relay if prefix + name == "relay" else group.get_command(ctx, name)
            assert command is not None
            if isinstance(command, click.Group):
                yield from commands(command, f"{prefix}{name} ")
            else:
                yield prefix + name, command


FOUND = dict(commands(main))


def shown(command: click.Command) -> list[str]:
    """Arguments by their metavar, options by their long name; in the order of the code."""
    names = []
    # Click keeps the help option of a command's first context: one made here must be like the program's.
    with click.Context(command, help_option_names=["-h", "--help"]) as ctx:
        for param in command.get_params(ctx):
            names.append(
                param.make_metavar(ctx) if isinstance(param, click.Argument) else max(param.opts, key=len)
            )
    return names


def test_exactly_these_commands() -> None:
    assert sorted(FOUND) == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_exactly_these_options(name: str) -> None:
    assert sorted(shown(FOUND[name])) == sorted([*EXPECTED[name], "--json", "--help"])


@pytest.mark.parametrize("name", ["", "gateway", "user", *EXPECTED])
def test_help_has_an_example(name: str) -> None:
    words = name.split()
    program: click.Command = main
    if words[:1] == ["relay"]:
        program, words = relay, words[1:]
    done = CliRunner().invoke(program, [*words, "--help"])
    assert done.exit_code == 0
    example = done.output.partition("Example: trauma-transfer ")[2]
    assert example.startswith(name)
    assert example.strip()


def test_the_groups_lines_are_those_of_the_commands() -> None:
    """A lazy group's help is written beside it: every place is a command."""
    groups = [main, *(FOUND_GROUP for FOUND_GROUP in _groups())]
    for group in groups:
        assert isinstance(group, LazyGroup)
        with click.Context(group) as ctx:
            assert list(group.places) == group.list_commands(ctx)
            for name, place in group.places.items():
                command = group.get_command(ctx, name)
                assert command is not None
                assert command.name == name
                assert place.help.endswith(".")
            assert group.get_command(ctx, "nothing") is None


def _groups() -> Iterator[click.Command]:
    with click.Context(main) as ctx:
        for name in ("gateway", "user"):
            command = main.get_command(ctx, name)
            assert command is not None
            yield command


def test_an_unknown_command_is_a_usage_error() -> None:
    done = CliRunner().invoke(main, ["nothing"])
    assert done.exit_code == 2
    assert "No such command 'nothing'" in done.output


def loaded(argv: list[str]) -> set[str]:
    """The modules of a process that ran a command."""
    code = (
        "import sys\nfrom clients.cli import main\n"
        f"try: main({argv!r}, prog_name='trauma-transfer')\n"
        "except SystemExit: print(chr(10).join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


@pytest.mark.parametrize("argv", [["--help"], ["gateway", "--help"], ["gateway", "init", "--help"]])
def test_help_imports_no_engine(argv: list[str]) -> None:
    assert loaded(argv) & {"aiohttp", "pydicom", "pynetdicom", "numpy", "structlog"} == set()


@pytest.mark.parametrize("name", ["send", "phone"])
def test_what_the_first_image_waits_for_loads_no_server(name: str) -> None:
    """Both programs start between the decision to send and the first image (docs/operate/performance.md)."""
    assert loaded([name, "--help"]) & {"aiohttp.web", "pydicom", "pynetdicom", "numpy", "structlog"} == set()
