"""Bad input at both doors, `send --path` and C-STORE: a stable code and a sentence, nothing sent, nothing stored half,
nothing lost, and no word of a patient on any stream or in any log.
"""

from __future__ import annotations

import asyncio
import os
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pydicom
import pytest
import pytest_asyncio
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, generate_uid
from pynetdicom import _config

from tests.dicom_kit import call, encoded, instance, save
from tests.peers import need
from tests.programs import RECEIVER, Done, Programs, command, eventually, running
from tests.secrets_kit import found, query

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAME, PATIENT = "Nadelohr^Xaver", "NADEL-4711"
EVIL = "../../../../../../tmp/nadelohr-evil"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Programs]:
    async with running(tmp_path_factory.mktemp("bad"), quiet_seconds=3600) as programs:
        yield programs


class Maker:
    """Makes the files of one case, all of one study, and knows what must not be told of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.study, self.series = generate_uid(), generate_uid()
        self.uids = {"study": self.study, "series": self.series}

    def data_set(self, **changes: object) -> Dataset:
        """An image of the study."""
        given = {
            "StudyInstanceUID": self.study, "SeriesInstanceUID": self.series, "PatientName": NAME, "PatientID": PATIENT,
            "PixelData": os.urandom(128), **changes,
        }  # fmt: skip
        ds = instance(**given)
        self.uids[f"instance {len(self.uids)}"] = str(ds.SOPInstanceUID)
        return ds

    def image(self, name: str = "", **changes: object) -> Path:
        """A good image, in a file whose name is the patient's."""
        return save(self.data_set(**changes), self.folder / (name or f"Nadelohr_Xaver_{len(self.uids)}.dcm"))

    def hostile(self, name: str, meta_uid: str = "", **changes: object) -> Path:
        """A file whose bytes pydicom would not write: texts of UIDs as they are given."""
        ds = self.data_set()
        body = encoded(ds)
        for keyword, value in changes.items():
            old = str(ds[keyword].value).encode()
            old += bytes(len(old) % 2)
            new = str(value).encode()
            new += bytes(len(new) % 2)
            before = (
                struct.pack("<HH2sH", ds[keyword].tag.group, ds[keyword].tag.element, b"UI", len(old)) + old
            )
            after = (
                struct.pack("<HH2sH", ds[keyword].tag.group, ds[keyword].tag.element, b"UI", len(new)) + new
            )
            assert before in body
            body = body.replace(before, after, 1)
        path = self.image(name)
        data = path.read_bytes()
        uid = str(pydicom.dcmread(path).SOPInstanceUID).encode()
        uid += bytes(len(uid) % 2)
        wanted = (meta_uid or str(ds.SOPInstanceUID)).encode()
        wanted += bytes(len(wanted) % 2)
        head = data[: data.index(b"\x08\x00", 300)]
        if len(wanted) == len(uid):
            head = head.replace(uid, wanted)
        else:  # another length: the group length is wrong then, as it often is
            head = head.replace(struct.pack("<H", len(uid)) + uid, struct.pack("<H", len(wanted)) + wanted)
        path.write_bytes(head + body)
        return path


def cut(path: Path, to: int) -> None:
    path.write_bytes(path.read_bytes()[:to])


# One function makes the files of each case


def truncated(m: Maker) -> None:
    file = m.image()
    cut(file, file.stat().st_size - 40)


def ends_in_the_meta(m: Maker) -> None:
    cut(m.image(), 200)


def text(m: Maker) -> None:
    (m.folder / "Nadelohr_Xaver.txt").write_text(f"{NAME} {PATIENT}")


def empty_file(m: Maker) -> None:
    (m.folder / "Nadelohr_Xaver.dcm").touch()


def nothing(m: Maker) -> None:
    pass


def hostile_instance(m: Maker) -> None:
    m.hostile("x.dcm", SOPInstanceUID=EVIL, meta_uid=EVIL)


def hostile_study(m: Maker) -> None:
    m.hostile("x.dcm", StudyInstanceUID=EVIL)


def hostile_series(m: Maker) -> None:
    m.hostile("x.dcm", SeriesInstanceUID=EVIL)


def no_study(m: Maker) -> None:
    m.hostile("x.dcm", StudyInstanceUID="")


def mismatch(m: Maker) -> None:
    m.hostile("x.dcm", meta_uid=generate_uid())


