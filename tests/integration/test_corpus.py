"""Every real file at hand, from a disc to another hospital's PACS: byte for byte, or refused with a named reason.

Import, our SCP, packs that are sealed and opened again, and DCMTK's `storescp +B`, which writes exactly what it reads:
the same steps as in a transfer, one after the other. What became of each file is a row of docs/conformance/files.md;
a row that has changed fails here, and the new page lies in the test's folder.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from pydicom.uid import UID

from clients.gateway import codec
from clients.gateway.clock import system_random
from clients.gateway.dicom.header import InstanceHeader, read_header
from clients.gateway.dicom.refusals import REFUSALS
from clients.gateway.dicom.scp import Received
from clients.gateway.dicom.scu import Destination, StoreScu
from clients.gateway.dicom.statuses import TROUBLES
from clients.gateway.errors import IntakeError
from clients.gateway.intake import Limits, stage_all
from clients.gateway.intake.reasons import sentence
from clients.gateway.receiving.restoring import restore
from tests.dicom_kit import DEV, ROOT, corpus, digests, storescp
from tests.scp_kit import running
from tests.transfer_kit import CID, K
from transfer.ids import Digest
from transfer.messages import ItemEntry
from transfer.packs import BUCKETS, open_pack, seal_pack
from transfer.stream import Assembler, Cutter

PAGE = ROOT / "docs" / "conformance" / "files.md"
MARK = "<!-- generated: {} -->\n"
WHOLE = "byte for byte"


class Tried(msgspec.Struct):
    """One file, and how far it came."""

    name: str
    folder: str
    staged: Path | None = None
    header: InstanceHeader | None = None
    item: ItemEntry | None = None
    outcome: str = ""

    @property
    def kind(self) -> tuple[str, str, str]:
        """What is counted together."""
        h = self.header
        if h is None:
            return self.folder, "", self.outcome
        return self.folder, UID(h.syntax).name, self.outcome


def imported(files: list[Path], folder: Path) -> list[Tried]:
    """Each file by itself, as it would come from a disc."""
    folder.mkdir()
    found = []
    for path in files:
        outside = path.is_relative_to(DEV)
        tried = Tried(path.name, path.relative_to(DEV).parts[0] if outside else "pydicom")
        found.append(tried)
        try:
            staged, skipped = stage_all(path, folder, Limits(total_bytes=2**30, file_bytes=2**28))
            if skipped:
                ((_, tried.outcome),) = skipped
                continue
            (tried.staged,) = staged
            tried.header = read_header(tried.staged)
        except IntakeError as why:
            tried.outcome = why.code
    return found


async def through_our_scp(tried: list[Tried], spool: Path) -> None:
    """By C-STORE into the SCP child; the file that it kept stands for the one that came."""
    async with running(spool) as scp:
        scu = StoreScu(Destination(aet="SCP", host="127.0.0.1", port=scp.port, calling_aet="US"))
        await scu.start()
        ready = [(one, one.header) for one in tried if one.header is not None]
        await scu.prepare((h.sop_class, h.syntax) for _, h in ready)
        results = await asyncio.gather(
            *(scu.store(one.staged, h.sop_class, h.sop_uid, h.syntax) for one, h in ready if one.staged)
        )
        await scu.stop()
        for (one, _), result in zip(ready, results, strict=True):
            one.outcome = result.code
        events = await scp.until(sum(result.kind == "ok" for result in results), Received)
    came: dict[str, list[Tried]] = {}
    for one, _ in ready:
        if not one.outcome and one.staged is not None:
            came.setdefault(next(iter(digests([one.staged]))), []).append(one)
    for event in events:
        assert isinstance(event, Received)
        path = spool / "incoming" / event.name
        one = came[next(iter(digests([path])))].pop()
        one.staged, one.header = path, read_header(path)
    assert not any(came.values())


def through_packs(tried: list[Tried], folder: Path) -> None:
    """Coded, cut into packs, sealed; opened, put together, decoded, proved by hash and written for the PACS."""
    folder.mkdir()
    cutter, assembler, packs = Cutter(BUCKETS[-1]), Assembler(), 0
    waiting: list[Tried] = []

    def move(*, flush: bool) -> None:
        nonlocal packs
        while (body := cutter.next(flush=flush)) is not None:
            sealed = seal_pack(K, CID, "D", packs, body, system_random)
            assembler.add(open_pack(K, CID, "D", packs, sealed))
            packs += 1
        while (
            waiting and (item := waiting[0].item) is not None and item.offset + item.length <= assembler.end
        ):
            one = waiting.pop(0)
            one.staged = folder / f"{item.no}.dcm"
            restored = restore(item, assembler.take(item.offset, item.length), one.staged)
            assert restored is not None
            assembler.forget(item.offset + item.length)

    for number, one in enumerate(t for t in tried if not t.outcome):
        assert one.header is not None
        assert one.staged is not None
        h, data = one.header, one.staged.read_bytes()
        data = data[h.data_offset :]
        coded = codec.encode(data, h.syntax)
        one.item = ItemEntry(
            number, 0, h.sop_class, h.sop_uid, h.syntax, coded.codec, cutter.end, len(coded.body), len(data),
            Digest(hashlib.sha256(data).digest()),
        )  # fmt: skip
        cutter.add(coded.body)
        waiting.append(one)
        move(flush=False)
    move(flush=True)
    assert not waiting
    assert packs > 1


async def to_storescp(tried: list[Tried], folder: Path) -> Counter[str]:
    """Over one association for each 128 kinds; what DCMTK wrote."""
    with storescp(folder, more=("-pm",)) as (port, _):
        scu = StoreScu(Destination(aet="PACS", host="127.0.0.1", port=port, calling_aet="US"))
        await scu.start()
        ready = [(one, one.header) for one in tried if not one.outcome and one.header is not None]
        await scu.prepare((h.sop_class, h.syntax) for _, h in ready)
        results = await asyncio.gather(
            *(scu.store(one.staged, h.sop_class, h.sop_uid, h.syntax) for one, h in ready if one.staged)
        )
        await scu.stop()
    for (one, _), result in zip(ready, results, strict=True):
        one.outcome = WHOLE if result.kind == "ok" else result.code
    return digests(folder.iterdir())


def table(tried: list[Tried], folder: str) -> str:
    """What became of the files of one folder."""
    counted = Counter(one.kind for one in tried if one.folder == folder)
    lines = ["| transfer syntax | files | outcome |", "|---|---|---|"]
    for (_, syntax, outcome), number in sorted(counted.items()):
        what = outcome if outcome == WHOLE else f"`{outcome}`"
        lines.append(f"| {syntax or '-'} | {number} | {what} |")
    return "\n".join(lines) + "\n"


def rewritten(page: str, tried: list[Tried]) -> str:
    """The page with the tables of those folders that are here."""
    for folder in dict.fromkeys(one.folder for one in tried):
        before, mark, rest = page.partition(MARK.format(folder))
        assert mark, f"docs/conformance/files.md has no table for {folder}"
        page = before + mark + table(tried, folder) + "<!-- end -->" + rest.partition("<!-- end -->")[2]
    return page


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
async def test_every_file_goes_all_the_way_or_is_refused_by_name(tmp_path: Path) -> None:
    files = [path for path in corpus() if path.suffix not in (".py", ".pyc")]
    tried = imported(files, tmp_path / "disc")
    await through_our_scp(tried, tmp_path / "scp")
    await asyncio.to_thread(through_packs, tried, tmp_path / "restored")
    stored = await to_storescp(tried, tmp_path / "pacs")
    whole = [one for one in tried if one.outcome == WHOLE]
    assert stored == digests(one.staged for one in whole if one.staged is not None)
    for one in tried:
        code = one.outcome
        assert code == WHOLE or code in REFUSALS or code in TROUBLES or sentence(code), (one.name, code)
    now = rewritten(PAGE.read_text("utf-8"), tried)
    (tmp_path / "files.md").write_text(now, "utf-8")
    print(now)
    assert now == PAGE.read_text("utf-8"), f"take {tmp_path / 'files.md'} for docs/conformance/files.md"
