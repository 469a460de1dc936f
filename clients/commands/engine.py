"""`gateway run|pin|unpin|call|allow|echo`, `user add|remove`: a gateway runs, knows its partners and its staff."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import click

from clients.commands.gateway import DIR
from clients.commands.output import Speaker, json_option, runs, runs_with, service_logs
from clients.gateway.attached import attached
from clients.gateway.config import load_config
from clients.gateway.control import actor
from clients.gateway.errors import ConfigError, GatewayError
from transfer.sites import fingerprint, read_card

ROLES = ("clerk", "clinician", "pacs-admin", "privacy-officer")
_CARD_CAP = 2**16
_BOUND = 8.0
"""Seconds from SIGTERM to the end of `gateway run`, at the most."""


@click.command(epilog="Example: trauma-transfer gateway run valley")
@DIR
@json_option
@runs_with(service_logs)
async def run(folder: Path, speaker: Speaker) -> int:
    """Run the gateway in DIR until it is stopped."""
    from clients.gateway import service  # every room of the gateway: only this command wants them all

    def ready(addresses: dict[str, str]) -> None:
        speaker.event(
            "ready",
            f"desk and inbox: {addresses['pages']}\nDICOM: {addresses['dicom']}\nrelay: {addresses['relay']}",
            **addresses,
        )

    await service.run(folder, ready, told=lambda: leave_within(_BOUND))
    return 0


def leave_within(seconds: float) -> None:
    """Ends this process, with success, if it is still there then: a thread may be reading a disc of a thousand files,
    and nothing waits for it. All that counts is on disk already, or is begun again as after a crash.
    """
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()


def read_card_argument(card: str) -> str:
    """A card given as a file or as its text. Raises `ConfigError`."""
    if card.startswith("eyJ"):
        return card.strip()
    try:
        with Path(card).open("rb") as file:
            return file.read(_CARD_CAP).decode("ascii").strip()
    except (OSError, ValueError):
        raise ConfigError(
            "The card cannot be read. Give the file, or the text that begins with eyJ."
        ) from None


@click.command(epilog="Example: trauma-transfer gateway pin lakeside valley.card")
@DIR
@click.argument("card")
@click.option(
    "--fingerprint", "expected", default="", help="What the other site read to you; else you are asked."
)
@json_option
@runs
async def pin(folder: Path, card: str, expected: str, speaker: Speaker) -> int:
    """Pair with the site of CARD after its fingerprint was compared."""
    text = read_card_argument(card)
    shown = read_card(text)
    mark = fingerprint(shown.site)
    if expected:
        same = "".join(expected.split()) == "".join(mark.split())
    else:
        click.echo(f"{shown.name} ({shown.place or shown.relay})\nFingerprint: {mark}", err=True)
        same = _confirmed("Call the other site by telephone. Does it read the same numbers?")
    if not same:
        raise GatewayError(
            "The fingerprint differs, so nothing was paired. Call the other site.", code="fingerprint"
        )
    async with attached(folder) as engine:
        peer = await engine.pin_peer(text, actor())
    speaker.value(
        peer, f"Paired with {peer.name}.{_another_relay(shown.relay, load_config(folder).relay.url)}"
    )
    return 0


def _another_relay(theirs: str, ours: str) -> str:
    """What to say where two sites do not meet at one relay: they wait for each other in vain, and nothing is wrong."""
    if theirs == ours:
        return ""
    return f" Its card names another relay than this site's ({theirs}): unless both are the same, nothing will arrive."


@click.command(epilog="Example: trauma-transfer gateway unpin lakeside 'Valley Hospital'")
@DIR
@click.argument("site")
@json_option
@runs
async def unpin(folder: Path, site: str, speaker: Speaker) -> int:
    """Trust SITE (its id or name) no more: its key was stolen, or it has left. Stops what is on its way there."""
    async with attached(folder) as engine:
        peer = await engine.unpin_peer(site, actor())
    speaker.value(peer, f"{peer.name} is not paired any more. Pair again with its new card.")
    return 0


@click.command(
    epilog="Example: trauma-transfer gateway call lakeside 'Valley Hospital' 'CT desk, 555 010 0142'"
)
@DIR
@click.argument("site")
@click.argument("whom")
@json_option
@runs
async def call(folder: Path, site: str, whom: str, speaker: Speaker) -> int:
    """Note WHOM staff call at SITE (its id or name): pages that say "call them" show it. "" erases it."""
    async with attached(folder) as engine:
        peer = await engine.call_peer(site, whom, actor())
    speaker.value(
        peer, f"{peer.name}: call {peer.call}." if peer.call else f"{peer.name}: no number is noted."
    )
    return 0


@click.command(epilog="Example: trauma-transfer gateway allow lakeside 'Valley Hospital' --attest")
@DIR
@click.argument("site")
@click.option("--attest", is_flag=True, help="Two clinicians of SITE attest that nobody can be asked.")
@click.option("--override", is_flag=True, help="One clinician of SITE decides, in an emergency.")
@json_option
@runs
async def allow(folder: Path, site: str, attest: bool, override: bool, speaker: Speaker) -> int:
    """What the staff of SITE (its id or name) may decide in a patient's place, and this site opens.

    What is not named is off from now on; without an option, both are.
    """
    kinds = [name for name, on in (("attest", attest), ("override", override)) if on]
    async with attached(folder) as engine:
        peer = await engine.allow_peer(site, kinds, actor())
    taken = " and ".join(peer.allow)
    speaker.value(
        peer,
        f"From {peer.name}, {taken} opens a study here without the patient's yes: in red, and in the audit log."
        if taken
        else f"From {peer.name}, nothing opens here without the yes of the patient or a proxy.",
    )
    return 0


def _confirmed(question: str) -> bool:
    """Yes or no from whoever types; the end of the input is a no."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        return False


@click.command(epilog="Example: trauma-transfer gateway echo valley")
@DIR
@json_option
@runs
async def echo(folder: Path, speaker: Speaker) -> int:
    """Check the relay, the clock and the PACS, in words."""
    async with attached(folder) as engine:
        checks = await engine.checks()
    lines = [f"{'ok  ' if c.ok else 'FAIL'} {c.name}: {c.sentence}" for c in checks]
    speaker.value(checks, "\n".join(lines))
    return 0 if all(c.ok for c in checks) else 1


@click.command("add", epilog="Example: trauma-transfer user add valley maria --role clerk")
@DIR
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True)
@json_option
@runs
async def user_add(folder: Path, name: str, role: str, speaker: Speaker) -> int:
    """Add NAME, or give them a new role and password; asked for, or one line of standard input."""
    from clients.gateway.console import staff

    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not (name := staff.normal_name(name)):
        raise click.UsageError("Give a name.")
    hashed = staff.hash_password(password)
    async with attached(folder) as engine:
        await engine.user_add(name, role, hashed, actor())
    speaker.value({"name": name, "role": role}, f"{name} may sign in as {role}.")
    return 0


@click.command("remove", epilog="Example: trauma-transfer user remove valley maria")
@DIR
@click.argument("name")
@json_option
@runs
async def user_remove(folder: Path, name: str, speaker: Speaker) -> int:
    """NAME may sign in no more, and is signed out everywhere."""
    from clients.gateway.console import staff

    name = staff.normal_name(name)
    async with attached(folder) as engine:
        await engine.user_remove(name, actor())
    speaker.value({"name": name}, f"{name} may sign in no more.")
    return 0
