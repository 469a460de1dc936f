"""A stranger, and a hospital that went wrong, write whatever they like to a real relay.

What is sent is made from docs/spec/relay-openapi.yaml: every route, each part of a call right or wrong by
chance. Whatever comes: the answer's status is in the document for that route, every error has the one form with
a known code, nothing is a 500, no answer shows our insides, and afterwards the relay serves a good hospital as
before. `SOAK=1` runs a hundred times as many.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.app import Relay
from relay.config import Config
from relay.enroll import enroll
from relay.errors import ConfigError, RelayError
from relay.log import make_log
from relay.memory import MemoryBlobs, MemoryMeta
from relay.notifier import LocalNotifier
from tests.relay_client import TOMBSTONE, Answer, Bench, Site, hello, pack_bytes, relay_at
from transfer.ids import Cid
from transfer.jws import header, sign
from transfer.requests import HEADER

SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec" / "relay-openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(SPEC.read_text("utf-8"))
SOAK = os.environ.get("SOAK") == "1"
EXAMPLES = 150_000 if SOAK else 1_500
CALLS = [
    (path, method, call)
    for path, item in DOCUMENT["paths"].items()
    for method, call in item.items()
    if method != "parameters"
]
CODES = DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]["enum"]
EVERYWHERE = {"400", "404", "405", "429"}
"""What may also come where the path or method was spoiled, so that it is another route or none."""


def test_the_document_has_every_route_and_every_code() -> None:
    config = Config(phone=SPEC.parent)
    meta = MemoryMeta(config.quota, lambda: 0)
    notifier, log = LocalNotifier(), make_log(io.StringIO())
    relay = Relay(config, ["http://x"], meta, MemoryBlobs(), notifier, lambda: 0, log)
    routes = {
        (re.sub(r":[^}]+}", "}", route.resource.canonical), route.method.lower())
        for route in relay.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert {(path, method) for path, method, _ in CALLS} == routes
    assert set(CODES) == set(RelayError.codes()) - {"config"}
    statuses = {str(kind.status) for kind in RelayError.__subclasses__() if kind.code != "config"} - {"405"}
    assert statuses <= {status for _, _, call in CALLS for status in call["responses"]}


# What is sent

IDS = {"cid": 16, "site": 32, "kid": 8, "mb": 16, "run": 16}
NAMES = [f"{n:02x}" for n in range(64)]
"""Each is the name of a content id with a pack and of a mailbox, until some call deletes them."""
NUMBERS = [
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "25",
    "4294967295",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
]
ODD = [
    "",
    "-1",
    "+1",
    "01",
    "1e3",
    "٣",
    "1_0",
    "0x1",
    "%31",
    "99999999999999999999",
    "%00",
    "..",
    "%2e%2e",
    "a%2Fb",
]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=40)
RANGES = [
    "bytes=0-0",
    "bytes=0-",
    "bytes=-5",
    "bytes=-0",
    "bytes=9-1",
    "bytes=70000-",
    "bytes=0-1,4-5",
    "octets=0-1",
    "bytes=a-b",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
HOSTILE = [
    b"", b"{", b"[" * 16_000, b'{"a":' * 3_000, b'{"v":1,"v":2}', b'{"seqs":[1e400]}', b'{"seqs":[-1]}', b"\xff\xfe{}",
    b'{"a":"\\ud800"}', b'{"a":"\xed\xa0\x80"}', b'\xef\xbb\xbf{"v":1}', b'{"v":99999999999999999999999}', b"null",
    b'{"seqs":[0]}', b'{"v":1}', TOMBSTONE, b'{"ended":null}', b'{"v":1,"ended":"' + b"x" * 17_000 + b'"}', b"a.b.c",
]  # fmt: skip


@st.composite
def targets(draw: st.DrawFn, path: str, call: dict[str, Any], site: Site) -> str:
    """The path with its parts filled in, and a query."""

    def part(match: re.Match[str]) -> str:
        name = match[1]
        if draw(st.integers(0, 9)) == 0:
            return draw(st.sampled_from(ODD) | TEXT.map(quoted))
        if name == "site" and draw(st.booleans()):
            return site.id.hex()
        if name in IDS:
            return draw(st.sampled_from(NAMES)) * IDS[name]
        return draw(st.sampled_from(["app.js", "none", "../x"] if name == "file" else NUMBERS[:7]))

    filled = re.sub(r"\{(\w+)\}", part, path)
    pairs = []
    for parameter in call.get("parameters", []):
        if parameter["in"] == "query" and draw(st.booleans()):
            values = ["D", "M"] if parameter["name"] == "kind" else ["0", *NUMBERS, *ODD]
            value = "0" if parameter["name"] == "wait" else draw(st.sampled_from(values))
            pairs.append(f"{parameter['name']}={value}")
    if draw(st.integers(0, 14)) == 0:
        pairs.append(draw(st.sampled_from(["wait=0", "x=1", "after", "=", "%zz=1", "after=1&after=2", ";"])))
    return filled + ("?" + "&".join(pairs) if pairs else "")


def quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


@st.composite
def bodies(draw: st.DrawFn, content: str, site: Site) -> bytes:
    """A body of the right sort, or what is nearly one, or anything."""
    now = site.clock()
    good: dict[str, list[bytes]] = {
        "text/plain": [
            site.ack(bytes(32)),
            site.offer(_cid(), site.id),
            site.prekey(bytes(8), now - 5, now + 500),
        ],
        "application/json": [hello(site.id, now + 100), TOMBSTONE, b'{"v":1}', b'{"seqs":[1,2]}'],
        "application/octet-stream": [bytes(2**16 + 40), bytes(2**16), b"x"],
        "": [b""],
    }
    kind = draw(st.integers(0, 5))
    if kind < 3:
        return draw(st.sampled_from(good[content]))
    if kind == 3:
        return draw(st.sampled_from(HOSTILE))
    if kind == 4 and content == "text/plain":
        name = draw(st.sampled_from(["offer", "release", "ack", "prekey", "grant", "request"]))
        return sign(name, draw(payloads()), site.identity.key).encode()
    base = bytearray(draw(st.sampled_from(good[content]))[:70_000])
    for _ in range(draw(st.integers(0, 3))):
        if base:
            base[draw(st.integers(0, len(base) - 1))] ^= draw(st.integers(1, 255))
    return bytes(base)


def payloads() -> st.SearchStrategy[bytes]:
    return (
        st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()) | st.sampled_from(HOSTILE)
    )


@st.composite
def signatures(draw: st.DrawFn, site: Site, method: str, target: str, body: bytes) -> list[str]:
    """The header of a signed call: right most of the time."""
    kind = draw(st.integers(0, 11))
    if kind == 0:
        return draw(
            st.sampled_from([[], [""], ["a.b.c"], [header("request") + ".e30." + "A" * 86], ["." * 500]])
        )
    if kind == 1:
        return [sign("request", draw(payloads()), site.identity.key)]
    if kind == 2:
        wrong: dict[str, Any] = draw(
            st.sampled_from(
                [{"aud": "https://other"}, {"now": 0}, {"now": 2**52}, {"path": "/"}, {"body": b"other"}]
            )
        )
        return [site.sign(method, target, body, wrong)]
    signed = site.sign(method, target, body)
    if kind == 3:
        at = draw(st.integers(0, len(signed) - 1))
        return [signed[:at] + draw(st.sampled_from("Aa0_-.=+/~ ")) + signed[at + 1 :]]
    return [signed]


def _cid() -> Cid:
    return Cid(bytes(16))


@st.composite
def calls(draw: st.DrawFn, site: Site) -> tuple[str, str, str, bytes, list[tuple[str, str]]]:
    """Route, method, target, body, headers."""
    path, method, call = draw(st.sampled_from(CALLS))
    verb = method.upper()
    target = draw(targets(path, call, site))
    (content,) = call.get("requestBody", {}).get("content", {"": None})
    body = draw(bodies(content, site)) if content or draw(st.integers(0, 19)) == 0 else b""
    headers = []
    if "security" in call and verb in ("GET", "PUT", "POST", "DELETE"):
        headers = [(HEADER, value) for value in draw(signatures(site, verb, target, body))]
    for parameter in call.get("parameters", []):
        if parameter["in"] == "header" and draw(st.booleans()):
            headers.append((parameter["name"], draw(st.sampled_from([*RANGES, '"etag"', "*"]))))
    return path, method, target, body, headers


# Who hears of it


class Lab:
    """One relay for all examples, on a loop that outlives each of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bench: Bench, log: io.StringIO) -> None:
        self.loop, self.bench, self.log = loop, bench, log
        self.site = bench.site()
        loop.run_until_complete(self.furnish())

    async def furnish(self) -> None:
        """Something to find under every name."""
        for name in NAMES:
            put = f"/v1/packs/{name * 16}/0?kind=D"
            assert (await self.site.call("PUT", put, bytes(2**16 + 40))).status == 201
            m0 = hello(self.site.id, self.site.clock() + 100)
            assert (await self.site.call("PUT", f"/m/{name * 16}/0", m0)).status == 200

    def send(self, verb: str, target: str, body: bytes, headers: list[tuple[str, str]]) -> Answer:
        call = self.bench.http.call(verb, target, body or None, headers)  # type: ignore[arg-type]
        return self.loop.run_until_complete(call)

    def serves(self) -> None:
        """A good hospital is served."""
        good, cid, body = self.loop.run_until_complete(_new(self.bench)), os.urandom(16).hex(), pack_bytes()
        put = good.call("PUT", f"/v1/packs/{cid}/0?kind=D", body)
        assert self.loop.run_until_complete(put).status == 201
        assert self.loop.run_until_complete(good.call("GET", f"/v1/packs/{cid}/0")).body == body
        assert self.loop.run_until_complete(good.call("GET", "/v1/queue?after=0&wait=0")).json == {
            "messages": []
        }


