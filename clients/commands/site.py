"""`gateway init` and `gateway card`: a site is made, and says who it is."""

from __future__ import annotations

from pathlib import Path

import click

from clients.commands.gateway import DIR
from clients.commands.output import Speaker, json_option, no_logs, print_qr, runs_with
from clients.gateway import folder as folders
from clients.gateway.config import load_config
from clients.gateway.store.database import Database
from clients.gateway.store.vault import Vault
from transfer.sites import Identity, fingerprint


@click.command(
    epilog="Example: trauma-transfer gateway init valley --name 'Valley ED' --relay https://relay.example"
)
@DIR
@click.option("--name", required=True, help="What the other hospital and the patient read.")
@click.option("--relay", required=True, help="The relay's address, https://HOST[:PORT].")
@click.option("--ca-file", default="", help="A CA of your own for the relay, PEM.")
@click.option("--aet", default="TRAUMATX", show_default=True, help="This gateway's AE title.")
@click.option(
    "--dicom", default="127.0.0.1:11112", show_default=True, help="HOST:PORT for scanners and PACS."
)
@click.option("--allow-aet", multiple=True, help="A calling AE title that may send; repeat for more.")
@click.option("--http", default="127.0.0.1:8480", show_default=True, help="HOST:PORT of the staff pages.")
@click.option("--http-cert", default="", help="Certificate of the staff pages, PEM.")
@click.option("--http-key", default="", help="Its key, PEM.")
@click.option("--pacs", default="", help="AET@HOST:PORT of the PACS that receives.")
@click.option(
    "--identity",
    type=click.Choice(["prefix", "match", "as-is"]),
    default="prefix",
    show_default=True,
    help="Whose patient number a received study gets.",
)
@json_option
@runs_with(no_logs)
async def init(folder: Path, allow_aet: tuple[str, ...], speaker: Speaker, **options: str) -> int:
    """Make a new gateway in DIR."""
    identity = await folders.init(folder, allow_aets=allow_aet, **options)
    mark = fingerprint(identity.site)
    speaker.value(
        {"folder": str(folder), "site": identity.site.text, "fingerprint": mark},
        f"Made {folder / 'gateway.toml'}. Fingerprint: {mark}\n"
        f"Next: give the relay's operator the output of `trauma-transfer gateway card {folder}`.",
    )
    return 0


@click.command(epilog="Example: trauma-transfer gateway card valley > valley.card")
@DIR
@click.option("--qr", is_flag=True, help="As a QR code on the terminal.")
@json_option
@runs_with(no_logs)
async def card(folder: Path, qr: bool, speaker: Speaker) -> int:
    """Print this site's card, for the relay's operator and for sites to pair with."""
    load_config(folder)
    identity = await _identity(folder)
    text = folders.own_card(folder, identity)
    if qr:
        print_qr(text)
    else:
        speaker.value({"card": text, "fingerprint": fingerprint(identity.site)}, text)
    return 0


async def _identity(folder: Path) -> Identity:
    vault = Vault.load(folder)
    db = Database(folder / "gateway.db")
    await db.open()
    try:
        return await db.run(lambda con: folders.read_identity(con, vault))
    finally:
        await db.close()
