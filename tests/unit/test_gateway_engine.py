"""`clients.gateway.engine`: what pages and commands may ask, and what they hear where it cannot be."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.drill import Phone
from clients.gateway.errors import GatewayError
from clients.gateway.folder import own_card
from clients.gateway.sending.offering import SiteWords
from tests.gateway_kit import HOUR, PATIENCE, eventually
from tests.rooms_kit import Desk, a_desk, write_files
from transfer import tries
from transfer.door import WrongPinError
from transfer.links import make_scan, read_link

HEX = "0" * 32


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as made:
        yield made


async def refused(code: str, call: object) -> None:
    """The call ends with this code and a sentence."""
    with pytest.raises(GatewayError) as caught:
        await call  # type: ignore[misc]
    assert caught.value.code == code
    assert caught.value.sentence.endswith(".")


# Studies


async def test_a_folder_is_imported_and_closed(desk: Desk, tmp_path: Path) -> None:
    write_files(
        tmp_path / "disc", 3, StudyDescription="Polytrauma", AccessionNumber="A 17", StudyDate="20261124"
    )
    (tmp_path / "disc" / "readme.txt").write_text("no image")
    result = await desk.engine.import_path(str(tmp_path / "disc"), "jdoe")
    assert (len(result["studies"]), result["accepted"], len(result["skipped"])) == (1, 3, 1)
    study = await desk.engine.study(result["studies"][0])
    assert (study.instances, study.open, study.refused, study.source) == (3, False, 0, "import")
    assert (study.patient_name, study.birth_date, study.accession) == ("NOBODY, ATALL", "1970-01-02", "A 17")
    assert study.bytes > 0
    assert [s.instances for s in study.series] == [3]
    assert (await desk.engine.study(study.uid)).id == study.id
    assert (await desk.engine.audit())[0].action == "study.import"


async def test_a_zip_and_a_file(desk: Desk, tmp_path: Path) -> None:
    write_files(tmp_path / "disc", 2)
    with zipfile.ZipFile(tmp_path / "disc.zip", "w") as zipped:
        zipped.write(tmp_path / "disc" / "1.dcm", "a/1.dcm")
    one = await desk.engine.import_path(str(tmp_path / "disc.zip"), "jdoe")
    two = await desk.engine.import_path(str(tmp_path / "disc" / "2.dcm"), "jdoe")
    assert one["studies"] == two["studies"]
    again = await desk.engine.import_path(str(tmp_path / "disc"), "jdoe")
    assert (again["accepted"], again["skipped"]) == (2, [])
    assert (await desk.engine.study(one["studies"][0])).instances == 2


async def test_what_cannot_be_imported_is_named(desk: Desk, tmp_path: Path) -> None:
    await refused("import-absent", desk.engine.import_path(str(tmp_path / "nowhere"), "jdoe"))
    (tmp_path / "empty").mkdir()
    result = await desk.engine.import_path(str(tmp_path / "empty"), "jdoe")
    assert (result["studies"], result["accepted"]) == ([], 0)
    write_files(tmp_path / "one", 1)
    write_files(tmp_path / "other", 1, PatientID="P2")
    await desk.engine.import_path(str(tmp_path / "one"), "jdoe")
    result = await desk.engine.import_path(str(tmp_path / "other"), "jdoe")
    assert [s["code"] for s in result["skipped"]] == ["dicom-two-patients"]
    assert (await desk.engine.studies())[0].refused == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", 1), ("nobody", 1), ("NOBODY", 1), (" P1 ", 1), ("a 17", 1), ("poly", 1), ("50%_!", 1), ("other", 0),
        ("%%", 0), ("'; --", 0), ("__", 0), ("!!", 0),
    ],
)  # fmt: skip
async def test_studies_are_searched(desk: Desk, query: str, found: int) -> None:
    await desk.study(StudyDescription="Polytrauma 50%_!", AccessionNumber="A 17")
    assert len(await desk.engine.studies(query)) == found


async def test_studies_are_newest_first_and_counted(desk: Desk) -> None:
    for i in range(3):
        await desk.study(str(i), StudyInstanceUID=f"2.25.5{i}")
        desk.clock.at += 60
    found = await desk.engine.studies(limit=2)
    assert [s.uid for s in found] == ["2.25.52", "2.25.51"]
    assert len(await desk.engine.studies(limit=10**9)) == 3


async def test_what_is_not_here_is_absent(desk: Desk) -> None:
    for call in (
        desk.engine.study(HEX),
        desk.engine.close_study(HEX, "jdoe"),
        desk.engine.transfer(HEX),
        desk.engine.transfer("no tid"),
        desk.engine.transfer(""),
        desk.engine.cancel(HEX, "jdoe"),
        desk.engine.reopen(HEX, "jdoe"),
        desk.engine.door(HEX, "qr", "", "jdoe"),
        desk.engine.user_hash("nobody"),
    ):
        await refused("absent", call)


# Sites


async def test_a_site_is_paired_and_seen(desk: Desk) -> None:
    (peer,) = await desk.engine.peers()
    assert (peer.name, peer.roles, peer.pinned_by, peer.reachable) == (
        "Lakeside Trauma Center", ["send", "receive"], "test", False,
    )  # fmt: skip
    assert len(peer.fingerprint.split()) == 8
    await refused("header", desk.engine.pin_peer("no card", "jdoe"))
    for kinds in (["attest"], ["override", "attest"], []):
        assert sorted((await desk.engine.allow_peer(peer.name, kinds, "jdoe")).allow) == sorted(kinds)
    for wrong in (["patient"], ["attest "], "attest", [1]):
        await refused("kind", desk.engine.allow_peer(peer.name, wrong, "jdoe"))  # type: ignore[arg-type]


async def test_whom_to_call_at_a_site_is_noted_and_shown(desk: Desk) -> None:
    tid = await desk.offered()
    peer = await desk.engine.call_peer("Lakeside Trauma Center", " CT desk,\u200b 555 010 0142\n", "jdoe")
    assert peer.call == "CT desk, 555 010 0142"
    assert (await desk.engine.transfer(tid)).peer_call == peer.call
    await refused("call", desk.engine.call_peer(peer.name, "5" * 81, "jdoe"))
    assert (await desk.engine.call_peer(peer.name, "", "jdoe")).call == ""
    assert [line.detail for line in await desk.engine.audit() if line.action == "peer.call"] == [
        "nobody", "CT desk, 555 010 0142",
    ]  # fmt: skip


async def test_a_site_is_unpaired(desk: Desk) -> None:
    """Nothing goes there any more, and its name stays in the history."""
    tid = await desk.offered()
    await desk.engine.unpin_peer("Lakeside Trauma Center", "jdoe")
    assert await desk.engine.peers() == []
    view = await desk.engine.transfer(tid)
    assert (view.state, view.peer) == ("REVOKED", "Lakeside Trauma Center")
    await refused(
        "absent", desk.engine.send(await desk.study(), "Lakeside Trauma Center", "transfer", "jdoe")
    )
    await refused("absent", desk.engine.unpin_peer("Lakeside Trauma Center", "jdoe"))
    assert "peer.unpin" in [a.action for a in await desk.engine.audit()]
    await desk.engine.pin_peer(desk.house.card, "jdoe")
    assert len(await desk.engine.peers()) == 1


# Sending


async def test_a_transfer_has_its_link_and_pin(desk: Desk) -> None:
    tid = await desk.offered()
    view = await desk.engine.transfer(tid)
    page, q = read_link(view.link)
    assert page == desk.rooms.config.relay.url
    assert len(q) == 16
    assert len(view.pin) == 6
    assert (view.role, view.peer, view.tries_left, view.reopens_left) == (
        "send",
        "Lakeside Trauma Center",
        5,
        3,
    )
    assert view.expires_at == desk.clock.at + 2 * HOUR
    assert view.patient_name == "NOBODY, ATALL"


async def test_what_cannot_be_sent_is_said(desk: Desk) -> None:
    study = await desk.study()
    await refused("absent", desk.engine.send(study, "Nowhere", "transfer", "jdoe"))
    await refused("absent", desk.engine.send(HEX, "Lakeside Trauma Center", "transfer", "jdoe"))
    await refused("reason", desk.engine.send(study, "Lakeside Trauma Center", "because", "jdoe"))
    card = desk.house.identity.card(
        name="Lakeside", place="", relay="https://r.example", page="", roles=["send"], now=desk.clock.at
    )
    await desk.engine.pin_peer(card, "jdoe")
    await refused("not-receiver", desk.engine.send(study, "Lakeside", "transfer", "jdoe"))
    assert await desk.engine.transfers() == []


async def test_a_destination_without_a_key_is_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said to staff; asked for now and then, however often something else changes; then the offer goes out."""
    asked = 0
    prekeys = desk.rooms.relay.prekeys

    async def counted(site: object) -> list[str]:
        nonlocal asked
        asked += site == desk.house.site
        return await prekeys(site)  # type: ignore[arg-type]

    monkeypatch.setattr(desk.rooms.relay, "prekeys", counted)
    monkeypatch.setattr("clients.gateway.rooms._ASK", 0.2)
    monkeypatch.setattr("clients.gateway.engine._OFFER_LOOKS", 2)
    view = await desk.engine.send(await desk.study(), "Lakeside Trauma Center", "transfer", "jdoe")

    async def said() -> bool:
        return (await desk.engine.transfer(view.tid)).why == "no-prekey"

    await eventually(said)
    assert (view.state, view.link, view.pin) == ("PREPARING", "", "")
    monkeypatch.setattr("clients.gateway.rooms._ASK", 3600.0)
    before = asked
    for _ in range(100):
        desk.rooms.changed.set()
        await asyncio.sleep(0)
    await desk.engine.transfers()
    assert asked <= before + 1
    await desk.house.pins.renew()
    monkeypatch.setattr("clients.gateway.rooms._ASK", 0.0)
    desk.rooms.changed.set()

    async def offered() -> bool:
        return (await desk.engine.transfer(view.tid)).state == "OFFERED"

    await eventually(offered)


