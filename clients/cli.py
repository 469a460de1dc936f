"""`trauma-transfer`: the one console script. Each command is in `clients.commands`; the relay is a program of
its own.
"""

from __future__ import annotations

import os
import sys

import click

from clients.commands.demo import demo
from clients.commands.gateway import gateway, user
from clients.commands.transfer import cancel, phone, reopen, send, status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="trauma-transfer")
def main() -> None:
    """Studies from a small hospital straight into the trauma center's PACS, approved on a phone.

    Exit codes: 0 done (send, demo: complete), 1 failed, 2 typed wrongly, 3 partial, 4 denied, 5 expired,
    6 revoked, 7 diverted.
    """


@main.command(
    "relay",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
    short_help="The blind relay between hospitals: run, enroll.",
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def relay(args: tuple[str, ...]) -> None:
    """The relay is a program of its own that shares no code with the gateways: this hands over to it."""
    os.execv(sys.executable, [sys.executable, "-m", "relay", *args])  # noqa: S606


for command in (gateway, user, send, status, cancel, reopen, phone, demo):
    main.add_command(command)
