"""`clients.gateway.dicom.recoding`: another transfer syntax, the same content; DCMTK and pydicom say whether it is."""

from __future__ import annotations

import contextlib
import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import msgspec
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filewriter import write_dataset

from clients.gateway.dicom.part10 import encode_meta, read_meta
from clients.gateway.dicom.pixels import LOSSLESS, RecodeError, Shape, native_frames
from clients.gateway.dicom.recoding import TARGETS, can_recode, check, recode
from clients.gateway.dicom.structure import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from clients.gateway.errors import IntakeError
from tests.image_kit import BUNDLED, image_elements, smooth
from tests.peers import need

RLE, LS, J2K, HT = (
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.201",
)
JPEG, JPEG_1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"


def an_image(shape: tuple[int, ...], dtype: str = "<u2", frames: int = 0, **changes: Any) -> Dataset:
    pixels = smooth(((frames, *shape) if frames else shape), dtype)
    ds = image_elements(pixels, frames=frames)
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in changes.items():
        setattr(ds, name, value)
    return ds


IMAGES: dict[str, Callable[[], Dataset]] = {
    "16 bits": lambda: an_image((64, 48)),
    "signed": lambda: an_image((64, 48), "<i2"),
    "12 of 16 bits": lambda: an_image((64, 48), BitsStored=12, HighBit=11),
    "odd, 8 bits": lambda: an_image((63, 47), "u1"),
    "colour": lambda: an_image((64, 48, 3), "u1"),
    "frames": lambda: an_image((33, 35), "u1", frames=3),
}


def encoded(ds: Dataset, syntax: str) -> bytes:
    """A native data set."""
    out = io.BytesIO()
    fp = pydicom.filebase.DicomIO(out)
    fp.is_implicit_VR, fp.is_little_endian = syntax == IMPLICIT_LITTLE, syntax != EXPLICIT_BIG
    write_dataset(fp, ds)
    return out.getvalue()


def on_disk(path: Path, data: bytes, syntax: str) -> Path:
    path.write_bytes(encode_meta("1.2.840.10008.5.1.4.1.1.2", "2.25.1234567890", syntax) + data)
    return path


def data_of(path: Path) -> tuple[bytes, str]:
    whole = path.read_bytes()
    meta = read_meta(lambda at, n: whole[at : at + n])
    return whole[meta.data_offset :], meta.syntax


def recoded(data: bytes, syntax: str, target: str) -> bytes:
    written = b"".join(recode(data, syntax, target))
    check(data, syntax, written, target)
    return written


def elements(path: Path) -> list[tuple[int, Any]]:
    """All values, in items as well; without their VRs, of which the implicit form says nothing."""
    ds = pydicom.dcmread(path)
    return [
        (element.tag, element.value) for element in ds.iterall() if element.VR != "SQ" and element.tag.element
    ]


# Compressed: DCMTK compresses, and its result is compared with what it compressed


@pytest.mark.peer
@pytest.mark.parametrize(
    ("tool", "options", "syntax"),
    [("dcmcjpeg", ["+el"], JPEG), ("dcmcjpeg", ["+e1"], JPEG_1), ("dcmcjpls", [], LS), ("dcmcrle", [], RLE)],
)
@pytest.mark.parametrize("name", IMAGES)
def test_what_dcmtk_compressed(tmp_path: Path, tool: str, options: list[str], syntax: str, name: str) -> None:
    need(tool)
    native = encoded(IMAGES[name](), EXPLICIT_LITTLE)
    source = on_disk(tmp_path / "native.dcm", native, EXPLICIT_LITTLE)
    subprocess.run([tool, *options, source, tmp_path / "c.dcm"], check=True, capture_output=True)
    data, found = data_of(tmp_path / "c.dcm")
    assert found == syntax
    for target in TARGETS:
        written = recoded(data, syntax, target)
        ours, theirs = elements(on_disk(tmp_path / "ours.dcm", written, target)), elements(source)
        assert [x for x in ours if x in theirs] == theirs


