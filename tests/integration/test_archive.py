"""Studies fetched from archives: Orthanc and dcmqrscp, over TLS, with a full disk, after a crash."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from clients.gateway import folder as folders
from clients.gateway.dicom.query import STUDY_FIND, STUDY_GET, Terms
from clients.gateway.dicom.source import How
from clients.gateway.dicom.tls import server_context
from clients.gateway.errors import GatewayError
from tests.archive_kit import OWN, a_study, fetching, odd_archive, receiving
from tests.certificates import Authority
from tests.dicom_kit import free_port, save
from tests.faults.real_pacs import dcmqrscp, orthanc
from tests.gateway_kit import NOWHERE
from tests.peers import need
from tests.programs import Gateway
from tests.programs import eventually as until


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
