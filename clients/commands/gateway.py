"""`gateway init|run|card|pin|...`, `user add|remove`, `audit verify|export|packet`: the groups, and where their
commands are.
"""

from __future__ import annotations

from pathlib import Path

import click

from clients.commands.lazy import LazyGroup, Place

DIR = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))

GATEWAY = {
    "init": Place("clients.commands.site:init", "Make a new gateway in DIR."),
    "run": Place("clients.commands.engine:run", "Run the gateway in DIR until it is stopped."),
    "card": Place("clients.commands.site:card", "Print this site's card, for the relay and for other sites."),
    "pin": Place(
        "clients.commands.engine:pin", "Pair with the site of CARD after comparing its fingerprint."
    ),
    "unpin": Place("clients.commands.engine:unpin", "Trust SITE no more, and stop what is on its way there."),
    "call": Place("clients.commands.engine:call", "Note WHOM staff call at SITE, for the pages that say so."),
    "allow": Place(
        "clients.commands.engine:allow", "What SITE's staff may decide in a patient's place, and we open."
    ),
    "backup": Place("clients.commands.backup:backup", "Copy what cannot be made anew into FILE; it may run."),
    "restore": Place("clients.commands.backup:restore", "Make a gateway anew in DIR from the backup FILE."),
    "echo": Place("clients.commands.engine:echo", "Check the relay, the clock and the PACS, in words."),
}
USER = {
    "add": Place("clients.commands.engine:user_add", "Add NAME, or give them a new role and password."),
    "remove": Place(
        "clients.commands.engine:user_remove", "NAME may sign in no more, and is signed out everywhere."
    ),
}
AUDIT = {
    "verify": Place("clients.commands.audit:verify", "Find any line that was changed, added or taken away."),
    "export": Place("clients.commands.audit:export", "Write the log as FHIR R4 or as DICOM audit messages."),
    "packet": Place(
        "clients.commands.audit:packet", "Write the record of one TRANSFER as a PDF, for the chart."
    ),
}


@click.group(
    cls=LazyGroup, places=GATEWAY, epilog="Example: trauma-transfer gateway run /var/lib/trauma-transfer"
)
def gateway() -> None:
    """A hospital's gateway: sends studies, receives studies, shows staff where they are."""


@click.group(cls=LazyGroup, places=USER, epilog="Example: trauma-transfer user add valley maria --role clerk")
def user() -> None:
    """Members of staff who may use the pages."""


@click.group(cls=LazyGroup, places=AUDIT, epilog="Example: trauma-transfer audit verify valley")
def audit() -> None:
    """The log of who did what, chained line by line: checked, and for others to read."""
