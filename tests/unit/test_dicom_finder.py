"""`clients.gateway.dicom.finder`: a PACS is believed what it says of this very instance, and only so much of it."""

from __future__ import annotations

import contextlib
import queue
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pynetdicom.ae
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt

from clients.gateway.dicom import finder as module
from clients.gateway.dicom import race
from clients.gateway.dicom.courier import Caller
from clients.gateway.dicom.finder import STUDY_ROOT, Finder, encode_identifier, names
from clients.gateway.dicom.race import SoleReader
from clients.gateway.dicom.scu import Destination, Done, Find
from clients.gateway.dicom.wire import Socket

PATIENCE = 60.0
UID = "2.25.1001"
Answers = Iterator[tuple[int, Dataset | None]]
Asking = Callable[..., contextlib.AbstractContextManager["tuple[Desk, Pacs]"]]


def answer(uid: str = UID, **changes: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel, ds.SOPInstanceUID = "IMAGE", uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.1", "2.25.2"
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def says(*answers: Dataset, last: int = 0x0000) -> Callable[[evt.Event], Answers]:
    def find(event: evt.Event) -> Answers:
        for ds in answers:
            yield 0xFF00, ds
        if last:
            yield last, None

    return find


class Pacs:
    """Answers queries as it is told."""

    def __init__(self, model: str = STUDY_ROOT) -> None:
        self.begin(says())
        ae = AE("PACS")
        ae.add_supported_context(model)
        handlers = [(evt.EVT_C_FIND, self._answer), (evt.EVT_REQUESTED, self._count)]
        self._server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port: int = self._server.server_address[1]

    def begin(self, find: Callable[[evt.Event], Answers]) -> None:
        """Another test, another manner."""
        self.asked: list[Dataset] = []
        self.associations = 0
        self.find = find

    def _count(self, event: evt.Event) -> None:
        self.associations += 1

    def _answer(self, event: evt.Event) -> Answers:
        self.asked.append(event.identifier)
        yield from self.find(event)

    def stop(self) -> None:
        self._server.shutdown()


class Desk:
    """A finder, and what it tells."""

    def __init__(self, port: int, response: float = PATIENCE) -> None:
        ae = AE("US")
        ae.connection_timeout = ae.acse_timeout = 5
        ae.dimse_timeout, ae.network_timeout = response, None
        to = Destination(aet="PACS", host="127.0.0.1", port=port, calling_aet="US", response=response)
        self._told: queue.Queue[Done] = queue.Queue()
        self.finder = Finder(Caller(ae, to), 20.0, self._told.put)
        self._n = 0
        self.finder.start()

    def ask(self, uid: str = UID, study: str = "2.25.1", series: str = "2.25.2") -> None:
        self._n += 1
        self.finder.ask(Find(self._n, study, series, uid))

    def told(self) -> Done:
        return self._told.get(timeout=PATIENCE)

    def find(self, *args: str) -> tuple[int | None, bool, str]:
        self.ask(*args)
        done = self.told()
        return done.status, done.found, done.trouble


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the child: requestors are ours, while the PACS of these tests is pynetdicom as it comes."""
    monkeypatch.setattr(pynetdicom.ae, "Association", SoleReader)
    monkeypatch.setattr(pynetdicom.ae, "AssociationSocket", Socket)


@pytest.fixture(scope="module")
def server() -> Iterator[Pacs]:
    made = Pacs()
    yield made
    made.stop()


@pytest.fixture
def asking(server: Pacs) -> Asking:
    """A desk, and the PACS that it asks, which answers so."""

    @contextlib.contextmanager
    def begin(
        find: Callable[[evt.Event], Answers], response: float = PATIENCE
    ) -> Iterator[tuple[Desk, Pacs]]:
        server.begin(find)
        desk = Desk(server.port, response)
        yield desk, server
        desk.finder.leave(PATIENCE)

    return begin


def test_it_asks_by_the_three_uids_and_keeps_its_association(asking: Asking) -> None:
    with asking(says(answer())) as (desk, pacs):
        assert desk.find() == desk.find() == (0x0000, True, "")
        assert pacs.associations == 1
    (asked, again) = pacs.asked
    assert asked == again == answer()


@pytest.mark.parametrize(
    ("answers", "there"),
    [
        ([], False),
        ([answer("2.25.9")], False),
        ([answer(UID + "1"), answer(UID[:-1]), answer("")], False),
        ([answer("2.25.9"), answer(), answer("2.25.8")], True),
        ([answer(InstanceAvailability="UNAVAILABLE")], False),
        ([answer(InstanceAvailability="NEARLINE")], True),
        ([answer(StudyInstanceUID="2.25.77", PatientName="Other^Name")], True),
    ],
)  # fmt: skip
def test_only_the_instance_itself_counts(asking: Asking, answers: list[Dataset], there: bool) -> None:
    with asking(says(*answers)) as (desk, _):
        assert desk.find() == (0x0000, there, "")


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC001, 0x0122, 0xFE00])
def test_a_query_that_fails_is_no_answer(asking: Asking, status: int) -> None:
    """Not even where it named the instance before."""
    with asking(says(answer(), last=status)) as (desk, _):
        assert desk.find()[0] == status


def test_a_pacs_that_refuses_the_model_is_asked_once() -> None:
    pacs = Pacs(CTImageStorage)
    desk = Desk(pacs.port)
    for _ in range(20):
        desk.ask()
    assert [desk.told().trouble for _ in range(20)] == ["pacs-query"] * 20
    assert pacs.associations == 1
    desk.finder.leave(PATIENCE)
    pacs.stop()


def test_a_pacs_that_never_answers(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def hang(event: evt.Event) -> Answers:
        go.wait(PATIENCE)
        yield 0x0000, None

    with asking(hang, response=0.5) as (desk, pacs):
        desk.ask()
        desk.ask()
        assert [desk.told().trouble for _ in range(2)] == ["pacs-late"] * 2, "the second did not wait again"
        go.set()
        monkeypatch.setattr(desk.finder, "_mute", (0.0, ""))  # a minute later
        assert desk.find() == (0x0000, False, "")
        assert len(pacs.asked) == 2


def test_a_pacs_that_aborts_is_asked_for_the_next(asking: Asking) -> None:
    aborts = iter([True, True, False])

    def find(event: evt.Event) -> Answers:
        yield 0xFF00, answer()
        if next(aborts):
            event.assoc.abort()
        yield 0x0000, None

    with asking(find) as (desk, _):
        assert desk.find() == desk.find() == (None, False, "pacs-lost")
        assert desk.find() == (0x0000, True, "")


def test_an_association_that_the_pacs_ended_is_opened_again(asking: Asking) -> None:
    seen: list[Any] = []

    def find(event: evt.Event) -> Answers:
        seen.append(event.assoc)
        yield 0xFF00, answer()

    with asking(find) as (desk, pacs):
        assert desk.find()[1]
        seen[0].abort()
        assert desk.find() == (0x0000, True, "")
        assert pacs.associations == 2


@pytest.mark.parametrize("bound", ["answers", "unread", "time"])
def test_answers_without_end_are_cut_off(asking: Asking, bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def flood(event: evt.Event) -> Answers:
        try:
            while not event.assoc.acse.is_aborted():
                yield 0xFF00, answer("2.25.9")
        finally:
            ended.set()

    if bound == "answers":
        monkeypatch.setattr(module, "_MOST", 20)
    if bound == "unread":
        monkeypatch.setattr(race, "_UNREAD", 4)
        reading, never = threading.Event(), threading.Event()

        def slow(identifier: bytes, sop_uid: str) -> bool:
            if not reading.is_set():
                reading.set()
                ended.wait(PATIENCE)
            return never.is_set()

        monkeypatch.setattr(module, "names", slow)
    with asking(flood, response=1.0) as (desk, _):
        assert desk.find()[2] in ("pacs-late", "pacs-lost")
        assert ended.wait(PATIENCE)


@pytest.mark.parametrize("bad", ["*", "2.25.1\\2.25.2", "", "2.25.?", "2.25.1 ", "2." * 40])
def test_a_wildcard_or_a_list_never_leaves_the_house(asking: Asking, bad: str) -> None:
    """UIDs come from the sender's data set: `*` would find anything."""
    with asking(says(answer())) as (desk, pacs):
        for args in ((bad, "2.25.1", "2.25.2"), (UID, bad, "2.25.2"), (UID, "2.25.1", bad)):
            assert desk.find(*args) == (None, False, "pacs-query")
        assert pacs.associations == 0


def test_the_identifier_byte_for_byte() -> None:
    assert encode_identifier("1.2", "1.3", "1.4.5") == b"".join(
        struct.pack("<HHL", *head) + value
        for head, value in (
            ((0x0008, 0x0018, 6), b"1.4.5\0"),
            ((0x0008, 0x0052, 6), b"IMAGE "),
            ((0x0020, 0x000D, 4), b"1.2\0"),
            ((0x0020, 0x000E, 4), b"1.3\0"),
        )
    )


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_that_names_nothing(data: bytes) -> None:
    assert not names(data, UID)


@given(st.integers(0, 60), st.integers(1, 255))
def test_a_damaged_answer_names_it_or_does_not(at: int, bits: int) -> None:
    good = bytearray(encode_identifier("2.25.1", "2.25.2", UID))
    assert names(bytes(good), UID)
    good[at % len(good)] ^= bits
    assert names(bytes(good), UID) in (True, False)
