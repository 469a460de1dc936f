"""Commands that are imported when they are called: the engine of a gateway takes half a second to import, and
most commands do not need it.

A group with this class has a table: name of the command, where it is ("module:attribute"), and its line in
the group's help.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click
import msgspec


class Place(msgspec.Struct, frozen=True):
    """Where a command is, and what the group's help says of it."""

    at: str
    help: str


class LazyGroup(click.Group):
    """A group of commands by `places`, in their order."""

    def __init__(self, *args: Any, places: dict[str, Place], **options: Any) -> None:
        super().__init__(*args, **options)
        self.places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports one command, or None where there is none of this name."""
        if (place := self.places.get(cmd_name)) is None:
            return None
        module, _, name = place.at.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.help) for name, place in self.places.items()])
