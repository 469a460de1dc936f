"""An opened transfer waits until staff say who it is; then the PACS gets it under that number, and nothing else new."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pydicom
import pytest

from clients.gateway.control_server import ControlServer
from clients.gateway.dicom.coercion import rest_hash
from clients.gateway.dicom.header import read_header
from clients.gateway.dicom.scu import Destination, StoreScu
from clients.gateway.dicom.worklist import Worklist
from clients.gateway.errors import AbsentError
from clients.gateway.receiving.delivery import Delivery
from clients.gateway.receiving.reconciling import Reconciling
from clients.gateway.views import TransferView
from clients.gateway.whose import Candidate
from tests.delivery_kit import Party, party
from tests.dicom_kit import data_set, storescp
from tests.gateway_kit import PATIENCE, an_instance
from tests.programs import command
from tests.spool_kit import workers
from tests.worklist_kit import searcher, step, wlmscpfs
from tests.world import World

__all__ = ["party", "workers"]


def reconciling(party: Party, delivery: Delivery, worklist: Worklist) -> Reconciling:
    return Reconciling(party.r.db, party.r.clock, delivery._identities, worklist, "match", "LAKESIDE")


@contextlib.asynccontextmanager
async def going(party: Party, delivery: Delivery) -> AsyncIterator[asyncio.Task[None]]:
    """A delivery that has got so far that staff are asked."""
    task = asyncio.create_task(delivery.run())
    try:
        async with asyncio.timeout(PATIENCE):
            while (seen := party.r.changed.seen) >= 0 and (await party.row())["why"] != "identity":
                assert not task.done()
                await party.r.changed.wait(seen, 1.0)
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def images(count: int) -> list[pydicom.Dataset]:
    return [
        an_instance(InstanceNumber=i, PatientName="TEST^ALPHA", PatientSex="F", IssuerOfPatientID="VALLEY")
        for i in range(1, count + 1)
    ]


@pytest.mark.peer
async def test_from_the_worklist_to_the_pacs(tmp_path: Path, party: Party) -> None:
    await party.study(*images(3))
    steps = [step("900", "TEST^ALPHA", "19700102"), step("901", "TEST^BRAVO")]
    with wlmscpfs(tmp_path / "wl", steps) as port, storescp(tmp_path / "out") as (pacs, _):
        scu = StoreScu(Destination(aet="PACS", host="127.0.0.1", port=pacs, calling_aet="TRAUMATX"))
        await scu.start()
        try:
            delivery = party.delivery(scu, policy="match")
            async with going(party, delivery) as task:
                office = reconciling(party, delivery, searcher(port))
                (item,) = (await office.search("900", "", "")).items
                candidate = Candidate(
                    patient_id=item.patient_id, issuer=item.issuer, name=item.name, birth_date=item.birth_date,
                    sex=item.sex, source="worklist",
                )  # fmt: skip
                sides = await office.compare(party.tid, candidate)
                assert [c.key for c in sides.confirm] == ["name", "birth_date"]
                assert list((tmp_path / "out").iterdir()) == [], "nothing before it is confirmed"
                await office.choose(party.tid, candidate, ["name", "birth_date"], "dr-lee")
                async with asyncio.timeout(PATIENCE):
                    await task
        finally:
            await scu.stop()
        assert (await party.row())["state"] == "COMPLETE"
        stored = {
            str(ds.SOPInstanceUID): path
            for path in (tmp_path / "out").iterdir()
            if (ds := pydicom.dcmread(path))
        }
    originals = {
        r["sop_uid"]: party.s.folder / "incoming" / r["file"]
        for r in await party.s.rows("SELECT sop_uid, file FROM instances")
    }
    assert stored.keys() == originals.keys()
    for uid, path in stored.items():
        ds, syntax = pydicom.dcmread(path), read_header(path).syntax
        assert (ds.PatientID, ds.IssuerOfPatientID, str(ds.PatientName)) == ("900", "LAKESIDE", "TEST^ALPHA")
        original = ds.OriginalAttributesSequence[-1]
        assert original.ReasonForTheAttributeModification == "COERCE"
        assert original.ModifyingSystem == "TRAUMATX"
        before = original.ModifiedAttributesSequence[0]
        assert (before.PatientID, before.IssuerOfPatientID) == ("P1", "VALLEY")
        assert "PatientName" not in before, "what was not changed is no original"
        (other,) = ds.OtherPatientIDsSequence
        assert (other.PatientID, other.IssuerOfPatientID) == ("P1", "VALLEY")
        assert rest_hash(data_set(path), syntax) == rest_hash(data_set(originals[uid]), syntax)


async def test_who_stops_the_transfer_while_it_waits_leaves_nothing_behind(party: Party) -> None:
    await party.study(*images(2))
    async with party.scu() as scu:
        delivery = party.delivery(scu, policy="match")
        async with going(party, delivery) as task:
            assert list((party.r.folder / "restored").rglob("*.dcm"))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert list((party.r.folder / "restored").rglob("*.dcm")) == []
    assert not party.pacs.seen


async def test_an_image_of_another_patient_is_a_gap_that_is_named(party: Party) -> None:
    """The sender's own check does not look at the issuer; this one does: the same number of another hospital."""
    first, second = images(2)
    second.IssuerOfPatientID = "COUNTY"
    await party.study(first, second)
    await party.deliver(policy="prefix")
    assert (await party.row())["state"] == "PARTIAL"
    alarms = [r["code"] for r in await party.r.rows("SELECT code FROM alarms")]
    assert "identity-other" in alarms
    assert len(party.pacs.seen) == 1
    assert (
        msgspec.json.decode((await party.r.rows("SELECT sender FROM presented"))[0]["sender"])["issuer"]
        == "VALLEY"
    )


