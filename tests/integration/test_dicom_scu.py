"""The storage SCU against PACS that work, refuse, abort, fall silent or are not there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.transport import AssociationServer

from clients.gateway.dicom.header import read_header
from clients.gateway.dicom.pacs import BundledPacs
from clients.gateway.dicom.scp import AssociationClosed, ScpConfig, StorageScp
from clients.gateway.dicom.scu import Destination, StoreScu
from tests.dicom_kit import digests, free_port, sendable, storescp
from tests.faults.pacs import A_ABORT
from tests.scu_kit import CT, MR, SOON, Image, images, scu

Store = Callable[[evt.Event], int]


@contextlib.contextmanager
def pacs(store: Store, classes: tuple[str, ...] = (CT,), title: str = "PACS", **limits: int) -> Iterator[int]:
    """A PACS by pynetdicom whose handler may do anything; its port."""
    ae = AE(title)
    ae.require_called_aet = True
    for name, value in limits.items():
        setattr(ae, name, value)
    for sop_class in classes:
        ae.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    server: AssociationServer = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@pytest.mark.peer
async def test_storescp_gets_every_real_file_byte_for_byte(tmp_path: Path) -> None:
    """Over the corpus; storescp knows fewer classes than there are, and those are refused by name."""
    files = sendable()
    with storescp(tmp_path / "out") as (port, _):
        async with scu(port) as sender:
            headers = [read_header(path) for path in files]
            await sender.prepare((h.sop_class, h.syntax) for h in headers)
            results = await asyncio.gather(
                *(
                    sender.store(path, h.sop_class, h.sop_uid, h.syntax)
                    for path, h in zip(files, headers, strict=True)
                )
            )
    stored = [path for path, result in zip(files, results, strict=True) if result.kind == "ok"]
    assert digests((tmp_path / "out").iterdir()) == digests(stored)
    assert {result.code for result in results} <= {"", "pacs-context"}
    assert len(stored) > 0.9 * len(files)


@pytest.mark.peer
async def test_echo_says_what_is_wrong(tmp_path: Path) -> None:
    with storescp(tmp_path / "out", "PACS") as (port, _):
        async with scu(port) as sender:
            assert (await sender.echo()).ok
    async with scu(free_port()) as sender:
        answer = await sender.echo()
        assert (answer.ok, answer.code) == (False, "pacs-down")
    with pacs(lambda event: 0) as port:
        async with scu(port, aet="OTHER") as sender:
            assert (await sender.echo()).code == "pacs-called-aet"
        async with scu(port) as sender:
            assert (await sender.echo()).code == "pacs-verification"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0x0000, "ok"), (0xB000, "warning"), (0xB006, "warning"), (0xB007, "warning"), (0xA700, "retry"),
        (0xA900, "refused"), (0xC000, "refused"), (0x0122, "refused"),
    ],
)  # fmt: skip
async def test_the_status_of_a_pacs_is_told(tmp_path: Path, status: int, kind: str) -> None:
    (image,) = images(tmp_path, 1)
    with pacs(lambda event: status) as port:
        async with scu(port) as sender:
            result = await image.to(sender)
    assert (result.status, result.kind) == (status, kind)
    assert image.uid not in result.sentence


async def test_a_pacs_that_is_away_is_told_at_once_to_all_that_wait(tmp_path: Path) -> None:
    async with scu(free_port()) as sender:
        results = await asyncio.gather(*(image.to(sender) for image in images(tmp_path, 20)))
        assert {(r.status, r.kind, r.code) for r in results} == {(None, "retry", "pacs-down")}
        assert await Image(tmp_path, "more.dcm").to(sender) == results[0]


async def test_a_name_that_does_not_exist_is_down(tmp_path: Path) -> None:
    to = Destination(aet="PACS", host="no-such-host.invalid", port=104, calling_aet="US")
    sender = StoreScu(to)
    assert (await sender.echo()).code == "pacs-down"
    assert (await Image(tmp_path, "a.dcm").to(sender)).code == "pacs-down"
    await sender.stop()


async def test_a_pacs_that_takes_the_connection_and_says_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with scu(silent.getsockname()[1], **SOON) as sender:
            results = await asyncio.gather(*(image.to(sender) for image in images(tmp_path, 3)))
            assert {(r.kind, r.code) for r in results} == {("retry", "pacs-silent")}
            assert (await sender.echo()).code == "pacs-silent"


async def test_a_pacs_that_rejects(tmp_path: Path) -> None:
    (image,) = images(tmp_path, 1)
    with pacs(lambda event: 0, require_calling_aet=["SOMEONE"]) as port:  # type: ignore[arg-type]
        async with scu(port) as sender:
            assert (await image.to(sender)).code == "pacs-calling-aet"
    with pacs(lambda event: 0) as port:
        async with scu(port, aet="OTHER") as sender:
            assert (await image.to(sender)).code == "pacs-called-aet"


@pytest.mark.parametrize(
    ("last", "code"), [(A_ABORT, "pacs-aborts"), (b"", "pacs-silent")], ids=["A-ABORT", "close"]
)
async def test_a_pacs_that_ends_the_association_at_once(tmp_path: Path, last: bytes, code: str) -> None:
    """By an A-ABORT, which is said as such; by hanging up, of which nothing can be said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer = listening.accept()[0]
                    with peer:
                        peer.recv(2**16)
                        peer.sendall(last)

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        async with scu(listening.getsockname()[1], **SOON) as sender:
            result = await Image(tmp_path, "a.dcm").to(sender)
            assert (result.kind, result.code) == ("retry", code)
            assert (await sender.echo()).code == code
        listening.shutdown(socket.SHUT_RDWR)
    await asyncio.to_thread(serving.join)


