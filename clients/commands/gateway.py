"""`gateway init|run|card|pin|echo`, `user add`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
import qrcode

from clients.commands.output import Speaker, json_option, quiet_logs, runs, service_logs
from clients.gateway import folder as folders
from clients.gateway import service
from clients.gateway.console import staff
from clients.gateway.control import actor
from clients.gateway.errors import ConfigError, GatewayError
from clients.gateway.store.database import Database
from clients.gateway.store.vault import Vault
from transfer.sites import Identity, fingerprint, read_card

DIR = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
ROLES = ("clerk", "clinician", "pacs-admin", "privacy-officer")


@click.group()
def gateway() -> None:
    """A hospital's gateway: sends studies, receives studies, shows staff where they are."""


@gateway.command(
    epilog="Example: trauma-transfer gateway init valley --name 'Valley ED' --relay https://relay.example"
)
@DIR
@click.option("--name", required=True, help="What the other hospital and the patient read.")
@click.option("--relay", required=True, help="The relay's address, https://HOST[:PORT].")
@click.option("--ca-file", default="", help="A CA of your own for the relay, PEM.")
@click.option("--aet", default="TRAUMATX", help="This gateway's AE title.")
@click.option("--dicom", default="127.0.0.1:11112", help="HOST:PORT for scanners and PACS.")
@click.option("--allow-aet", multiple=True, help="A calling AE title that may send; repeat for more.")
@click.option("--http", default="127.0.0.1:8480", help="HOST:PORT of the staff pages.")
@click.option("--http-cert", default="", help="Certificate of the staff pages, PEM.")
@click.option("--http-key", default="", help="Its key, PEM.")
@click.option("--pacs", default="", help="AET@HOST:PORT of the PACS that receives.")
@json_option
def init(folder: Path, as_json: bool, allow_aet: tuple[str, ...], **options: str) -> None:
    """Make a new gateway in DIR."""
    speaker = Speaker(as_json)
    quiet_logs()
    try:
        identity = asyncio.run(folders.init(folder, allow_aets=allow_aet, **options))
    except GatewayError as why:
        speaker.failed(why)
        sys.exit(1)
    speaker.value(
        {"folder": str(folder), "site": identity.site.text, "fingerprint": fingerprint(identity.site)},
        f"Made {folder / 'gateway.toml'}. Fingerprint: {fingerprint(identity.site)}\n"
        f"Next: give the relay's operator the output of `trauma-transfer gateway card {folder}`.",
    )


@gateway.command(epilog="Example: trauma-transfer gateway run valley")
@DIR
@json_option
def run(folder: Path, as_json: bool) -> None:
    """Run the gateway in DIR until it is stopped."""
    speaker = Speaker(as_json)
    service_logs()

    def ready(addresses: dict[str, str]) -> None:
        speaker.event(
            "ready",
            f"desk and inbox: {addresses['pages']}\nDICOM: {addresses['dicom']}\nrelay: {addresses['relay']}",
            **addresses,
        )

    try:
        asyncio.run(service.run(folder, ready))
    except GatewayError as why:
        speaker.failed(why)
        sys.exit(1)


@gateway.command(epilog="Example: trauma-transfer gateway card valley > valley.card")
@DIR
@click.option("--qr", is_flag=True, help="As a QR code on the terminal.")
@json_option
def card(folder: Path, qr: bool, as_json: bool) -> None:
    """Print this site's card, for the relay's operator and for sites to pair with."""
    speaker = Speaker(as_json)
    try:
        identity = asyncio.run(_identity(folder))
        text = folders.own_card(folder, identity)
    except GatewayError as why:
        speaker.failed(why)
        sys.exit(1)
    if qr:
        code = qrcode.QRCode(border=2)
        code.add_data(text)
        code.print_ascii(invert=True)
        return
    speaker.value({"card": text, "fingerprint": fingerprint(identity.site)}, text)


async def _identity(folder: Path) -> Identity:
    vault = Vault.load(folder)
    db = Database(folder / "gateway.db")
    await db.open()
    try:
        return await db.run(lambda con: folders.read_identity(con, vault))
    finally:
        await db.close()


def read_card_argument(card: str) -> str:
    """A card given as a file or as its text. Raises `ConfigError`."""
    if card.startswith("eyJ"):
        return card.strip()
    try:
        return Path(card).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(
            "The card cannot be read. Give the file, or the text that begins with eyJ."
        ) from None


@gateway.command(epilog="Example: trauma-transfer gateway pin lakeside valley.card")
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
        same = click.confirm("Call the other site by telephone. Does it read the same numbers?", err=True)
    if not same:
        raise GatewayError(
            "The fingerprint differs, so nothing was paired. Call the other site.", code="fingerprint"
        )
    async with service.attached(folder) as engine:
        peer = await engine.pin_peer(text, actor())
    speaker.value(peer, f"Paired with {peer.name}.")
    return 0


@gateway.command(epilog="Example: trauma-transfer gateway echo valley")
@DIR
@json_option
@runs
async def echo(folder: Path, speaker: Speaker) -> int:
    """Check the relay, the clock and the PACS, in words."""
    async with service.attached(folder) as engine:
        checks = await engine.checks()
    lines = [f"{'ok  ' if c.ok else 'FAIL'} {c.name}: {c.sentence}" for c in checks]
    speaker.value(checks, "\n".join(lines))
    return 0 if all(c.ok for c in checks) else 1


@click.group()
def user() -> None:
    """Members of staff who may use the pages."""


@user.command("add", epilog="Example: trauma-transfer user add valley maria --role clerk")
@DIR
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True)
@json_option
@runs
async def user_add(folder: Path, name: str, role: str, speaker: Speaker) -> int:
    """Add NAME, or give them a new password; asked for, or one line of standard input."""
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    hashed = staff.hash_password(password)
    async with service.attached(folder) as engine:
        await engine.user_add(name, role, hashed, actor())
    speaker.value({"name": name, "role": role}, f"{name} may sign in as {role}.")
    return 0
