"""A storage SCU in its child process, and files for it to send."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian

from clients.gateway.dicom.part10 import write_part10
from clients.gateway.dicom.scu import Destination, StoreScu
from clients.gateway.dicom.statuses import StoreResult
from tests.dicom_kit import encoded, instance

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
SOON = {"connect": 2.0, "association": 2.0, "response": 1.0, "stall": 1.0}


@contextlib.asynccontextmanager
async def scu(
    port: int, *, associations: int = 1, aet: str = "PACS", **times: float
) -> AsyncIterator[StoreScu]:
    """One that sends to this port; `times` are of its `Destination`."""
    to = Destination(aet=aet, host="127.0.0.1", port=port, calling_aet="US", **times)
    sender = StoreScu(to, associations=associations)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop()


class Image:
    """A file to send."""

    def __init__(
        self, folder: Path, name: str, *, sop_class: str = CT, size: int = 128, syntax: str = ""
    ) -> None:
        ds = instance(SOPClassUID=sop_class, PixelData=os.urandom(size))
        self.sop_class, self.uid, self.syntax = (
            sop_class,
            str(ds.SOPInstanceUID),
            syntax or ExplicitVRLittleEndian,
        )
        self.path = folder / name
        write_part10(self.path, encoded(ds, self.syntax), sop_class, self.uid, self.syntax)

    async def to(self, sender: StoreScu) -> StoreResult:
        """Sends it."""
        return await sender.store(self.path, self.sop_class, self.uid, self.syntax)


def images(folder: Path, count: int, size: int = 128) -> list[Image]:
    """So many files."""
    return [Image(folder, f"{i}.dcm", size=size) for i in range(count)]
