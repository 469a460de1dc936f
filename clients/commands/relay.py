"""`relay run|enroll|sites|dismiss`: handed over to the relay's own program, which shares no code with the gateways."""

from __future__ import annotations

import os

import click

from clients.module import module


@click.command(
    "relay",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
    short_help="The blind relay between hospitals: run, enroll, sites, dismiss.",
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def relay(args: tuple[str, ...]) -> None:
    """The blind relay between hospitals: run, enroll, sites, dismiss."""
    command = module("relay", *args)
    os.execv(command[0], command)  # noqa: S606
