"""`pull` and `studies`: which study is meant, what is told on the way, and the exit code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from clients.commands.output import Speaker
from clients.commands.pull import EXIT, _choose, _follow, _study_lines
from clients.gateway.errors import BusyError, GatewayError
from clients.gateway.pulled import PullView
from tests.fake_archive import match
from tests.fake_engine import FakeEngine, hospital


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]


async def test_one_study_is_chosen_and_several_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine()
    engine.archived = [match()]
    assert (await _choose(engine, {"accession": "A7701"}, Speaker(True))).uid == "1.2.3"
    engine.archived = [match(), match("1.2.4")]
    with pytest.raises(GatewayError) as why:
        await _choose(engine, {"patient_id": "4711"}, Speaker(True))
    assert why.value.code == "pull-several"
    told = events(capsys)
    assert [e["study"] for e in told if e["event"] == "match"] == ["1.2.3", "1.2.4"]
    assert not any("patient_name" in e for e in told)
    with pytest.raises(GatewayError) as why:
        await _choose(engine, {"patient_id": "4711"}, Speaker(False))
    assert "DOE, JANE" in capsys.readouterr().out, "people have to tell them apart"


async def test_nothing_found_and_a_pacs_that_is_away() -> None:
    engine = FakeEngine()
    with pytest.raises(GatewayError) as why:
        await _choose(engine, {"accession": "A1"}, Speaker(True))
    assert why.value.code == "pull-none"
    engine.search_says = replace(engine.search_says, code="pacs-down", sentence="The PACS cannot be reached.")
    with pytest.raises(GatewayError) as why:
        await _choose(engine, {"accession": "A1"}, Speaker(True))
    assert why.value.code == "pacs-down"


class Scripted(FakeEngine):
    """A gateway whose pull shows one view after the other."""

    def __init__(self, *views: PullView) -> None:
        super().__init__()
        self._views = list(views)

    async def changes(self) -> AsyncIterator[None]:
        while True:
            yield None

    async def pull_view(self, pull: str) -> PullView:
        if not self._views:
            raise BusyError
        return self._views.pop(0)


@pytest.mark.parametrize(("state", "code"), [*EXIT.items(), ("FAILED", 1)])
async def test_the_exit_code_says_how_it_ended(
    state: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine()
    engine.archived = [match()]
    view = await engine.pull("1.2.3", "me")
    end = replace(
        view, state=state, here=5, missing=2, misses=["1.2.9"], notes=["Look."], sentence="So it is."
    )
    scripted = Scripted(view, replace(view, here=3), replace(view, here=3), end)
    assert await _follow(scripted, view, Speaker(True)) == code
    told = events(capsys)
    assert [e["here"] for e in told if e["event"] == "fetched"] == [0, 3, 5]
    assert [e["event"] for e in told[-3:]] == ["note", "missed", state.lower()]
    assert (told[-1]["missing"], told[-1]["sentence"]) == (2, "So it is.")
    assert not any("DOE" in str(e) for e in told)


async def test_a_gateway_that_is_stopped_says_that_the_pull_goes_on() -> None:
    engine = FakeEngine()
    engine.archived = [match()]
    view = await engine.pull("1.2.3", "me")
    with pytest.raises(BusyError) as why:
        await _follow(Scripted(view), view, Speaker(True))
    assert "goes on when it runs again" in why.value.sentence


async def test_studies_say_whether_they_are_complete() -> None:
    study = next(iter(hospital().all_studies.values()))
    lines = _study_lines(
        replace(study, completeness="11 missing: PACS says 586, here 575", refused=3, prepared="Lakeside")
    )
    assert "11 missing: PACS says 586, here 575" in lines[1]
    assert lines[2].strip() == "3 refused"
    assert "nothing is offered yet" in lines[3]