def two_patients(m: Maker) -> None:
    m.image()
    m.image(PatientID="NADEL-4712", PatientName="Nadelohr^Yvonne")


def two_birth_dates(m: Maker) -> None:
    m.image(PatientBirthDate="19700102")
    m.image(PatientBirthDate="19700103")


def conflict(m: Maker) -> None:
    uid = generate_uid()
    m.image("a.dcm", SOPInstanceUID=uid)
    m.image("b.dcm", SOPInstanceUID=uid)


def two_studies(m: Maker) -> None:
    m.image()
    m.image(StudyInstanceUID=generate_uid())


def one_of_three_is_cut(m: Maker) -> None:
    m.image()
    m.image()
    truncated(m)


def index_of_a_disc(m: Maker) -> None:
    ds = m.data_set()
    ds.SOPClassUID = "1.2.840.10008.1.3.10"
    save(ds, m.folder / "DICOMDIR")


def several_reasons(m: Maker) -> None:
    truncated(m)
    hostile_series(m)


def a_link(m: Maker) -> None:
    (m.folder / "Nadelohr_Xaver.dcm").symlink_to("/etc/passwd")


def a_pipe(m: Maker) -> None:
    os.mkfifo(m.folder / "Nadelohr_Xaver.dcm")


def too_deep(m: Maker) -> None:
    deep = m.folder.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    m.image().rename(deep / "x.dcm")


