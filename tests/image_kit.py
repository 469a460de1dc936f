"""Images and data sets for the tests of codec and intake: made here, real ones, and those that pydicom brings.

`data_set` encodes a small, complete image of any shape in any native transfer syntax. `real_files` walks the
development studies beside the repository, where they are present, and always pydicom's own test files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG = "1.2.840.10008.1.2.2"
CT = "1.2.840.10008.5.1.4.1.1.2"
ROOT = Path(__file__).resolve().parent.parent
DEV = ROOT.parent / "shared" / "data" / "dev"
BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"


def smooth(shape: tuple[int, ...], dtype: str = "<u2", seed: int = 1, level: int = 100) -> NDArray[Any]:
    """An image with edges, slopes and a little noise, as a CT has them."""
    rng = np.random.default_rng(seed)
    rows, columns = shape[-2:] if len(shape) < 3 or shape[-1] != 3 else shape[-3:-1]
    y, x = np.mgrid[0:rows, 0:columns]
    disc = ((y - rows / 2) ** 2 + (x - columns / 2) ** 2 < (min(rows, columns) / 3) ** 2) * 60
    plane = level + disc + x * 40 // max(columns, 1)
    grid = plane[..., None] if len(shape) >= 3 and shape[-1] == 3 else plane
    return (grid + rng.normal(0, 3, shape)).astype(dtype)


def image_elements(pixels: NDArray[Any], frames: int = 0, bits: int = 0) -> Dataset:
    """An instance around `pixels`: rows x columns, or with samples last, frames first."""
    ds = Dataset()
    ds.SOPClassUID = CT
    ds.SOPInstanceUID = "2.25.1234567890"
    ds.Modality = "CT"
    ds.PatientName = "NOBODY^ATALL"
    # The four bytes of the Pixel Data tag where no pixel is: a private value, and an icon (PS3.3 F.7)
    ds.add_new(0x00090010, "LO", "TEST")
    ds.add_new(0x00091001, "OB", b"\xe0\x7f\x10\x00OW\x00\x00\x08\x00\x00\x00")
    icon = Dataset()
    icon.Rows = icon.Columns = 4
    icon.PixelData = bytes(16)
    icon["PixelData"].VR = "OB"
    ds.IconImageSequence = Sequence([icon])
    colour = pixels.ndim > 2 and pixels.shape[-1] == 3
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    if frames:
        ds.NumberOfFrames = frames
    ds.Rows, ds.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    ds.BitsAllocated = pixels.itemsize * 8
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    raw = pixels.tobytes()
    ds.PixelData = raw + bytes(len(raw) % 2)
    ds["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"
    return ds


def encoded(ds: Dataset, syntax: str = EXPLICIT) -> bytes:
    """The data set's bytes as they cross DIMSE."""
    out = pydicom.filebase.DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = syntax == IMPLICIT, syntax != BIG
    write_dataset(out, ds)
    return out.getvalue()


def data_set(pixels: NDArray[Any], syntax: str = EXPLICIT, frames: int = 0) -> bytes:
    """`image_elements`, encoded."""
    return encoded(image_elements(pixels, frames), syntax)


def split(content: bytes) -> tuple[bytes, str] | None:
    """The data set's bytes and transfer syntax of a Part 10 file with a usable meta; None for any other."""
    if content[128:132] != b"DICM" or content[132:136] != b"\x02\0\0\0":
        return None
    length = int.from_bytes(content[140:144], "little")
    meta = pydicom.dcmread(io.BytesIO(content[: 144 + length]), force=True).file_meta
    syntax = meta.get("TransferSyntaxUID")
    return (content[144 + length :], str(syntax)) if syntax else None


def real_files() -> Iterator[tuple[str, bytes, str]]:
    """Name, data set and transfer syntax of every real file that can be had."""
    for root in (DEV, BUNDLED):
        for path in sorted(root.rglob("*")) if root.is_dir() else []:
            if path.is_file() and path.suffix not in (".txt", ".py", ".gz", ".json"):
                found = split(path.read_bytes())
                if found:
                    yield f"{path.parent.name}/{path.name}", *found


def part10(ds: Dataset, syntax: str = EXPLICIT) -> bytes:
    """`ds` as a DICOM file with another writer's file meta."""
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.ImplementationVersionName = "SOMEBODY_ELSE"
    ds.file_meta.PrivateInformationCreatorUID = "2.25.77"
    ds.file_meta.PrivateInformation = b"not ours to send on."
    out = io.BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def instance(number: int = 1) -> Dataset:
    """A small instance of one study, with a study and a series."""
    ds = image_elements(smooth((40, 48), seed=number))
    ds.SOPInstanceUID = f"2.25.1000{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.11", "2.25.12"
    ds.InstanceNumber = number
    return ds
