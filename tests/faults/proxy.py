"""A relay that lies: everything goes through it to the real one, and comes back as its script wants.

It can do what a relay can: it sees every byte that is not sealed, keeps what it has seen, and holds no site's key.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from tests.faults import lies
from tests.faults.lies import Script
from transfer.encoding import b64

_KINDS = (
    ("queue", "GET", r"/v1/queue"),
    ("ack", "POST", r"/v1/queue/ack"),
    ("message", "POST", r"/v1/sites/[0-9a-f]+/queue"),
    ("prekeys", "GET", r"/v1/sites/[0-9a-f]+/prekeys"),
    ("prekey", "PUT", r"/v1/prekeys/.*"),
    ("readers", "POST", r"/v1/packs/[0-9a-f]+/readers"),
    ("list", "GET", r"/v1/packs/[0-9a-f]+"),
    ("pack", "GET", r"/v1/packs/[0-9a-f]+/\d+"),
    ("put", "PUT", r"/v1/packs/[0-9a-f]+/\d+"),
    ("delete", "DELETE", r"/v1/packs/[0-9a-f]+"),
    ("hello", "PUT", r"/m/[0-9a-f]+/0"),
    ("slot", "PUT", r"/m/.*"),
    ("phone-get", "GET", r"/m/.*"),
    ("phone-post", "POST", r"/m/.*"),
)
_KEPT = ("TT1-Request", "Content-Type", "Origin")
_MANY = 200


class Answer:
    """What the real relay said."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status, self.body, self.headers = status, body, headers


class Memory:
    """What the lying relay has seen, of both sides: the stuff of its lies."""

    def __init__(self) -> None:
        self.queue: list[dict[str, Any]] = []
        self.packs: list[bytes] = []
        self.phone: dict[str, list[bytes]] = {}
        self.answers: dict[str, list[bytes]] = {}

    def keep(self, kind: str, path: str, answer: Answer) -> None:
        """Remembers an honest answer, a bounded number of each kind."""
        if answer.status != 200:
            return
        kept = self.answers.setdefault(kind, [])
        if kind == "queue":
            self.queue = (self.queue + json.loads(answer.body)["messages"])[-_MANY:]
        elif kind == "pack":
            self.packs = [*self.packs, answer.body][-20:]
        elif kind == "phone-get":
            slot = self.phone.setdefault(path.rsplit("/", 1)[1][0], [])
            slot.append(answer.body)
            return
        kept.append(answer.body)
        del kept[:-50]


