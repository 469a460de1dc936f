"""The relay can read nothing: all that it keeps, searched for all that it must not know."""

from __future__ import annotations

from pathlib import Path

from clients.drill import Phone
from clients.gateway.store.database import one
from tests.secrets_kit import Secrets, contents, holds, identity_of, secrets_of
from tests.world import World
from transfer.ids import Tid

PROXY = "Quentin Ottokar Proxy"


async def assert_blind(world: World, study: Path, tid: str, secrets: Secrets) -> None:
    """Nothing of the study, its patient, the code or the keys is in the relay's folder; all of it is elsewhere."""
    relay = contents(world.relay_config.data)
    assert len(relay) > 10_000
    assert (
        Tid.from_hex(tid).text.encode() in relay or Tid.from_hex(tid) in relay
    )  # this transfer did pass here
    identity = identity_of(study)
    source = contents(study)
    assert identity
    assert all(needle in source for needle in identity if b"PHANTOM" not in needle)
    assert b"DICM" in source
    for needle in (*identity, b"DICM", PROXY.encode()):
        assert needle not in relay, "the relay holds something of the study or its people"
    for secret in (secrets.key, secrets.q, secrets.pin, *secrets.channels):
        assert not holds(relay, secret), "the relay holds a secret"
    row = await world.sender.rooms.db.run(
        lambda con: one(
            con, "SELECT summary, salt, grant_sealed FROM sends WHERE tid=?", (Tid.from_hex(tid),)
        )
    )
    assert row is not None
    assert row["summary"].encode() not in relay
    assert not holds(relay, row["salt"])
    if row["grant_sealed"] is not None:
        grant = world.sender.rooms.vault.open("grant", row["grant_sealed"])
        assert grant not in relay
        assert grant.split(b".")[1] not in relay


async def approve_as_proxy(link: str, pin: str) -> None:
    async with Phone(link, pin) as phone:
        await phone.ask()
        await phone.decide("approve", by="proxy", name=PROXY, rel="parent")


async def test_while_nobody_has_answered(world: World, study: Path) -> None:
    offered = await world.offer(study)
    await world.sender.eventually(lambda: uploaded(world, offered.tid))
    async with Phone(offered.link, offered.pin) as phone:
        await phone.ask()
        await assert_blind(world, study, offered.tid, await secrets_of(world.sender, offered.tid))


async def uploaded(world: World, tid: str) -> bool | None:
    view = await world.sender.engine.transfer(tid)
    return (view.total > 0 and view.moved == view.bytes) or None


async def test_while_the_images_are_half_delivered(world: World, study: Path) -> None:
    """The key has passed, the PACS is down, every pack is still at the relay."""
    await world.pacs.stop()
    offered = await world.offer(study)
    secrets = await secrets_of(world.sender, offered.tid)
    await approve_as_proxy(offered.link, offered.pin)
    await world.receiver.until(offered.tid, "OPENED")
    await world.sender.eventually(lambda: uploaded(world, offered.tid))
    await assert_blind(world, study, offered.tid, secrets)


async def test_after_it_is_complete(world: World, study: Path) -> None:
    offered = await world.offer(study)
    secrets = await secrets_of(world.sender, offered.tid)
    await approve_as_proxy(offered.link, offered.pin)
    await world.sender.until(offered.tid, "COMPLETE")
    await world.receiver.until(offered.tid, "COMPLETE")
    await assert_blind(world, study, offered.tid, secrets)
