"""`clients.gateway.edge`: what pages and the control socket give is read, or refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from clients.gateway.edge import candidate_of, keys_of, tid_of, translated
from clients.gateway.errors import GatewayError
from clients.gateway.whose import Candidate
from transfer.errors import ExpiredError


def test_a_number() -> None:
    assert tid_of("ab" * 16).hex() == "ab" * 16


@pytest.mark.parametrize("text", ["", "ab", "AB" * 16, "zz" * 16, "../" * 10, "ab" * 17, "\u0661" * 32])
def test_what_is_no_number_is_absent(text: str) -> None:
    with pytest.raises(GatewayError) as caught:
        tid_of(text)
    assert caught.value.code == "absent"


def test_a_candidate_as_itself_and_as_its_json() -> None:
    given = Candidate(patient_id="1")
    assert candidate_of(given) == candidate_of({"patient_id": "1"}) == given


@pytest.mark.parametrize("given", [None, 1, "x", [], {"patient_id": 1}, {"name": ["x"]}])
def test_what_is_no_candidate(given: Any) -> None:
    with pytest.raises(GatewayError) as caught:
        candidate_of(given)
    assert caught.value.code == "header"


@pytest.mark.parametrize("given", [None, "all", [1], {"all": True}])
def test_what_is_no_list_of_confirmations(given: Any) -> None:
    with pytest.raises(GatewayError) as caught:
        keys_of(given)
    assert caught.value.code == "header"
    assert keys_of(["number"]) == ["number"]


async def test_the_protocols_errors_are_the_gateways() -> None:
    async def fails() -> int:
        raise ExpiredError

    with pytest.raises(GatewayError) as caught:
        await translated(fails())
    assert (caught.value.code, caught.value.sentence) == ("expired", ExpiredError().sentence)
