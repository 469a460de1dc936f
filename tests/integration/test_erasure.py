"""What the protocol erases is gone from both gateways' databases, WALs and folders: K at the end, q, PIN and the
channel's keys at an end that nobody decided, or a day after one that somebody did (protocol s. 10). Each secret is
read with the site key while it is there, and then looked for, plain and sealed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from clients.drill import Phone
from clients.gateway.views import TransferView
from tests.programs import Gateway, Programs, eventually, running, write_study
from tests.secrets_kit import Secrets, erased, found, query, secrets_of
from transfer import tries
from transfer.prekeys import DELETE_AFTER, LIFE

pytestmark = pytest.mark.asyncio(loop_scope="module")
CODE = ("q", "pin", "channel")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everybody(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Programs]:
    async with running(tmp_path_factory.mktemp("erasure")) as programs:
        yield programs


@pytest_asyncio.fixture(loop_scope="module")
async def world(everybody: Programs) -> Programs:
    await everybody.heal()
    return everybody


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_study(tmp_path / "study", instances=8, side=128)
    return tmp_path / "study"


class Kept:
    """Every secret of a transfer that was seen at a site, in each of its sealed forms."""

    def __init__(self, site: Gateway, tid: str) -> None:
        self.site, self.tid = site, tid
        self.secrets: dict[str, dict[bytes, Secrets]] = {}

    def look(self) -> None:
        """Takes what is there now."""
        for purpose, held in secrets_of(self.site.folder, self.tid).items():
            for secret in held:
                self.secrets.setdefault(purpose, {})[secret.sealed] = secret

    def is_there(self, *purposes: str) -> bool:
        """Whether each is in the database's files: the search finds it while it may be there."""
        files = [self.site.folder / name for name in ("gateway.db", "gateway.db-wal")]
        return all(
            any(found({"sealed": s.sealed}, *files) for s in self.secrets.get(purpose, {}).values())
            for purpose in purposes
        )

    async def gone(self, *purposes: str) -> None:
        """Until all of it is erased; some of it had to be there."""

        async def look() -> bool | None:
            all_of_it = [s for purpose in purposes for s in self.secrets.get(purpose, {}).values()]
            return True if all(erased(s, self.site.folder) for s in all_of_it) else None

        assert all(self.secrets.get(purpose) for purpose in purposes)
        await eventually(look)


async def empty(site: Gateway) -> None:
    """Until nothing of a transfer is left in the folders that it passes through."""
    left: list[str] = []

    async def look() -> bool | None:
        left[:] = [
            f"{n}/{p.name}" for n in ("spool", "sealed", "restored") for p in (site.folder / n).iterdir()
        ]
        return True if not left else None

    try:
        await eventually(look)
    except TimeoutError:
        raise AssertionError(f"{site.name} keeps {left}") from None


async def joined(world: Programs, study: Path) -> tuple[TransferView, Kept, Kept]:
    """An offer that a phone with the PIN has seen, sealed packs at both sides, and what both sites keep for it."""
    view = await world.offer(study)
    await world.receiver.when(view.tid, lambda v: v.state == "SEEN" and 0 < v.bytes == v.moved)
    async with Phone(view.link, view.pin) as phone:
        await phone.ask()
    await world.sender.when(view.tid, lambda v: v.joined_at > 0)
    s, r = Kept(world.sender, view.tid), Kept(world.receiver, view.tid)
    s.look()
    assert set(s.secrets) == {"content-key", *CODE}
    assert s.is_there("content-key", *CODE)
    assert next(iter(s.secrets["pin"].values())).plain.decode() == view.pin
    assert any((world.sender.folder / "spool").iterdir())
    assert any((world.receiver.folder / "sealed").iterdir())
    return view, s, r


async def a_day_later(world: Programs, kept: Kept) -> None:
    """The code of a decided transfer is kept for the receipt page, and then erased."""
    kept.look()
    assert kept.is_there(*CODE)
    await world.sender.restart(clock=tries.AFTER_END + 60)
    await kept.gone(*CODE)