async def test_a_pacs_that_never_answers_is_late_and_unknown(tmp_path: Path) -> None:
    go = threading.Event()

    def hang(event: evt.Event) -> int:
        go.wait(60)
        return 0

    with pacs(hang) as port:
        async with scu(port, **SOON) as sender:
            result = await Image(tmp_path, "a.dcm").to(sender)
            assert (result.status, result.kind, result.code) == (None, "unknown", "pacs-late")
            go.set()
            assert (await Image(tmp_path, "b.dcm").to(sender)).kind == "ok"


async def test_a_pacs_that_aborts_in_the_middle_costs_one_answer(tmp_path: Path) -> None:
    seen: list[str] = []

    def store(event: evt.Event) -> int:
        seen.append(event.request.AffectedSOPInstanceUID)
        if len(seen) == 3:
            event.assoc.abort()
        return 0

    todo = images(tmp_path, 6)
    with pacs(store) as port:
        async with scu(port) as sender:
            results = [await image.to(sender) for image in todo]
            assert seen == [image.uid for image in todo], (
                "whether the third arrived is not for the sender to guess"
            )
            again = [await image.to(sender) for image in todo]  # a PACS takes the same instance twice as one
    assert [r.kind for r in results] == ["ok", "ok", "unknown", "ok", "ok", "ok"]
    assert {r.kind for r in again} == {"ok"}
    assert set(seen) == {image.uid for image in todo}


@pytest.mark.peer
async def test_a_pacs_that_stops_reading_does_not_hold_us(tmp_path: Path) -> None:
    big = Image(tmp_path, "big.dcm", size=2**25)
    small = images(tmp_path, 2)
    with storescp(tmp_path / "out") as (port, process):
        async with scu(port, **SOON) as sender:
            assert (await small[0].to(sender)).kind == "ok"
            process.send_signal(signal.SIGSTOP)
            result = await big.to(sender)
            assert (result.status, result.kind) == (None, "unknown")
            process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(60):
                while (await small[1].to(sender)).kind != "ok":
                    pass
        assert digests((tmp_path / "out").iterdir()) >= digests([small[0].path, small[1].path])


