"""`clients.gateway.observe.checks` and `standing`: real things that are wrong, in words and with the next step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from clients.gateway import folder as folders
from clients.gateway.clock import SystemClock
from clients.gateway.dicom.pacs import BundledPacs
from clients.gateway.engine import GatewayEngine
from clients.gateway.observe import checks
from clients.gateway.observe.health import Health
from clients.gateway.observe.standing import MOVES, Facts, facts_of, of_receive, of_send
from clients.gateway.rooms import Rooms
from clients.gateway.store import audit
from clients.gateway.views import CheckView
from relay import service
from relay.config import Config, Quota
from relay.enroll import enroll
from tests.certificates import Authority
from tests.dicom_kit import free_port
from tests.faults.disks import small_disk
from tests.faults.real_pacs import orthanc
from tests.gateway_kit import (
    DAY,
    HOUR,
    NOWHERE,
    Handset,
    House,
    StillClock,
    a_relay,
    carry,
    eventually,
    houses,
)
from tests.relay_tls import make_certificate
from tests.rooms_kit import Desk, a_desk
from tests.wire import listening
from transfer import tries
from transfer.ids import Cid, Tid
from transfer.prekeys import LIFE


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as desk:
        yield desk


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    async with houses(tmp_path) as (s, r):
        yield s, r


@asynccontextmanager
async def gateway(folder: Path, relay: str = NOWHERE, **options: object) -> AsyncIterator[Rooms]:
    """The rooms of a gateway that nobody is paired with."""
    await folders.init(folder, name="X", relay=relay, dicom="127.0.0.1:0", http="127.0.0.1:0", **options)
    rooms = Rooms(folder, dicom=False)
    await rooms.open()
    try:
        yield rooms
    finally:
        await rooms.close()


async def wrong(rooms: Rooms, name: str) -> str:
    """The sentence of the one check of this name that fails."""
    (found,) = [c for c in await checks.check(rooms) if c.name == name and not c.ok]
    assert found.sentence.endswith(".")
    return found.sentence


# The relay


async def test_a_relay_that_is_down(tmp_path: Path) -> None:
    async with gateway(tmp_path / "g") as rooms:
        assert "cannot be reached" in await wrong(rooms, "relay")
        assert [c.name for c in await checks.check(rooms)][:2] == ["relay", "pacs"], "no clock is made up"


async def test_a_relay_that_does_not_know_the_site(tmp_path: Path) -> None:
    clock = StillClock(int(time.time()))
    async with a_relay(tmp_path / "relay", clock) as relay, gateway(tmp_path / "g", relay.url) as rooms:
        assert "enroll this site's card" in await wrong(rooms, "relay")


async def test_a_relay_that_goes_by_another_name(tmp_path: Path) -> None:
    async with a_relay(tmp_path / "relay", StillClock(int(time.time()))) as relay:
        port = relay.url.rpartition(":")[2]
        async with gateway(tmp_path / "g", f"http://localhost:{port}") as rooms:
            enroll(tmp_path / "relay", folders.own_card(rooms.folder, rooms.identity))
            assert "relay.url" in await wrong(rooms, "relay")
            assert rooms.relay.trouble == "relay-not-for-me"
            assert await Health(rooms).wrong() == ["relay"]


async def test_a_relay_whose_certificate_is_not_trusted(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path, pem in zip((cert, key), make_certificate(), strict=True):
        path.write_bytes(pem)
    config = Config(
        listen="127.0.0.1:0", data=tmp_path / "relay", access_log=False, tls_cert=cert, tls_key=key
    )
    relay = await service.start(config)
    try:
        async with gateway(tmp_path / "g", relay.url) as rooms:
            assert "certificate is not trusted" in await wrong(rooms, "relay")
    finally:
        await relay.stop()


async def test_a_relay_without_room_for_us_is_an_alarm_a_sentence_and_no_more_once_there_is(
    tmp_path: Path,
) -> None:
    """It answered 507; before, the sealed packs waited without a word."""
    clock = SystemClock()
    config = Config(
        listen="127.0.0.1:0", data=tmp_path / "relay", access_log=False, quota=Quota(site_bytes=1)
    )
    relay = await service.start(config)
    house = await House(tmp_path / "r", StillClock(clock.now()), relay.url).make(
        "Lakeside Trauma Center", pacs="PACS@127.0.0.1:9"
    )
    try:
        identity = await folders.init(
            tmp_path / "s", name="Valley ED", relay=relay.url, dicom="127.0.0.1:0", http="127.0.0.1:0"
        )
        for card in (house.card, folders.own_card(tmp_path / "s", identity)):
            enroll(config.data, card)
        rooms = Rooms(tmp_path / "s", dicom=False)
        await rooms.open()
        desk = Desk(rooms, GatewayEngine(rooms), house, house.clock)
        try:
            await desk.engine.pin_peer(house.card, "test")
            tid = await desk.offered()

            async def said() -> bool:
                view = await desk.engine.transfer(tid)
                return any("no room" in a for a in view.alarms) and "no room" in view.waits

            await eventually(said)
            assert "no room" in await wrong(rooms, "relay")
            assert tid in await wrong(rooms, "transfer")
            port = relay.url.rpartition(":")[2]
            await relay.stop()
            relay = await service.start(
                Config(listen=f"127.0.0.1:{port}", data=config.data, access_log=False)
            )

            async def relieved() -> bool:
                view = await desk.engine.transfer(tid)
                return view.moved == view.bytes > 0 and view.alarms == [] and not rooms.uploader.full

            await eventually(relieved)
        finally:
            await rooms.close()
    finally:
        await house.close()
        await relay.stop()


# The PACS


async def test_a_pacs_that_is_down(tmp_path: Path) -> None:
    async with gateway(tmp_path / "g", pacs=f"PACS@127.0.0.1:{free_port()}") as rooms:
        assert "cannot be reached at its address" in await wrong(rooms, "pacs")


async def test_each_destination_has_a_line(tmp_path: Path) -> None:
    """Which is down, and which answers."""
    pacs = BundledPacs(tmp_path / "pacs", aet="PACS")
    host, port = await pacs.start()
    folder = tmp_path / "g"
    try:
        await folders.init(
            folder,
            name="X",
            relay=NOWHERE,
            dicom="127.0.0.1:0",
            http="127.0.0.1:0",
            pacs=f"PACS@{host}:{port}",
        )
        with (folder / "gateway.toml").open("a") as file:
            file.write(
                f'[[destinations]]\nname = "neuro"\naet = "NEURO"\naddress = "127.0.0.1:{free_port()}"\n'
            )
        rooms = Rooms(folder, dicom=False)
        await rooms.open()
        try:
            assert "cannot be reached" in await wrong(rooms, "pacs-neuro")
            assert [c.ok for c in await checks.check(rooms) if c.name == "pacs"] == [True]
        finally:
            await rooms.close()
    finally:
        await pacs.stop()


async def test_an_archive_that_is_down(tmp_path: Path) -> None:
    """Studies cannot be fetched; what comes in and goes out is not touched by it."""
    folder = tmp_path / "g"
    await folders.init(folder, name="X", relay=NOWHERE, dicom="127.0.0.1:0", http="127.0.0.1:0")
    with (folder / "gateway.toml").open("a") as file:
        file.write(f'\n[source]\naet = "ARCHIVE"\naddress = "127.0.0.1:{free_port()}"\n')
    rooms = Rooms(folder, dicom=False)
    await rooms.open()
    try:
        assert "cannot be reached at its address" in await wrong(rooms, "source")
    finally:
        await rooms.close()


@pytest.mark.peer
async def test_an_orthanc_that_does_not_know_this_gateway(tmp_path: Path) -> None:
    """It ends the association at the C-ECHO, without a word; the sentence says which title is missing there."""
    with orthanc(tmp_path / "pacs", DicomAlwaysAllowEcho=False, DicomAlwaysAllowStore=False) as port:
        async with gateway(tmp_path / "g", pacs=f"PACS@127.0.0.1:{port}") as rooms:
            assert "add the AE title TRAUMATX" in await wrong(rooms, "pacs")


@pytest.mark.peer
async def test_an_orthanc_of_another_name(tmp_path: Path) -> None:
    with orthanc(tmp_path / "pacs", DicomCheckCalledAet=True) as port:
        async with gateway(tmp_path / "g", pacs=f"ARCHIVE@127.0.0.1:{port}") as rooms:
            assert "pacs.aet" in await wrong(rooms, "pacs")


async def test_parties_that_take_a_connection_and_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall, or a program that hangs: said in time, not after all the patience that an image gets."""
    monkeypatch.setattr(checks, "PATIENCE", 1.0)

    async def mute(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with listening(mute) as port:
        where = f"127.0.0.1:{port}"
        async with gateway(tmp_path / "g", f"http://{where}", pacs=f"PACS@{where}") as rooms:
            assert "does not answer" in await wrong(rooms, "pacs")
            assert "cannot be reached" in await wrong(rooms, "relay")


# This machine


async def test_a_disk_that_fills(tmp_path: Path) -> None:
    floor = 2**20
    assert checks._disk(2 * floor, floor).ok
    assert "nearly too few" in checks._disk(2 * floor - 1, floor).sentence
    assert "images are refused" in checks._disk(floor - 1, floor).sentence
    with small_disk(tmp_path / "small", "4m") as disk:
        async with gateway(disk.folder / "g") as rooms:
            rooms.config = msgspec.structs.replace(
                rooms.config, dicom=msgspec.structs.replace(rooms.config.dicom, min_free_bytes=1)
            )
            disk.fill()
            assert "images are refused" in await wrong(rooms, "disk")
            assert "takes no write" in await wrong(rooms, "database")
            disk.free()

            async def well() -> bool:
                found = await checks._machine(rooms)
                return all(c.ok for c in found)

            await eventually(well)


async def test_nobody_listens_for_scanners(tmp_path: Path) -> None:
    await folders.init(tmp_path / "g", name="X", relay=NOWHERE, dicom="127.0.0.1:0", http="127.0.0.1:0")
    rooms = Rooms(tmp_path / "g")
    await rooms.open()
    try:
        assert rooms.scp is not None
        rooms.scp._door.kill()

        async def said() -> list[CheckView]:
            return [c for c in await checks._machine(rooms) if c.name == "dicom" and not c.ok]

        (found,) = await eventually(said)
        assert "Nobody listens" in found.sentence
    finally:
        await rooms.close()


# Other sites


async def test_a_site_that_was_never_seen_and_one_that_went_away(desk: Desk) -> None:
    assert "Lakeside Trauma Center was never seen on-line" in await wrong(desk.rooms, "sites")
    await desk.house.pins.renew()
    assert [c.ok for c in await checks.check(desk.rooms) if c.name == "sites"] == [True]
    seen = time.strftime("%Y-%m-%d", time.localtime(desk.clock.at))
    desk.clock.at += LIFE + DAY
    assert f"has not been on-line since {seen}" in await wrong(desk.rooms, "sites")


async def test_what_others_must_still_learn(desk: Desk) -> None:
    await desk.offered()

    async def all_but_the_offer_left() -> bool:
        kinds = await desk.rooms.db.run(lambda con: [r[0] for r in con.execute("SELECT kind FROM outbox")])
        return kinds == ["queue"]

    await eventually(all_but_the_offer_left)
    assert [c for c in await checks.check(desk.rooms) if c.name == "outbox"] == []
    desk.clock.at += checks.OVERDUE + 1
    assert "Lakeside Trauma Center has not confirmed 1 messages" in await wrong(desk.rooms, "outbox")
    await desk.rooms.db.run(lambda con: con.execute("UPDATE outbox SET kind='relay', next_at=next_at+99999"))
    assert "1 messages have waited for the relay" in await wrong(desk.rooms, "outbox")


# Transfers that stand still


WELL = Facts(0, "", frozenset(), low=False, pacs=True)


async def test_an_alarm_that_is_of_no_transfer(desk: Desk) -> None:
    """Shown for a day after it was last raised: `UnknownSiteError` and the like have no page of their own."""
    now = desk.clock.at
    await desk.rooms.db.run(lambda con: audit.alarm(con, None, "too-many-offers", "Call it.", now))
    assert await wrong(desk.rooms, "alarm") == "Call it."
    desk.clock.at += checks.RECENT
    assert "alarm" not in {c.name for c in await checks.check(desk.rooms)}


async def of(house: House, tid: Tid, **facts: object) -> tuple[str, bool]:
    """What `tid` waits for, by facts that are as they should be but for these."""
    sends = await house.rows("SELECT * FROM sends WHERE tid=?", tid)
    row = sends[0] if sends else await house.receive(tid)
    judge = of_send if sends else of_receive
    known = msgspec.structs.replace(WELL, now=house.clock.at, **facts)
    found = await house.db.run(lambda con: judge(con, row, known))
    return found.sentence, found.wrong


async def approved(s: House, r: House) -> Tid:
    tid = await s.offer_to(r)
    phone = await Handset.scan(s, tid)
    await phone.ask()
    await phone.decide()
    return tid


async def test_a_sender_waits_for_the_key(pair: tuple[House, House]) -> None:
    s, r = pair
    tid = await s.offers.create(await s.a_study(), r.site, "transfer", "clerk")
    assert await of(s, tid) == ("", False)
    await s.offers.no_prekey(tid)
    sentence, is_wrong = await of(s, tid)
    assert is_wrong
    assert sentence.startswith("It waits for a key. Lakeside Trauma Center was never seen on-line.")
    assert "relay does not answer" in (await of(s, tid, relay="relay-down"))[0]


async def test_a_sender_waits_for_the_phone(pair: tuple[House, House]) -> None:
    s, r = pair
    tid = await s.offer_to(r)
    sentence, is_wrong = await of(s, tid)
    assert not is_wrong
    assert sentence.startswith("It waits for the answer on the patient's phone, until ")
    assert (await of(s, tid, relay="relay-down"))[1]
    assert "enroll" in (await of(s, tid, relay="relay-unknown-site"))[0]
    assert "relay.url" in (await of(s, tid, relay="relay-not-for-me"))[0]
    for _ in range(tries.MAX):
        phone = await Handset.scan(s, tid, wrong=True)
        await phone.start()
        await phone.prove()
    sentence, is_wrong = await of(s, tid)
    assert (sentence[:19], is_wrong) == ("Too many wrong PINs", True)


async def test_a_sender_waits_for_the_relay(pair: tuple[House, House]) -> None:
    s, r = pair
    tid = await approved(s, r)
    cid = Cid((await s.send(tid))["cid"])
    await s.execute("INSERT INTO packs (cid, n, kind, size, hash) VALUES (?,0,'D',9,x'00')", cid)
    assert "no room left" in (await of(s, tid, full=frozenset({cid})))[0]
    now = s.clock.at
    await s.db.run(lambda con: audit.alarm(con, tid, "relay-disk", "The relay's disk is full.", now))
    assert await of(s, tid, full=frozenset({cid})) == ("The relay's disk is full.", True)
    assert (await of(s, tid, relay="relay-down"))[1]


async def test_a_sender_waits_for_the_study_and_then_for_the_destination(pair: tuple[House, House]) -> None:
    s, r = pair
    tid = await approved(s, r)
    await s.execute("UPDATE studies SET closed=0")
    assert await of(s, tid) == ("It waits for the rest of the study, from the scanner or the PACS.", False)
    await s.execute("UPDATE studies SET closed=1")
    assert await of(s, tid) == ("", False), "it is being packed"
    await s.execute("UPDATE spools SET ended=1")
    sentence, is_wrong = await of(s, tid)
    assert (sentence[:50], is_wrong) == ("Lakeside Trauma Center has not fetched the answer ", False)
    s.clock.at += HOUR
    assert (await of(s, tid))[1]
    await carry(s, r)
    sentence, is_wrong = await of(s, tid)
    assert (sentence[:12], is_wrong) == ("All is sent.", True)
    s.clock.at -= HOUR
    assert not (await of(s, tid))[1]
    await s.offers.stop(tid, "clerk")
    assert await of(s, tid) == ("", False), "what has ended waits for nothing"


async def test_a_receiver_waits(pair: tuple[House, House]) -> None:
    s, r = pair
    tid = await s.offer_to(r)
    await carry(s, r)
    assert await of(r, tid) == ("It waits for the answer on the patient's phone.", False)
    phone = await Handset.scan(s, tid)
    await phone.ask()
    await phone.decide()
    await carry(s, r)
    assert "rest" in (await of(r, tid))[0]
    assert "[pacs]" in (await of(r, tid, pacs=False))[0]
    assert "disk" in (await of(r, tid, low=True))[0]
    assert (await of(r, tid, relay="relay-down"))[1]
    cid, now = (await r.receive(tid))["cid"], r.clock.at
    await r.execute("INSERT INTO in_packs (cid, n, kind, size) VALUES (?,0,'D',9)", cid)
    assert await of(r, tid) == ("", False), "it is being fetched"
    await r.db.run(lambda con: audit.alarm(con, tid, "pacs", "The PACS does not know this gateway.", now))
    assert await of(r, tid) == ("The PACS does not know this gateway.", True)
    await r.execute("UPDATE receives SET last_stored_at=?", now + 1)
    assert await of(r, tid) == ("", False), "it has taken an image since"
    await r.execute("UPDATE receives SET why='identity'")
    sentence, wrong_now = await of(r, tid)
    assert "somebody here to say who this patient is" in sentence
    assert wrong_now, "a patient's images wait for a person"


async def test_the_facts_are_those_of_the_rooms(desk: Desk) -> None:
    facts = facts_of(desk.rooms)
    assert (facts.now, facts.low, facts.pacs) == (desk.clock.at, False, False)
    assert (MOVES.sentence, MOVES.wrong) == ("", False)


async def test_certificates_that_end(tmp_path: Path) -> None:
    """Made for a day, and looked at on that day, two days later, with its file gone, and where a good one is."""
    files = Authority(tmp_path).issue("gate")
    async with gateway(tmp_path / "g", pacs="PACS@127.0.0.1:9") as rooms:
        assert not [c for c in await checks.check(rooms) if c.name == "certificate"]
        tls = {"tls_cert": files.cert, "tls_key": files.key, "tls_ca": files.ca}
        config = rooms.config
        assert config.pacs is not None
        rooms.config = msgspec.structs.replace(
            config,
            dicom=msgspec.structs.replace(config.dicom, **tls),
            pacs=msgspec.structs.replace(config.pacs, **tls),
        )

        async def look() -> list[tuple[bool, str]]:
            return [(c.ok, c.sentence) for c in await checks.check(rooms) if c.name == "certificate"]

        dicom, pacs = await look()
        assert dicom == (
            False,
            "The certificate of dicom.tls_cert is good for 0 days. Have a new one made, and restart.",
        )
        assert pacs[1].startswith("The certificate of pacs.tls_cert")
        rooms.clock = StillClock(int(time.time()) - 30 * DAY)
        assert (await look())[0] == (True, "The certificate of dicom.tls_cert is good for 30 days.")
        rooms.clock = StillClock(int(time.time()) + 2 * DAY)
        assert "has ended" in (await look())[0][1]
        Path(files.cert).unlink()
        assert (await look())[0] == (
            False,
            "The file of dicom.tls_cert cannot be read. Check its path, owner and rights.",
        )