async def test_transfers_by_role_and_number(desk: Desk) -> None:
    tid = await desk.offered()
    assert [t.tid for t in await desk.engine.transfers()] == [tid]
    assert [t.tid for t in await desk.engine.transfers("send")] == [tid]
    assert await desk.engine.transfers("receive") == []
    assert await desk.engine.transfers(limit=0) == []
    study = (await desk.engine.transfer(tid)).study
    assert (await desk.engine.study(study)).transfers == [tid]


async def test_stop_once(desk: Desk) -> None:
    tid = await desk.offered()
    view = await desk.engine.cancel(tid, "jdoe")
    assert (view.state, view.link, view.pin) == ("REVOKED", "", "")
    await refused("state", desk.engine.cancel(tid, "jdoe"))


async def test_another_door_is_the_same_transfer(desk: Desk) -> None:
    tid = await desk.offered()
    before = await desk.engine.transfer(tid)
    view = await desk.engine.door(tid, "scan", make_scan(b"q" * 16), "jdoe")
    assert (view.tid, view.door, view.expires_at, view.tries_left) == (
        tid,
        "scan",
        before.expires_at,
        tries.MAX,
    )
    assert view.link.endswith("/p")
    await refused("scan-empty", desk.engine.door(tid, "scan", "", "jdoe"))
    await refused("door", desk.engine.door(tid, "window", "", "jdoe"))


