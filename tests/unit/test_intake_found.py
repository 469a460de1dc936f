from __future__ import annotations

import pytest

from clients.gateway.intake.found import Skipped, label
from clients.gateway.intake.reasons import REASONS, reject, sentence


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("CT/IM0001.dcm", "CT/IM0001.dcm"),
        ("../../etc/passwd", "../../etc/passwd"),  # only shown, so only shown
        ("a\x1b[31mred\nnext", "a\ufffd[31mred\ufffdnext"),
        ("right\u202eto left", "right\ufffdto left"),
        ("\udcff\udcfe", "\ufffd\ufffd"),
        ("", "?"),
        ("  ", "?"),
    ],
)
def test_a_label_is_fit_to_be_shown(name: str, shown: str) -> None:
    assert label(name) == shown


def test_a_long_label_keeps_its_end() -> None:
    shown = label("x" * 500 + "/IM1")
    assert len(shown) == 80
    assert shown.startswith("…")
    assert shown.endswith("/IM1")


def test_every_reason_says_what_to_do_next() -> None:
    for code, text in REASONS.items():
        assert code.startswith(("import-", "dicom-"))
        assert text.endswith(".")
        assert text.count(". ") == 1
        assert (reject(code).code, reject(code).sentence) == (code, text)


def test_reasons_of_the_dicom_room_are_known() -> None:
    assert sentence("dicom-meta")
    assert Skipped(1, "x", "dicom-meta").sentence == sentence("dicom-meta")
