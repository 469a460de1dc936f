from __future__ import annotations

import json
from typing import Any

import pytest

from tests.spec_schema import assert_documented
from tests.transfer_kit import SALT, SUMMARY, refused
from transfer.encoding import sha256
from transfer.errors import HeaderError, SizeError
from transfer.messages import decode
from transfer.summary import CAP, SALT_SIZE, Declined, Summary, make_summary, read_summary, summary_hash

GOOD: dict[str, Any] = json.loads(SUMMARY)


def _text(**changes: Any) -> str:
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not ...}, ensure_ascii=False)


def _summary(**changes: Any) -> Summary:
    fields = {"from_" if name == "from" else name: value for name, value in GOOD.items()}
    return Summary(**{**fields, **changes})


def test_there_and_back() -> None:
    assert read_summary(SUMMARY) == _summary()
    assert set(GOOD) == {"person", "from", "to", "what", "why", "until", "alt", "add", "call", "declined"}
    assert make_summary(read_summary(SUMMARY)) == SUMMARY


def test_the_hash_is_salted_and_over_the_bytes_that_travel() -> None:
    """Without the salt the relay would guess a name and a birth year offline (models A24, A25)."""
    assert summary_hash(SALT, SUMMARY) == sha256(SALT, SUMMARY.encode())
    assert summary_hash(bytes(SALT_SIZE), SUMMARY) != summary_hash(SALT, SUMMARY)
    assert summary_hash(SALT, SUMMARY + " ") != summary_hash(SALT, SUMMARY)
    assert len(SALT) == SALT_SIZE == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"person": "x" * 41}, {"person": ...}, {"person": None}, {"from": "x" * 121}, {"from": ...}, {"to": 1},
        {"what": ["head"]}, {"why": "TREAT"}, {"why": ""}, {"until": "soon"}, {"until": -1}, {"until": 1.5},
        {"alt": ["a"] * 5}, {"alt": ["x" * 121]}, {"alt": "a"}, {"add": -1}, {"add": 7 * 86400 + 1}, {"call": "x" * 81},
        {"count": 212}, {"v": 1}, {"declined": ...}, {"declined": 0}, {"declined": {"at": 1}},
        {"declined": {"at": -1, "by": "patient"}}, {"declined": {"at": 1, "by": "staff"}},
    ],
)  # fmt: skip
def test_other_words_are_refused(changes: dict[str, Any]) -> None:
    with refused(HeaderError):
        read_summary(_text(**changes))


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "{", '"x"', "x", "\x00", "[" * 2000])
def test_what_is_no_summary(text: str) -> None:
    with refused(HeaderError):
        read_summary(text)


def test_the_cap_counts_bytes() -> None:
    room = CAP - len(SUMMARY)
    assert read_summary(SUMMARY + " " * room) == _summary()
    with refused(SizeError):
        read_summary(SUMMARY + " " * (room + 1))
    with refused(SizeError):
        read_summary("é" * (CAP // 2 + 1))
    long = _summary(from_="é" * 120, to="\U0001f3e5" * 120, what="é" * 120, alt=["\U0001f3e5" * 120] * 2)
    with refused(SizeError):
        make_summary(long)


@pytest.mark.parametrize(
    "changes",
    [
        {"person": "x" * 41},
        {"from_": "x" * 121},
        {"call": "x" * 81},
        {"why": "TREAT"},
        {"alt": ["a"] * 5},
        {"what": "\ud800"},
    ],
)  # fmt: skip
def test_s_makes_no_summary_that_every_phone_would_refuse(changes: dict[str, Any]) -> None:
    """Else the fault shows only when the person has scanned and typed."""
    with refused(HeaderError):
        make_summary(_summary(**changes))


@pytest.mark.parametrize("person", ["unknown", "J.D. 1961", "王小明 1961", "", "a\x00b", "\u202ex"])
def test_text_is_kept_as_it_is(person: str) -> None:
    """It is shown as text, never as markup; the page isolates its direction."""
    assert read_summary(make_summary(_summary(person=person))).person == person


def test_lone_surrogates_never_leave_or_enter() -> None:
    with refused(HeaderError):
        read_summary('{"person":"\ud800"}')
    with refused(HeaderError):
        decode(b'{"person":"\\ud800"}', Summary)


def test_the_page_shows_every_field() -> None:
    assert_documented(Summary)
    assert_documented(Declined)
