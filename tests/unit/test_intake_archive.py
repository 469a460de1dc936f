from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from clients.gateway.errors import IntakeError
from clients.gateway.intake.archive import is_zip, members
from clients.gateway.intake.found import Entry, Limits, Passed

CONTENT = b"an image, more or less " * 40


def made(path: Path, *names: str, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, CONTENT)
    return path


def seen(path: Path, limits: Limits | None = None) -> list[tuple[str, object]]:
    out: list[tuple[str, object]] = []
    for item in members(path, limits or Limits()):
        if not isinstance(item, Entry):
            out.append(item)
            continue
        try:
            data = item.stream.read(item.size)
            while len(data) < item.size:
                data += item.stream.read(item.size - len(data))
            out.append((item.label, data == CONTENT))
        except Passed as why:
            out.append((item.label, why.code))
    return out


def refused(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(IntakeError) as caught:
        seen(path, limits)
    assert str(path) not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_its_files_in_its_order(tmp_path: Path, method: int) -> None:
    path = made(tmp_path / "z.zip", "b/2", "a/1", "a/", method=method)
    assert seen(path) == [("b/2", True), ("a/1", True)]


def test_names_lead_nowhere(tmp_path: Path) -> None:
    names = ["../../escape", "/etc/passwd", "C:\\windows\\x", "a/../../b", "\x1b[2J", "a" * 300]
    found = seen(made(tmp_path / "z.zip", *names))
    assert [ok for _, ok in found] == [True] * len(names)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["z.zip"]
    assert "\x1b" not in "".join(name for name, _ in found)


def test_links_in_it_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("file", CONTENT)
    assert seen(path) == [("link", "import-zip-link"), ("file", True)]


def patched(path: Path, local: int, central: int, form: str, value: int) -> Path:
    """Changes a field in every local header and in every entry of the central directory."""
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", local), (b"PK\1\2", central)):
        at = raw.find(signature)
        while at >= 0:
            struct.pack_into(form, raw, at + offset, value)
            at = raw.find(signature, at + 4)
    path.write_bytes(raw)
    return path


def test_a_password(tmp_path: Path) -> None:
    assert seen(patched(made(tmp_path / "z.zip", "a"), 6, 8, "<H", 1)) == [("a", "import-zip-encrypted")]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 97])
def test_a_method_that_is_not_unpacked(tmp_path: Path, method: int) -> None:
    real = method if method != 97 else zipfile.ZIP_DEFLATED
    path = made(tmp_path / "z.zip", "a", method=real)
    if real != method:
        patched(path, 8, 10, "<H", method)
    assert seen(path) == [("a", "import-zip-method")]


def test_damage_within(tmp_path: Path) -> None:
    path = made(tmp_path / "z.zip", "a", "b", method=zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(raw)
    assert seen(path) == [("a", "import-zip-damaged"), ("b", True)]


def test_a_stated_size_that_is_too_small_or_too_large(tmp_path: Path) -> None:
    small = patched(made(tmp_path / "small.zip", "a"), 22, 24, "<I", 100)
    assert seen(small) == [("a", "import-zip-damaged")]
    large = patched(made(tmp_path / "large.zip", "a"), 22, 24, "<I", len(CONTENT) + 1)
    assert seen(large) == [("a", "import-zip-damaged")]


def test_an_entry_without_a_name(tmp_path: Path) -> None:
    path = made(tmp_path / "z.zip", "a")
    raw = path.read_bytes()
    at = raw.index(b"PK\1\2")
    nameless = bytearray(raw)
    struct.pack_into("<H", nameless, at + 28, 0)
    struct.pack_into("<H", nameless, at + 32, 1)  # the name's byte is a comment's
    path.write_bytes(nameless)
    assert seen(path) == [("?", "import-zip-damaged")]


def test_every_cut_is_refused(tmp_path: Path) -> None:
    raw = made(tmp_path / "z.zip", "a", "b").read_bytes()
    for end in range(0, len(raw), 11):
        (tmp_path / "cut.zip").write_bytes(raw[:end])
        assert refused(tmp_path / "cut.zip") == "import-zip-broken"


def test_a_bomb_by_ratio(tmp_path: Path) -> None:
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("blank", bytes(100_000))
    limits = Limits(ratio=400, ratio_from=50_000)
    assert seen(path, limits) == [("blank", "import-zip-bomb")]
    assert seen(path, Limits(ratio=400, ratio_from=200_000)) == [("blank", False)]
    assert seen(path, Limits(file_bytes=99_999)) == [("blank", "import-too-big")]


def test_a_bomb_by_overlap(tmp_path: Path) -> None:
    """Many entries of the index that share one block of the file."""
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a", CONTENT * 20)
        info = archive.infolist()[0]
        for i in range(50):
            twin = zipfile.ZipInfo(f"a{i}")
            twin.header_offset, twin.CRC = info.header_offset, info.CRC
            twin.file_size = twin.compress_size = info.file_size
            archive.filelist.append(twin)
    assert refused(path) == "import-zip-bomb"


def test_an_index_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = made(tmp_path / "z.zip", *(f"file{i}" for i in range(100)))
    assert refused(path, Limits(index_bytes=1000)) == "import-zip-broken"


def test_too_many(tmp_path: Path) -> None:
    path = made(tmp_path / "z.zip", "a", "b", "c")
    assert seen(path, Limits(entries=2)) == [("a", True), ("b", True), ("z.zip", "import-too-much")]


def test_is_zip() -> None:
    for start, yes in (
        (b"PK\3\4x", True),
        (b"PK\5\6", True),
        (b"PK", False),
        (b"", False),
        (bytes(200), False),
    ):
        stream = io.BytesIO(start)
        assert is_zip(stream) is yes
        assert stream.tell() == 0
