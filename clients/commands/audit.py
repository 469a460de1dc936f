"""`audit verify|export|packet`: the log held to its chain, for other systems, and for the chart.

They read beside a gateway that runs, and never write into its folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
import msgspec

from clients.commands.gateway import DIR
from clients.commands.output import Speaker, json_option, no_logs, runs_with
from clients.gateway import folder as folders
from clients.gateway.auditing import fhir
from clients.gateway.auditing.dicom import audit_message
from clients.gateway.auditing.lines import every_line
from clients.gateway.auditing.record import record_of
from clients.gateway.clock import SystemClock
from clients.gateway.config import load_config
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.store import audit as log
from clients.gateway.store.reading import reading
from clients.gateway.store.vault import Vault
from transfer.errors import TransferError
from transfer.ids import Tid

OUT = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write, for you alone."
)  # fmt: skip


class ChangedLogError(GatewayError):
    """The chain of the audit log is broken."""

    code = "audit-changed"

    def __init__(self, line: int) -> None:
        super().__init__(
            f"Line {line} of the audit log does not follow from the one before: it was changed outside of this program."
            " Keep the folder as it is, and compare with the last backup."
        )


class OutError(GatewayError):
    """A file to write to cannot be had."""

    code = "audit-out"
    sentence = "The file cannot be written, or is there already. Give another name."


@click.command(epilog="Example: trauma-transfer audit verify valley")
@DIR
@json_option
@runs_with(no_logs)
async def verify(folder: Path, speaker: Speaker) -> int:
    """Find any line of the audit log that was changed, added or taken away."""
    with reading(folder) as con:
        broken = log.verify(con)
        count = con.execute("SELECT count(*) FROM audit").fetchone()[0]
    if broken:
        raise ChangedLogError(broken)
    speaker.value({"lines": count}, f"{count} lines, each follows from the one before.")
    return 0


@click.command(
    epilog="Example: trauma-transfer audit export valley --format fhir --out /root/audit-2026.json"
)
@DIR
@click.option(
    "--format", "kind", type=click.Choice(["fhir", "dicom"]), default="fhir", show_default=True,
    help="A FHIR R4 Bundle, or DICOM audit messages (PS3.15 A.5), one a line.",
)  # fmt: skip
@click.option("--transfer", default="", help="Only this transfer; FHIR: with its consent and provenance.")
@click.option("--after", type=click.IntRange(0), default=0, help="Only lines behind this number.")
@OUT
@json_option
@runs_with(no_logs)
async def export(
    folder: Path, kind: str, transfer: str, after: int, out: Path, speaker: Speaker
) -> int:  # fmt: skip
    """Write the audit log for another system."""
    config, vault = load_config(folder), Vault.load(folder)
    name = config.site.name
    with reading(folder) as con:
        site = folders.read_identity(con, vault).site
        if transfer and kind == "fhir":
            record = record_of(con, vault, _tid(transfer))
            resources = fhir.of_transfer(record, site, name)
            count = len(record.lines)
        else:
            found = list(every_line(con, after, transfer))
            resources, count = [fhir.audit_event(x, site, name) for x in found], len(found)
        if kind == "fhir":
            body = msgspec.json.format(msgspec.json.encode(fhir.bundle(resources, SystemClock().now())))
        else:
            body = b"\n".join(audit_message(x, name) for x in found) + b"\n"
    _write(out, body)
    speaker.value({"lines": count, "out": str(out)}, f"Wrote {count} lines to {out}.")
    return 0


@click.command(
    epilog="Example: trauma-transfer audit packet valley 9f86d081884c7d659a2feaa0c55ad015 --out record.pdf"
)
@DIR
@click.argument("transfer")
@OUT
@json_option
@runs_with(no_logs)
async def packet(folder: Path, transfer: str, out: Path, speaker: Speaker) -> int:
    """Write the record of one TRANSFER as a PDF, for the chart."""
    from clients.gateway.auditing.packet import packet as pdf

    config, vault = load_config(folder), Vault.load(folder)
    with reading(folder) as con:
        record = record_of(con, vault, _tid(transfer))
    _write(out, pdf(record, config.site.name, SystemClock().now()))
    speaker.value({"out": str(out)}, f"Wrote {out}.")
    return 0


def _tid(text: str) -> Tid:
    try:
        return Tid(bytes.fromhex(text))
    except (ValueError, TransferError):
        raise AbsentError from None


def _write(path: Path, body: bytes) -> None:
    """A new file that only its owner reads: it names patients. Raises `OutError`."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "wb") as file:
            file.write(body)
    except OSError:
        raise OutError from None
