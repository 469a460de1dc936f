"""`gateway backup` and `gateway restore`: what cannot be made anew, and a gateway made of it."""

from __future__ import annotations

import time
from pathlib import Path

import click

from clients.commands.gateway import DIR
from clients.commands.output import Speaker, json_option, no_logs, quiet_logs, runs_with

_FILE = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))


@click.command(epilog="Example: trauma-transfer gateway backup /var/lib/trauma-transfer /backup/monday.tar")
@DIR
@_FILE
@click.option("--without-key", is_flag=True, help="Leave site.key out; keep it in another place.")
@json_option
@runs_with(no_logs)
async def backup(folder: Path, file: Path, without_key: bool, speaker: Speaker) -> int:
    """Copy what cannot be made anew of the gateway in DIR into the new FILE. The gateway may run."""
    from clients.gateway.store import backup as backups

    backups.backup(folder, file, now=int(time.time()), with_key=not without_key)
    secret = (
        "Without the site key it is worth nothing: keep that in another place."
        if without_key
        else "Whoever has this file is this hospital: guard it like the gateway itself."
    )
    size = file.stat().st_size
    speaker.value(
        {"file": str(file), "bytes": size, "site_key": not without_key},
        f"Wrote {file} ({size} bytes). {secret}",
    )
    return 0


@click.command(epilog="Example: trauma-transfer gateway restore /backup/monday.tar /var/lib/trauma-transfer")
@_FILE
@DIR
@click.option("--key", type=click.Path(path_type=Path), help="The site key, where the backup is without it.")
@json_option
@runs_with(quiet_logs)
async def restore(file: Path, folder: Path, key: Path | None, speaker: Speaker) -> int:
    """Make a gateway anew in the empty folder DIR from the backup FILE. The old one must not run any more."""
    from clients.gateway.restore import restore as run

    found = await run(file, folder, key)
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.at))
    speaker.value(
        found,
        f"Restored the state of {made}. Transfers that were open then and have been stopped: {found.stopped}.\n"
        f"Paired sites: {', '.join(found.peers) or 'none'}.\nStaff: {', '.join(found.users) or 'nobody'}.\n"
        "Compare both lists with what you know: who was removed since is back.\n"
        f"Next: make sure that the old gateway never runs again, then `trauma-transfer gateway run {folder}`.",
    )
    return 0
