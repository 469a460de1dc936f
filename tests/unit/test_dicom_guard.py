from __future__ import annotations

from clients.gateway.dicom.guard import CALLED_UNKNOWN, CALLING_UNKNOWN, NOT_LOCAL, Gate, admit, is_local


def test_an_address_has_a_share_and_all_have_a_limit() -> None:
    gate = Gate(most=5, most_each=2)
    assert [gate.enter("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert gate.enter("10.0.0.2")
    assert gate.enter("10.0.0.2")
    assert gate.enter("10.0.0.3")
    assert not gate.enter("10.0.0.4")
    gate.leave("10.0.0.1")
    assert gate.enter("10.0.0.4")
    gate.leave("10.9.9.9")  # nobody: nothing changes
    assert not gate.enter("10.0.0.5")


def test_who_may_come_in() -> None:
    def judge(called: str, calling: str, address: str, allow: tuple[str, ...] = ("CT1", "PACS A")) -> object:
        return admit(aet="GATE", allow_aets=allow, called=called, calling=calling, address=address)

    assert judge("GATE  ", "CT1 ", "10.0.0.1") is None
    assert judge("GATE", "PACS A", "10.0.0.1") is None
    assert judge("gate", "CT1", "10.0.0.1") is CALLED_UNKNOWN
    assert judge("GATE", "CT2", "127.0.0.1") is CALLING_UNKNOWN
    assert judge("GATE", "ANY", "127.0.0.1", ()) is None
    assert judge("GATE", "CT1", "10.0.0.1", ()) is NOT_LOCAL


def test_this_machine() -> None:
    assert is_local("127.0.0.1")
    assert is_local("127.9.9.9")
    assert is_local("::1")
    assert is_local("::ffff:127.0.0.1")
    assert not is_local("10.0.0.1")
    assert not is_local("fe80::1%eth0")
    assert not is_local("")