async def test_a_class_that_a_pacs_does_not_take_is_refused_alone(tmp_path: Path) -> None:
    ct, mr = Image(tmp_path, "ct.dcm"), Image(tmp_path, "mr.dcm", sop_class=MR)
    with pacs(lambda event: 0) as port:
        async with scu(port) as sender:
            results = [await image.to(sender) for image in (mr, ct, mr, ct)]
    assert [(r.kind, r.code) for r in results] == [("refused", "pacs-context"), ("ok", "")] * 2


async def test_files_that_cannot_be_sent_are_named(tmp_path: Path) -> None:
    (image,) = images(tmp_path, 1)
    with pacs(lambda event: 0) as port:
        async with scu(port) as sender:
            assert (await sender.store(tmp_path / "none", CT, "1.2", image.syntax)).code == "dicom-unreadable"
            assert (await sender.store(tmp_path, CT, "1.2", image.syntax)).code == "dicom-unreadable"
            assert (await sender.store(image.path, CT, "1.2", image.syntax)).code == "dicom-uid-mismatch"
            assert (await image.to(sender)).kind == "ok"


async def received(
    folder: Path, work: Callable[[int], Awaitable[None]]
) -> tuple[list[str], list[AssociationClosed]]:
    """Associations by instance, and the associations' ends, while `work` (a coroutine function) uses our own SCP."""
    scp = StorageScp(ScpConfig(aet="PACS", port=0, min_free_bytes=0), folder)
    _, port = await scp.start()
    by: list[str] = []
    ends: list[AssociationClosed] = []

    told = asyncio.Event()

    async def take() -> None:
        async for event in scp.events():
            if isinstance(event, AssociationClosed):
                ends.append(event)
            else:
                by.append(event.association)
            told.set()

    taking = asyncio.create_task(take())
    await work(port)
    async with asyncio.timeout(60):
        while not by or sum(e.stored for e in ends) < len(by):
            told.clear()
            await told.wait()
    await scp.stop()
    await taking
    return by, ends


async def test_a_study_goes_over_one_association_and_a_new_kind_over_another(tmp_path: Path) -> None:
    implicit = Image(tmp_path, "i.dcm", syntax=ImplicitVRLittleEndian)

    async def work(port: int) -> None:
        async with scu(port) as sender:
            for image in images(tmp_path, 10):
                assert (await image.to(sender)).kind == "ok"
            assert (await implicit.to(sender)).kind == "ok"
            assert (await Image(tmp_path, "last.dcm").to(sender)).kind == "ok"

    by, ends = await received(tmp_path / "pacs", work)
    assert len(by) == 12
    assert len(set(by[:10])) == 1
    assert by[10] == by[11] != by[0]
    assert [end.stored for end in ends] == [10, 2]
    assert all(end.orderly for end in ends)


async def test_prepared_pairs_need_no_second_association(tmp_path: Path) -> None:
    implicit = Image(tmp_path, "i.dcm", syntax=ImplicitVRLittleEndian)

    async def work(port: int) -> None:
        async with scu(port) as sender:
            await sender.prepare([(CT, ExplicitVRLittleEndian), (CT, ImplicitVRLittleEndian)])
            for image in (*images(tmp_path, 3), implicit):
                assert (await image.to(sender)).kind == "ok"

    by, ends = await received(tmp_path / "pacs", work)
    assert len(set(by)) == 1
    assert len(ends) == 1


async def test_more_kinds_than_an_association_holds_go_over_two(tmp_path: Path) -> None:
    kinds = [Image(tmp_path, f"{i}.dcm", sop_class=f"1.2.826.0.1.3680043.9.1.{i}") for i in range(140)]

    async def work(port: int) -> None:
        async with scu(port) as sender:
            await sender.prepare((image.sop_class, image.syntax) for image in kinds)
            results = await asyncio.gather(*(image.to(sender) for image in kinds))
            assert {r.kind for r in results} == {"ok"}

    by, ends = await received(tmp_path / "pacs", work)
    assert len(by) == 140
    assert sorted(end.stored for end in ends) == [12, 128]


