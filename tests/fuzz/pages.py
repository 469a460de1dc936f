"""HTTP as a stranger writes it: to the staff pages, to the control socket, to the relay's phone side.

An input is a whole request. `@name@` in it stands for what only a run knows (a session's cookie, a form's token, an
id, the body's length, a signature), so that mutants of the rest get past the door. No answer may be a 500, and no
handler may fail in a way that it does not know.
"""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path

import structlog
from aiohttp.http_exceptions import HttpProcessingError

from clients.gateway.control_server import ControlServer
from tests.console_kit import HandClock, Person, house
from tests.fake_engine import PASSWORD, hospital
from tests.fuzz.harness import Broken, Harness
from tests.relay_client import Site, hello, pack_bytes, relay_at
from tests.transfer_kit import Q
from transfer.links import make_scan
from transfer.requests import HEADER

_IDLE = 0.25
"""Seconds without a byte after which the caller goes away: a request may announce more than it has."""
_MOST = 60_000
Names = dict[bytes, bytes]
Connect = Callable[[], "asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]"]


class Seen(logging.Handler):
    """What aiohttp says of a handler that failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        why = record.exc_info[1] if record.exc_info else None
        if not isinstance(why, HttpProcessingError | ConnectionError):  # no HTTP; a caller who has gone
            self.said.append(type(why).__name__)


class Server:
    """A server of ours on a loop, with what stands for the names."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.ends = AsyncExitStack()
        self.names: Names = {}
        self.site: Site | None = None
        self.address: str | int = 0
        self.log: list[structlog.typing.EventDict] = []
        self.seen = Seen()
        logger = logging.getLogger("aiohttp.server")
        logger.addHandler(self.seen)
        logger.propagate = False

    def request(self, data: bytes) -> bytes:
        """The request with all names replaced."""
        for name, value in self.names.items():
            data = data.replace(b"@" + name + b"@", value)
        head, _, body = data.partition(b"\r\n\r\n")
        data = data.replace(b"@length@", str(len(body)).encode())
        if self.site is not None and b"@signed@" in head:
            method, target = [*head.partition(b"\r\n")[0].split(b" "), b"", b""][:2]
            data = data.replace(b"@signed@", self._sign(method, target, body))
        return data

    def _sign(self, method: bytes, target: bytes, body: bytes) -> bytes:
        assert self.site is not None
        try:
            return self.site.sign(method.decode(), target.decode(), body).encode()
        except ValueError:
            return b"a.b.c"

    def call(self, data: bytes) -> None:
        """Sends it, and looks at what came of it."""
        self.log.clear()
        self.seen.said.clear()
        answer = self.loop.run_until_complete(self._exchange(self.request(data)))
        failed = [
            f"{entry['event']}: {entry.get('kind')} {entry.get('where', '')}"
            for entry in self.log
            if entry["log_level"] == "error"
        ]
        if failed or self.seen.said:
            raise Broken("unnamed", f"a handler failed: {failed or self.seen.said}")
        if b"500" in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer):
            raise Broken("unnamed", "500")
        assert b"Traceback" not in answer

    async def _exchange(self, data: bytes) -> bytes:
        if isinstance(self.address, int):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.address)
        else:
            reader, writer = await asyncio.open_unix_connection(self.address)
        out = b""
        try:
            writer.write(data[:_MOST])
            while chunk := await asyncio.wait_for(reader.read(65536), _IDLE):
                out += chunk
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()
        return out


def _cookies(person: Person) -> bytes:
    return "; ".join(f"{cookie.key}={cookie.value}" for cookie in person.client.session.cookie_jar).encode()


@cache
def _console() -> Server:
    server = Server()

    async def start() -> None:
        built = await server.ends.enter_async_context(house())
        server.address = int(built.server.port or 0)
        person, admin = await built.person("desk1"), await built.person("admin")
        await person.open("/desk")
        csrf = person.page.form("/desk").fields["csrf"]
        study = next(iter(built.engine.all_studies))
        peer = (await built.engine.peers())[0].site
        tid = (await built.engine.send(study, peer, "transfer", "desk1")).tid
        server.names = {
            b"cookie": _cookies(person), b"admin": _cookies(admin), b"csrf": csrf.encode(), b"study": study.encode(),
            b"transfer": tid.encode(), b"peer": peer.encode(),
        }  # fmt: skip

    server.loop.run_until_complete(start())
    structlog.configure(processors=[_collect(server)])
    return server


