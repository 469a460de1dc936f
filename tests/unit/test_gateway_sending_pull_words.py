from __future__ import annotations

import pytest

from clients.gateway.dicom.statuses import TROUBLES
from clients.gateway.sending.pull_words import (
    Reach,
    images,
    query_refused,
    retrieve_refused,
    trouble,
    went_through,
)

US = Reach("TRAUMATX", "10.1.2.3, port 11112")


@pytest.mark.parametrize(
    ("status", "how", "part"),
    [
        (0xA801, "move", "TRAUMATX at 10.1.2.3, port 11112"), (0xC000, "move", "TRAUMATX at 10.1.2.3, port 11112"),
        (0xA702, "move", "could not reach this gateway"), (0xA701, "get", "no room or time"),
        (0x0124, "move", "does not allow"), (0xA900, "get", "refused to send"), (0xC000, "get", "refused to send"),
    ],
)  # fmt: skip
def test_a_refusal_says_its_number_and_the_next_step(status: int, how: str, part: str) -> None:
    sentence = retrieve_refused(status, how, US)
    assert part in sentence
    assert f"{status:04X}" in sentence


def test_every_trouble_has_a_sentence_that_names_no_other_section() -> None:
    for code in (*TROUBLES, "source-none", "pull-silent", "source-no-move", "nothing-known"):
        assert trouble(code).endswith(".")
        assert "pacs.tls" not in trouble(code)


def test_queries_and_counts() -> None:
    assert "A700" in query_refused(0xA700)
    assert "0124" in query_refused(0x0124)
    assert "C001" in query_refused(0xC001)
    assert [went_through(s) for s in (0, 0xB000, 0xA801, None)] == [True, True, False, False]
    assert (images(1), images(1312)) == ("1 image", "1,312 images")