async def _new(bench: Bench) -> Site:
    return bench.site()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    log = io.StringIO()
    with asyncio.Runner() as runner:
        ends = AsyncExitStack()
        entered = ends.enter_async_context(relay_at(tmp_path / "data", log=make_log(log)))
        bench = runner.run(entered)
        made = Lab(runner.get_loop(), bench, log)
        yield made
        made.serves()
        runner.run(ends.aclose())


def check(path: str, method: str, answer: Answer) -> None:
    """The answer is one that the document allows."""
    allowed = set(DOCUMENT["paths"][path][method]["responses"]) | EVERYWHERE
    assert str(answer.status) in allowed, (path, method, answer)
    assert answer.status != 500, (path, method, answer)
    assert b"Traceback" not in answer.body
    assert b".py" not in answer.body
    if answer.status >= 400:
        kind = answer.headers.get("Content-Type", "")
        assert kind.startswith("application/json") or answer.status == 400, answer
        if kind.startswith("application/json"):
            assert answer.error in CODES


@pytest.mark.slow
@pytest.mark.timeout(7200 if SOAK else 180)
def test_whatever_comes_is_answered_as_the_document_says(lab: Lab) -> None:
    seen: set[tuple[str, str, int]] = set()

    @settings(
        max_examples=EXAMPLES, database=None, deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )  # fmt: skip
    @given(calls(lab.site))
    def run(call: tuple[str, str, str, bytes, list[tuple[str, str]]]) -> None:
        path, method, target, body, headers = call
        try:
            answer = lab.send(method.upper(), target, body, headers)
        except ValueError:
            return  # the client itself refuses such a header or target
        seen.add((path, method, answer.status))
        check(path, method, answer)

    run()
    assert len({(path, method) for path, method, _ in seen}) > len(CALLS) // 2
    assert {200, 400, 401, 404} <= {status for _, _, status in seen}
    assert '"unforeseen"' not in lab.log.getvalue()


