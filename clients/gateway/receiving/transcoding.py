"""The last resort where a PACS refuses a study's own transfer syntax: the same image in one that it takes.

It is the PACS's no to a presentation context that brings an image here, never a wish for speed or size. Only what loses
nothing is done (`dicom.recoding`), in a child process, and what was written is read again and compared with the
original before it is sent. The SOP Instance UID stays; ledger, audit log and inbox say in which transfer syntax the
PACS has the image. A lossy image is not decoded for a PACS: what arrives would look like an original to whoever does
not read Lossy Image Compression, and be many times as large. It is refused by name, and is a gap that people solve.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from clients.gateway.dicom.door import Door, DoorClosedError
from clients.gateway.dicom.pixels import RecodeError
from clients.gateway.dicom.recoder_child import Begin, Work, Worked
from clients.gateway.dicom.recoding import TARGETS, can_recode
from clients.gateway.dicom.scu import StoreScu
from clients.gateway.dicom.statuses import StoreResult, troubled
from clients.gateway.errors import DiskFullError
from transfer.messages import ItemEntry

log = structlog.get_logger()
_PATIENCE = 300.0
"""Seconds for one image."""


class Transcoder:
    """One child that recodes one image at a time; there is none before it is needed."""

    def __init__(self) -> None:
        self._door: Door[Worked] | None = None
        self._one = asyncio.Lock()

    async def recode(self, source: Path, to: Path, target: str) -> str:
        """Writes `source` in the transfer syntax `target`. The code of what stands in the way, or ""."""
        async with self._one:
            try:
                async with asyncio.timeout(_PATIENCE):
                    door = await self._opened()
                    await door.send(Work(str(source), str(to), target))
                    return (await door.receive()).code
            except (DoorClosedError, TimeoutError) as why:
                log.warning("an image ended the recoder", kind=type(why).__name__)
                await self._close(0)
                return RecodeError.code
            except BaseException:  # its answer would be taken for the next one's
                await self._close(0)
                raise

    async def _opened(self) -> Door[Worked]:
        if self._door is None:
            door = Door("clients.gateway.dicom.recoder_child", Worked)
            await door.open(Begin())
            self._door = door
        return self._door

    async def stop(self) -> None:
        """Ends the child."""
        await self._close(5.0)

    async def _close(self, grace: float) -> None:
        door, self._door = self._door, None
        if door is not None:
            await door.close(grace)


class Fallback:
    """For one transfer at one destination; remembers what that refuses as well."""

    def __init__(self, transcoder: Transcoder, scu: StoreScu) -> None:
        self._transcoder, self._scu = transcoder, scu
        self._refused: set[tuple[str, str]] = set()

    async def store(self, path: Path, item: ItemEntry) -> tuple[StoreResult, str]:
        """C-STORE in another transfer syntax: what came of it, and which that is."""
        if not can_recode(item.syntax):
            return troubled(RecodeError.code), ""
        pairs = [(item.sop_class, target) for target in TARGETS if target != item.syntax]
        for pair in pairs:
            if pair in self._refused:
                continue
            result = await self._in(pair[1], path, item, pairs)
            if result.code != "pacs-context":
                return result, pair[1] if result.kind in ("ok", "warning") else ""
            self._refused.add(pair)
        return troubled("pacs-context"), ""

    async def _in(
        self, target: str, path: Path, item: ItemEntry, pairs: list[tuple[str, str]]
    ) -> StoreResult:
        to = path.with_name(f"{path.stem}-{id(self)}.dcm")
        try:
            code = await self._transcoder.recode(path, to, target)
            if code == DiskFullError.code:
                return StoreResult(None, "retry", DiskFullError().sentence, code)
            if code:
                return troubled(code)
            return await self._scu.store(to, item.sop_class, item.sop_uid, target, pairs)
        finally:
            await asyncio.to_thread(to.unlink, True)
