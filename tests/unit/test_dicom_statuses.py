from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.gateway.dicom.statuses import TROUBLES, answered, classify, troubled


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0x0000, "ok"), (0xB000, "warning"), (0xB006, "warning"), (0xB007, "warning"), (0x0107, "warning"),
        (0x0111, "warning"), (0xA700, "retry"), (0xA701, "retry"), (0xA7FF, "retry"), (0x0110, "retry"),
        (0x0213, "retry"), (0xA900, "refused"), (0xC000, "refused"), (0xCFFF, "refused"), (0x0122, "refused"),
        (0x0117, "refused"), (0x0124, "refused"), (0xFE00, "refused"), (0x4321, "refused"),
    ],
)  # fmt: skip
def test_a_status_has_its_class(status: int, kind: str) -> None:
    assert classify(status) == kind


@given(st.integers(0, 0xFFFF))
def test_every_status_is_answered_with_a_sentence(status: int) -> None:
    result = answered(status)
    assert result.status == status
    assert result.sentence.endswith(".")
    assert bool(result.code) == (result.kind in ("retry", "refused"))


def test_no_answer_is_unknown_never_failed() -> None:
    for code in ("pacs-lost", "pacs-late", "dicom-child"):
        assert troubled(code).kind == "unknown"
        assert troubled(code).status is None
    for code in TROUBLES:
        assert troubled(code).code == code
