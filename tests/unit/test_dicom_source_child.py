"""What a C-GET proposes: every class of the study, and no more contexts than there may be."""

from __future__ import annotations

import pytest

from clients.gateway.dicom.contexts import MAX_CONTEXTS
from clients.gateway.dicom.source_child import storage_pairs
from clients.gateway.dicom.structure import EXPLICIT_LITTLE, IMPLICIT_LITTLE

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize("count", [1, 2, 12, 40, 63, 64, 500])
def test_there_is_room_for_every_class(count: int) -> None:
    classes = [f"{CT}.{n}" for n in range(1, count + 1)]
    pairs, roles = storage_pairs(classes)
    assert len(pairs) < MAX_CONTEXTS, "one is for the C-GET itself"
    assert list(roles) == classes[: len(roles)]
    assert len(roles) == min(count, 63)
    assert {c for c, _ in pairs} == set(roles)
    assert all((c, EXPLICIT_LITTLE) in pairs for c in roles)
    assert all((c, IMPLICIT_LITTLE) in pairs for c in roles)


def test_without_a_list_the_usual_classes_are_proposed() -> None:
    for given in ((), ("", "no uid", "1.2.*")):
        pairs, roles = storage_pairs(given)
        assert CT in roles
        assert len(pairs) < MAX_CONTEXTS
    assert storage_pairs([CT, CT])[1] == (CT,)
