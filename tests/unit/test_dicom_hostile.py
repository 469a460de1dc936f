"""Data sets of a sender that are wrong on purpose, on the way to a PACS under another identity: each is filed as it
should be, or refused by name, and costs no more than others do.
docs/conformance/bad-input.md says what covers the rest.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from clients.gateway.dicom.coercion import Change, Local, coerce, rest_hash
from clients.gateway.dicom.header import parse_header
from clients.gateway.dicom.part10 import encode_meta
from clients.gateway.dicom.refusals import REFUSALS
from clients.gateway.errors import IntakeError
from clients.gateway.intake import Limits, stage_all
from clients.gateway.receiving.identity import prefixed
from tests.image_kit import CT, EXPLICIT, IMPLICIT, encoded, instance, part10

DEFLATED = "1.2.840.10008.1.2.1.99"
_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)


def change(patient_id: str) -> Change:
    return Change(
        local=Local(patient_id=patient_id), system="TRAUMATX", source="Valley ED", at="20261124120000+0000"
    )


def with_number(number: bytes, charset: bytes) -> bytes:
    """A data set whose Patient ID and character set are these bytes, whatever they are (PS3.5 7.1.2, explicit VR)."""

    def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        return (
            struct.pack("<HH2sH", group, number, vr, len(value) + len(value) % 2)
            + value
            + b" " * (len(value) % 2)
        )

    uids = {0x0016: CT, 0x0018: "2.25.3"}
    return b"".join((
        element(8, 5, b"CS", charset),
        *(element(8, tag, b"UI", uid.encode() + b"\0" * (len(uid) % 2)) for tag, uid in uids.items()),
        element(0x10, 0x10, b"PN", b"DOE^JANE"), element(0x10, 0x20, b"LO", number),
        element(0x20, 0x0D, b"UI", b"2.25.1"), element(0x20, 0x0E, b"UI", b"2.25.2"),
        element(0x28, 0x10, b"US", b"\1\0"),
    ))  # fmt: skip


def filed(data: bytes) -> tuple[str, Dataset]:
    """(the number under which a study is filed by `prefix`, the data set as it is then)."""
    raw = encode_meta(CT, "2.25.3", EXPLICIT) + data
    number = prefixed("VALLEYED4X7A", parse_header(lambda at, n: raw[at : at + n], len(raw)))
    new = b"".join(coerce(data, EXPLICIT, change(number)))
    assert rest_hash(new, EXPLICIT) == rest_hash(data, EXPLICIT)
    return number, read_dataset(io.BytesIO(new), is_implicit_VR=False, is_little_endian=True)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("charset", "number"),
    [
        (b"ISO_IR 100", b"47\\11"), (b"ISO_IR 100", b"47^11"), (b"ISO_IR 100", b"4" * 65), (b"ISO_IR 100", b"4" * 3000),
        (b"ISO_IR 100", b"47\r\n11"), (b"ISO_IR 100", b"\x1b$B47"), (b"ISO_IR 100", "Zürich-47".encode("latin-1")),
        (b"\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B-47"), (b"\\ISO 2022 IR 87", b"\x1b$B\x1b$B\x1b$B"),
        (b"GB18030", "王-47".encode("gb18030")), (b"GB18030", b"\x81\x5c47"), (b"ISO_IR 192", "山田-47".encode()),
        (b"ISO_IR 192", b"\xff\xfe47"), (b"ISO_IR 192", "47\u202e11".encode()), (b"nonsense", b"\xe447"),
    ],
    ids=lambda value: f"{len(value)} {value[:16]!r}",
)  # fmt: skip
def test_any_number_of_a_sender_is_filed_as_one_that_a_pacs_can_hold(charset: bytes, number: bytes) -> None:
    """One value, 64 printable characters, no backslash (PS3.5 6.2, LO); and the sender's own kept byte for byte."""
    ours, ds = filed(with_number(number, charset))
    assert ours.startswith("VALLEYED4X7A-")
    assert ds.PatientID == ours
    assert len(ours) <= 64
    assert ours.isascii()
    assert ours.isprintable()
    assert "\\" not in ours
    original = ds.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0]
    for kept in (original, ds.OtherPatientIDsSequence[-1]):
        assert kept.get_item(0x00100020).value.rstrip(b" ") == number


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_odd_numbers_are_never_one() -> None:
    """Numbers that look alike, or like each other's digests, stay apart."""
    numbers = [b"47", b"47\\11", b"47^11", b"4" * 65, b"4" * 66, b"47 11", b"47  11"]
    assert len({filed(with_number(number, b"ISO_IR 100"))[0] for number in numbers}) == len(numbers)


def bomb() -> bytes:
    """A deflated data set of 80 KB that is 80 MB."""
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    head = encoded(instance(), EXPLICIT) + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, 80 * 2**20)
    pieces = [
        deflater.compress(head),
        *(deflater.compress(bytes(2**20)) for _ in range(80)),
        deflater.flush(),
    ]
    return b"".join(pieces)


