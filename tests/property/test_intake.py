"""Any file at all: an import takes it, or names why not, and raises nothing else."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from clients.gateway.dicom.header import read_header
from clients.gateway.errors import IntakeError
from clients.gateway.intake import stage_all
from clients.gateway.intake.reasons import sentence
from tests.image_kit import EXPLICIT, IMPLICIT, encoded, instance, part10


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/IM1", part10(instance(1)))
        archive.writestr("a/IM2", encoded(instance(2), IMPLICIT))
        archive.writestr(zipfile.ZipInfo("a/README"), b"a note")
    return out.getvalue()


SAMPLES = [
    zipped(),
    part10(instance()),
    part10(instance())[132:],
    encoded(instance(), EXPLICIT),
    encoded(instance(), IMPLICIT),
]


def imported(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "file").write_bytes(content)
        incoming = root / "incoming"
        incoming.mkdir()
        codes = []
        try:
            staged, skipped = stage_all(root / "file", incoming)
        except IntakeError as error:
            staged, skipped = [], [("", error.code)]
        assert sorted(incoming.iterdir()) == sorted(staged)
        for path in staged:
            try:
                assert read_header(path).size
            except IntakeError as error:
                codes.append(error.code)
        assert all(sentence(code) for code in [*codes, *(code for _, code in skipped)])


@given(st.sampled_from(SAMPLES), st.data())
def test_a_damaged_file_is_taken_or_named(sample: bytes, draw: st.DataObject) -> None:
    content = bytearray(sample)
    for _ in range(draw.draw(st.integers(1, 5))):
        at = draw.draw(st.integers(0, max(0, len(content) - 1)) | st.integers(0, 250) | st.integers(-250, -1))
        if draw.draw(st.booleans()):
            content[at : at + 1 or None] = draw.draw(st.binary(max_size=4))
        else:
            del content[at : at + draw.draw(st.integers(1, 300))]
    imported(bytes(content))


@given(st.binary(max_size=400), st.sampled_from([b"", b"PK\3\4", b"PK\5\6", b"\x08\0", bytes(128) + b"DICM"]))
def test_any_bytes_are_taken_or_named(content: bytes, start: bytes) -> None:
    imported(start + content)
