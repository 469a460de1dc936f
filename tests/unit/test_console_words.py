from __future__ import annotations

import inspect
import re
import time
from typing import get_args

import pytest
from msgspec.structs import replace

from clients.gateway.console.words import LOCKED, RECEIVING, SENDING, UNKNOWN, Words
from clients.gateway.observe import checks
from tests.fake_engine import blank, study
from transfer.messages import Reason
from transfer.states import RECEIVER, SENDER

NOW = int(time.mktime((2026, 11, 24, 14, 0, 0, 0, 0, -1)))
WORDS = Words(NOW)


SIZES = {
    0: "0 B", 999: "999 B", 1000: "1 kB", 512_300: "512 kB", 999_600: "1.0 MB", 1_440_000: "1.4 MB", 9_960_000: "10 MB",
    140_400_000: "140 MB", 2_300_000_000: "2.3 GB", 5 * 10**16: "50000 TB", -5: "0 B",
}  # fmt: skip
SPANS = {
    0: "0 s", -3: "0 s", 42.4: "42 s", 89: "89 s", 90: "2 min", 3600: "60 min", 5399: "1 h 30 min", 5800: "1 h 37 min",
}  # fmt: skip


@pytest.mark.parametrize(("count", "text"), SIZES.items())
def test_sizes(count: int, text: str) -> None:
    assert WORDS.size(count) == text


@pytest.mark.parametrize(("seconds", "text"), SPANS.items())
def test_spans_round_up(seconds: float, text: str) -> None:
    assert WORDS.span(seconds) == text


def test_times_of_today_are_short_and_others_have_their_date() -> None:
    assert WORDS.moment(NOW + 202) == "14:03:22"
    assert WORDS.moment(NOW - 86400) == "2026-11-23 14:00"
    assert WORDS.moment(0) == ""
    assert WORDS.stamp(NOW) == "2026-11-24 14:00:00"
    assert WORDS.machine(0) == "1970-01-01T00:00:00Z"
    assert WORDS.left(NOW) == ""
    assert WORDS.left(NOW + 60) == "60 s"


def test_counts_have_their_plural() -> None:
    assert WORDS.count(1, "image") == "1 image"
    assert WORDS.count(1200, "image") == "1,200 images"
    assert WORDS.count(2, "series", "series") == "2 series"


def test_what_a_study_has_and_what_is_no_image() -> None:
    plain = study("DOE, JANE", "", 1_800_000_000)
    assert WORDS.contents(plain) == "575 images"
    report = replace(plain.series[0], modality="DOC", number="9000", instances=2)
    with_reports = replace(plain, instances=577, series=[*plain.series, report])
    assert WORDS.contents(with_reports) == "575 images, 2 reports"
    assert WORDS.contents(replace(with_reports, instances=2, series=[report])) == "2 reports"
    assert WORDS.contents(replace(plain, instances=0, series=[])) == "0 images"
    assert WORDS.contents(replace(plain, instances=1, series=[])) == "1 image"
    assert (WORDS.kind(plain.series[0]), WORDS.kind(report)) == ("CT 1", "DOC 9000 (report)")


def test_what_is_left_is_said_only_while_something_moves() -> None:
    view = blank(tid="aa", role="send", peer="", state="OFFERED", bytes=100, moved=50, speed=10.0)
    assert WORDS.remaining(view) == "5 s"
    for still in ({"speed": 0.0}, {"stalled": True}, {"moved": 100}):
        assert (
            WORDS.remaining(blank(tid="aa", role="send", peer="", state="OFFERED", **{"bytes": 100, **still}))
            == ""
        )


def test_every_state_of_both_sides_has_words_and_its_end_is_an_end() -> None:
    for role, table, words in (("send", SENDER, SENDING), ("receive", RECEIVER, RECEIVING)):
        states = {after.to for after in table.values()}
        for state in states:
            found = WORDS.state(blank(tid="aa", role=role, peer="", state=state))
            assert found is words[state]
            assert found.label
            assert found.sentence
            assert WORDS.is_open(blank(tid="aa", role=role, peer="", state=state)) is any(
                s == state for s, _ in table
            )


def test_a_locked_offer_says_so_and_an_ended_one_does_not() -> None:
    assert WORDS.state(blank(tid="aa", role="send", peer="", state="OFFERED", locked=True)) is LOCKED
    assert (
        WORDS.state(blank(tid="aa", role="send", peer="", state="EXPIRED", locked=True)) is SENDING["EXPIRED"]
    )
    assert WORDS.state(blank(tid="aa", role="send", peer="", state="NEW")) is UNKNOWN


def test_every_reason_of_the_protocol_has_words() -> None:
    for code in get_args(Reason):
        assert WORDS.reason(code) != code
    assert WORDS.reason("other") == "other"
    assert "C-STORE" in WORDS.proof("store")


def test_digits_are_grouped_as_people_say_them() -> None:
    assert WORDS.spaced("079343") == "079 343"
    assert WORDS.spaced("") == ""


def test_every_check_has_a_name_that_a_person_knows() -> None:
    source = inspect.getsource(checks)
    named = set(re.findall(r'CheckView\(\s*name="([a-z0-9]+)"', source))
    assert {"relay", "clock", "hl7", "certificate", "outbox", "alarm"} <= named
    assert all(WORDS.check(name) != name for name in named)
    assert WORDS.check("pacs-research") == "PACS research"
    assert WORDS.check("other") == "other"
