"""The table of calls is the one in docs/spec/relay-http.md."""

from __future__ import annotations

import io
import re
from pathlib import Path

from relay.app import Relay
from relay.config import Config
from relay.log import make_log
from relay.memory import MemoryBlobs, MemoryMeta
from relay.notifier import LocalNotifier

SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec" / "relay-http.md"


async def test_the_document_names_every_call_and_no_other(tmp_path: Path) -> None:
    config = Config(phone=tmp_path)
    meta = MemoryMeta(config.quota, lambda: 0)
    relay = Relay(
        config, ["http://x"], meta, MemoryBlobs(), LocalNotifier(), lambda: 0, make_log(io.StringIO())
    )
    built = {
        (route.method, re.sub(r":[^}]+}", "}", route.resource.canonical))
        for route in relay.app.router.routes()
        if route.resource is not None and route.method not in ("HEAD", "OPTIONS")
    }
    text = SPEC.read_text("utf-8")
    named: set[tuple[str, str]] = set()
    for method, path in re.findall(r"`(GET|PUT|POST|DELETE) (/[^`?\s]*)", text):
        path = path.replace("{nP}", "{run}")
        path = re.sub(r"\{\d(\\?\|\d)*\}", "{slot}", path)
        named.add((method, path))
    for door in ("/s", "/v", "/p"):
        named.add(("GET", door))
    assert named == built
