"""`send`: which study of a path it is, and what is told of a transfer as its view changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from clients.commands.output import Speaker
from clients.commands.send import Follower, import_one
from clients.gateway.errors import BusyError, GatewayError
from clients.gateway.intake.reasons import REASONS, sentence
from clients.gateway.views import TransferView
from tests.fake_engine import FakeEngine, hospital


class Scripted(FakeEngine):
    """A gateway that shows one view after the other, then what `last` raises."""

    def __init__(self, *views: TransferView, last: Exception | None = None) -> None:
        super().__init__()
        self._views, self._last = list(views), last

    async def changes(self) -> AsyncIterator[None]:
        while True:
            yield None

    async def transfer(self, tid: str) -> TransferView:
        if not self._views:
            assert self._last is not None
            raise self._last
        return self._views.pop(0)


class Importing(FakeEngine):
    """A gateway whose import has this result."""

    def __init__(self, studies: list[str], *codes: str) -> None:
        super().__init__()
        skipped = [{"name": "DOE_JANE.dcm", "code": code} for code in codes]
        self._result = {"studies": studies, "accepted": len(studies), "skipped": skipped}

    async def import_path(self, path: str, actor: str, early: bool = False) -> dict[str, Any]:
        assert path.startswith("/")
        assert actor.startswith("os:")
        return self._result


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
async def view() -> TransferView:
    """A transfer that was just created."""
    engine = hospital()
    study, peer = (await engine.studies())[0], (await engine.peers())[0]
    made = await engine.send(study.id, peer.site, "transfer", "test")
    return replace(
        made, state="PREPARING", why="", link="", pin="", check="", joined_at=0, decided_at=0, decided_by="",
        released_at=0, bytes=100, moved=0, instances=0, stored=0, gaps=0, proof="", receipt_code="", alarms=[],
    )  # fmt: skip


async def test_every_event_once_and_in_order(view: TransferView, capsys: pytest.CaptureFixture[str]) -> None:
    offered = replace(view, state="OFFERED", link="https://relay.example/s#1.x", pin="123456")
    joined = replace(offered, joined_at=5, check="0042", moved=100)
    released = replace(
        joined, state="RELEASED", link="", pin="", decided_at=6, decided_by="patient", released_at=6,
        alarms=["The PACS is slow."],
    )  # fmt: skip
    done = replace(released, state="COMPLETE", proof="store", stored=3, receipt_code="AAAA-BBBB")
    engine = Scripted(view, view, offered, offered, joined, released, released, done)
    assert await Follower(engine, Speaker(True)).follow(view) == 0
    said = events(capsys)
    assert [e["event"] for e in said] == [
        "created", "uploaded", "offered", "joined", "uploaded", "approved", "released", "alarm",
        "first_instance_stored", "stored", "complete",
    ]  # fmt: skip
    by_name = {e["event"]: e for e in said}
    assert (by_name["offered"]["link"], by_name["offered"]["pin"]) == (offered.link, offered.pin)
    assert by_name["joined"]["check"] == "0042"
    assert (by_name["uploaded"]["bytes"], by_name["uploaded"]["of"]) == (100, 100)
    assert (by_name["stored"]["n"], by_name["stored"]["of"]) == (3, 3)
    assert by_name["complete"]["receipt"] == "AAAA-BBBB"


async def test_the_demo_tells_itself_what_is_stored(
    view: TransferView, capsys: pytest.CaptureFixture[str]
) -> None:
    done = replace(view, state="PARTIAL", proof="store", stored=2, gaps=1)
    follower = Follower(Scripted(), Speaker(True), stored_elsewhere=True)
    follower.tell(done)
    follower.end(done)
    follower.end(done)
    assert [e["event"] for e in events(capsys)] == ["uploaded", "partial"]


@pytest.mark.parametrize(
    ("state", "code"),
    [("COMPLETE", 0), ("PARTIAL", 3), ("DENIED", 4), ("EXPIRED", 5), ("REVOKED", 6), ("DIVERTED", 7)],
)
async def test_exit_codes(
    view: TransferView, state: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await Follower(Scripted(replace(view, state=state)), Speaker(True)).follow(view) == code
    assert events(capsys)[-1]["event"] == state.lower()


async def test_a_gateway_that_stops(view: TransferView) -> None:
    with pytest.raises(BusyError) as caught:
        await Follower(Scripted(view, last=BusyError()), Speaker(True)).follow(view)
    assert caught.value.code == "busy"
    assert f"status DIR {view.tid}" in caught.value.sentence


async def test_one_study_beside_harmless_files(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Importing(["a" * 32], "import-not-dicom", "import-not-dicom", "import-dicomdir")
    assert await import_one(engine, "study", Speaker(True)) == "a" * 32
    said = events(capsys)
    assert [(e["code"], e["files"]) for e in said] == [("import-not-dicom", 2), ("import-dicomdir", 1)]
    assert "DOE" not in str(said)


@pytest.mark.parametrize(
    ("engine", "code", "words"),
    [
        (Importing([]), "import-nothing", "no file"),
        (Importing([], "import-not-dicom"), "import-not-dicom", sentence("import-not-dicom")),
        (Importing([], "import-not-dicom", "import-dicomdir"), "import-refused", "import-dicomdir"),
        (Importing(["a", "b"]), "import-several", "--study a, b."),
        (Importing([str(n) for n in range(9)]), "import-several", "0, 1, 2, 3, 4, ..."),
        (Importing(["a"], "dicom-truncated", "import-not-dicom"), "dicom-truncated", "--study a."),
        (Importing(["a"], "dicom-truncated", "dicom-uid"), "import-refused", "dicom-truncated, dicom-uid"),
        (Importing([], "dicom-truncated"), "dicom-truncated", sentence("dicom-truncated")),
        (Importing(["a"], "disk-full"), "disk-full", "disk is full"),
    ],
)
async def test_what_is_not_sent(engine: Importing, code: str, words: str) -> None:
    with pytest.raises(GatewayError) as caught:
        await import_one(engine, str(Path("study")), Speaker(False))
    assert caught.value.code == code
    assert words in caught.value.sentence
    assert caught.value.sentence.endswith(".")


def test_every_refusal_of_a_gateway_has_words() -> None:
    assert {"dicom-two-patients", "dicom-conflict"} <= set(REASONS)
