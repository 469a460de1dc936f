"""Studies fetched from archives: Orthanc, dcmqrscp, and one that does what it should not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import association, evt
from pynetdicom.dimse_primitives import C_GET, C_MOVE

from clients.gateway import folder as folders
from clients.gateway.dicom.query import STUDY_FIND, STUDY_GET, STUDY_MOVE, Terms
from clients.gateway.dicom.source import How
from clients.gateway.dicom.tls import server_context
from clients.gateway.errors import GatewayError, ImportingError
from tests.archive_kit import OWN, Desk, OddArchive, fetching, odd_archive, receiving, with_meta
from tests.certificates import Authority
from tests.dicom_kit import free_port, instance, save
from tests.faults.real_pacs import dcmqrscp, orthanc
from tests.gateway_kit import NOWHERE, eventually
from tests.peers import need
from tests.programs import Gateway
from tests.programs import eventually as until

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


def a_study(count: int = 4, **changes: object) -> list[Dataset]:
    """Images of one study, in two series."""
    study, series = generate_uid(), [generate_uid(), generate_uid()]
    given: dict[str, object] = {
        "AccessionNumber": "A7701", "StudyDate": "20261124", "PatientName": "Müller^Jane", "PatientID": "P1",
        "SpecificCharacterSet": "ISO_IR 100", "StudyDescription": "Trauma",
    }  # fmt: skip
    return [
        with_meta(
            instance(
                StudyInstanceUID=study,
                SeriesInstanceUID=series[n % 2],
                InstanceNumber=n,
                **{**given, **changes},
            )
        )
        for n in range(count)
    ]


async def push(images: list[Dataset], folder: Path, port: int, aet: str = "PACS") -> None:
    """The archive gets them by storescu, or whoever listens there."""
    folder.mkdir()
    files = [str(save(image, folder / f"{n}.dcm")) for n, image in enumerate(images)]
    command = [need("storescu")["storescu"], "-aec", aet, "127.0.0.1", str(port), *files]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)


@pytest.mark.peer
@pytest.mark.parametrize("how", ["move", "get"])
async def test_orthanc_gives_a_study_whole_and_once(tmp_path: Path, how: How) -> None:
    images = a_study()
    uid = images[0].StudyInstanceUID
    async with receiving(tmp_path) as given:
        knows = {"us": (OWN, "127.0.0.1", given[2])}
        with orthanc(
            tmp_path / "pacs", knows=knows, DicomAlwaysAllowGet=True, DicomAlwaysAllowMove=True
        ) as port:
            await push(images, tmp_path / "files", port)
            async with fetching(given, port, how=how) as desk:
                found = await desk.pulls.search(Terms(name="Müller, Jane", date="20261124"), "clerk")
                assert [(m.uid, m.patient_name, m.instances, m.here) for m in found.matches] == [
                    (uid, "Müller, Jane", 4, 0)
                ]
                first = await desk.pull(uid)
                assert (first.state, first.wanted, first.here, first.missing) == ("COMPLETE", 4, 4, 0)
                assert (first.completed, first.failed, first.others, first.notes) == (4, 0, 0, [])
                assert first.sentence == "Everything is here: PACS says 4, here 4."
                assert first.patient_name == "Müller, Jane"
                study = await desk.house.one("SELECT * FROM studies WHERE uid=?", uid)
                assert (study["closed"], study["closed_by"], first.study) == (1, "archive", study["id"])
                again = await desk.pull(uid)
                assert (again.state, again.completed, again.here) == ("COMPLETE", 0, 4), (
                    "nothing was fetched twice"
                )
                assert await desk.house.value("SELECT count(*) FROM instances") == 4
                assert desk.house.studies.results["same"] == 0
                found = await desk.pulls.search(Terms(accession="A7701"), "clerk")
                assert [m.here for m in found.matches] == [4]


@pytest.mark.peer
async def test_dcmqrscp_gives_by_get_and_says_that_it_does_not_know_where_to_move(tmp_path: Path) -> None:
    images = a_study()
    uid = images[0].StudyInstanceUID
    async with receiving(tmp_path) as given:
        with dcmqrscp(tmp_path / "pacs") as port:
            await push(images, tmp_path / "files", port)
            async with fetching(given, port) as desk:
                moved = await desk.pull(uid)
                assert (moved.state, moved.code) == ("FAILED", "source-status")
                assert "A801" in moved.sentence
                assert f"{OWN} at 127.0.0.1, port {given[2]}" in moved.sentence
            async with fetching(given, port, how="get") as desk:
                got = await desk.pull(uid)
                assert (got.state, got.here, got.missing) == ("COMPLETE", 4, 0)


@pytest.mark.peer
async def test_an_orthanc_that_does_not_know_us_is_told_so_in_words(tmp_path: Path) -> None:
    images = a_study(1)
    async with receiving(tmp_path) as given:
        with orthanc(tmp_path / "pacs", DicomAlwaysAllowMove=True) as port:
            await push(images, tmp_path / "files", port)
            async with fetching(given, port) as desk:
                view = await desk.pull(images[0].StudyInstanceUID)
                assert view.state == "FAILED"
                assert (
                    f"AE title {OWN}" in view.sentence
                    or "C-MOVE" in view.sentence
                    or "administrator" in view.sentence
                )


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


@pytest.mark.parametrize("how", ["move", "get"])
async def test_an_archive_behind_tls_and_one_whose_certificate_is_not_ours(tmp_path: Path, how: How) -> None:
    ca = Authority(tmp_path)
    images, ours = a_study(2), ca.issue("gate")
    uid = images[0].StudyInstanceUID
    alien = Authority(tmp_path, "other").issue("alien", trusts=ca.file)
    async with receiving(tmp_path) as given:
        for files in (alien, ca.issue("pacs")):
            with odd_archive(images, tls=server_context(files)) as (archive, port):
                archive.destinations[OWN] = given[2]
                async with fetching(given, port, how=how, tls=ours) as desk:
                    view = await desk.pull(uid)
                    if files is alien:
                        assert (view.state, view.code, archive.asked) == ("FAILED", "pacs-certificate", [])
                    else:
                        assert (view.state, view.here) == ("COMPLETE", 2)


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


async def test_a_pull_by_get_obeys_the_disks_margin_and_one_by_move_needs_to_be_allowed(
    tmp_path: Path,
) -> None:
    """The same landing as a C-STORE, so the same refusal; and a PACS that offers no C-MOVE."""
    images = a_study(2)
    uid = images[0].StudyInstanceUID
    async with receiving(tmp_path) as given:
        with odd_archive(images, (STUDY_FIND, STUDY_GET)) as (_, port):
            async with fetching(given, port, how="get", min_free=2**60) as desk:
                view = await desk.pull(uid)
                assert (view.state, view.here, view.failed) == ("FAILED", 0, 2)
                assert not list((desk.house.folder / "incoming").iterdir())
                desk.set_manner("move", 60.0)
                view = await desk.pull(uid)
                assert (view.state, view.code) == ("FAILED", "source-no-move")
                assert 'retrieve = "get"' in view.sentence


async def test_a_pull_that_a_crash_cut_off_begins_again(tmp_path: Path) -> None:
    images = a_study()
    uid = images[0].StudyInstanceUID
    async with receiving(tmp_path) as given:
        with odd_archive(images) as (archive, port):
            archive.destinations[OWN] = given[2]
            async with fetching(given, port, begin=False) as desk:
                ident = await desk.begin(uid)
                await desk.house.execute("UPDATE pulls SET state='RUNNING'")
            async with fetching(given, port) as desk:
                assert (await desk.ended(ident)).state == "COMPLETE"


async def test_a_study_that_is_gone_a_pacs_that_is_away_and_what_is_no_uid(tmp_path: Path) -> None:
    async with receiving(tmp_path) as given:
        with odd_archive(a_study(1)) as (_, port):
            async with fetching(given, port) as desk:
                view = await desk.pull(generate_uid())
                assert (view.state, view.code) == ("FAILED", "pull-absent")
                with pytest.raises(GatewayError) as why:
                    await desk.begin("1.2.*")
                assert why.value.code == "source-refused"
                assert await desk.house.value("SELECT count(*) FROM pulls WHERE uid LIKE '%*%'") == 0
        async with fetching(given, port) as desk:
            view = await desk.pull(generate_uid())
            assert (view.state, view.code) == ("FAILED", "pacs-down")
            found = await desk.pulls.search(Terms(accession="A7701"), "clerk")
            assert found.code == "pacs-down"
            assert "cannot be reached" in found.sentence
            await desk.house.execute("UPDATE pulls SET ended_at=1")
            await desk.pulls.forget_old(60)
            assert await desk.house.value("SELECT count(*) FROM pulls") == 0


@pytest.mark.peer
async def test_a_running_gateway_fetches_and_compares(tmp_path: Path) -> None:
    """The whole program, by its command line, beside Orthanc: a pull by accession, one that finds several, a study
    that was pushed and of which the PACS has more.
    """
    here, there, pushed = a_study(), a_study(1, AccessionNumber="B1"), a_study(3, AccessionNumber="C1")
    more = a_study(1, AccessionNumber="D1")
    uid = str(here[0].StudyInstanceUID)
    folder, port = tmp_path / "s", free_port()
    await folders.init(folder, name="Valley ED", relay=NOWHERE, dicom=f"127.0.0.1:{port}", http="127.0.0.1:0")
    with orthanc(
        tmp_path / "pacs", knows={"us": (OWN, "127.0.0.1", port)}, DicomAlwaysAllowMove=True
    ) as pacs:
        config = folder / "gateway.toml"
        config.write_text(
            config.read_text().replace("quiet_seconds = 60", "quiet_seconds = 5")
            + f'[source]\naet = "PACS"\naddress = "127.0.0.1:{pacs}"\n'
        )
        await push([*here, *there, *pushed, *more], tmp_path / "files", pacs)
        gateway = Gateway(folder)
        try:
            await gateway.start()
            found = await asyncio.to_thread(
                command, "pull", folder, "--patient-id", "P1", "--date", "2026-11-24", "--json"
            )
            assert (found[0], found[1][-1]["code"]) == (1, "pull-several")
            assert sum(line["event"] == "match" for line in found[1]) == 4
            code, told = await asyncio.to_thread(command, "pull", folder, "--accession", "A7701", "--json")
            assert (code, told[-1]["event"], told[-1]["here"]) == (0, "complete", 4)
            await push(pushed[:2], tmp_path / "some", port, OWN)

            async def compared() -> bool | None:
                views = {view.uid: view for view in await gateway.engine.studies()}
                assert views[uid].completeness == "complete: PACS says 4, here 4"
                return views[str(pushed[0].StudyInstanceUID)].missing > 0 or None

            await until(compared)
            _, (views,) = await asyncio.to_thread(command, "studies", folder, "--json")
            assert "1 missing: PACS says 3, here 2" in [view["completeness"] for view in views]
        finally:
            await gateway.kill()
    log = (tmp_path / "s.log").read_text() if (tmp_path / "s.log").exists() else ""
    assert "ller" not in log
    assert uid not in log


def command(name: str, *arguments: object) -> tuple[int, list[Any]]:
    """The exit code of a command and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "clients", name, *map(str, arguments)],
        capture_output=True,
        check=False,
        text=True,
    )
    return done.returncode, [msgspec.json.decode(line) for line in done.stdout.splitlines()]
