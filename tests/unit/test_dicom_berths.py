"""`clients.gateway.dicom.berths`: what was forced is found again under its name, and what is half is not taken for
whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import zlib
from pathlib import Path
from random import Random

import pytest

from clients.gateway.dicom import berths
from clients.gateway.dicom.berths import SEAL, Berths, force, recover, seal, start_writing
from tests.conftest import ROOT

BODY = b"DICM" + Random(1).randbytes(20_000)
WHOLE = seal(SEAL + len(BODY), zlib.crc32(BODY)) + BODY


def put(incoming: Path, raw: bytes, name: str = "aa") -> Path:
    """What somebody who died has left."""
    own = incoming / ".landing-dead"
    own.mkdir(exist_ok=True)
    (own / name).write_bytes(raw)
    return own


def torn(page: int) -> bytes:
    """One page of it never reached the disk, which gives zeros then."""
    return WHOLE[: page * 4096] + bytes(4096) + WHOLE[(page + 1) * 4096 :]


def left(incoming: Path) -> list[str]:
    return sorted(str(p.relative_to(incoming)) for p in incoming.rglob("*"))


def test_a_name_is_forced_before_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of names, and its own name, once for all of them: then none is forced again."""
    forced: list[str] = []
    fsync = os.fsync

    def watch(fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        forced.append(f"{path.name} {len(list(path.iterdir()))}")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watch)
    held = Berths(tmp_path)
    for _ in range(berths._AT_ONCE):
        name, fd = held.take()
        (own,) = tmp_path.glob(".landing-*")
        assert (own / name).stat().st_size == 0
        assert forced == [f"{tmp_path.name} 1", f"{own.name} {berths._AT_ONCE}"]
        os.close(fd)
    assert len(list(own.iterdir())) == berths._AT_ONCE
    held.close()


def test_what_landed_gets_its_name_and_the_rest_goes_at_the_end(tmp_path: Path) -> None:
    held = Berths(tmp_path)
    name, fd = held.take()
    os.write(fd, WHOLE)
    start_writing(fd, 0, len(WHOLE))
    force(fd)
    os.close(fd)
    assert held.leave(name) == f"{name}.dcm"
    assert (tmp_path / f"{name}.dcm").read_bytes() == WHOLE
    other, fd = held.take()
    os.close(fd)
    held.clear(other)
    held.close()
    assert left(tmp_path) == [f"{name}.dcm"]


HALVES = {
    "empty": b"", "short": WHOLE[:100], "seal only": WHOLE[: SEAL + 2], "cut": WHOLE[:-1], "longer": WHOLE + b"\0",
    "no seal": bytes(SEAL) + BODY, "nothing that it seals": seal(SEAL + 100, 0) + bytes(100),
    **{f"page {page}": torn(page) for page in range(5)},
}  # fmt: skip


@pytest.mark.parametrize("what", HALVES)
def test_half_a_file_is_cleared(tmp_path: Path, what: str) -> None:
    put(tmp_path, HALVES[what])
    put(tmp_path, WHOLE, "bb")
    assert recover(tmp_path) == (1, 1)
    assert left(tmp_path) == ["bb.dcm"]


def test_nobodys_berths_are_kept_and_somebodys_let_be(tmp_path: Path) -> None:
    """Another process may be in the middle of one; `recover` runs whenever one of them starts."""
    own = put(tmp_path, WHOLE)
    holder = os.open(own, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    ours = Berths(tmp_path)
    name, fd = ours.take()
    os.close(fd)
    before = left(tmp_path)
    assert recover(tmp_path) == (0, 0)
    assert left(tmp_path) == before
    os.close(holder)
    assert recover(tmp_path) == (1, 0)
    ours.clear(name)
    ours.close()
    assert left(tmp_path) == ["aa.dcm"]


def test_a_disk_without_room_for_names_keeps_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Berths(tmp_path)
    opened, count = os.open, 0

    def fail(path: object, flags: int, *args: object, **more: object) -> int:
        nonlocal count
        count += bool(flags & os.O_EXCL)
        if count > 5:
            raise OSError(errno.ENOSPC, "")
        return opened(path, flags, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", fail)
    for _ in range(3):
        count = 0
        with pytest.raises(OSError, match=r"\[Errno 28\]"):
            held.take()
    monkeypatch.undo()
    (own,) = tmp_path.glob(".landing-*")
    assert list(own.iterdir()) == []
    held.close()


POINTS = {
    "before _own_folder": False, "after _own_folder": False, "before write_all": False, "after write_all": False,
    "before pwrite": False, "after pwrite": True, "before force": True, "after force": True, "before rename": True,
    "after rename": True, "told": True,
}  # fmt: skip
"""Where it is killed, and whether the instance is whole by then."""
_LANDS = """
import os, signal, sys
from pathlib import Path
from clients.gateway.dicom import berths, landing
from tests.unit.test_dicom_landing import BODY, CT, DS, LITTLE

def stop_at(module, name, point):
    real = getattr(module, name)
    def call(*args, **more):
        here("before " + name, point)
        done = real(*args, **more)
        here("after " + name, point)
        return done
    setattr(module, name, call)

def here(name, point):
    if name == point:
        os.kill(os.getpid(), signal.SIGKILL)

def land(folder, point):
    for module, name in (
        (berths, "_own_folder"), (landing, "write_all"), (os, "pwrite"), (landing, "force"), (os, "rename")
    ):
        stop_at(module, name, point)
    sink = landing.Landing(landing.Folder(folder, 0, 2**20), lambda: landing.Announced(CT, DS.SOPInstanceUID, LITTLE))
    sink.write(BODY)
    sink.check()
    sink.settle()
    here("told", point)

for point in sys.argv[2:]:
    folder = Path(sys.argv[1], point)
    folder.mkdir()
    (folder.parent / "body").write_bytes(BODY)
    if not (pid := os.fork()):
        land(folder, point)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL, point
"""


def test_kill_9_while_an_instance_lands(tmp_path: Path) -> None:
    """Once its peer may have been answered, it is there after the next start, whole; before, nothing of it is."""
    argv = [sys.executable, "-c", _LANDS, str(tmp_path), *POINTS]
    done = subprocess.run(argv, capture_output=True, timeout=150, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()
    body = (tmp_path / "body").read_bytes()
    for point, whole in POINTS.items():
        recover(tmp_path / point)
        files = [p for p in (tmp_path / point).rglob("*") if p.is_file()]
        assert [p.suffix for p in files] == [".dcm"] * whole, point
        assert all(p.read_bytes()[SEAL:].endswith(body) for p in files)
