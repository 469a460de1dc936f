"""Who may come in: places, paces and titles, with real sockets to be sent away."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from clients.gateway.dicom.guard import (
    CALLED_UNKNOWN,
    CALLING_UNKNOWN,
    NOT_LOCAL,
    Gate,
    Pace,
    admit,
)
from clients.gateway.networks import networks_of


class Callers:
    """Connections, ours and theirs."""

    def __init__(self) -> None:
        self._theirs: dict[socket.socket, socket.socket] = {}

    def new(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._theirs[ours] = theirs
        return ours

    def is_away(self, ours: socket.socket) -> bool:
        """Whether the other end has been told that it is over."""
        try:
            return self._theirs[ours].recv(1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        for ours, theirs in self._theirs.items():
            ours.close()
            theirs.close()


@pytest.fixture
def callers() -> Iterator[Callers]:
    made = Callers()
    yield made
    made.close()


def gate(most: int, most_each: int) -> Gate:
    return Gate(most, most_each, Pace(0, 10**6))


def test_an_address_has_a_share_and_all_have_a_limit(callers: Callers) -> None:
    """Where everyone has become an association nobody has to leave."""
    door = gate(most=5, most_each=2)
    inside: dict[str, list[socket.socket]] = {}

    def enters(address: str) -> bool:
        sock = callers.new()
        if not door.enter(sock, address):
            return False
        door.settle(sock)
        inside.setdefault(address, []).append(sock)
        return True

    assert [enters("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert enters("10.0.0.2")
    assert enters("10.0.0.2")
    assert enters("10.0.0.3")
    assert not enters("10.0.0.4")
    door.leave(inside["10.0.0.1"].pop())
    assert enters("10.0.0.4")
    door.leave(callers.new())  # nobody: nothing changes
    assert not enters("10.0.0.5")


def test_whoever_waited_longest_makes_room_at_its_own_address(callers: Callers) -> None:
    door = gate(most=50, most_each=3)
    associated, first, second = callers.new(), callers.new(), callers.new()
    for sock in (associated, first, second):
        assert door.enter(sock, "10.0.0.1")
    door.settle(associated)
    other = callers.new()
    assert door.enter(other, "10.0.0.2")
    assert door.enter(callers.new(), "10.0.0.1")
    assert callers.is_away(first)
    assert not any(map(callers.is_away, (associated, second, other)))
    door.leave(first)  # as whoever served it does: the place is taken already
    assert door.enter(callers.new(), "10.0.0.1")
    assert callers.is_away(second)


def test_when_all_places_are_taken_the_address_with_the_most_that_wait_pays(callers: Callers) -> None:
    door = gate(most=6, most_each=4)
    crowd = [callers.new() for _ in range(4)]
    for sock in crowd:
        assert door.enter(sock, "10.0.0.1")
    honest = [callers.new(), callers.new()]
    for sock in honest:
        assert door.enter(sock, "10.0.0.2")
    assert door.enter(callers.new(), "10.0.0.3")
    assert [callers.is_away(sock) for sock in crowd] == [True, False, False, False]
    assert not any(map(callers.is_away, honest))


def test_an_address_has_a_pace() -> None:
    now = 0.0
    pace = Pace(2.0, 3, lambda: now)
    assert [pace.allows("a") for _ in range(4)] == [True, True, True, False]
    assert pace.allows("b")
    now = 0.4
    assert not pace.allows("a")
    now = 0.9
    assert [pace.allows("a") for _ in range(2)] == [True, False]
    now = 1000.0  # however long it was away, no more than at the start
    assert [pace.allows("a") for _ in range(4)] == [True, True, True, False]


def test_paces_are_remembered_for_so_many() -> None:
    pace = Pace(0.0, 1, lambda: 0.0)
    assert all(pace.allows(str(i)) for i in range(5000))
    assert len(pace._left) == 1024
    assert not pace.allows("4999")


def test_a_connection_that_comes_too_soon_takes_no_place(callers: Callers) -> None:
    door = Gate(10, 10, Pace(0.0, 1))
    assert door.enter(callers.new(), "10.0.0.1")
    assert not door.enter(callers.new(), "10.0.0.1")
    assert door.enter(callers.new(), "10.0.0.2")


def test_who_may_come_in() -> None:
    def judge(called: str, calling: str, address: str, allow: tuple[str, ...] = ("CT1", "PACS A")) -> object:
        return admit(aet="GATE", allow_aets=allow, called=called, calling=calling, address=address)

    assert judge("GATE  ", "CT1 ", "10.0.0.1") is None
    assert judge("GATE", "PACS A", "10.0.0.1") is None
    assert judge("gate", "CT1", "10.0.0.1") is CALLED_UNKNOWN
    assert judge("GATE", "CT2", "127.0.0.1") is CALLING_UNKNOWN
    assert judge("GATE", "ANY", "127.0.0.1", ()) is None
    assert judge("GATE", "CT1", "10.0.0.1", ()) is NOT_LOCAL


def test_whoever_is_in_no_network_of_the_list_is_hung_up_on() -> None:
    door = Gate(10, 10, Pace(0, 10**6), networks_of("x", ("10.1.2.0/24", "::1")))
    for address, expected in (
        ("10.1.2.9", True), ("::ffff:10.1.2.9", True), ("::1", True), ("10.1.3.1", False), ("127.0.0.1", False),
        ("nonsense", False),
    ):  # fmt: skip
        sock = socket.socket()
        try:
            assert door.enter(sock, address) is expected, address
        finally:
            sock.close()
