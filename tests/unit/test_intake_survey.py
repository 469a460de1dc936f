"""`clients.gateway.intake.survey`: a study that can be offered by its headers, and everything that cannot."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from clients.gateway.errors import IntakeError
from clients.gateway.intake.folder import again
from clients.gateway.intake.found import Limits, Passed
from clients.gateway.intake.paths import stage_again
from clients.gateway.intake.survey import survey
from tests.dicom_kit import instance, save

STUDY = "2.25.77"


def put(folder: Path, name: str, **changes: object) -> Path:
    """One image of the study."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save(instance(**{"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1", **changes}), path)
    return path


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """Two series with a scout, and what lies beside them."""
    folder = tmp_path / "disc"
    for number in (3, 1, 2):
        put(folder, f"a/{number:02}", SeriesInstanceUID=f"{STUDY}.1", SeriesNumber=2, InstanceNumber=number)
    put(
        folder, "b/scout.dcm", SeriesInstanceUID=f"{STUDY}.2", SeriesDescription="Topogram", SeriesNumber=1,
        AccessionNumber="A 17",
    )  # fmt: skip
    (folder / "README.TXT").write_text("viewer")
    return folder


def test_a_study_in_clinical_order(disc: Path) -> None:
    plan = survey(disc)
    assert plan is not None
    assert [file.name for file in plan.files] == ["b/scout.dcm", "a/01", "a/02", "a/03"]
    assert [h.series_uid for h in plan.series] == [f"{STUDY}.2", f"{STUDY}.1"]
    assert (plan.study.study_uid, plan.study.accession) == (STUDY, "A 17")
    assert plan.skipped == [("README.TXT", "import-not-dicom")]
    assert plan.size == sum(path.stat().st_size for path in disc.glob("?/*"))


def _broken(disc: Path) -> None:
    path = disc / "a" / "01"
    path.write_bytes(path.read_bytes()[:-100])


def _bare(disc: Path) -> None:
    path = disc / "a" / "01"
    path.write_bytes(path.read_bytes()[128 + 4 :])


def _twice(disc: Path) -> None:
    (disc / "a" / "04").write_bytes((disc / "a" / "01").read_bytes())


def _other_study(disc: Path) -> None:
    put(disc, "c", StudyInstanceUID=generate_uid())


def _other_patient(disc: Path) -> None:
    put(disc, "c", PatientID="other")


def _a_link(disc: Path) -> None:
    (disc / "c").symlink_to(disc / "a" / "01")


def _a_zip(disc: Path) -> None:
    with zipfile.ZipFile(disc / "c.zip", "w") as zipped:
        zipped.writestr("x", b"x")


def _an_empty_file(disc: Path) -> None:
    (disc / "c").touch()


@pytest.mark.parametrize(
    "change",
    [_broken, _bare, _twice, _other_study, _other_patient, _a_link, _a_zip, _an_empty_file],
    ids=lambda f: f.__name__,
)
def test_where_anything_is_left_to_decide_there_is_no_survey(
    disc: Path, change: Callable[[Path], None]
) -> None:
    change(disc)
    assert survey(disc) is None


def test_what_is_no_folder_of_images_has_none(disc: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path / "one", "x")
    with zipfile.ZipFile(tmp_path / "disc.zip", "w") as zipped:
        zipped.write(disc / "a" / "01", "1")
        zipped.write(disc / "a" / "02", "2")
    for path in (
        disc / "a" / "01",
        tmp_path / "disc.zip",
        tmp_path / "empty",
        tmp_path / "one",
        tmp_path / "no",
    ):
        assert survey(path) is None
    assert survey(disc, Limits(total_bytes=2000)) is None


def test_a_file_is_found_again_as_it_was(disc: Path, tmp_path: Path) -> None:
    plan = survey(disc)
    assert plan is not None
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    for file in plan.files:
        staged = stage_again(disc, file.name, file.size, incoming)
        assert (
            staged.path.read_bytes()[staged.data_offset :] == (disc / file.name).read_bytes()[-staged.size :]
        )


@pytest.mark.parametrize(
    "change", ["gone", "longer", "shorter", "a link", "a folder that is a link", "a pipe"]
)
def test_a_file_that_is_another_now_is_refused(disc: Path, tmp_path: Path, change: str) -> None:
    plan = survey(disc)
    assert plan is not None
    file = next(f for f in plan.files if f.name == "a/01")
    path = disc / file.name
    if change == "a folder that is a link":
        (disc / "a").rename(tmp_path / "elsewhere")
        (disc / "a").symlink_to(tmp_path / "elsewhere")
    elif change in ("longer", "shorter"):
        os.truncate(path, file.size + (2 if change == "longer" else -2))
    else:
        path.unlink()
        if change == "a link":
            path.symlink_to(disc / "a" / "02")
        elif change == "a pipe":
            os.mkfifo(path)
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    with pytest.raises(IntakeError) as caught:
        stage_again(disc, file.name, file.size, incoming)
    expected = {"longer": "import-changed", "shorter": "import-changed", "a pipe": "import-not-file"}
    assert caught.value.code == expected.get(change, "import-unreadable")
    assert list(incoming.iterdir()) == []


def test_no_file_is_left_open(disc: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with again(disc, "a/01", Limits()) as entry:
        assert entry.stream.read(4) == b"\0\0\0\0"
    with pytest.raises(Passed), again(disc, "a/none", Limits()):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