async def test_reopen_while_it_is_open_is_the_same_transfer(desk: Desk) -> None:
    tid = await desk.offered()
    before = await desk.engine.transfer(tid)
    view = await desk.engine.reopen(tid, "jdoe")
    assert (view.tid, view.reopens_left) == (tid, tries.REOPENS - 1)
    assert (view.link, view.pin) != (before.link, before.pin)


async def test_reopen_after_the_time_is_a_new_transfer(desk: Desk) -> None:
    tid = await desk.offered()
    desk.clock.at += 2 * HOUR

    async def expired() -> bool:
        return (await desk.engine.transfer(tid)).state == "EXPIRED"

    await eventually(expired)
    view = await desk.engine.reopen(tid, "jdoe")
    assert view.tid != tid
    assert view.state == "OFFERED"
    assert (await desk.engine.transfer(tid)).state == "EXPIRED"


@pytest.mark.parametrize("end", ["REVOKED", "DENIED"])
async def test_an_answer_is_not_asked_for_again(desk: Desk, end: str) -> None:
    """A no is final for the transfer; so is a stop. A new one is a new decision of staff."""
    tid = await desk.offered()
    if end == "REVOKED":
        await desk.engine.cancel(tid, "jdoe")
    else:
        await _deny(desk, tid)
    assert (await desk.engine.transfer(tid)).state == end
    await refused("state", desk.engine.reopen(tid, "jdoe"))


