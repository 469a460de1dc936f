"""A site and a phone as small HTTP clients of a running relay, for tests."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from relay import config, enroll, service
from relay.clock import system_clock
from transfer import mailbox
from transfer.ids import BlobKey, Cid, Digest, Kid, SiteId, Tid
from transfer.messages import Ack, Offer, Prekey, encode, sign_message
from transfer.requests import HEADER, make_request
from transfer.sites import Identity

NO_LIMITS = {name: {"per_second": 1e6, "burst": 10**6} for name in ("site", "address", "mailbox", "stranger")}


class Answer:
    """An answer, read whole."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> str:
        """The code of an error in its one form, whose other parts are looked at here."""
        found = self.json
        assert set(found) == {"error", "sentence", "next", "now"}, found
        assert found["sentence"].endswith(".")
        assert found["next"].endswith(".")
        assert abs(int(self.headers["TT1-Time"]) - found["now"]) <= 1
        return str(found["error"])

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:200]!r}"


class Http:
    """Plain calls, URL as written."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url

    async def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        async with self.session.request(
            method,
            URL(self.url + path, encoded=True),
            data=_payload(body),
            headers=headers,
            allow_redirects=False,
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())


def _payload(body: Any) -> Any:
    """aiohttp would rather have a file where there are many bytes."""
    return io.BytesIO(body) if isinstance(body, bytes) and len(body) > 2**19 else body


class Site:
    """A site that signs. Every part of the signature can be made wrong by name."""

    def __init__(self, http: Http, origin: str, seed: bytes | None = None) -> None:
        self.identity = Identity(seed or os.urandom(32))
        self.http, self.origin = http, origin
        self.clock: Callable[[], int] = lambda: int(time.time())

    @property
    def id(self) -> SiteId:
        return self.identity.site

    def card(self) -> str:
        return self.identity.card(
            name="Site", place="Town", relay=self.origin, page="", roles=["send", "receive"], now=self.clock()
        )

    def sign(self, method: str, path: str, body: bytes = b"", wrong: Mapping[str, Any] | None = None) -> str:
        parts: dict[str, Any] = {
            "aud": self.origin, "method": method, "path": path, "body": body,
            "now": self.clock(), "jti": os.urandom(16),
        }  # fmt: skip
        return make_request(self.identity.key, **{**parts, **(wrong or {})})

    async def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        **wrong: Any,
    ) -> Answer:
        signed = {HEADER: self.sign(method, path, body, **wrong), **(headers or {})}
        return await self.http.call(method, path, body or None, signed)

    # Messages

    def ack(self, text: bytes = b"") -> bytes:
        """Some letter."""
        from transfer.ids import Digest

        return sign_message(
            Ack(v=1, of=Digest((text or os.urandom(32)).ljust(32, b"\0"))), self.identity.key
        ).encode()

    def offer(self, cid: Cid, to: SiteId, alt: list[SiteId] | None = None) -> bytes:
        now = self.clock()
        message = Offer(
            v=1, tid=Tid(os.urandom(16)), cid=cid, s=self.id, r=to, kid=Kid(bytes(8)), sum=Digest(bytes(32)),
            ct="plain-1", why="transfer", alt=alt or [], add=0, iat=now, exp=now + 7200,
        )  # fmt: skip
        return sign_message(message, self.identity.key).encode()

    def prekey(self, kid: bytes, nbf: int, exp: int) -> bytes:
        message = Prekey(v=1, kid=Kid(kid), site=self.id, pk=BlobKey(bytes(1216)), nbf=nbf, exp=exp)
        return sign_message(message, self.identity.key).encode()


def pack_bytes(k: int = 16) -> bytes:
    """Ciphertext of a bucket of 2^k bytes."""
    return os.urandom(2**k + 40)


def hello(site: SiteId, exp: int) -> bytes:
    """m0."""
    return encode(mailbox.Hello(v=1, tid=Tid(os.urandom(16)), s=site, exp=exp))


TOMBSTONE = b'{"v":1,"ended":"COMPLETE"}'


class Bench:
    """A relay of one's own, and whoever calls it."""

    def __init__(self, running: service.Running, session: aiohttp.ClientSession, data: Path) -> None:
        self.running, self.data = running, data
        self.http = Http(session, running.url)

    async def sweep(self) -> None:
        """A round of the sweeper, now."""
        await self.running.sweep()

    async def raw(self, data: bytes) -> bytes:
        """Whatever comes back for these bytes until the relay closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.running.url.rsplit(":", 1)[1]))
        try:
            writer.write(data)
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()

    def stranger(self) -> Site:
        """A site that is not enrolled."""
        return Site(self.http, self.running.origins[0])

    def site(self) -> Site:
        """A new site, enrolled while the relay runs."""
        made = self.stranger()
        enroll.enroll(self.data, made.card())
        return made


@asynccontextmanager
async def relay_at(
    data: Path, *, clock: Callable[[], int] = system_clock, log: Any = None, **options: Any
) -> AsyncIterator[Bench]:
    """A real relay on loopback. Of the rates only those that `options` name apply."""
    rates = {**NO_LIMITS, **options.pop("rates", {})}
    options = {"listen": "127.0.0.1:0", "data": data, "rates": rates, "access_log": False, **options}
    options.setdefault("quota", {"reserve": 0})
    running = await service.start(config.load(**options), clock=clock, log=log)
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=False)) as session:
            yield Bench(running, session, data)
    finally:
        await running.stop()
