from __future__ import annotations

import pytest

from tests.transfer_kit import assert_generated, refused
from transfer import door
from transfer.errors import StateError
from transfer.states import (
    OPEN_RECEIVER,
    OPEN_SENDER,
    PHONE_PAGES,
    RECEIVER,
    RELAY_MAILBOX,
    RELAY_PACK,
    SENDER,
    TERMINAL,
    Step,
    Table,
    diagram,
    step,
)

TABLES: dict[str, Table] = {
    "SENDER": SENDER,
    "RECEIVER": RECEIVER,
    "RELAY_MAILBOX": RELAY_MAILBOX,
    "RELAY_PACK": RELAY_PACK,
    "PHONE_PAGES": PHONE_PAGES,
}
DOORS: dict[str, Table] = {
    "PHONE": {at: Step(to) for at, to in door.PHONE.items()},
    "SITE": {at: Step(to) for at, to in door.SITE.items()},
}
ENDS = {
    "SENDER": TERMINAL - {"DECLINED"},
    "RECEIVER": TERMINAL,
    "RELAY_MAILBOX": {"GONE"},
    "RELAY_PACK": {"GONE"},
    "PHONE_PAGES": {"LOCKED", "UNTRUSTED"},
}


def _states(table: Table) -> set[str]:
    return {state for state, _ in table} | {after.to for after in table.values()}


def _reached(table: Table, start: str) -> set[str]:
    seen, todo = {start}, [start]
    while todo:
        state = todo.pop()
        for (source, _), after in table.items():
            if source == state and after.to not in seen:
                seen.add(after.to)
                todo.append(after.to)
    return seen


@pytest.mark.parametrize("name", TABLES)
def test_every_state_is_reached_and_every_state_has_an_end_in_sight(name: str) -> None:
    table = TABLES[name]
    assert _reached(table, "") == _states(table)
    ends = _states(table) - {state for state, _ in table}
    assert ends == ENDS[name]
    if name != "PHONE_PAGES":
        for state in _states(table):
            assert _reached(table, state) & ends, state


@pytest.mark.parametrize("name", DOORS)
def test_the_doors_states_are_reached_from_new(name: str) -> None:
    assert _reached(DOORS[name], "NEW") == _states(DOORS[name])
    assert "DEAD" not in _states(DOORS[name])


@pytest.mark.parametrize("name", ["SENDER", "RECEIVER"])
def test_an_end_is_never_taken_back(name: str) -> None:
    table = TABLES[name]
    events = {event for _, event in table}
    for state in TERMINAL:
        for event in events:
            with refused(StateError):
                step(table, state, event)


def test_open_and_terminal_states_are_all_there_are() -> None:
    assert {*OPEN_SENDER} | ENDS["SENDER"] | {""} == _states(SENDER)
    assert {*OPEN_RECEIVER} | ENDS["RECEIVER"] | {""} == _states(RECEIVER)
    assert not {*OPEN_SENDER, *OPEN_RECEIVER} & TERMINAL


@pytest.mark.parametrize("name", TABLES)
def test_what_the_table_does_not_know_changes_nothing(name: str) -> None:
    table = TABLES[name]
    known = {event for _, event in table}
    for state in [*_states(table), "NOWHERE"]:
        for event in [*known, "", "unheard-of"]:
            if (state, event) in table:
                assert step(table, state, event) is table[state, event]
            else:
                with refused(StateError):
                    step(table, state, event)


def _ways(table: Table, to: str) -> set[tuple[str, str]]:
    return {at for at, after in table.items() if after.to == to and at[0] != to}


def test_every_way_to_a_release_is_a_decision_about_it_or_its_parent_and_one_way_opens_a_study() -> None:
    assert _ways(SENDER, "RELEASED") == {
        ("OFFERED", event) for event in ("approve", "attest", "override", "covered")
    }
    assert _ways(RECEIVER, "OPENED") == {("SEEN", "release")}
    assert _ways(SENDER, "COMPLETE") == {("RELEASED", "receipt-complete")}
    assert _ways(RECEIVER, "COMPLETE") == {("OPENED", "delivered")}


def test_what_staff_decide_is_always_audited() -> None:
    for event in ("attest", "override"):
        assert {*step(SENDER, "OFFERED", event).effects} == {
            *step(SENDER, "OFFERED", "approve").effects,
            "audit",
        }


def test_keys_go_with_every_end() -> None:
    for (state, event), after in SENDER.items():
        if after.to in TERMINAL:
            assert {"erase-keys", "delete-packs"} <= {*after.effects}, (state, event)
            if state == "OFFERED":
                assert {"close", "tombstone"} <= {*after.effects}, event
    for (state, event), after in RECEIVER.items():
        if after.to in TERMINAL and state == "OPENED":
            assert {"erase-keys", "delete-plain", "queue-receipt"} <= {*after.effects}, event
        if after.to in TERMINAL and state == "SEEN":
            assert "delete-prefetch" in after.effects, event


def test_every_signed_message_of_the_other_side_is_acknowledged() -> None:
    """Else its outbox would send it for ever."""
    for table, events in (
        (SENDER, {"receipt-complete", "receipt-partial", "declined"}),
        (RECEIVER, {"offer", "release", "close-DENIED", "close-EXPIRED", "close-REVOKED", "close-DIVERTED"}),
    ):
        for (_, event), after in table.items():
            if event in events:
                assert "ack" in after.effects, event


def test_a_diagram_draws_each_step_once() -> None:
    text = diagram(RELAY_PACK)
    assert text.splitlines()[0] == "stateDiagram-v2"
    assert "    [*] --> STORED: put" in text
    assert text.count("-->") == len(RELAY_PACK) + 1
    assert text.endswith("    GONE --> [*]")


def _page(table: Table) -> str:
    lines = ["```mermaid", diagram(table), "```", "", "| in | event | to | with it |", "|---|---|---|---|"]
    for (state, event), after in table.items():
        lines.append(f"| {state or '-'} | {event} | {after.to} | {', '.join(after.effects)} |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", [*TABLES, *DOORS])
def test_the_page_shows_the_tables_as_they_are(name: str) -> None:
    table = DOORS[name] if name in DOORS else TABLES[name]
    assert_generated("states.md", name, _page(table))
