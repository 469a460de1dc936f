"""A CT study of a person who never was: two scouts, the head, then neck to pelvis, as DICOM files.

Everything follows from `seed`: anatomy, noise, UIDs (PS3.5 B.2, under 2.25); on one machine to the last byte. Each
place that a viewer shows says PHANTOM, so that no image can be taken for a patient's.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from clients.phantom.scanner import END, INTERCEPT, NECK, SHADOW_STEP, Protocol, Scanner

_DATE, _HOUR = "20260115", 9
_Pixels = NDArray[np.uint16]


class StudyInfo(msgspec.Struct, frozen=True):
    """What was written."""

    uid: str
    series: list[str]
    """Series Instance UIDs: scouts, head, body."""
    files: list[Path]
    """In the order of series and instance numbers."""
    bytes: int


class _Series(msgspec.Struct, frozen=True):
    """What the images of a series have in common."""

    number: int
    description: str
    body_part: str
    kernel: str
    window: tuple[float, float]
    kind: str
    thickness: float
    kvp: int
    current: int


_SCOUTS = _Series(1, "TOPOGRAM 0.6 T20s", "WHOLEBODY", "T20s", (50, 400), "LOCALIZER", 0.6, 120, 35)
_HEAD = _Series(2, "HEAD 4.0 H31s", "HEAD", "H31s", (38, 90), "AXIAL", 4.0, 120, 270)
_BODY = _Series(3, "NECK-CHEST-ABDOMEN-PELVIS 4.0 B30f", "CHEST", "B30f", (50, 400), "AXIAL", 4.0, 120, 180)


def write_study(
    folder: Path,
    slices: int = 240,
    seed: int = 7,
    patient: str = "PHANTOM^TRAUMA",
    *,
    patient_id: str = "PHANTOM-1",
    syntax: str = ExplicitVRLittleEndian,
) -> StudyInfo:
    """Writes a study of `slices` axial images and two scouts below `folder`, one folder for each series.

    `syntax` is Explicit or Implicit VR Little Endian. Raises `OSError` where the folder cannot be written.
    """
    writer = _Writer(Path(folder), seed, patient, patient_id, syntax)
    scanner = Scanner(seed)
    for pixels, lateral in _scouts(scanner):
        writer.scout(pixels, lateral)
    head = min(slices, max(1, round(slices / 6)))
    for protocol, series, top, bottom, count in (
        (scanner.head, _HEAD, 2.0, NECK - 5, head),
        (scanner.body, _BODY, NECK - 5, END, slices - head),
    ):
        step = (bottom - top) / max(1, count)
        for i in range(count):
            writer.axial(series, scanner.axial(protocol, top + i * step), protocol, top + i * step)
    return writer.info()


def _scouts(scanner: Scanner) -> Iterator[tuple[_Pixels, bool]]:
    """From the front and from the side: what the rays sum up, from a coarse scan of the whole body."""
    front, side = zip(*(scanner.shadow(z) for z in np.arange(0, END, SHADOW_STEP)), strict=True)
    for rows, lateral in ((front, False), (side, True)):
        yield scanner.scout(np.stack(rows)), lateral


class _Writer:
    """Numbers, names and writes the images."""

    def __init__(self, folder: Path, seed: int, patient: str, patient_id: str, syntax: str) -> None:
        self._folder, self._seed, self._syntax = folder, seed, syntax
        self._patient, self._patient_id = patient, patient_id
        self._study = _uid(self._seed, "study")
        self._count: dict[int, int] = {}
        self._series: dict[int, str] = {}
        self._files: list[Path] = []
        self._bytes = 0

    def info(self) -> StudyInfo:
        """What has been written."""
        return StudyInfo(self._study, list(self._series.values()), self._files, self._bytes)

    def axial(self, series: _Series, pixels: _Pixels, protocol: Protocol, z: float) -> None:
        """One axial image at `z` millimetres below the vertex."""
        ds = self._image(series, pixels)
        pixel, fov = protocol.canvas.pixel, protocol.canvas.pixel * protocol.canvas.size
        left, top = float(protocol.canvas.columns[0]), float(protocol.canvas.rows[0])
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [_decimal(left), _decimal(top), _decimal(-z)]
        ds.SliceLocation = _decimal(-z)
        ds.PixelSpacing = [_decimal(pixel), _decimal(pixel)]
        ds.ReconstructionDiameter = _decimal(fov)
        self._write(series, ds)

    def scout(self, pixels: _Pixels, lateral: bool) -> None:
        """One localizer: a projection, whose rows go down the body."""
        ds = self._image(_SCOUTS, pixels)
        across = [0, 1, 0] if lateral else [1, 0, 0]
        ds.ImageOrientationPatient = [*across, 0, 0, -1]
        ds.ImagePositionPatient = [0, -255, 0] if lateral else [-255, 0, 0]
        ds.PixelSpacing = [1, 1]
        self._write(_SCOUTS, ds)

    def _image(self, series: _Series, pixels: _Pixels) -> Dataset:
        """Patient, study, series, equipment and image, but for the geometry (PS3.3 A.3)."""
        number = self._count[series.number] = self._count.get(series.number, 0) + 1
        uid = self._series.setdefault(series.number, _uid(self._seed, "series", series.number))
        seconds = 60 * series.number + number
        time = f"{_HOUR:02}{seconds // 60:02}{seconds % 60:02}"
        ds = Dataset()
        ds.SpecificCharacterSet = "ISO_IR 100"
        ds.ImageType = ["ORIGINAL", "PRIMARY", series.kind]
        ds.SOPClassUID, ds.SOPInstanceUID = (
            CTImageStorage,
            _uid(self._seed, "instance", series.number, number),
        )
        ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = _DATE
        ds.StudyTime, ds.SeriesTime = f"{_HOUR:02}0000", f"{_HOUR:02}{series.number:02}00"
        ds.AcquisitionTime = ds.ContentTime = time
        ds.AccessionNumber, ds.Modality, ds.Manufacturer = (
            f"PH{self._seed:06}",
            "CT",
            "Trauma Transfer phantom",
        )
        ds.InstitutionName, ds.ReferringPhysicianName = "PHANTOM", ""
        ds.StudyDescription, ds.SeriesDescription = "CT HEAD-PELVIS PHANTOM", series.description
        ds.ManufacturerModelName = "PHANTOM"
        ds.PatientName, ds.PatientID = self._patient, self._patient_id
        ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19700101", "O", "056Y"
        ds.BodyPartExamined, ds.SliceThickness, ds.KVP = series.body_part, series.thickness, series.kvp
        ds.PatientPosition, ds.ConvolutionKernel = "HFS", series.kernel
        ds.XRayTubeCurrent, ds.ExposureTime, ds.GantryDetectorTilt = series.current, 500, 0
        ds.StudyInstanceUID, ds.SeriesInstanceUID = self._study, uid
        ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = (
            "1",
            series.number,
            series.number,
            number,
        )
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = _uid(self._seed, "frame"), ""
        ds.ImageComments = "Computer-generated phantom. Not a patient."
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = pixels.shape
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.WindowCenter, ds.WindowWidth = series.window
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = INTERCEPT, 1, "HU"
        ds.PixelData = pixels.astype("<u2", copy=False).tobytes()
        ds["PixelData"].VR = "OW"
        return ds

    def _write(self, series: _Series, ds: Dataset) -> None:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
        meta.TransferSyntaxUID = self._syntax
        meta.ImplementationClassUID = _uid("implementation")
        ds.file_meta = meta
        out = io.BytesIO()
        dcmwrite(out, ds, enforce_file_format=True)
        content = out.getvalue()
        path = self._folder / f"{series.number}-{series.body_part.lower()}" / f"{ds.InstanceNumber:04}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self._files.append(path)
        self._bytes += len(content)


def _uid(*parts: object) -> str:
    """An UID that follows from `parts` (PS3.5 B.2: 2.25 and a number of 128 bits)."""
    name = "/".join(map(str, ("trauma-transfer phantom", *parts)))
    return f"2.25.{int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], 'big')}"


def _decimal(value: float) -> str:
    """A DS of at most 16 characters (PS3.5 6.2)."""
    return f"{value:.6f}".rstrip("0").rstrip(".") or "0"
