"""Keys are erased as the protocol says (s. 1, 10): from the database, its log and the folders, plain or sealed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from clients.drill import Phone
from tests.secrets_kit import contents, holds, sealed_of, secrets_of
from tests.world import Site, World
from transfer import tries


def database(site: Site) -> bytes:
    """The database with its log."""
    return contents(site.folder, "gateway.db*")


def found(site: Site, secrets: Iterable[bytes]) -> list[bool]:
    data = database(site)
    return [holds(data, secret) for secret in secrets]


def empty(site: Site) -> bool:
    return not any(
        p.is_file() for name in ("spool", "sealed", "restored") for p in (site.folder / name).rglob("*")
    )


async def until_empty(*sites: Site) -> None:
    for site in sites:

        async def look(site: Site = site) -> bool | None:
            return empty(site) or None

        await site.eventually(look)


async def test_after_complete_the_key_goes_at_once_and_the_code_a_day_later(
    world: World, study: Path
) -> None:
    offered = await world.offer(study)
    plain = await secrets_of(world.sender, offered.tid)
    early = await sealed_of(world.sender, offered.tid)
    assert found(world.sender, early.values()) == [True, True, True]
    async with Phone(offered.link, offered.pin) as phone:
        await phone.ask()
        plain = await secrets_of(world.sender, offered.tid)
        await phone.decide("approve", by="patient", name="", rel="self")
        await world.receiver.until(offered.tid, "OPENED", "COMPLETE")
        await world.sender.until(offered.tid, "COMPLETE")
        await world.receiver.until(offered.tid, "COMPLETE")
        await until_empty(world.sender, world.receiver)
        kept = await sealed_of(world.sender, offered.tid)
    assert len(plain.channels) == 2
    assert set(kept) == {"q_sealed0", "pin_sealed0", "channel_sealed0"}
    assert found(world.sender, [early["k_sealed"]]) == [False]
    assert await sealed_of(world.receiver, offered.tid) == {}
    for site in (world.sender, world.receiver):
        assert not any(found(site, [plain.key, plain.q, plain.pin, *plain.channels]))

    world.sender.clock.skew = tries.AFTER_END + 60
    await world.sender.rooms.offers.expire()
    assert await sealed_of(world.sender, offered.tid) == {}
    assert not any(
        found(world.sender, [*kept.values(), *early.values(), plain.q, plain.pin, *plain.channels])
    )


async def test_after_a_no_the_key_goes_at_once(world: World, study: Path) -> None:
    offered = await world.offer(study)
    plain, sealed = await secrets_of(world.sender, offered.tid), await sealed_of(world.sender, offered.tid)
    assert await world.answer(offered, "deny") == "DENIED"
    await world.receiver.until(offered.tid, "DENIED")
    await until_empty(world.sender, world.receiver)
    assert found(world.sender, [sealed["k_sealed"], plain.key]) == [False, False]
    assert found(world.sender, [sealed["q_sealed0"]]) == [True]  # for the receipt page, a day


async def test_an_offer_that_nobody_answered_leaves_no_secret(world: World, study: Path) -> None:
    for end in ("stopped", "expired"):
        offered = await world.offer(study)
        plain, sealed = (
            await secrets_of(world.sender, offered.tid),
            await sealed_of(world.sender, offered.tid),
        )
        assert found(world.sender, sealed.values()) == [True, True, True]
        if end == "stopped":
            await world.sender.engine.cancel(offered.tid, "test")
        else:
            world.sender.clock.skew = 7300
            await world.sender.until(offered.tid, "EXPIRED")
            await world.sender.rooms.db.scrub()
        assert await sealed_of(world.sender, offered.tid) == {}
        assert not any(found(world.sender, [*sealed.values(), plain.key, plain.q, plain.pin]))


async def test_a_new_code_leaves_nothing_of_the_old_one(world: World, study: Path) -> None:
    offered = await world.offer(study)
    plain, sealed = await secrets_of(world.sender, offered.tid), await sealed_of(world.sender, offered.tid)
    await world.sender.engine.reopen(offered.tid, "test")
    gone = [sealed["q_sealed0"], sealed["pin_sealed0"], plain.q, plain.pin]
    assert not any(found(world.sender, gone))
    assert (await secrets_of(world.sender, offered.tid)).key == plain.key
