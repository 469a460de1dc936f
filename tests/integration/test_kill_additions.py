"""kill -9 of sender and receiver at an addition (a child offer of kind `add`, docs/adr/0027), and a start on the same
folder and port: one addition with the same COMPLETE at both sites, every image once, and nothing of the parent moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set
from pathlib import Path

import pytest
import pytest_asyncio
from pydicom.uid import generate_uid

from clients.gateway.views import TransferView
from tests.integration.test_kill import KB, again, sending
from tests.programs import Programs, write_study

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


@pytest_asyncio.fixture(loop_scope="module")
async def living(everybody: Programs, tmp_path: Path) -> Living:
    """Everybody is alive, and the parent is over at both, its letters read."""
    await everybody.heal()
    uid = generate_uid()
    early = write_study(tmp_path / "early", instances=2, side=16, study=uid)
    view = await everybody.offer(tmp_path / "early")
    await everybody.answer(view)
    end = await everybody.sender.until(view.tid, "COMPLETE")
    await everybody.receiver.until(view.tid, "COMPLETE")
    return Living(everybody, end, early, tmp_path / "late", uid)


async def test_both_while_it_is_delivered(living: Living, tmp_path: Path) -> None:
    world = living.world
    world.store.hold("up", 200 * KB)
    await living.arrive()
    await living.close()
    await world.store.held.wait()
    tid = await living.added()
    await asyncio.gather(world.sender.kill(), world.receiver.kill())
    unknown = sending(world, tid, tmp_path / "copy")
    assert unknown
    world.store.release()
    await asyncio.gather(world.sender.start(), world.receiver.start())
    await living.complete(twice=unknown)


async def test_sender_while_it_uploads(living: Living) -> None:
    """The study is still open, so that the addition is too: after the start the same one takes up the rest."""
    world = living.world
    world.up.hold("up", 200 * KB)
    await living.arrive()
    await world.up.held.wait()
    tid = await living.added()
    cut = await world.sender.engine.transfer(tid)
    assert cut.moved < cut.bytes
    await world.sender.kill()
    world.up.release()
    await world.sender.start()
    assert await living.added() == tid
    await living.close()
    await living.complete()


async def test_sender_before_its_release_leaves(living: Living) -> None:
    """Offer and release are committed, and no byte of them has left."""
    world = living.world
    world.up.hold_at(b"POST /v1/sites/")
    await living.arrive()
    await living.close()
    tid = await living.added()
    await world.sender.until(tid, "RELEASED")
    await world.up.held.wait()
    await world.sender.kill()
    world.up.cut()
    assert await world.receiver.seen(tid) is None
    world.up.release()
    await world.sender.start()
    await living.complete()


async def test_receiver_while_it_fetches(living: Living, tmp_path: Path) -> None:
    """Nobody is asked, so that it delivers what it has meanwhile."""
    world = living.world
    world.down.hold("down", 150 * KB)
    await living.arrive()
    await living.close()
    await world.down.held.wait()
    tid = await living.added()
    await world.receiver.kill()
    unknown = sending(world, tid, tmp_path / "copy")
    world.down.release()
    await world.receiver.start()
    await living.complete(twice=unknown)


async def test_receiver_before_its_receipt_leaves(living: Living) -> None:
    """All is stored and booked; S has not heard so."""
    world = living.world
    world.store.hold("up", 0)
    await living.arrive()
    await living.close()
    await world.store.held.wait()
    tid = await living.added()
    whole = await world.sender.when(tid, lambda view: view.total == 16 and view.bytes == view.moved)
    await world.receiver.when(tid, lambda view: view.moved == whole.bytes)
    world.down.hold("up", 0)
    world.store.release()
    await world.receiver.until(tid, "COMPLETE")
    await again(world.receiver)
    assert (await world.sender.engine.transfer(tid)).state == "RELEASED"
    world.down.release()
    await living.complete()
