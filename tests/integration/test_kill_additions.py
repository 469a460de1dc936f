"""kill -9 of sender and receiver at an addition (a child offer of kind `add`, docs/adr/0027), and a start on the same
folder and port: one addition with the same COMPLETE at both sites, every image once, and nothing of the parent moves.
(Of both at once: `tests/faults/test_kill_points.py`.)
"""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.test_kill import KB, again, sending
from tests.living_kit import Living, begin
from tests.programs import Programs

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def living(everybody: Programs, tmp_path: Path) -> Living:
    """At this study's parent."""
    return await begin(everybody, tmp_path)


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