CARD = Site(None, "http://127.0.0.1:1", b"\1" * 32).card()  # type: ignore[arg-type]  # it makes no calls


@st.composite
def cards(draw: st.DrawFn) -> str:
    """A card with a few wrong letters, a signed text that is none, or anything."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(TEXT | st.sampled_from(HOSTILE).map(lambda raw: raw.decode("latin-1")))
    if kind == 1:
        name = draw(st.sampled_from(["card", "card", "offer"]))
        return sign(name, draw(payloads()), Site(None, "", b"\1" * 32).identity.key)  # type: ignore[arg-type]
    letters = list(CARD)
    for _ in range(draw(st.integers(1, 3))):
        letters[draw(st.integers(0, len(letters) - 1))] = draw(st.sampled_from("Aa0_-.=+/~ \n\0é"))
    return "".join(letters)


@pytest.mark.timeout(7200 if SOAK else 180)
def test_a_card_is_whole_or_refused_in_words(tmp_path: Path) -> None:
    """What the operator was sent: nothing but a card that its own key signed gets in."""

    @settings(max_examples=10 * EXAMPLES if SOAK else 500, database=None, deadline=None)
    @given(cards())
    def run(text: str) -> None:
        if text.strip() == CARD:
            return
        with pytest.raises(ConfigError) as why:
            enroll(tmp_path, text)
        said.add(str(why.value))

    said: set[str] = set()
    run()
    assert len(said) == 1, "one sentence for all, so nothing of what was sent is in it"
    assert enroll(tmp_path, CARD).name == "Site"
