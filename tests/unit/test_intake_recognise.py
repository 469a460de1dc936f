from __future__ import annotations

import io

import numpy as np
import pytest

from clients.gateway.intake.found import Passed
from clients.gateway.intake.recognise import encapsulated, recognise
from tests.image_kit import BIG, BUNDLED, CT, EXPLICIT, IMPLICIT, encoded, instance, part10

UID = "2.25.10001"


def passed(head: bytes) -> str:
    with pytest.raises(Passed) as caught:
        recognise(head)
    return caught.value.code


def test_a_dicom_file() -> None:
    content = part10(instance())
    meta = recognise(content)
    assert (meta.sop_class, meta.sop_uid, meta.syntax) == (CT, UID, EXPLICIT)
    assert content[meta.data_offset :] == encoded(instance())


def test_file_meta_without_a_preamble() -> None:
    content = part10(instance())[132:]
    meta = recognise(content)
    assert meta.sop_uid == UID
    assert content[meta.data_offset :] == encoded(instance())


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_a_bare_data_set_says_what_it_is(syntax: str) -> None:
    ds = instance()
    if syntax == BIG:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    meta = recognise(encoded(ds, syntax))
    assert (meta.sop_class, meta.sop_uid, meta.syntax, meta.data_offset) == (CT, UID, syntax, 0)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
def test_real_files_without_what_is_in_front(name: str) -> None:
    content = (BUNDLED / name).read_bytes()
    whole = recognise(content)
    bare = recognise(content[whole.data_offset :])
    assert (bare.sop_class, bare.sop_uid, bare.syntax) == (whole.sop_class, whole.sop_uid, whole.syntax)


@pytest.mark.parametrize(
    ("name", "syntax"), [("ExplVR_LitEndNoMeta.dcm", EXPLICIT), ("ExplVR_BigEndNoMeta.dcm", BIG)]
)
def test_real_files_that_never_had_it(name: str, syntax: str) -> None:
    meta = recognise((BUNDLED / name).read_bytes())
    assert (meta.data_offset, meta.syntax) == (0, syntax)


def test_a_real_file_that_begins_with_a_stray_byte() -> None:
    assert passed((BUNDLED / "no_meta.dcm").read_bytes()) == "import-not-dicom"


def test_a_bare_data_set_without_an_instance_is_no_dicom() -> None:
    for missing in ("SOPInstanceUID", "SOPClassUID"):
        ds = instance()
        delattr(ds, missing)
        assert passed(encoded(ds, IMPLICIT)) == "import-not-dicom"
    ds = instance()
    ds["SOPInstanceUID"]._value = "../../escape"
    assert passed(encoded(ds, IMPLICIT)) == "import-not-dicom"


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"", "import-empty"),
        (b"[autorun]\r\nopen=viewer.exe\r\n", "import-not-dicom"),
        (b"MZ" + bytes(500), "import-not-dicom"),
        (bytes(1000), "import-not-dicom"),
        (b"\x08\0" + b"\xff" * 500, "import-not-dicom"),
        (b"\0\x08" + b"\0" * 500, "import-not-dicom"),
        (b"\x08\0", "import-not-dicom"),
        (b"PK\3\4" + bytes(100), "import-zip-nested"),
        (bytes(32769) + b"CD001\1" + bytes(100), "import-iso"),
        (bytes(32769) + b"BEA01\1" + bytes(100), "import-iso"),
        (bytes(32768) + b"CD001\1" + bytes(100), "import-not-dicom"),
        (bytes(128) + b"DICM", "dicom-meta"),
        (bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0\xff\xff\xff\xff", "dicom-meta"),
        (b"\2\0\0\0UL\4\0\1\0\0\0", "dicom-meta"),
    ],
)
def test_what_is_no_dicom_is_named(head: bytes, code: str) -> None:
    assert passed(head) == code


def test_the_index_of_a_disc_is_no_image() -> None:
    assert passed((BUNDLED / "dicomdirtests" / "DICOMDIR").read_bytes()) == "import-dicomdir"


def test_random_bytes_raise_nothing_else() -> None:
    rng = np.random.default_rng(11)
    starts = (b"", b"\x08\0", b"\0\x08", b"\2\0\0\0UL", bytes(128) + b"DICM", b"\x08\0\x05\0CS")
    for i in range(600):
        head = starts[i % len(starts)] + rng.bytes(int(rng.integers(0, 400)))
        assert passed(head)


def test_fragments_give_a_guess_away() -> None:
    jpeg = (BUNDLED / "SC_rgb_jpeg_dcmtk.dcm").read_bytes()
    bare = jpeg[144 + int.from_bytes(jpeg[140:144], "little") :]
    assert recognise(bare).syntax == EXPLICIT
    assert encapsulated(io.BytesIO(bare), EXPLICIT)
    assert not encapsulated(io.BytesIO(encoded(instance())), EXPLICIT)
    assert not encapsulated(io.BytesIO(encoded(instance(), IMPLICIT)), IMPLICIT)
    assert not encapsulated(io.BytesIO(b"\x08\0\x16\0UI"), EXPLICIT)
