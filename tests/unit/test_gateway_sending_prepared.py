"""Rules prepare a transfer, and only a person makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.gateway.config import PrepareSection
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.sending.prepared import Facts, Prepared, fits, station_of, waiting
from tests.gateway_kit import House, eventually, houses, running

CT = Facts("CT1", "Polytrauma head to pelvis", "Head 5 mm", "CT", "SOMATOM7")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"calling_aet": "ct*"}, True), ({"calling_aet": "CT"}, False), ({"station": "somatom?"}, True),
        ({"study_description": "*POLYTRAUMA*", "modality": "CT"}, True),
        ({"study_description": "*polytrauma*", "modality": "MR"}, False),
        ({"series_description": "*bone*"}, False), ({"station": "[S]*"}, True),
    ],
)  # fmt: skip
def test_all_that_a_rule_names_must_fit(rule: dict[str, str], expected: bool) -> None:
    assert fits(PrepareSection(to="Lakeside", **rule), CT) is expected  # type: ignore[arg-type]


def rooms(house: House, *rules: PrepareSection) -> Prepared:
    studies = house.studies
    return Prepared(house.db, house.clock, house.pins, rules, studies.incoming, house.arrived, house.changed)


async def prepared(house: House) -> int:
    return int(await house.value("SELECT count(*) FROM prepared"))


async def test_a_study_that_fits_is_prepared_once_shown_and_offered_by_nobody(tmp_path: Path) -> None:
    async with houses(tmp_path) as (s, r), running(s.studies.run()):
        lost = rooms(
            s,
            PrepareSection(to="Nowhere Hospital", calling_aet="CT1"),
            PrepareSection(to=r.name, station="*"),
        )
        room = rooms(
            s, PrepareSection(to=r.name, calling_aet="MR*"), PrepareSection(to=r.name, station="SOMA*")
        )
        await s.adopt(s.file(StationName="SOMATOM7"), s.file(StationName="SOMATOM7", InstanceNumber=2))
        study = await s.value("SELECT id FROM studies")
        await lost.look()
        assert await prepared(s) == 0, "the first rule that fits decides, and its site is not paired"
        for _ in range(2):
            await room.look()
        row = await s.one("SELECT * FROM prepared")
        assert (row["study"], bytes(row["peer"]), row["state"], row["rule"]) == (study, r.site, "prepared", 2)
        assert await s.value("SELECT count(*) FROM sends") == 0
        assert (await room.wanted(study))[1] == "transfer"
        found = await s.db.run(lambda con: waiting(con, study))
        assert found is not None
        assert found["name"] == r.name
        await room.settle(study, "dismissed", "clerk")
        with pytest.raises(AbsentError):
            await room.settle(study, "offered", "clerk")
        with pytest.raises(GatewayError) as why:
            await room.wanted(study)
        assert why.value.code == "prepared"
        await s.adopt(s.file(InstanceNumber=3, SeriesInstanceUID="2.25.99", StationName="SOMATOM7"))
        await room.look()
        assert await prepared(s) == 1, "what was dismissed stays so"
        assert {"study.prepared", "study.prepared-dismissed"} <= set(await s.actions(study))


async def test_a_running_room_sees_what_arrives(tmp_path: Path) -> None:
    async with houses(tmp_path) as (s, r):
        room = rooms(s, PrepareSection(to=r.name, modality="CT"))
        async with running(s.studies.run(), room.run()):
            await s.adopt(s.file())
            await eventually(lambda: prepared(s))


async def test_what_is_sent_already_is_not_prepared(tmp_path: Path) -> None:
    async with houses(tmp_path) as (s, r):
        async with running(s.studies.run()):
            study = await s.a_study()
        room = rooms(s, PrepareSection(to=r.name, calling_aet="*"))
        await s.offer_to(r, study)
        await room.look()
        assert await prepared(s) == 0


def test_a_station_is_read_where_it_lies(tmp_path: Path) -> None:
    assert station_of(tmp_path / "gone.dcm") == ""
    (tmp_path / "odd.dcm").write_bytes(b"DICM" * 100)
    assert station_of(tmp_path / "odd.dcm") == ""