@pytest.mark.parametrize("syntax", [J2K, HT])
@pytest.mark.parametrize("name", IMAGES)
def test_jpeg_2000(tmp_path: Path, syntax: str, name: str) -> None:
    """Every byte beside the pixels is what it was, save the name of the transform that was undone."""
    ds = IMAGES[name]()
    native = bytes(ds.PixelData)
    frames = int(ds.get("NumberOfFrames", 1))
    kind = np.dtype(f"<{'i' if ds.PixelRepresentation else 'u'}{ds.BitsAllocated // 8}")
    shape = (frames, ds.Rows, ds.Columns) + ((3,) if ds.SamplesPerPixel == 3 else ())
    images = np.frombuffer(native, kind, count=int(np.prod(shape))).reshape(shape)
    if syntax == J2K:
        coded = [
            imagecodecs.jpeg2k_encode(i, level=0, reversible=True, codecformat="j2k", mct=i.ndim == 3)
            for i in images
        ]
    else:
        coded = [imagecodecs.htj2k_encode(i, reversible=True) for i in images]
    if ds.SamplesPerPixel == 3:
        ds.PhotometricInterpretation = "YBR_RCT"
    ds.PixelData = encapsulate([bytes(c) for c in coded])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    written = recoded(encoded(ds, EXPLICIT_LITTLE), syntax, EXPLICIT_LITTLE)
    if ds.SamplesPerPixel == 3:
        ds.PhotometricInterpretation = "RGB"
    ds.PixelData = native
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB" if ds.BitsAllocated == 8 else "OW", False
    assert written == encoded(ds, EXPLICIT_LITTLE)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"), ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_RLE.dcm", "MR_small.dcm"), ("SC_rgb_rle.dcm", ""), ("rtdose_rle.dcm", "rtdose.dcm"),
        ("SC_rgb_rle_16bit_2frame.dcm", ""), ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("SC_rgb_rle_32bit_2frame.dcm", ""), ("image_dfl.dcm", ""),
        ("SC_rgb_jpeg_gdcm.dcm", ""), ("examples_jpeg2k.dcm", ""),
    ],
)  # fmt: skip
def test_files_of_others(tmp_path: Path, name: str, like: str) -> None:
    data, syntax = data_of(BUNDLED / name)
    for target in TARGETS:
        ours = pydicom.dcmread(on_disk(tmp_path / "ours.dcm", recoded(data, syntax, target), target))
        if like:
            assert bytes(ours.PixelData) == bytes(pydicom.dcmread(BUNDLED / like).PixelData)
        elif syntax == RLE:  # for which pydicom has a decoder of its own
            assert np.array_equal(ours.pixel_array, pydicom.dcmread(BUNDLED / name).pixel_array)


# Uncompressed: dcmconv is the other opinion


@pytest.mark.peer
@pytest.mark.parametrize("option", ["+ti", "+tb"])
@pytest.mark.parametrize("name", IMAGES)
def test_back_from_what_dcmconv_made(tmp_path: Path, option: str, name: str) -> None:
    need("dcmconv")
    ds = IMAGES[name]()
    source = on_disk(tmp_path / "source.dcm", encoded(ds, EXPLICIT_LITTLE), EXPLICIT_LITTLE)
    subprocess.run(["dcmconv", option, source, tmp_path / "c.dcm"], check=True, capture_output=True)
    data, syntax = data_of(tmp_path / "c.dcm")
    for target in [t for t in TARGETS if t != syntax]:
        ours = elements(on_disk(tmp_path / "ours.dcm", recoded(data, syntax, target), target))
        assert ours == elements(source)


def test_values_are_moved_and_not_read(tmp_path: Path) -> None:
    """Numbers that are none, text of no character set, private elements, sequences in sequences, long values."""
    ds = an_image((32, 32))
    inner = Dataset()
    inner.add_new(0x00091001, "UN", b"\x01\x02\xff")
    inner.add_new(0x00091002, "OB", b"not a number")
    outer = Dataset()
    outer.IconImageSequence = [inner]
    ds.add_new(0x00081140, "SQ", [outer, Dataset()])
    ds.add_new(0x00104000, "LT", b"\xff\xfe\x80" * 2)
    ds.add_new(0x00283006, "US", [1, 2, 3])
    ds.add_new(0x00280106, "SS", -5)
    ds.PixelRepresentation = 1
    data = encoded(ds, EXPLICIT_LITTLE)
    implicit = recoded(data, EXPLICIT_LITTLE, IMPLICIT_LITTLE)
    again = recoded(implicit, IMPLICIT_LITTLE, EXPLICIT_LITTLE)
    assert b"".join(recode(again, EXPLICIT_LITTLE, IMPLICIT_LITTLE)) == implicit
    for value in (b"not a number", b"\xff\xfe\x80" * 2, b"\x01\x02\xff", bytes(ds.PixelData)):
        assert value in implicit
        assert value in again


# What is refused


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.203", "1.2.840.10008.1.2.4.102", "1.2.3"],
)  # fmt: skip
def test_a_lossy_or_unknown_syntax_has_no_other_form(syntax: str) -> None:
    assert not can_recode(syntax)
    with pytest.raises(RecodeError):
        list(recode(b"", syntax, EXPLICIT_LITTLE))


def test_jpeg_2000_whose_sign_is_another() -> None:
    data, syntax = data_of(BUNDLED / "J2K_pixelrep_mismatch.dcm")
    with pytest.raises(RecodeError):
        list(recode(data, syntax, EXPLICIT_LITTLE))


def test_a_file_in_the_place_of_a_codestream() -> None:
    data, syntax = data_of(BUNDLED / "GDCMJ2K_TextGBR.dcm")
    with pytest.raises(RecodeError):
        list(recode(data, syntax, EXPLICIT_LITTLE))