async def test_complete(world: Programs, study: Path) -> None:
    view, s, r = await joined(world, study)
    world.store.hold("up", 60_000)
    await world.answer(view)
    await world.receiver.until(view.tid, "OPENED")
    await world.store.held.wait()
    s.look()
    r.look()
    assert r.is_there("content-key")
    assert (
        next(iter(r.secrets["content-key"].values())).plain
        == next(iter(s.secrets["content-key"].values())).plain
    )
    assert any((world.receiver.folder / "restored").iterdir())
    world.store.release()
    await world.sender.until(view.tid, "COMPLETE")
    await s.gone("content-key")
    await r.gone("content-key")
    await empty(world.sender)
    await empty(world.receiver)
    await a_day_later(world, s)


async def test_denied(world: Programs, study: Path) -> None:
    view, s, _ = await joined(world, study)
    assert await world.answer(view, "deny") == "DENIED"
    await world.receiver.until(view.tid, "DENIED")
    await s.gone("content-key")
    await empty(world.sender)
    await empty(world.receiver)
    assert secrets_of(world.receiver.folder, view.tid) == {}
    await a_day_later(world, s)


async def test_expired(world: Programs, study: Path) -> None:
    view, s, _ = await joined(world, study)
    await world.sender.restart(clock=7300)
    await world.sender.until(view.tid, "EXPIRED")
    await s.gone("content-key", *CODE)
    await world.receiver.until(view.tid, "EXPIRED")
    await empty(world.sender)
    await empty(world.receiver)


async def test_revoked_in_the_middle_of_delivery(world: Programs, study: Path) -> None:
    view, s, r = await joined(world, study)
    world.store.hold("up", 60_000)
    await world.answer(view)
    await world.store.held.wait()
    await world.receiver.until(view.tid, "OPENED")
    s.look()
    r.look()
    await world.sender.engine.cancel(view.tid, "test")
    await world.receiver.until(view.tid, "REVOKED")
    world.store.release()
    await s.gone("content-key")
    await r.gone("content-key")
    await empty(world.sender)
    await empty(world.receiver)
    await a_day_later(world, s)


async def test_an_old_code_after_a_reopen(world: Programs, study: Path) -> None:
    view, s, _ = await joined(world, study)
    await world.sender.engine.reopen(view.tid, "test")
    await s.gone("q", "pin")
    again = await world.sender.engine.transfer(view.tid)
    await world.answer(again)
    await world.sender.until(view.tid, "COMPLETE")


async def test_killed_between_the_end_and_the_erasure(world: Programs, study: Path) -> None:
    """The WAL that a kill -9 left is emptied by the next start."""
    view, s, r = await joined(world, study)
    world.store.hold("up", 60_000)
    await world.answer(view)
    await world.store.held.wait()
    await world.receiver.until(view.tid, "OPENED")
    s.look()
    r.look()
    world.store.release()
    await world.sender.until(view.tid, "COMPLETE")
    for site in (world.sender, world.receiver):
        await site.kill()
        await site.start()
    await s.gone("content-key")
    await r.gone("content-key")


async def test_a_pre_keys_private_half(world: Programs, study: Path) -> None:
    """It is erased; an offer that was still made for it is declined by name, and the next one is made for another."""
    known = await world.offer(study)  # the sender has the pre-key now
    await world.receiver.until(known.tid, "SEEN")
    await world.sender.engine.cancel(known.tid, "test")
    pairs = [bytes(row[0]) for row in query(world.receiver.folder, "SELECT pair_sealed FROM prekeys")]
    assert pairs
    assert found({"pair": pairs[0]}, world.receiver.folder)
    await world.receiver.restart(clock=LIFE + DELETE_AFTER + 3600)

    async def look() -> bool | None:
        return True if not found({str(n): p for n, p in enumerate(pairs)}, world.receiver.folder) else None

    await eventually(look)
    await world.heal()
    late = await world.offer(study)
    declined = await world.sender.when(late.tid, lambda v: v.why != "")
    assert (declined.state, declined.why) == ("OFFERED", "kid-unknown")
    await world.sender.engine.cancel(late.tid, "test")
    again = await world.offer(study)
    await world.answer(again)
    await world.sender.until(again.tid, "COMPLETE")