def nested(depth: int, *, closed: bool) -> bytes:
    """Sequences in one another: Other Patient IDs, of undefined lengths."""
    opened = (struct.pack("<HH2sHL", 0x0010, 0x1002, b"SQ", 0, 0xFFFFFFFF) + _ITEM) * depth
    ends = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return opened + ends * depth * closed


def behind_patient(element: bytes) -> bytes:
    data = with_number(b"4711", b"ISO_IR 100")
    at = data.index(struct.pack("<HH2s", 0x0020, 0x000D, b"UI"))
    return data[:at] + element + data[at:]


@pytest.mark.parametrize(
    ("data", "syntax", "code"),
    [
        (bomb, DEFLATED, "dicom-deflate"),
        (lambda: zlib.compress(bytes(100)), DEFLATED, "dicom-structure"),
        (lambda: behind_patient(nested(100, closed=True)), EXPLICIT, "dicom-structure"),
        (lambda: behind_patient(nested(20_000, closed=False)), EXPLICIT, "dicom-structure"),
        (lambda: behind_patient(nested(3, closed=False)), EXPLICIT, "dicom-truncated"),
        (lambda: behind_patient(_ITEM), EXPLICIT, "dicom-structure"),
        (
            lambda: behind_patient(struct.pack("<HH2sHL", 0x0010, 0x1002, b"SQ", 0, 2**31)),
            EXPLICIT,
            "dicom-truncated",
        ),
    ],
    ids=[
        "a bomb",
        "another stream",
        "100 deep",
        "20,000 deep",
        "never closed",
        "an item alone",
        "2 GB that are not there",
    ],
)
def test_what_cannot_be_filed_is_named(data: object, syntax: str, code: str) -> None:
    assert callable(data)
    with pytest.raises(IntakeError) as caught:
        coerce(data(), syntax, change("VALLEY-1"))
    assert caught.value.code == code
    assert code in REFUSALS


def test_sequences_that_lie_about_their_items_are_carried_as_they_are() -> None:
    """A sequence of a defined length is passed over by it: what is inside is a reader's affair, byte for byte."""
    inner = b"SQ" * 500
    element = struct.pack("<HH2sHL", 0x0010, 0x1005, b"SQ", 0, len(inner)) + inner
    data = behind_patient(element)
    new = b"".join(coerce(data, EXPLICIT, change("VALLEY-1")))
    assert element in new
    assert rest_hash(new, EXPLICIT) == rest_hash(data, EXPLICIT)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS:UserWarning")
@pytest.mark.parametrize("leads", ["..\\..\\secret", "\\etc\\passwd", "C:\\SECRET", "LINK\\IM9"])
def test_a_disc_s_index_leads_nowhere(tmp_path: Path, leads: str) -> None:
    """A DICOMDIR that names files outside or none is passed over; the disc's images are found without it."""
    (tmp_path / "secret").write_bytes(part10(instance(9)))
    disc, incoming = tmp_path / "disc", tmp_path / "incoming"
    (disc / "DICOM").mkdir(parents=True)
    incoming.mkdir()
    record = Dataset()
    record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", leads.split("\\")
    record.OffsetOfTheNextDirectoryRecord = 0
    index = Dataset()
    index.SOPClassUID, index.SOPInstanceUID = "1.2.840.10008.1.3.10", "2.25.77"
    index.DirectoryRecordSequence = [record]
    (disc / "DICOMDIR").write_bytes(
        encode_meta("1.2.840.10008.1.3.10", "2.25.77", EXPLICIT) + encoded(index, EXPLICIT)
    )
    (disc / "DICOM" / "IM1").write_bytes(part10(instance(1)))
    (disc / "LINK").symlink_to(tmp_path)
    staged, skipped = stage_all(disc, incoming, Limits())
    assert len(staged) == 1
    assert staged[0].read_bytes().endswith(encoded(instance(1), EXPLICIT))
    assert {code for _, code in skipped} == {"import-dicomdir", "import-link"}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_second_identity_behind_the_first_is_no_way_round(syntax: str) -> None:
    """Elements out of order could hide the sender's number behind ours, for a reader that takes the last one."""
    data = encoded(instance(), syntax)
    vr = b"LO" if syntax == EXPLICIT else b""
    length = struct.pack("<H", 4) if vr else struct.pack("<L", 4)
    again = struct.pack("<HH", 0x0010, 0x0020) + vr + length + b"9999"
    try:
        new = b"".join(coerce(data + again, syntax, change("VALLEY-1")))
    except IntakeError as why:
        assert why.code in REFUSALS  # noqa: PT017 (refused is as good)
        return
    found = read_dataset(io.BytesIO(new), is_implicit_VR=not vr, is_little_endian=True)
    assert found.PatientID == "VALLEY-1"
