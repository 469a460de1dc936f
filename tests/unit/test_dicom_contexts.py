from __future__ import annotations

from pydicom.uid import AllTransferSyntaxes

from clients.gateway.dicom.contexts import MAX_CONTEXTS, SYNTAXES, Plan, is_storage, preferred


def test_every_transfer_syntax_that_pydicom_knows_is_taken() -> None:
    assert set(AllTransferSyntaxes) <= SYNTAXES
    assert "1.2.840.10008.1.2.6.2" not in SYNTAXES  # XML: no data set of elements


def test_the_peers_first_known_syntax_is_preferred() -> None:
    assert (
        preferred(["1.2.840.113619.5.2", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2"])
        == "1.2.840.10008.1.2.4.70"
    )
    assert preferred(["1.2.840.113619.5.2"]) == ""
    assert preferred([]) == ""


def test_pairs_beyond_one_association_go_on_another_and_stay_there() -> None:
    plan = Plan()
    pairs = [(f"1.2.{i}", "1.2.840.10008.1.2.1") for i in range(MAX_CONTEXTS + 2)]
    groups = [plan.add(pair) for pair in pairs]
    assert groups == [0] * MAX_CONTEXTS + [1, 1]
    assert plan.add(pairs[0]) == 0
    assert plan.add(pairs[-1]) == 1
    assert plan.contexts(0) == tuple(pairs[:MAX_CONTEXTS])
    assert plan.contexts(1) == tuple(pairs[MAX_CONTEXTS:])


def test_what_is_stored_and_what_is_a_service() -> None:
    stored = {
        "1.2.840.10008.5.1.4.1.1.2": "CT Image", "1.2.840.10008.5.1.4.38.1": "Hanging Protocol",
        "1.2.840.10008.5.1.1.30": "Hardcopy Color Image, retired", "1.2.840.113619.4.30": "private",
        "1.2.840.10008.5.1.4.1.1.999": "of a later edition",
    }  # fmt: skip
    services = {
        "1.2.840.10008.5.1.4.31": "worklist", "1.2.840.10008.5.1.4.1.2.2.1": "Study Root FIND",
        "1.2.840.10008.1.20.2": "commitment, pull model", "1.2.840.10008.3.1.2.3.3": "performed procedure step",
        "1.2.840.10008.1.2.1": "a transfer syntax", "1.2.840.10008.3.1.1.1": "the application context",
    }  # fmt: skip
    assert [about for uid, about in stored.items() if not is_storage(uid)] == []
    assert [about for uid, about in services.items() if is_storage(uid)] == []
