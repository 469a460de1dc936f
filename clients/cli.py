"""`trauma-transfer`: the one console script. Each command is in `clients.commands`; the relay is a program of
its own.
"""

from __future__ import annotations

import click

from clients.commands.lazy import LazyGroup, Place

COMMANDS = {
    "relay": Place(
        "clients.commands.relay:relay", "The blind relay between hospitals: run, enroll, sites, dismiss."
    ),
    "gateway": Place(
        "clients.commands.gateway:gateway",
        "A hospital's gateway: init, run, card, pin, unpin, backup, restore, echo.",
    ),
    "user": Place("clients.commands.gateway:user", "Members of staff who may use the pages: add, remove."),
    "audit": Place(
        "clients.commands.gateway:audit",
        "The log of who did what: verify, export (FHIR, DICOM), packet (PDF for the chart).",
    ),
    "send": Place(
        "clients.commands.send:send", "Send a study; 0 only when every image is in the other PACS."
    ),
    "pull": Place("clients.commands.pull:pull", "Fetch a study from this hospital's own PACS."),
    "studies": Place("clients.commands.pull:studies", "List the studies here, and whether each is complete."),
    "report": Place("clients.commands.report:report", "Add a report (PDF or text) to a study that is here."),
    "status": Place("clients.commands.transfer:status", "Say where transfers stand."),
    "incoming": Place(
        "clients.commands.incoming:incoming",
        "Whose images a received study is: show, worklist, identify, correct.",
    ),
    "cancel": Place("clients.commands.transfer:cancel", "Stop a transfer."),
    "close-additions": Place(
        "clients.commands.transfer:close_additions",
        "Let no late images or reports follow a transfer any more.",
    ),
    "divert": Place("clients.commands.transfer:divert", "Send a study to another hospital instead."),
    "reopen": Place("clients.commands.transfer:reopen", "Give a locked or expired transfer a new code."),
    "note": Place(
        "clients.commands.transfer:note", "Note who answered: a minor, an interpreter, a proxy's right."
    ),
    "door": Place("clients.commands.transfer:door", "Open another door of a transfer: qr, voice, scan."),
    "phone": Place("clients.commands.phone:phone", "Answer as a phone would, without a browser."),
    "demo": Place("clients.commands.demo:demo", "Watch a CT go from one hospital to another's PACS, here."),
}


@click.group(
    cls=LazyGroup,
    places=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example: trauma-transfer demo",
)
@click.version_option(package_name="trauma-transfer")
def main() -> None:
    """Studies from a small hospital straight into the trauma center's PACS, approved on a phone.

    Exit codes: 0 done (send, demo: complete), 1 failed, 2 typed wrongly, 3 partial, 4 denied, 5 expired,
    6 revoked, 7 diverted.
    """
