from __future__ import annotations

import pytest
import structlog
from aiohttp import web

from clients.gateway.console import problems
from clients.gateway.console.problems import Problem, problem_of
from clients.gateway.errors import AbsentError, DiskFullError, GatewayError, RelayDownError
from transfer.errors import ExpiredError, StateError

KINDS = [k for k in vars(problems).values() if isinstance(k, type) and issubclass(k, Problem)]


def test_every_problem_has_a_code_of_its_own_and_says_what_and_what_next() -> None:
    assert len({k.code for k in KINDS}) == len(KINDS)
    for kind in KINDS:
        problem = kind()
        assert problem.what.endswith(".")
        assert problem.next.endswith(".")
        assert 400 <= problem.answer < 600


@pytest.mark.parametrize(
    ("why", "status", "code"),
    [
        (AbsentError(), 404, "absent"),
        (RelayDownError(), 503, "relay-down"),
        (DiskFullError(), 507, "disk-full"),
        (GatewayError("Not so. Do this.", code="study-empty"), 409, "study-empty"),
        (StateError(), 409, "state"),
        (ExpiredError(), 400, "expired"),
        (TimeoutError(), 503, "slow"),
        (web.HTTPNotFound(), 404, "page"),
        (web.HTTPMethodNotAllowed("PUT", ["GET"]), 405, "method"),
        (web.HTTPRequestEntityTooLarge(1, 2), 413, "form-size"),
        (web.HTTPGone(), 410, "problem"),
        (problems.FieldError("Choose one. Go back."), 400, "field"),
    ],
)
def test_what_is_foreseen_keeps_its_code_and_sentence(why: Exception, status: int, code: str) -> None:
    problem = problem_of(why)
    assert (problem.answer, problem.code) == (status, code)
    assert problem.what


def test_what_nobody_foresaw_shows_a_reference_and_logs_no_text() -> None:
    with structlog.testing.capture_logs() as logs:
        try:
            raise KeyError("DOE^JANE")
        except KeyError as why:
            problem = problem_of(why)
    assert (problem.answer, problem.code) == (500, "internal")
    assert "DOE" not in problem.sentence
    assert "DOE" not in str(logs)
    assert logs[0]["kind"] == "KeyError"
    assert logs[0]["where"].startswith("test_console_problems.py:")
    assert logs[0]["reference"] in problem.sentence