def _collect(server: Server) -> structlog.typing.Processor:
    def processor(_: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        server.log.append({**event, "log_level": level})
        raise structlog.DropEvent

    return processor


@cache
def _control() -> Server:
    server = Server()

    async def start() -> None:
        folder = Path(server.ends.enter_context(tempfile.TemporaryDirectory()))
        await ControlServer(hospital(HandClock()), folder).start()
        server.address = str(folder / "control.sock")

    server.loop.run_until_complete(start())
    structlog.configure(processors=[_collect(server)])
    return server


@cache
def _relay() -> Server:
    server = Server()

    async def start() -> None:
        folder = Path(server.ends.enter_context(tempfile.TemporaryDirectory()))
        bench = await server.ends.enter_async_context(relay_at(folder / "data"))
        server.address = int(bench.running.url.rsplit(":", 1)[1])
        server.site = bench.site()
        assert (await server.site.call("PUT", f"/v1/packs/{'00' * 16}/0?kind=D", pack_bytes())).status == 201
        m0 = hello(server.site.id, server.site.clock() + 3600)
        assert (await server.site.call("PUT", f"/m/{'00' * 16}/0", m0)).status == 200
        server.names = {b"site": server.site.id.hex().encode(), b"letter": server.site.ack(), b"hello": m0}

    server.loop.run_until_complete(start())
    return server


def _http(method: str, target: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers]
    if body:
        lines.append("Content-Length: @length@")
    return "\r\n".join([*lines, "", ""]).encode() + body


_FORM = "Content-Type: application/x-www-form-urlencoded"
_COOKIE = "Cookie: @cookie@"


def _console_calls() -> list[bytes]:
    _console()  # starts it
    forms = [
        ("/desk", b"csrf=@csrf@&once=1&query=DOE"), ("/studies/@study@/send",
        b"csrf=@csrf@&once=2&to=@peer@&reason=transfer"),
        ("/studies/@study@/close", b"csrf=@csrf@&once=3"), ("/transfers/@transfer@/stop", b"csrf=@csrf@"),
        ("/transfers/@transfer@/reopen", b"csrf=@csrf@"),
        ("/transfers/@transfer@/door", b"csrf=@csrf@&door=scan&scanned=" + make_scan(Q).encode()), ("/sign-in",
        b"csrf=@csrf@&name=clerk&password=" + PASSWORD.encode() + b"&next=/desk"),
    ]  # fmt: skip
    pages = [
        "/",
        "/desk",
        "/studies/@study@",
        "/transfers/@transfer@",
        "/sent",
        "/inbox",
        "/sites",
        "/audit?before=5",
        "/status",
    ]
    return [
        *(_http("POST", target, body, _FORM, _COOKIE) for target, body in forms),
        *(_http("GET", target, b"", _COOKIE) for target in pages[:6]),
        *(_http("GET", target, b"", "Cookie: @admin@") for target in pages[6:]),
        _http("GET", "/sign-in?next=/desk&why=ended"), _http("GET", "/static/console.css"),
        _http("POST", "/sign-in", b"csrf=x&name=a", _FORM + "; charset=utf-8", "Origin: http://x",
        "Sec-Fetch-Site: none"),
    ]  # fmt: skip


def _control_calls() -> list[bytes]:
    _control()  # starts it
    calls = [b'{"method":"studies","args":["DOE",10]}', b'{"method":"transfers","args":["send",5]}',
    b'{"method":"users","args":[]}',
             b'{"method":"door","args":["00","scan","tt1:1.x","a"]}',
             b'{"method":"record","args":["a","b","c","d"]}', b'{"method":"pin_peer","args":["a.b.c","x"]}',
             b'{"method":"none","args":[1]}']  # fmt: skip
    return [
        _http("GET", "/"),
        *(_http("POST", "/", body, "Content-Type: application/json") for body in calls),
    ]


def _relay_calls() -> list[bytes]:
    _relay()  # starts it
    signed = f"{HEADER}: @signed@"
    zero = "00" * 16
    return [
        _http("GET", f"/m/{zero}/0"), _http("POST", f"/m/{zero}/{'01' * 16}/1", b'{"v":1}',
        "Content-Type: application/json"),
        _http("GET", "/m/0057257/0"), _http("POST", f"/m/0057257/{'01' * 16}/1", b'{"v":1}',
        "Content-Type: application/json"),
        _http("PUT", "/m/0057257/0", b"@hello@", signed),
        _http("GET", f"/m/{zero}/{'01' * 16}/2?wait=0&after=0"), _http("OPTIONS", f"/m/{zero}/0"), _http("GET",
        "/s"), _http("GET", "/a/app.js"),
        _http("GET", "/v1/queue?after=0&wait=0", b"", signed), _http("POST", "/v1/sites/@site@/queue",
        b"@letter@", signed),
        _http("POST", "/v1/queue/ack", b'{"seqs":[1,2]}', signed), _http("PUT", f"/m/{zero}/0", b"@hello@", signed),
        _http("GET", f"/v1/packs/{zero}/0", b"", signed, "Range: bytes=0-99"), _http("GET",
        f"/v1/packs/{zero}?after=0&wait=0", b"", signed),
        _http("GET", "/v1/sites/@site@/prekeys", b"", signed), _http("GET", "/healthz"), _http("HEAD", "/readyz"),
    ]  # fmt: skip


HARNESSES = [
    Harness(name="console", run=lambda data: _console().call(data), samples=_console_calls, family=(),
    apart=True, share=0.04),
    Harness(name="control", run=lambda data: _control().call(data), samples=_control_calls, family=(),
    apart=True, share=0.04),
    Harness(name="relay-http", run=lambda data: _relay().call(data), samples=_relay_calls, family=(),
    apart=True, share=0.04),
]  # fmt: skip