class LyingRelay:
    """One side's view of the relay; `url` is what that gateway is set to."""

    def __init__(self, side: str, memory: Memory) -> None:
        self._side, self._memory = side, memory
        self.script = Script(0, rate=0)
        self.target = ""

    async def open(self) -> None:
        """Listens."""
        app = web.Application(client_max_size=8 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)

    async def close(self) -> None:
        """Cuts everything."""
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        kind = next(
            (k for k, m, p in _KINDS if m == request.method and re.fullmatch(p, request.path)), "page"
        )
        lie, dice = self.script.next(self._side, kind)
        body = await request.read()
        if lie == lies.DROP_REQUEST:
            return _hang_up(request)
        if lie == lies.DELAY:
            await self.script.others(dice.randrange(1, 20))
        if lie in (lies.ERROR, lies.RATE, lies.GARBAGE):
            if dice.random() < 0.5:
                await self._real(request, body)
            return _refuse(lie, dice)
        answer = await self._real(request, _spoil(lie, body, dice))
        if lie == lies.REPEAT:
            answer = await self._real(request, body)
        if answer is None or lie == lies.DROP_ANSWER:
            return _hang_up(request)
        self._memory.keep(kind, request.path, answer)
        out = answer.body
        if lie == lies.TWIST and answer.status == 200:
            out = self._twist(kind, request.path, out, dice)
        elif lie == lies.CUT_ANSWER:
            out = out[: dice.randrange(len(out) + 1)]
        elif lie == lies.FLIP_ANSWER:
            out = _flip(out, dice)
        return web.Response(status=answer.status, body=out, headers=answer.headers)

    async def _real(self, request: web.Request, body: bytes) -> Answer | None:
        """The real relay's answer, or None where it gave none."""
        headers = {name: request.headers[name] for name in _KEPT if name in request.headers}
        try:
            async with self._session.request(
                request.method, URL(self.target + request.raw_path, encoded=True), data=body or None,
                headers=headers, allow_redirects=False,
            ) as answer:  # fmt: skip
                kept = {n: answer.headers[n] for n in ("TT1-Time", "Content-Type") if n in answer.headers}
                return Answer(answer.status, await answer.read(), kept)
        except (aiohttp.ClientError, OSError):
            return None

    # Lies in the form of an answer

    def _twist(self, kind: str, path: str, body: bytes, dice: random.Random) -> bytes:
        m = self._memory
        if kind == "pack":
            return dice.choice(m.packs) if m.packs else body
        if kind == "prekeys":
            return json.dumps({"prekeys": json.loads(body)["prekeys"][:0]}).encode()
        if kind == "phone-get":
            seen = m.phone.get(path.rsplit("/", 1)[1][0], [])
            return dice.choice(seen) if seen else body
        said = json.loads(body)
        if kind == "list":
            said["packs"] = [_other_pack(line, dice) for line in said["packs"] if dice.random() < 0.8]
            said["next"] = dice.choice([said["next"], 0, said["next"] + 1, 2**52, 2**63 - 1])
            return json.dumps(said).encode()
        entries = said["messages"] + dice.sample(m.queue, min(len(m.queue), dice.randrange(4)))
        dice.shuffle(entries)
        said["messages"] = [self._other_entry(dict(e), dice) for e in entries if dice.random() < 0.85]
        return json.dumps(said).encode()

    def _other_entry(self, entry: dict[str, Any], dice: random.Random) -> dict[str, Any]:
        other = dice.choice(self._memory.queue) if self._memory.queue else entry
        match dice.randrange(7):
            case 0:
                entry["body"] = other["body"]
            case 1:
                entry["seq"] = dice.choice([0, 2**40, 2**53 - 1, 2**63 - 1])
            case 2 if "mb" in entry and "mb" in other:
                entry["mb"] = other["mb"]
            case 3 if "mb" in entry:
                entry["run"] = b64(dice.randbytes(16)) if dice.random() < 0.5 else dice.randbytes(16).hex()
            case 4 if isinstance(entry["body"], str):
                entry["body"] = _flip(entry["body"].encode(), dice).decode("latin-1")
            case 5 if isinstance(entry["body"], dict):
                name = dice.choice(sorted(entry["body"]))
                entry["body"] = {**entry["body"], name: b64(dice.randbytes(32))}
            case _:
                pass
        return entry


def _other_pack(line: list[Any], dice: random.Random) -> list[Any]:
    n, kind, size = line
    match dice.randrange(5):
        case 0:
            return [n, "M" if kind == "D" else "D", size]
        case 1:
            return [n, kind, dice.choice([2**16 + 40, 2**18 + 40, 2**20 + 40, 7])]
        case 2:
            return [n + dice.randrange(1, 40), kind, size]
    return [n, kind, size]


def _spoil(lie: str, body: bytes, dice: random.Random) -> bytes:
    if lie == lies.CUT_REQUEST:
        return body[: dice.randrange(len(body) + 1)]
    return _flip(body, dice) if lie == lies.FLIP_REQUEST else body


def _flip(body: bytes, dice: random.Random) -> bytes:
    if not body:
        return body
    at = dice.randrange(len(body))
    return body[:at] + bytes([body[at] ^ 1 << dice.randrange(8)]) + body[at + 1 :]


def _refuse(lie: str, dice: random.Random) -> web.Response:
    if lie == lies.GARBAGE:
        texts = (b"", b"{", b"[]", b"null", b'{"messages": 5}', b"<html>", b"\xff\xfe", dice.randbytes(300))
        headers = {"Content-Encoding": "gzip"} if dice.random() < 0.2 else {}
        return web.Response(status=200, body=dice.choice(texts), headers=headers)
    return web.json_response({"error": "relay"}, status=int(lie), headers={"TT1-Time": "1"})


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
