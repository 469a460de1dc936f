"""A transfer whose study goes on: its parent is complete, and late images are to come. For tests that kill programs."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from pydicom.uid import generate_uid

from clients.gateway.views import TransferView
from tests.programs import Programs, write_study


class Living:
    """A transfer that is complete, and half a megabyte of late images of the same study that are not here yet."""

    def __init__(
        self, world: Programs, parent: TransferView, early: dict[str, bytes], late: Path, uid: str
    ) -> None:
        self.world, self.parent, self._early, self._folder = world, parent, early, late
        self._late = write_study(late, instances=16, side=128, seed=1, study=uid)

    async def arrive(self) -> None:
        """The late images come to the sender. Nobody closes the study yet."""
        await self.world.sender.engine.import_path(str(self._folder), "test")

    async def close(self) -> None:
        """The late images are all."""
        await self.world.sender.engine.close_study(self.parent.study, "test")

    async def added(self) -> str:
        """The addition that the sender began."""
        began = await self.world.sender.when(self.parent.tid, lambda view: bool(view.additions))
        return began.additions[0]

    async def complete(self, twice: Set[str] = frozenset()) -> None:
        """The one good end; each late image at the PACS byte for byte, once, or `twice` at the most."""
        world, before = self.world, self.parent
        tid = await self.added()
        end = await world.sender.until(tid, "COMPLETE", "PARTIAL", "EXPIRED", "REVOKED")
        assert (end.state, end.kind, end.stored, end.gaps) == ("COMPLETE", "add", len(self._late), 0)
        there = await world.receiver.until(tid, "COMPLETE")
        assert (there.receipt_code, there.before) == (end.receipt_code, before.tid)
        at_pacs = world.at_pacs(self._early | self._late)
        assert {uid: set(copies) for uid, copies in at_pacs.items()} == {
            uid: {digest} for uid, digest in (self._early | self._late).items()
        }
        assert {uid for uid, copies in at_pacs.items() if len(copies) > 1} <= twice
        for site in (world.sender, world.receiver):
            parent = await site.engine.transfer(before.tid)
            assert (parent.state, parent.receipt_code, parent.stored, parent.additions) == (
                "COMPLETE", before.receipt_code, len(self._early), [tid],
            )  # fmt: skip


async def begin(world: Programs, base: Path) -> Living:
    """Everybody is alive, and the parent is over at both."""
    await world.heal()
    uid = generate_uid()
    early = write_study(base / "early", instances=2, side=16, study=uid)
    view = await world.offer(base / "early")
    await world.answer(view)
    end = await world.sender.until(view.tid, "COMPLETE")
    await world.receiver.until(view.tid, "COMPLETE")
    return Living(world, end, early, base / "late", uid)
