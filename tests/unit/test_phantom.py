from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from clients.gateway.codec import encode
from clients.phantom import StudyInfo, write_study
from tests.image_kit import IMPLICIT, split


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> StudyInfo:
    return write_study(tmp_path_factory.mktemp("phantom"), slices=36)


def hu(path: Path) -> NDArray[np.float64]:
    ds = pydicom.dcmread(path)
    return np.asarray(ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept), float)


def test_a_study_is_whole_and_its_uids_are_unique(small: StudyInfo) -> None:
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in small.files]
    assert len(headers) == 38
    assert len({ds.SOPInstanceUID for ds in headers}) == 38
    assert {ds.StudyInstanceUID for ds in headers} == {small.uid}
    assert list(dict.fromkeys(ds.SeriesInstanceUID for ds in headers)) == small.series
    assert [sum(ds.SeriesNumber == n for ds in headers) for n in (1, 2, 3)] == [2, 6, 30]
    assert small.bytes == sum(path.stat().st_size for path in small.files)


def test_every_uid_is_valid_and_our_own(small: StudyInfo) -> None:
    for path in small.files:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        for uid in (ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID):
            assert uid.is_valid
            assert uid.startswith("2.25.")
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID


def test_it_says_phantom_wherever_a_viewer_looks(small: StudyInfo) -> None:
    ds = pydicom.dcmread(small.files[0], stop_before_pixels=True)
    for value in (ds.PatientName, ds.PatientID, ds.StudyDescription, ds.InstitutionName, ds.Manufacturer):
        assert "PHANTOM" in str(value).upper()
    assert str(ds.PatientName) == "PHANTOM^TRAUMA"
    assert ds.PatientBirthDate == "19700101"


def test_slices_follow_each_other_down_the_body(small: StudyInfo) -> None:
    for number, count in ((2, 6), (3, 30)):
        series = [ds for p in small.files if (ds := pydicom.dcmread(p)).SeriesNumber == number]
        z = [float(ds.ImagePositionPatient[2]) for ds in series]
        assert len(z) == count
        assert np.all(np.diff(z) < 0)
        assert np.allclose(np.diff(z), z[1] - z[0], atol=0.01)
        assert {(ds.Rows, ds.Columns, ds.BitsStored) for ds in series} == {(512, 512, 12)}


def test_it_has_air_lung_fat_water_and_bone(small: StudyInfo) -> None:
    chest = hu(small.files[2 + 6 + 8])
    inside = chest[100:420, 60:450]
    assert np.mean((inside > -950) & (inside < -700)) > 0.1  # lungs
    assert np.mean((inside > 0) & (inside < 250)) > 0.1  # muscle and blood
    assert np.mean((inside > -200) & (inside < -40)) > 0.03  # fat
    assert np.mean(inside > 400) > 0.005  # bone
    head = hu(small.files[2 + 2])
    assert np.mean(head > 800) > 0.02
    assert np.mean((head > 10) & (head < 60)) > 0.15
    assert set(np.unique(chest[:40, :40])) == {-1024.0}  # outside the reconstructed circle


def test_it_compresses_like_a_ct(small: StudyInfo) -> None:
    sets = [parts for path in small.files if (parts := split(path.read_bytes()))]
    coded = [encode(*parts) for parts in sets]
    assert {c.codec for c in coded} == {"ht1"}
    ratio = sum(len(data) for data, _ in sets) / sum(len(c.body) for c in coded)
    assert 2.4 < ratio < 3.6


def test_the_same_seed_is_the_same_study(small: StudyInfo, tmp_path: Path) -> None:
    first, again = (write_study(tmp_path / name, slices=6) for name in ("first", "again"))
    assert [a.read_bytes() == b.read_bytes() for a, b in zip(first.files, again.files, strict=True)] == [
        True
    ] * 8
    other = write_study(tmp_path / "other", slices=1, seed=8)
    assert other.uid != small.uid
    assert not np.array_equal(hu(other.files[0]), hu(small.files[0]))


def test_name_id_and_syntax_can_be_chosen(tmp_path: Path) -> None:
    study = write_study(tmp_path, slices=1, patient="DRILL^PHANTOM", patient_id="PHANTOM-2", syntax=IMPLICIT)
    assert len(study.files) == 3
    ds = pydicom.dcmread(study.files[-1])
    assert (str(ds.PatientName), ds.PatientID, ds.file_meta.TransferSyntaxUID) == (
        "DRILL^PHANTOM",
        "PHANTOM-2",
        IMPLICIT,
    )
    assert ds.pixel_array.shape == (512, 512)
