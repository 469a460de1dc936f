"""Links that drop in mid-upload, in mid-download and in a long poll, and links that lose ten packets in a hundred: the
transfer goes on where it was, and nothing arrives twice. `SEED=n` runs one loss again.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import pytest_asyncio

from clients.gateway.views import TransferView
from tests.faults.wires import BadWire
from tests.programs import Programs, write_study

pytestmark = pytest.mark.asyncio(loop_scope="module")
KB = 1024
SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else range(100 if os.environ.get("SOAK") else 1)


@pytest_asyncio.fixture(loop_scope="module")
async def world(everybody: Programs) -> Programs:
    """All of them alive, and every wire whole."""
    await everybody.heal()
    return everybody


async def complete(world: Programs, view: TransferView, sent: dict[str, bytes]) -> None:
    """COMPLETE at both, and each instance at the PACS once, byte for byte."""
    for site in (world.sender, world.receiver):
        end = await site.until(view.tid, "COMPLETE", "PARTIAL", "EXPIRED", "REVOKED")
        assert (end.state, end.stored, end.gaps) == ("COMPLETE", len(sent), 0)
    assert world.at_pacs(sent) == {uid: [digest] for uid, digest in sent.items()}


async def test_drops_in_mid_upload_and_mid_download(world: Programs, tmp_path: Path) -> None:
    """Three times each, in the middle of a pack."""
    sent = write_study(tmp_path / "study", instances=16, side=128)
    world.up.hold("up", 90 * KB)
    world.down.hold("down", 90 * KB)
    view = await world.create(tmp_path / "study")
    for wire, direction in ((world.up, "up"), (world.down, "down")):
        for _ in range(3):
            await wire.held.wait()
            wire.cut()
            wire.release()
            wire.hold(direction, 90 * KB)
        wire.cut()
        wire.release()
    view = await world.sender.when(view.tid, lambda v: v.link != "")
    await world.answer(view)
    await complete(world, view, sent)


async def test_drops_in_a_long_poll(world: Programs, tmp_path: Path) -> None:
    """Both wait at the relay when the link goes: the yes and the release come all the same."""
    sent = write_study(tmp_path / "study", instances=4)
    view = await world.offer(tmp_path / "study")
    await world.receiver.until(view.tid, "SEEN")
    world.up.cut()
    world.down.cut()
    await world.answer(view)
    await complete(world, view, sent)


@pytest.mark.parametrize("seed", SEEDS)
async def test_ten_percent_loss(world: Programs, tmp_path: Path, seed: int) -> None:
    """On the wires of both to the relay."""
    sent = write_study(tmp_path / "study", instances=16, side=128, seed=seed)
    bad = [BadWire(link.target, 2 * seed + n) for n, link in enumerate((world.up, world.down))]
    before = world.up.target
    try:
        for wire, link in zip(bad, (world.up, world.down), strict=True):
            await wire.open()
            link.target = wire.port
            link.cut()
        view = await world.offer(tmp_path / "study")
        await world.receiver.when(view.tid, lambda v: v.bytes > 0)
        for wire in bad:
            assert wire.repaired, "nothing was lost"
        print(f"SEED={seed} repaired={[w.repaired for w in bad]} broken={[w.broken for w in bad]}")
        await world.answer(view)
        await complete(world, view, sent)
    finally:
        for wire, link in zip(bad, (world.up, world.down), strict=True):
            link.target = before
            await wire.close()