SHAPE = Shape(frames=1, rows=64, columns=48, samples=1, width=2, signed=False, planar=False)


def coded(syntax: str) -> bytes:
    image = smooth((64, 48))
    match syntax:
        case _ if syntax == J2K:
            return bytes(imagecodecs.jpeg2k_encode(image, level=0, reversible=True, codecformat="j2k"))
        case _ if syntax == HT:
            return bytes(imagecodecs.htj2k_encode(image, reversible=True))
        case _ if syntax == LS:
            return bytes(imagecodecs.jpegls_encode(image))
        case _ if syntax == RLE:
            return bytes(
                next(
                    generate_frames(
                        pydicom.dcmread(BUNDLED / "MR_small_RLE.dcm").PixelData, number_of_frames=1
                    )
                )
            )
    return bytes(imagecodecs.ljpeg_encode(image, bitspersample=16))


@pytest.mark.parametrize("syntax", sorted(LOSSLESS - {"1.2.840.10008.1.2.1.98"}))
def test_a_bomb_is_refused_by_what_it_says(syntax: str) -> None:
    """The data set says 64 x 48; the codestream may say more, or end anywhere."""
    kind = JPEG_1 if syntax in (JPEG, JPEG_1) else HT if syntax.endswith("202") else syntax
    good = coded(kind)
    shape = msgspec.structs.replace(SHAPE, columns=64) if kind == RLE else SHAPE
    assert len(list(native_frames(encapsulate([good]), syntax, shape))) == 1
    for changed in (
        {"rows": 65}, {"columns": 96}, {"samples": 3}, {"frames": 2}, {"width": 1}, {"rows": 2**15, "columns": 2**15},
        {"frames": 2**30}, {"rows": 0}, {"samples": 2},
    ):  # fmt: skip
        with pytest.raises(RecodeError):
            list(native_frames(encapsulate([good]), syntax, msgspec.structs.replace(shape, **changed)))
    for end in (0, 1, 2, 20, 45, 64, len(good) // 2):
        with pytest.raises(RecodeError):
            list(native_frames(encapsulate([good[:end] or b"\0\0"]), syntax, shape))


def test_a_run_that_never_ends() -> None:
    """PackBits make 128 bytes of two."""
    head = b"\2\0\0\0" + b"\x40\0\0\0" + b"\x50\0\0\0" + bytes(52)
    with pytest.raises(RecodeError):
        list(native_frames(encapsulate([head + b"\x81\0" * 100_000]), RLE, SHAPE))


@pytest.mark.parametrize("cut", [1, 7, 40, 300])
@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_what_is_cut_off_is_refused(syntax: str, cut: int) -> None:
    ds = an_image((32, 32))
    if syntax == EXPLICIT_BIG:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    data = encoded(ds, syntax)[:-cut]
    with pytest.raises((RecodeError, IntakeError)):
        list(recode(data, syntax, IMPLICIT_LITTLE if syntax != IMPLICIT_LITTLE else EXPLICIT_LITTLE))


def test_a_written_file_that_is_not_the_same_is_not_sent() -> None:
    data = encoded(IMAGES["16 bits"](), EXPLICIT_LITTLE)
    written = bytearray(b"".join(recode(data, EXPLICIT_LITTLE, IMPLICIT_LITTLE)))
    written[-500] ^= 1
    with pytest.raises(RecodeError):
        check(data, EXPLICIT_LITTLE, bytes(written), IMPLICIT_LITTLE)
    data, syntax = data_of(BUNDLED / "MR_small_RLE.dcm")
    written = bytearray(b"".join(recode(data, syntax, EXPLICIT_LITTLE)))
    written[-500] ^= 1
    with pytest.raises(RecodeError):
        check(data, syntax, bytes(written), EXPLICIT_LITTLE)


_NATIVE = {s: encoded(an_image((8, 8), "u1"), s) for s in (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(_NATIVE)), st.sampled_from(TARGETS), st.data())
def test_any_bytes_are_recoded_or_refused(syntax: str, target: str, data: st.DataObject) -> None:
    changed = bytearray(_NATIVE[syntax])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(changed) - 5))
        changed[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    with contextlib.suppress(RecodeError, IntakeError):
        recoded(bytes(changed), syntax, target)


_CODED = {
    name: data_of(BUNDLED / name)
    for name in (
        "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_jpeg_gdcm.dcm",
    )
}  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(_CODED)), st.data())
def test_any_codestream_is_decoded_or_refused(name: str, data: st.DataObject) -> None:
    whole, syntax = _CODED[name]
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(len(changed) // 4, len(changed) - 5))
        changed[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    with contextlib.suppress(RecodeError, IntakeError):
        list(recode(bytes(changed), syntax, EXPLICIT_LITTLE))
