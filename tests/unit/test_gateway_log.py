"""`clients.gateway.log`: each line carries its transfer, and no library's words."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from clients.gateway.log import TALKING, about, configure, note, place_of
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, after_commit

TID = bytes(range(16))


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged."""
    before, handlers = structlog.get_config(), list(logging.getLogger().handlers)
    stream = io.StringIO()
    configure(TALKING, stream)
    yield stream
    structlog.configure(**before)
    logging.getLogger().handlers = handlers


def read(stream: io.StringIO) -> list[dict[str, object]]:
    """The lines since the last look, without their times."""
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    stream.seek(0)
    stream.truncate()
    assert all(line.pop("timestamp") for line in found)
    return found


async def test_lines_of_a_transfer_carry_its_id(tmp_path: Path, stream: io.StringIO) -> None:
    """In the task itself, in those that it starts, and in the database's thread; nowhere else."""
    log = structlog.get_logger()
    db = Database(tmp_path / "gateway.db")
    await db.open()

    async def elsewhere() -> None:
        log.info("task")

    with about(TID):
        started = asyncio.create_task(elsewhere())
        await db.run(lambda con: log.info("database"))
    await started
    await elsewhere()
    with about(None):
        log.info("nobody's")
    await db.close()
    found = {(line["event"], line.get("tid")) for line in read(stream)}
    assert found == {
        ("database", TID.hex()), ("task", TID.hex()), ("task", None), ("nobody's", None),
    }  # fmt: skip


async def test_what_was_rolled_back_is_not_logged(tmp_path: Path, stream: io.StringIO) -> None:
    db = Database(tmp_path / "gateway.db")
    await db.open()

    def fails(con: Con) -> None:
        after_commit("sent", code="a")
        raise KeyError

    def works(con: Con) -> None:
        after_commit("sent", code="b")
        assert read(stream) == [], "the transaction is still open"

    with pytest.raises(KeyError):
        await db.run(fails)
    await db.run(works)
    await db.close()
    assert read(stream) == [{"event": "sent", "code": "b", "level": "info"}]
    after_commit("sent", code="c")
    assert read(stream) == [], "outside of a transaction there is nothing to wait for"


async def test_the_audit_log_is_said_without_people(tmp_path: Path, stream: io.StringIO) -> None:
    """An id of ours is a field; whoever did it, why, and a member of staff whose name looks like an id are not."""
    db = Database(tmp_path / "gateway.db")
    await db.open()
    name = "deadbeef" * 4

    def work(con: Con) -> None:
        audit.record(con, "maria", "transfer.create", TID.hex(), "consult", 1)
        audit.record(con, "maria", "study.close", TID.hex(), "", 1)
        audit.record(con, "maria", "user.add", name, "clerk", 1)
        audit.record(con, "maria", "page:view-study", TID.hex(), "", 1)
        audit.alarm(con, TID, "pacs", "The PACS is away.", 1)
        audit.alarm(con, TID, "pacs", "The PACS is still away.", 2)
        audit.alarm(con, None, "unknown-site", "A site that nobody knows.", 1)

    await db.run(work)
    await db.close()
    assert [{k: v for k, v in line.items() if k != "level"} for line in read(stream)] == [
        {"event": "transfer.create", "tid": TID.hex()},
        {"event": "study.close", "study": TID.hex()},
        {"event": "user.add"},
        {"event": "alarm", "code": "pacs", "tid": TID.hex()},
        {"event": "alarm", "code": "unknown-site"},
    ]


def test_the_words_of_libraries_are_left_out(stream: io.StringIO) -> None:
    stranger = logging.getLogger("somelib.server")
    try:
        raise ValueError("Nadelohr^Xaver")
    except ValueError:
        stranger.exception("Error at 10.0.0.7: %s", "Nadelohr^Xaver")
    stranger.info("not worth a line")
    configure(TALKING, stream)  # again adds nothing
    stranger.warning("10.0.0.7 is slow")
    assert read(stream) == [
        {"event": "library", "library": "somelib", "kind": "ValueError", "level": "warning"},
        {"event": "library", "library": "somelib", "kind": "", "level": "warning"},
    ]


async def test_what_asyncio_has_to_say(stream: io.StringIO) -> None:
    def fails() -> None:
        raise RuntimeError("Nadelohr^Xaver at 10.0.0.7")

    loop, said = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(lambda loop, context: (note(loop, context), said.set()))  # type: ignore[func-returns-value]
    loop.call_soon(fails)
    await said.wait()
    note(loop, {"message": "Unclosed connector"})
    first, second = read(stream)
    assert (first["event"], first["kind"]) == ("loop", "RuntimeError")
    assert str(first["place"]).startswith("test_gateway_log.py:")
    assert (second["kind"], second["place"]) == ("", "")


def test_no_error_has_no_place() -> None:
    assert place_of(None) == place_of(ValueError()) == ""