async def test_on_the_command_line_from_the_question_to_a_later_correction(
    tmp_path: Path, study: Path
) -> None:
    world = World(tmp_path / "world", identity="match")
    await world.open()
    control = ControlServer(world.receiver.engine, world.receiver.folder)
    try:
        await control.start()
        offered = await world.offer(study)
        await world.answer(offered)

        async def waits() -> TransferView | None:
            with contextlib.suppress(AbsentError):  # the offer has not come yet
                view = await world.receiver.engine.transfer(offered.tid)
                return view if view.identity == "waits" else None
            return None

        view = await world.receiver.eventually(waits)
        assert view.waits == "It waits for somebody here to say who this patient is. Open it in the inbox."
        at = (str(world.receiver.folder), offered.tid)
        shown = await command("incoming", "show", *at, "--json")
        assert shown.lines[0]["sender"]["name"] == "PHANTOM, TRAUMA"
        person = ("--mrn", "900", "--name", "PHANTOM, TRAUMA", "--json")
        alone = await command("incoming", "identify", *at, *person, "--confirm", "number")
        assert (alone.code, alone.lines[-1]["code"]) == (1, "unconfirmed")
        assert world.stored() == {}
        told = ("--confirm", "number", "--confirm", "arrival")
        done = await command("incoming", "identify", *at, *person, *told)
        assert (done.code, done.lines[0]["how"], done.lines[0]["filed_id"]) == (0, "match", "900")
        await world.sender.until(offered.tid, "COMPLETE")
        await world.receiver.until(offered.tid, "COMPLETE")
        stored = list(world.pacs_folder.rglob("*.dcm"))
        assert {pydicom.dcmread(path, stop_before_pixels=True).PatientID for path in stored} == {"900"}
        proof = await command("incoming", "proof", *at, "--json")
        expected = {"state": "COMPLETE", "proof": "store", "gaps": 0, "lacking": []}
        assert (proof.code, proof.lines) == (0, [expected])
        wrong = await command("incoming", "correct", *at, "--mrn", "90\\1", "--json", *told)
        assert (wrong.code, wrong.lines[-1]["code"]) == (1, "mrn-backslash")
        ours = (*told, "--confirm", "all")
        later = await command("incoming", "correct", *at, "--mrn", "901", "--json", *ours)
        assert (later.code, later.lines[0]["changes"][0]["to_id"]) == (0, "901")
        assert (await world.receiver.engine.transfer(offered.tid)).identity == "corrected"
        name = ("--name", "TEST, ALPHA", "--confirm", "differs-name")
        named = await command("incoming", "correct", *at, *name, "--json", *ours)
        assert named.code == 0
        assert [(c["kind"], c["to_id"]) for c in named.lines[0]["changes"]] == [
            ("merge", "901"),
            ("update", "901"),
        ]
    finally:
        await control.stop()
        await world.close()