async def test_a_study_that_had_a_no_is_sent_again_with_a_reason_or_not_at_all(desk: Desk) -> None:
    tid = await desk.offered()
    await _deny(desk, tid)
    no = await desk.engine.transfer(tid)
    assert (no.state, no.follows) == ("DENIED", "patient")
    await refused("refused-before", desk.engine.send(no.study, "Lakeside Trauma Center", "transfer", "jdoe"))
    await refused("reason", desk.engine.again(tid, "", "jdoe"))
    view = await desk.engine.again(tid, "asks for it now", "jdoe")
    assert (view.state, view.again, view.refused_at) == ("OFFERED", "asks for it now", no.decided_at)
    assert [rung.name for rung in view.rungs] == ["patient"]
    await refused("state", desk.engine.again(view.tid, "once more", "jdoe"))
    await refused("refused-before", desk.engine.override(view.tid, "x", "jdoe"))
    await refused("absent", desk.engine.notice(view.tid))


async def _deny(desk: Desk, tid: str) -> None:
    view = await desk.engine.transfer(tid)
    async with Phone(view.link, view.pin) as phone, asyncio.timeout(PATIENCE):
        await phone.ask()
        assert (await phone.decide("deny", by="patient", name="", rel="self")).state == "DENIED"


async def test_what_we_receive_is_not_ours_to_stop(desk: Desk) -> None:
    await desk.rooms.pins.renew()
    peer = await desk.rooms.pins.get(desk.house.site)
    assert peer is not None
    sender = desk.house
    await sender.pins.pin(own_card(desk.folder, desk.rooms.identity, desk.clock), "test")
    tid = await sender.offers.create(await sender.a_study(), desk.rooms.identity.site, "transfer", "x")
    text = await desk.rooms.db.run(lambda con: con.execute("SELECT message FROM prekeys").fetchone()[0])
    prekey = sender.pins._verified([text], desk.rooms.identity.site)
    assert prekey is not None
    await sender.offers.offer(tid, *prekey, SiteWords("Lakeside", ""), 2 * HOUR)
    await desk.rooms.inbox.offer((await sender.send(tid))["offer"], peer)
    view = await desk.engine.transfer(tid.hex())
    assert (view.role, view.state, view.patient_name, view.reason) == ("receive", "SEEN", "", "transfer")
    await refused("absent", desk.engine.cancel(tid.hex(), "jdoe"))
    await refused("absent", desk.engine.reopen(tid.hex(), "jdoe"))
    assert [t.role for t in await desk.engine.transfers("receive")] == ["receive"]


# Health


async def test_checks_in_words(desk: Desk) -> None:
    await desk.house.pins.renew()
    checks = {c.name: c for c in await desk.engine.checks()}
    names = ("relay", "clock", "pacs", "disk", "database", "sites", "transfers")
    assert {name: c.ok for name, c in checks.items()} == dict.fromkeys(names, True)
    desk.rooms.relay.origin = "http://127.0.0.1:9"
    checks = {c.name: c for c in await desk.engine.checks()}
    assert not checks["relay"].ok
    assert checks["relay"].sentence.endswith(".")


async def test_a_clock_that_is_wrong_is_said(desk: Desk) -> None:
    desk.rooms.clock = type("Off", (), {"now": lambda self: desk.clock.at + 3600})()
    desk.rooms.relay._clock = desk.rooms.clock
    checks = {c.name: c for c in await desk.engine.checks()}
    assert not checks["clock"].ok
    assert "3600" in checks["clock"].sentence


# Audit


async def test_the_log_is_read_in_pages(desk: Desk) -> None:
    for i in range(10):
        await desk.engine.record("jdoe", "study.view", HEX, str(i))
    first = await desk.engine.audit(limit=4)
    assert [a.detail for a in first] == ["9", "8", "7", "6"]
    second = await desk.engine.audit(before=first[-1].seq, limit=4)
    assert [a.detail for a in second] == ["5", "4", "3", "2"]
    assert (first[0].actor, first[0].action, first[0].subject, first[0].at) == (
        "jdoe",
        "study.view",
        HEX,
        desk.clock.at,
    )


# Staff


async def test_changes_are_told(desk: Desk) -> None:
    told = desk.engine.changes()
    async with asyncio.timeout(PATIENCE):
        await anext(told)
        desk.rooms.changed.set()
        await anext(told)
    await told.aclose()  # type: ignore[attr-defined]


async def test_a_wrong_pin_is_seen_at_the_desk(desk: Desk) -> None:
    tid = await desk.offered()
    view = await desk.engine.transfer(tid)
    async with Phone(view.link, f"{(int(view.pin) + 1) % 10**6:06d}") as phone:
        with pytest.raises(WrongPinError):
            await phone.ask()
    assert (await desk.engine.transfer(tid)).tries_left == tries.MAX - 1