async def test_an_idle_association_is_released_and_opened_again(tmp_path: Path) -> None:
    scp = StorageScp(ScpConfig(aet="PACS", port=0, min_free_bytes=0), tmp_path / "pacs")
    _, port = await scp.start()
    events = scp.events()
    async with scu(port, idle=0.3) as sender:
        for image in images(tmp_path, 2):
            assert (await image.to(sender)).kind == "ok"
            async for event in events:
                if isinstance(event, AssociationClosed):
                    assert (event.stored, event.orderly) == (1, True)
                    break
    await scp.stop()
    await events.aclose()  # type: ignore[attr-defined]


async def test_two_associations_share_the_work(tmp_path: Path) -> None:
    async def work(port: int) -> None:
        async with scu(port, associations=2) as sender:
            results = await asyncio.gather(*(image.to(sender) for image in images(tmp_path, 60, 200_000)))
            assert {r.kind for r in results} == {"ok"}

    by, _ = await received(tmp_path / "pacs", work)
    assert len(by) == 60
    assert len(set(by)) == 2


@pytest.mark.peer
async def test_a_pacs_that_takes_one_association_gets_all_over_it(tmp_path: Path) -> None:
    """DCMTK's storescp serves one caller after the other."""
    todo = images(tmp_path, 30)
    with storescp(tmp_path / "out") as (port, _):
        async with scu(port, associations=2, **SOON) as sender:
            assert (await todo[0].to(sender)).kind == "ok"
            results = await asyncio.gather(*(image.to(sender) for image in todo[1:]))
    assert {r.kind for r in results} == {"ok"}
    assert digests((tmp_path / "out").iterdir()) == digests(image.path for image in todo)


async def test_a_child_that_is_killed_leaves_unknown_and_is_started_again(tmp_path: Path) -> None:
    reached, go = threading.Event(), threading.Event()

    def hold(event: evt.Event) -> int:
        reached.set()
        go.wait(60)
        return 0

    first, second = images(tmp_path, 2)
    with pacs(hold) as port:
        async with scu(port) as sender:
            sending = asyncio.create_task(first.to(sender))
            assert await asyncio.to_thread(reached.wait, 60)
            assert sender._door is not None
            os.kill(sender._door.pid, signal.SIGKILL)
            result = await sending
            assert (result.status, result.kind, result.code) == (None, "unknown", "dicom-child")
            go.set()
            assert (await second.to(sender)).kind == "ok"
            assert (await first.to(sender)).kind == "ok"


async def test_a_child_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoreScu, "_patience", lambda self: 1.0)
    with pacs(lambda event: 0) as port:
        async with scu(port) as sender:
            assert sender._door is not None
            os.kill(sender._door.pid, signal.SIGSTOP)
            began = time.monotonic()
            assert (await Image(tmp_path, "a.dcm").to(sender)).code == "dicom-child"
            assert time.monotonic() - began < 60
            assert (await Image(tmp_path, "b.dcm").to(sender)).kind == "ok"


async def test_a_stopped_sender_answers_too(tmp_path: Path) -> None:
    async with scu(free_port()) as sender:
        pass
    assert (await Image(tmp_path, "a.dcm").to(sender)).kind == "unknown"


async def test_the_bundled_pacs_keeps_the_bytes_over_a_restart(tmp_path: Path) -> None:
    todo = images(tmp_path, 3)
    keeper = BundledPacs(tmp_path / "pacs")
    _, port = await keeper.start()
    async with scu(port) as sender:
        for image in todo:
            assert (await image.to(sender)).kind == "ok"
    await keeper.stop()
    keeper = BundledPacs(tmp_path / "pacs", port=port)
    await keeper.start()
    assert {r.sop_uid for r in keeper.stored} == {image.uid for image in todo}
    assert digests(map(keeper.path, keeper.stored)) == digests(image.path for image in todo)
    await keeper.stop()
