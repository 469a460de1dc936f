"""`phone`: an answer without a browser, for drills and tests."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, get_args

import click

from clients.commands.output import Speaker, json_option, runs
from clients.drill import LinkError, run_phone
from clients.gateway.peers.relay import tls_context
from transfer.errors import HeaderError
from transfer.links import Q_SIZE, Door, make_scan, read_address
from transfer.messages import Relation
from transfer.text import NAME_MOST, person_name

_RELATIONS = tuple(r for r in get_args(Relation) if r != "self")


@click.command(epilog="Example: trauma-transfer phone 'https://relay.example/s#1.…' --pin 314159 --approve")
@click.argument("link")
@click.option("--pin", default="", help="The PIN; at /v the code of nine digits; at /p it is asked for.")
@click.option("--number", default="", help="At /v: the number of seven digits that was said.")
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
    number: str,
    answer: str | None,
    who: str,
    name: str,
    relationship: str,
    ca_file: str,
    speaker: Speaker,
) -> int:
    """Answer as a phone would, without a browser: for drills and tests.

    LINK is what the desk's QR says, or the address of the telephone's page (/v, with --number), or of the poster's (/p:
    prints the code that staff would scan, and reads the PIN from standard input).
    """
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

    q = b""
    if _door(link) == "scan":
        q = os.urandom(Q_SIZE)
        speaker.event("code", f"Scan this at the desk: {make_scan(q)}", code=make_scan(q))
        pin = pin or (await asyncio.to_thread(sys.stdin.readline)).strip()
    if not pin:
        raise click.UsageError("Give --pin.")
    await run_phone(
        link, pin, approve=answer == "approve", by=who, name=name if proxy else "",
        rel=relationship if proxy else "self", tls=tls_context(ca_file) if link.startswith("https:") else None,
        told=told, number="".join(number.split()), q=q,
    )  # fmt: skip
    return 0


def _door(link: str) -> Door:
    try:
        return read_address(link)[1]
    except HeaderError:
        raise LinkError from None