def deflate_bomb(m: Maker) -> None:
    ds = m.data_set()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
        CTImageStorage,
        ds.SOPInstanceUID,
    )
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    path = m.folder / "x.dcm"
    ds.save_as(path, enforce_file_format=True)
    raw = path.read_bytes()
    start = 144 + int.from_bytes(raw[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = encoded(ds) + struct.pack("<HH2s2xL", 0x7FE1, 0x10, b"OB", 2**27)
    packed = packer.compress(body) + packer.compress(bytes(2**27)) + packer.flush()
    path.write_bytes(raw[:start] + packed)
    assert path.stat().st_size < 2**19


CASES: dict[Callable[[Maker], None], str] = {
    truncated: "dicom-truncated", ends_in_the_meta: "dicom-meta", text: "import-not-dicom", empty_file: "import-empty",
    nothing: "import-nothing", hostile_instance: "dicom-uid", hostile_study: "dicom-uid", hostile_series: "dicom-uid",
    no_study: "dicom-no-study", mismatch: "dicom-uid-mismatch", two_patients: "dicom-two-patients",
    two_birth_dates: "dicom-two-patients", conflict: "dicom-conflict", two_studies: "import-several",
    one_of_three_is_cut: "dicom-truncated", index_of_a_disc: "import-dicomdir", several_reasons: "import-refused",
    a_link: "import-link", a_pipe: "import-not-file", too_deep: "import-too-deep", deflate_bomb: "dicom-deflate",
}  # fmt: skip


# ZIPs


def zip_of(m: Maker, *, compress: int = zipfile.ZIP_DEFLATED) -> Path:
    """A ZIP of the study, with names that lead elsewhere."""
    files = [m.image(), m.image()]
    target = m.folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", compress) as archive:
        for n, file in enumerate(files):
            archive.write(file, f"{EVIL}/Nadelohr_Xaver_{n}.dcm")
    return target


def zip_cut(m: Maker) -> Path:
    path = zip_of(m)
    cut(path, path.stat().st_size // 2)
    return path


def zip_bomb(m: Maker) -> Path:
    path = m.folder.with_suffix(".zip")
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("x", "w") as out,
    ):
        for _ in range(128):
            out.write(bytes(2**20))
    return path


def zip_of_one_block_many_times(m: Maker) -> Path:
    """Many entries of the index lead to the same bytes."""
    path = zip_of(m, compress=zipfile.ZIP_STORED)
    raw = path.read_bytes()
    end = raw.rindex(b"PK\5\6")
    start = int.from_bytes(raw[end + 16 : end + 20], "little")
    index = raw[start:end] * 500
    count, size = len(index) // ((end - start) // 2), len(index)
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, start, 0)
    path.write_bytes(raw[:start] + index + tail)
    return path


def zip_damaged(m: Maker) -> Path:
    path = zip_of(m)
    raw = bytearray(path.read_bytes())
    at = raw.index(b".dcm") + 60
    raw[at : at + 40] = os.urandom(40)
    path.write_bytes(raw)
    return path


def zip_in_zip(m: Maker) -> Path:
    inner = zip_of(m)
    outer = m.folder.with_suffix(".outer.zip")
    with zipfile.ZipFile(outer, "w") as archive:
        archive.write(inner, "inner.zip")
    return outer


def zip_with_a_password(m: Maker) -> Path:
    path = zip_of(m)
    raw = bytearray(path.read_bytes())
    for mark, flag in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        at = raw.find(mark)
        while at >= 0:
            raw[at + flag] |= 1
            at = raw.find(mark, at + 4)
    path.write_bytes(raw)
    return path


ZIPS: dict[Callable[[Maker], Path], str] = {
    zip_cut: "import-zip-broken", zip_bomb: "import-zip-bomb", zip_of_one_block_many_times: "import-zip-bomb",
    zip_damaged: "import-zip-damaged", zip_in_zip: "import-zip-nested", zip_with_a_password: "import-zip-encrypted",
}  # fmt: skip


def silent(world: Programs, m: Maker, *more: Path) -> None:
    """No log says a word of it."""
    needles = {name: uid.encode() for name, uid in m.uids.items()}
    needles |= {
        "patient": NAME.encode(), "family": b"Nadelohr", "given": b"Xaver", "id": PATIENT.encode(),
        "evil": b"nadelohr-evil",
    }  # fmt: skip
    assert found(needles, *(p.log for p in world.programs), *more) == set()


def nothing_half(world: Programs) -> None:
    """Every file that is kept has its row, whole; nothing is left on the way; nothing got out."""
    files = [p for p in (world.sender.folder / "incoming").rglob("*") if p.is_file()]
    incoming = {p.name for p in files if p.stat().st_size}  # a name that waits for an instance is empty
    assert incoming == {row[0] for row in query(world.sender.folder, "SELECT file FROM instances")}
    refused = {p.name for p in (world.sender.folder / "refused").iterdir()}
    assert refused == {row[0] for row in query(world.sender.folder, "SELECT file FROM refusals")}
    assert not Path("/tmp/nadelohr-evil").exists()
    assert set(os.listdir(world.base)) <= {
        "relay", "relay.log", "relay.toml", "pacs", "pacs.log", "sender", "sender.log", "receiver", "receiver.log",
    }  # fmt: skip


async def refused(world: Programs, path: Path, m: Maker, tmp_path: Path) -> tuple[str, str]:
    """`send --path` of something that is not sent: code and sentence, and all that holds for every case."""
    before = len(await world.sender.engine.transfers())
    done = await command("send", str(world.sender.folder), "--path", str(path), "--to", RECEIVER, "--json")
    assert done.code == 1, done
    assert {e["event"] for e in done.lines} <= {"skipped", "failed"}
    said = done.lines[-1]
    assert said["event"] == "failed"
    assert said["sentence"].endswith(".")
    assert len(await world.sender.engine.transfers()) == before
    told(done, m, tmp_path)
    silent(world, m)
    nothing_half(world)
    return said["code"], said["sentence"]


def told(done: Done, m: Maker, tmp_path: Path) -> None:
    """What the command printed says nothing of the patient either."""
    (tmp_path / "printed").write_text(done.out + done.err)
    needles = {name: uid.encode() for name, uid in m.uids.items()} | {
        "family": b"Nadelohr",
        "id": PATIENT.encode(),
    }
    assert found(needles, tmp_path / "printed") == set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_a_folder(world: Programs, tmp_path: Path, case: Callable[[Maker], None]) -> None:
    m = Maker(tmp_path / "case")
    case(m)
    code, sentence = await refused(world, m.folder, m, tmp_path)
    assert code == CASES[case]
    if case in (one_of_three_is_cut, two_patients, conflict):
        (study,) = [s for s in await world.sender.engine.studies() if s.uid == m.study]
        assert f"--study {study.id}" in sentence, "how the rest is sent"
        assert (study.instances, study.refused) in ((2, 0), (1, 1), (2, 1))


@pytest.mark.parametrize("case", ZIPS, ids=lambda case: case.__name__)
async def test_a_zip(world: Programs, tmp_path: Path, case: Callable[[Maker], Path]) -> None:
    m = Maker(tmp_path / "case")
    code, _ = await refused(world, case(m), m, tmp_path)
    assert code == ZIPS[case]


async def test_names_in_a_zip_lead_nowhere(world: Programs, tmp_path: Path) -> None:
    """A ZIP whose entries are named `../..` is taken for what is in it."""
    m = Maker(tmp_path / "case")
    result = await world.sender.engine.import_path(str(zip_of(m)), "test")
    assert (result["accepted"], result["skipped"]) == (2, [])
    nothing_half(world)


async def test_the_same_twice_is_once(world: Programs, tmp_path: Path) -> None:
    m = Maker(tmp_path / "case")
    image = m.image()
    (m.folder / "copy.dcm").write_bytes(image.read_bytes())
    (m.folder / "note.txt").write_text("a viewer's note is no reason to refuse a disc")
    view = await world.offer(m.folder)
    (study,) = [s for s in await world.sender.engine.studies() if s.uid == m.study]
    assert (study.instances, study.refused) == (1, 0)
    await world.answer(view)
    end = await world.sender.until(view.tid, "COMPLETE")
    assert end.stored == 1
    nothing_half(world)


async def test_the_rest_can_be_sent(world: Programs, tmp_path: Path) -> None:
    """As the sentence says: what was good of a refused path is here, and goes when somebody decides so."""
    m = Maker(tmp_path / "case")
    one_of_three_is_cut(m)
    code, sentence = await refused(world, m.folder, m, tmp_path)
    assert code == "dicom-truncated"
    study = sentence.partition("--study ")[2].rstrip(".")
    view = await world.sender.engine.send(study, RECEIVER, "drill", "test")
    view = await world.sender.when(view.tid, lambda v: v.link != "")
    await world.answer(view)
    assert (await world.sender.until(view.tid, "COMPLETE")).stored == 2


# C-STORE


def store(port: int, files: list[Path]) -> list[int]:
    """The status of each file, sent as its bytes are."""
    chunked = _config.STORE_SEND_CHUNKED_DATASET
    _config.STORE_SEND_CHUNKED_DATASET = True
    try:
        assoc = call(port, instance(), called="SENDER")
        assert assoc.is_established
        statuses = [int(assoc.send_c_store(file).Status) for file in files]
        assoc.release()
        return statuses
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = chunked


async def test_c_store_refuses_by_status(world: Programs, tmp_path: Path) -> None:
    m = Maker(tmp_path / "case")
    good, bad = m.image(), m.image()
    cut(bad, bad.stat().st_size - 40)
    files = [
        good, bad, m.hostile("a.dcm", meta_uid=generate_uid()), m.hostile("b.dcm", SOPInstanceUID=EVIL),
    ]  # fmt: skip
    statuses = await asyncio.to_thread(store, world.sender.dicom_port, files)
    assert statuses[0] == 0
    assert [s >> 8 for s in statuses[1:3]] == [0xC0, 0xA9]
    assert statuses[3] != 0

    async def adopted() -> bool | None:
        here = [s for s in await world.sender.engine.studies() if s.uid == m.study]
        return True if here and here[0].instances == 1 else None

    await eventually(adopted)
    silent(world, m)
    nothing_half(world)


@pytest.mark.peer
async def test_what_was_answered_0000_is_kept_even_where_it_cannot_be_sent(
    world: Programs, tmp_path: Path
) -> None:
    """Another patient in the study, other bytes under the same UID: told at the desk, kept aside, never sent."""
    storescu = need("storescu")["storescu"]
    m = Maker(tmp_path / "case")
    uid = generate_uid()
    m.image("1.dcm", SOPInstanceUID=uid)
    m.image("2.dcm", SOPInstanceUID=uid)
    m.image("3.dcm", PatientID="NADEL-4712")
    m.image("4.dcm")
    argv = ("-aec", "SENDER", "127.0.0.1", str(world.sender.dicom_port), "+sd", str(m.folder))
    process = await asyncio.create_subprocess_exec(storescu, *argv)
    assert await process.wait() == 0
    found_study = None

    async def adopted() -> bool | None:
        nonlocal found_study
        found_study = next((s for s in await world.sender.engine.studies() if s.uid == m.study), None)
        return True if found_study is not None and found_study.instances + found_study.refused == 4 else None

    await eventually(adopted)
    assert found_study is not None
    assert found_study.refused >= 1
    codes = query(world.sender.folder, "SELECT code FROM refusals WHERE study=?", [found_study.id])
    assert {code for (code,) in codes} <= {"dicom-two-patients", "dicom-conflict"}
    silent(world, m)
    nothing_half(world)
