"""Studies fetched from an archive that does what it should not: breaks off, falls silent, names somebody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import association, evt
from pynetdicom.dimse_primitives import C_GET, C_MOVE

from clients.gateway.dicom.query import STUDY_MOVE, Terms
from clients.gateway.dicom.source import How
from clients.gateway.errors import ImportingError
from tests.archive_kit import OWN, Desk, OddArchive, a_study, fetching, odd_archive, receiving
from tests.gateway_kit import eventually

MODULE = pytest.mark.asyncio(loop_scope="module")
"""For tests that share a hospital: each has studies of its own."""


class Odd:
    """A hospital and an archive that misbehaves as the test at hand says."""

    def __init__(self, desk: Desk, archive: OddArchive) -> None:
        self._desk, self._archive = desk, archive
        self.port = desk.port

    def use(
        self, images: list[Dataset], *, how: How = "move", silent: float = 60.0
    ) -> tuple[OddArchive, Desk]:
        """The archive has these images and no manner of its own yet."""
        archive = self._archive
        archive.images, archive.asked = images, []
        archive.destinations = {OWN: self.port}
        archive.on_find = archive.on_move = archive.on_get = None
        self._desk.set_manner(how, silent)
        return archive, self._desk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def odd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Odd]:
    async with receiving(tmp_path_factory.mktemp("odd")) as given:
        with odd_archive([]) as (archive, port):
            async with fetching(given, port) as desk:
                yield Odd(desk, archive)


@MODULE
async def test_what_is_missing_is_fetched_the_next_time(odd: Odd) -> None:
    """Failed sub-operations: counted, named, and the study stays open and incomplete; then the rest comes."""
    images = a_study()
    uid = images[0].StudyInstanceUID
    archive, desk = odd.use(images)

    def half(event: evt.Event) -> Iterator[Any]:
        yield "127.0.0.1", odd.port
        yield 4
        yield 0xFF00, images[0]
        yield 0xFF00, images[1]
        failed = Dataset()
        failed.FailedSOPInstanceUIDList = [i.SOPInstanceUID for i in images[2:]]
        yield 0xA702, failed

    archive.on_move = half
    view = await desk.pull(uid)
    assert (view.state, view.wanted, view.missing) == ("INCOMPLETE", 4, 4 - view.here)
    assert view.here < 4
    assert view.failed > 0
    assert set(view.misses) >= {str(i.SOPInstanceUID) for i in images[2:]}
    assert str(images[2].SOPInstanceUID) not in view.sentence
    assert "A702" in view.sentence
    study = await desk.house.one("SELECT * FROM studies WHERE uid=?", uid)
    assert study["closed"] == 0
    archive.on_move = None
    view = await desk.pull(uid)
    assert (view.state, view.here, view.missing) == ("COMPLETE", 4, 0)


@MODULE
async def test_warnings_are_kept_and_images_of_another_study_are_taken_as_what_they_are(
    odd: Odd,
) -> None:
    images, stray = a_study(), a_study(1, PatientID="P2", PatientName="Roe^Rick", AccessionNumber="B1")
    uid = images[0].StudyInstanceUID
    archive, desk = odd.use(images)

    def more(event: evt.Event) -> Iterator[Any]:
        yield "127.0.0.1", odd.port
        yield 5
        for image in [*images, *stray]:
            yield 0xFF00, image

    archive.on_move = more
    view = await desk.pull(uid)
    assert (view.state, view.here, view.others) == ("COMPLETE", 4, 1)
    assert any("another study" in note for note in view.notes)
    assert await desk.house.value("SELECT count(*) FROM studies WHERE uid=?", stray[0].StudyInstanceUID)


@MODULE
async def test_a_refusal_in_the_standards_words_and_in_a_makers(odd: Odd) -> None:
    images = a_study(1)
    archive, desk = odd.use(images)
    archive.destinations = {}
    view = await desk.pull(images[0].StudyInstanceUID)
    assert (view.state, "A801" in view.sentence) == ("FAILED", True)

    def refuse(event: evt.Event) -> Iterator[Any]:
        yield "127.0.0.1", odd.port
        yield 1
        yield 0xC123, None

    archive.on_move = refuse
    view = await desk.pull(images[0].StudyInstanceUID)
    assert (view.state, view.code) == ("FAILED", "source-status")
    assert "C123" in view.sentence
    assert f"AE title {OWN}" in view.sentence


@MODULE
@pytest.mark.parametrize("how", ["move", "get"])
async def test_an_association_that_breaks_in_the_middle_leaves_what_came(odd: Odd, how: How) -> None:
    images = a_study()
    uid = images[0].StudyInstanceUID
    archive, desk = odd.use(images, how=how)

    def breaks(event: evt.Event) -> Iterator[Any]:
        if how == "move":
            yield "127.0.0.1", odd.port
        yield 4
        yield 0xFF00, images[0]
        yield 0xFF00, images[1]
        event.assoc.abort()
        yield 0xFF00, images[2]

    archive.on_move = archive.on_get = breaks
    view = await desk.pull(uid)
    assert (view.state, view.code) == ("INCOMPLETE", "pacs-lost")
    assert 1 <= view.here < 4
    assert view.missing == 4 - view.here
    assert not list((desk.house.folder / "incoming").glob("*.part"))
    archive.on_move = archive.on_get = None
    assert (await desk.pull(uid)).state == "COMPLETE"


@MODULE
@pytest.mark.parametrize("how", ["move", "get"])
async def test_staff_stop_a_pull_and_what_came_stays(odd: Odd, how: How) -> None:
    images = a_study()
    uid = images[0].StudyInstanceUID
    came, go = threading.Event(), threading.Event()
    archive, desk = odd.use(images, how=how)

    def slow(event: evt.Event) -> Iterator[Any]:
        if how == "move":
            yield "127.0.0.1", odd.port
        yield 4
        yield 0xFF00, images[0]
        came.set()
        go.wait(60)
        while not event.is_cancelled:
            if not event.assoc.is_established:
                return
            go.wait(0.05)
            threading.Event().wait(0.05)
        yield 0xFE00, None

    archive.on_move = archive.on_get = slow
    ident = await desk.begin(uid)
    assert await desk.begin(uid) == ident, "one pull for a study"
    await asyncio.to_thread(came.wait, 60)
    here = "SELECT count(*) FROM instances i JOIN studies s ON s.id=i.study WHERE s.uid=?"
    await eventually(lambda: desk.house.value(here, uid))
    study = await desk.house.value("SELECT id FROM studies WHERE uid=?", uid)
    with pytest.raises(ImportingError):
        await desk.house.studies.close(study, "clerk")
    await desk.house.studies.close_quiet(0)
    assert not await desk.house.value("SELECT closed FROM studies WHERE uid=?", uid), "more is to come"
    await desk.pulls.cancel(ident, "clerk")
    go.set()
    view = await desk.ended(ident)
    assert (view.state, view.here) == ("STOPPED", 1)


@MODULE
async def test_an_archive_that_falls_silent_is_stopped(odd: Odd) -> None:
    images = a_study(2)
    over = threading.Event()
    archive, desk = odd.use(images, silent=1.0)

    def mute(event: evt.Event) -> Iterator[Any]:
        yield "127.0.0.1", odd.port
        yield 2
        while not event.is_cancelled and event.assoc.is_established:
            over.wait(0.05)
        yield 0xFE00, None

    archive.on_move = mute
    view = await desk.pull(images[0].StudyInstanceUID)
    assert (view.state, view.code) == ("FAILED", "pull-silent")


@MODULE
async def test_pending_responses_without_end_are_no_sign_that_anything_moves(odd: Odd) -> None:
    """Nor without counts: only what changes is progress."""
    images = a_study(2)
    archive, desk = odd.use(images, silent=1.0)

    def pending(event: evt.Event) -> Iterator[Any]:
        yield "127.0.0.1", odd.port
        yield 2
        response = C_MOVE()
        response.MessageIDBeingRespondedTo, response.Status = event.request.MessageID, 0xFF00
        response.AffectedSOPClassUID = STUDY_MOVE
        while not event.is_cancelled and event.assoc.is_established:
            event.assoc.dimse.send_msg(response, event.context.context_id)
            threading.Event().wait(0.02)
        yield 0xFE00, None

    archive.on_move = pending
    view = await desk.pull(images[0].StudyInstanceUID)
    assert (view.state, view.code) == ("FAILED", "pull-silent")


@MODULE
@pytest.mark.parametrize("how", ["move", "get"])
async def test_sub_operations_with_warnings_are_counted_and_told(odd: Odd, how: How) -> None:
    images = a_study()
    archive, desk = odd.use(images, how=how)

    def warns(event: evt.Event) -> Iterator[Any]:
        """Two of those that it calls completed are ones with a warning (PS3.4 C.4.2.1.5, B000)."""
        send = event.assoc.dimse.send_msg

        def changed(message: Any, context: int) -> None:
            if isinstance(message, C_MOVE | C_GET) and message.Status == 0x0000:
                message.Status, message.NumberOfWarningSuboperations = 0xB000, 2
                message.NumberOfCompletedSuboperations -= 2
            send(message, context)

        event.assoc.dimse.send_msg = changed
        yield from archive.moved(event) if how == "move" else archive.chosen(event)

    archive.on_move = archive.on_get = warns
    view = await desk.pull(images[0].StudyInstanceUID)
    assert (view.state, view.here, view.completed, view.warned, view.failed) == ("COMPLETE", 4, 2, 2, 0)
    assert "The PACS made a note about 2 images; they were sent." in view.notes


@MODULE
async def test_an_image_whose_structure_is_broken_is_refused_in_a_get_and_the_others_are_taken(
    odd: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = a_study()
    archive, desk = odd.use(images, how="get")
    whole = association.encode

    def encode(ds: Dataset, *how: bool) -> bytes | None:
        data = whole(ds, *how)
        cut = data is not None and ds.get("SOPInstanceUID") == images[1].SOPInstanceUID and "PatientID" in ds
        return data[:-3] if data is not None and cut else data

    monkeypatch.setattr(association, "encode", encode)
    archive.on_get = archive.chosen
    view = await desk.pull(images[0].StudyInstanceUID)
    assert (view.state, view.here, view.missing, view.failed) == ("INCOMPLETE", 3, 1, 1)
    assert not list((desk.house.folder / "incoming").glob("*.part"))
    monkeypatch.undo()
    view = await desk.pull(images[0].StudyInstanceUID)
    assert (view.state, view.here) == ("COMPLETE", 4)


@MODULE
async def test_endless_answers_are_cut_off_and_said(odd: Odd) -> None:
    archive, desk = odd.use([])

    def endless(event: evt.Event) -> Iterator[Any]:
        while True:
            answer = Dataset()
            answer.QueryRetrieveLevel, answer.StudyInstanceUID = "STUDY", generate_uid()
            answer.StudyDate, answer.ModalitiesInStudy = "20261124", "CT"
            yield 0xFF00, answer
            if event.is_cancelled:
                yield 0xFE00, None
                return

    archive.on_find = endless
    found = await desk.pulls.search(Terms(date="20261124", modality="CT"), "clerk")
    assert (len(found.matches), found.more, found.code) == (200, True, "")
    assert "more than these 200" in found.sentence


@MODULE
async def test_answers_of_another_patient_are_not_shown(odd: Odd) -> None:
    asked, other = a_study(1), a_study(1, PatientID="P2", AccessionNumber="B1")
    archive, desk = odd.use([*asked, *other])

    def everything(event: evt.Event) -> Iterator[Any]:
        for key in ("AccessionNumber", "PatientID", "StudyDate"):
            setattr(event.identifier, key, "")
        yield from archive.listed(event)

    archive.on_find = everything
    found = await desk.pulls.search(Terms(patient_id="P1"), "clerk")
    assert [m.uid for m in found.matches] == [asked[0].StudyInstanceUID]
    assert "1 answers that were not asked for" in found.sentence


@MODULE
async def test_images_of_another_patient_than_the_list_said(odd: Odd) -> None:
    images = a_study(1)
    uid = images[0].StudyInstanceUID
    archive, desk = odd.use(images)

    def lies(event: evt.Event) -> Iterator[Any]:
        for status, answer in archive.listed(event):
            if "PatientID" in answer:
                answer.PatientID = "P9"
            yield status, answer

    archive.on_find = lies
    view = await desk.pull(uid)
    assert view.state == "COMPLETE"
    assert any("another patient" in note for note in view.notes)
    assert not await desk.house.value("SELECT closed FROM studies WHERE uid=?", uid), "staff look first"


@MODULE
@pytest.mark.parametrize("numbers", [True, False])
async def test_an_archive_without_image_level(odd: Odd, numbers: bool) -> None:
    """The numbers of its series stand in; without those nobody can tell, and that is said."""
    images = a_study()
    archive, desk = odd.use(images)

    def coarse(event: evt.Event) -> Iterator[Any]:
        if event.identifier.QueryRetrieveLevel == "IMAGE":
            yield 0xA900, None
            return
        for status, answer in archive.listed(event):
            if not numbers:
                del answer.NumberOfSeriesRelatedInstances
            yield status, answer

    archive.on_find = coarse
    view = await desk.pull(images[0].StudyInstanceUID)
    assert view.here == 4
    assert (view.state, view.wanted) == (("COMPLETE", 4) if numbers else ("UNVERIFIED", -1))
