"""`phone`: an answer without a browser, for drills and tests."""

from __future__ import annotations

from typing import Any, get_args

import click

from clients.commands.output import Speaker, json_option, runs
from clients.drill import run_phone
from clients.gateway.peers.relay import tls_context
from transfer.errors import HeaderError
from transfer.messages import Relation
from transfer.text import NAME_MOST, person_name

_RELATIONS = tuple(r for r in get_args(Relation) if r != "self")


@click.command(epilog="Example: trauma-transfer phone 'https://relay.example/s#1.…' --pin 314159 --approve")
@click.argument("link")
@click.option("--pin", required=True)
@click.option("--approve", "answer", flag_value="approve", help="Say yes.")
@click.option("--deny", "answer", flag_value="deny", help="Say no.")
@click.option("--as", "who", type=click.Choice(["patient", "proxy"]), default="patient", show_default=True)
@click.option("--name", default="", help="A proxy's name.")
@click.option("--relationship", default="", help=f"A proxy's: {', '.join(_RELATIONS)}.")
@click.option("--ca-file", default="", help="A CA of your own for the relay, PEM.")
@json_option
@runs
async def phone(
    link: str,
    pin: str,
    answer: str | None,
    who: str,
    name: str,
    relationship: str,
    ca_file: str,
    speaker: Speaker,
) -> int:
    """Answer as a phone would, without a browser: for drills and tests."""
    if answer is None:
        raise click.UsageError("Give --approve or --deny.")
    proxy = who == "proxy"
    try:
        name = person_name(name)
    except HeaderError:
        raise click.UsageError(f"A name has at most {NAME_MOST} characters.") from None
    if proxy and (not name or relationship not in _RELATIONS):
        raise click.UsageError(f"A proxy gives --name and --relationship ({', '.join(_RELATIONS)}).")

    def told(event: str, fields: dict[str, Any]) -> None:
        speaker.event(event, f"{event}: " + ", ".join(f"{k} {v}" for k, v in fields.items() if v), **fields)

    await run_phone(
        link, pin, approve=answer == "approve", by=who, name=name if proxy else "",
        rel=relationship if proxy else "self", tls=tls_context(ca_file) if link.startswith("https:") else None,
        told=told,
    )  # fmt: skip
    return 0
