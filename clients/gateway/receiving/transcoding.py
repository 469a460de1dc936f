"""The last resort where a PACS refuses a study's own transfer syntax."""

from __future__ import annotations

from pathlib import Path

from clients.gateway.dicom.scu import StoreScu
from clients.gateway.dicom.statuses import StoreResult, troubled
from transfer.messages import ItemEntry


class Transcoder:
    async def store(self, scu: StoreScu, path: Path, item: ItemEntry) -> tuple[StoreResult, str]:
        return troubled("pacs-context"), ""
