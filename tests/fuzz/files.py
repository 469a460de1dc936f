"""Files and data sets that a stranger wrote: on a disc, in a ZIP, over DIMSE."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from clients.gateway.dicom.header import parse_header, read_header
from clients.gateway.dicom.part10 import read_meta
from clients.gateway.dicom.refusals import REFUSALS
from clients.gateway.dicom.structure import DEFLATED, read_elements
from clients.gateway.errors import DiskFullError, IntakeError
from clients.gateway.intake import Limits, stage_all
from clients.gateway.intake.found import Passed
from clients.gateway.intake.reasons import sentence
from clients.gateway.intake.recognise import encapsulated, recognise
from tests.fuzz.harness import Harness
from tests.image_kit import BIG, BUNDLED, EXPLICIT, IMPLICIT, encoded, instance, part10

SYNTAXES = [EXPLICIT, IMPLICIT, BIG, *sorted(DEFLATED), "1.2.840.10008.1.2.4.50"]
_SMALL = 40_000
_WANTED = frozenset({0x00080016, 0x00080018, 0x00100010, 0x0020000D})


@cache
def samples() -> list[bytes]:
    """Made-up files, and the small ones that pydicom brings: odd, old and broken ones are among them."""
    made = [
        part10(instance()),
        part10(instance())[132:],
        encoded(instance(), IMPLICIT),
        encoded(instance(), EXPLICIT),
    ]
    paths = sorted(
        path for path in BUNDLED.iterdir() if path.is_file() and path.suffix in (".dcm", ".dic", "")
    )
    bundled = [path.read_bytes() for path in paths if 0 < path.stat().st_size <= _SMALL]
    return [*made, encoded(instance(), BIG), *(b for b in bundled if b[128:132] == b"DICM")]


@contextmanager
def by_name(left: Path | None = None) -> Iterator[None]:
    """A refusal has a code with a sentence of its own, and leaves nothing in the folder `left`."""
    try:
        yield
    except (IntakeError, Passed) as why:
        named = why.code in REFUSALS or bool(sentence(why.code))
        empty = left is None or not list(left.iterdir())
        if not (named and empty):
            raise AssertionError(f"refused as {why.code}") from None
        raise


def _header(data: bytes) -> None:
    """A file is judged: a header that can be shown and stored, or the code of what is wrong."""
    with by_name():
        header = parse_header(lambda at, n: data[at : at + n], len(data))
    assert header.size == len(data) - header.data_offset > 0
    texts = [
        header.patient_name,
        header.patient_id,
        header.study_description,
        header.series_description,
        header.modality,
    ]
    assert all(text.isprintable() and len(text) <= 410 for text in texts)
    assert abs(header.instance_number) < 2**31
    assert 1 <= header.number_of_frames < 2**31


def data_sets() -> list[bytes]:
    """First byte: the transfer syntax."""
    found = []
    for sample in samples():
        try:
            meta = read_meta(lambda at, n, sample=sample: sample[at : at + n])  # type: ignore[misc]
        except IntakeError:
            continue
        at = SYNTAXES.index(meta.syntax) if meta.syntax in SYNTAXES else len(SYNTAXES) - 1
        found.append(bytes([at]) + sample[meta.data_offset :])
    return found


def _structure(data: bytes) -> None:
    """A data set is walked from end to end."""
    syntax = SYNTAXES[data[0] % len(SYNTAXES)] if data else EXPLICIT
    with by_name():
        found = read_elements(lambda at, n: data[at : at + n], 1, len(data), syntax, _WANTED)
    assert set(found) <= _WANTED
    assert all(len(value) <= 2**16 for value in found.values())


def _recognise(data: bytes) -> None:
    """What a file is, by its first bytes; and whether a bare one has fragments."""
    encapsulated(io.BytesIO(data), EXPLICIT)
    encapsulated(io.BytesIO(data), IMPLICIT)
    with by_name():
        meta = recognise(data)
    assert 0 <= meta.data_offset <= len(data)


def _zips() -> list[bytes]:
    """ZIPs as burners and people make them."""
    found = []
    for method, comment in ((zipfile.ZIP_DEFLATED, b""), (zipfile.ZIP_STORED, b"from a disc")):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            archive.comment = comment
            archive.writestr("DICOM/IM1", part10(instance(1)))
            archive.writestr("DICOM/ÄÖ/IM2", encoded(instance(2), IMPLICIT))
            with archive.open("big", "w", force_zip64=True) as stream:
                stream.write(bytes(300))
            archive.writestr("README", b"a note")
        found.append(out.getvalue())
    return found


def _import(data: bytes) -> None:
    """A file or ZIP that somebody brought: each entry is taken whole or named, and nothing else is left behind."""
    with tempfile.TemporaryDirectory() as folder:
        path, incoming = Path(folder) / "brought", Path(folder) / "incoming"
        path.write_bytes(data)
        incoming.mkdir()
        limits = Limits(total_bytes=2**26, file_bytes=2**25)
        with by_name(incoming):
            staged, skipped = stage_all(path, incoming, limits)
        assert sorted(incoming.iterdir()) == sorted(staged)
        assert sum(file.stat().st_size for file in staged) <= 2**26 + 2000 * len(staged)
        assert all(sentence(code) and label.isprintable() and len(label) <= 80 for label, code in skipped)
        for file in staged:
            with suppress(IntakeError), by_name():
                read_header(file)


HARNESSES = [
    Harness(name="header", run=_header, samples=samples, family=(IntakeError,), share=0.5),
    Harness(name="structure", run=_structure, samples=data_sets, family=(IntakeError,), share=0.5, seconds=5.0),
    Harness(name="recognise", run=_recognise, samples=samples, family=(Passed,), share=0.3),
    Harness(
        name="import", run=_import, samples=lambda: [*_zips(), *samples()[:5]], family=(IntakeError,
        DiskFullError), share=0.1
    ),
]  # fmt: skip
