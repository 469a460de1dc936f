"""The relay as this gateway sees it: signed requests over HTTPS, outbound only (docs/spec/relay-http.md).

Each call is signed afresh and may be repeated: the relay's answers are idempotent. A failure is one of
three: `RelayDownError` (no answer, 5xx, 429: try again later; `RelayFullError` where it says that it has no
room), `RelayRefusal` (the relay said no, with its code: a repetition changes nothing), or a time-out of a
long poll, which is no failure.
"""

from __future__ import annotations

import io
import socket
import ssl
from collections import Counter
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
import truststore
from msgspec import Meta
from nacl.signing import SigningKey

from clients.gateway.clock import Clock, Random
from clients.gateway.errors import ConfigError, GatewayError, RelayDownError
from transfer.ids import Cid, Mailbox, RunId, SiteId
from transfer.requests import HEADER, make_request

POLL = 25
"""Seconds of a long poll."""
_SMALL = aiohttp.ClientTimeout(total=20, connect=8)
_LONG = aiohttp.ClientTimeout(total=POLL + 15, connect=8)
_BULK = aiohttp.ClientTimeout(total=300, connect=8, sock_read=30)
_ANSWER_CAP = 8 * 2**20
_NOT_TRUSTED = "The relay's certificate is not trusted here. Set relay.ca_file if it is of a CA of your own."
_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_ON_THE_WAY = {"hash", "replayed"}
"""Refusals of a request that something between us and the relay cut off, changed or sent twice."""
_DAMAGED = "A request was damaged on its way to the relay. It is sent again; check the network if this stays."
_OF_THE_SITE = {"relay-unknown-site", "relay-not-for-me", "relay-clock"}
"""Refusals that every call of this site meets."""
Method = Literal["GET", "PUT", "POST", "DELETE"]
ANSWERS = ("ok", "refused", "full", "down")
"""How a call may end: done, refused for good, no room for us, no answer."""
T = TypeVar("T")
_Number = Annotated[int, Meta(ge=0, lt=2**53)]


class RelayRefusal(GatewayError):
    """The relay refused a request of this gateway. Call the relay's operator if this stays."""

    code = "relay-refused"

    def __init__(self, status: int, code: str) -> None:
        self.status = status
        super().__init__(code=f"relay-{code}")


class RelayFullError(RelayDownError):
    """The relay has no room left for this hospital. Sending goes on by itself once there is; call its operator."""

    code = "relay-quota"


_FULL = {
    "quota": "",
    "disk": "The relay's disk is full. Sending goes on by itself once there is room; call the relay's operator.",
}
"""What a 507 may say (docs/spec/relay-http.md)."""


class SiteEntry(msgspec.Struct, frozen=True):
    """A queue entry: a message of a site (`source`, `body`) or of a phone (`mb`, `run`, `slot`, `i`, `body`)."""

    seq: _Number
    at: _Number
    body: Any
    source: str = msgspec.field(name="from", default="")
    mb: str = ""
    run: str = ""
    slot: int = 0
    i: int = 0


class _Queue(msgspec.Struct, frozen=True):
    messages: list[SiteEntry]


class _Prekeys(msgspec.Struct, frozen=True):
    prekeys: list[str]


class PackLine(msgspec.Struct, frozen=True, array_like=True):
    """A pack as the relay lists it."""

    n: Annotated[int, Meta(ge=0, lt=2**32)]
    kind: str
    size: _Number


class PackList(msgspec.Struct, frozen=True):
    """Packs in the order of their arrival, and what to ask from next."""

    packs: list[PackLine]
    next: _Number


def tls_context(ca_file: str) -> ssl.SSLContext:
    """The hospital's own CA, else the machine's trust store."""
    if ca_file:
        try:
            return ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError):
            raise ConfigError("relay.ca_file cannot be read as PEM. Correct it and start again.") from None
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def tuned_socket(info: Any) -> socket.socket:
    """A client socket: no Nagle delay, BBR where the kernel has it (performance: loss)."""
    sock = socket.socket(family=info[0], type=info[1], proto=info[2])
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    congestion = getattr(socket, "TCP_CONGESTION", None)
    if congestion is not None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, congestion, b"bbr")
        except OSError:
            pass
    return sock


class RelayClient:
    """One site's client. `skew` is the relay's clock minus ours, in seconds, as of the last answer."""

    def __init__(self, url: str, key: SigningKey, clock: Clock, random: Random, ca_file: str = "") -> None:
        parts = urlsplit(url)
        self.origin = f"{parts.scheme}://{parts.netloc.lower()}"  # what we sign for (RFC 6454 4)
        self.skew = 0
        self.answers: Counter[str] = Counter(dict.fromkeys(ANSWERS, 0))
        """How calls ended, since the start."""
        self.trouble = RelayDownError.code
        """Why the newest call was not answered as a site's, or empty: `relay-down`, or one of `_OF_THE_SITE`."""
        self._key, self._clock, self._random = key, clock, random
        tls = tls_context(ca_file) if parts.scheme == "https" else False
        self._tls: ssl.SSLContext | bool = tls
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Makes the connection pool."""
        connector = aiohttp.TCPConnector(
            ssl=self._tls, limit=64, keepalive_timeout=60, socket_factory=tuned_socket
        )
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=True)

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self, method: Method, path: str, body: bytes = b"", timeout: aiohttp.ClientTimeout = _SMALL
    ) -> bytes:
        """The body of a 2xx answer. Raises `RelayDownError` or `RelayRefusal`."""
        skew = self.skew
        try:
            return await self._counted(method, path, body, timeout)
        except RelayRefusal as why:
            if why.status != 412 or self.skew == skew:
                raise
        # our clock was set: now the relay's time is known
        return await self._counted(method, path, body, timeout)

    async def _counted(self, method: Method, path: str, body: bytes, timeout: aiohttp.ClientTimeout) -> bytes:
        try:
            data = await self._call(method, path, body, timeout)
        except RelayFullError:
            self._ended("full")
            raise
        except RelayDownError as why:
            self._ended("down", why.code)
            raise
        except RelayRefusal as why:
            self._ended("refused", why.code if why.code in _OF_THE_SITE else "")
            raise
        self._ended("ok")
        return data

    def _ended(self, how: str, trouble: str = "") -> None:
        self.answers[how] += 1
        self.trouble = trouble

    async def _call(self, method: Method, path: str, body: bytes, timeout: aiohttp.ClientTimeout) -> bytes:
        assert self._session is not None, "the client is not open"
        signed = make_request(
            self._key, aud=self.origin, method=method, path=path, body=body,
            now=self._clock.now() + self.skew, jti=self._random(16),
        )  # fmt: skip
        try:
            async with self._session.request(
                method, self.origin + path, data=io.BytesIO(body) if body else None, headers={HEADER: signed},
                timeout=timeout, allow_redirects=False,
            ) as answer:  # fmt: skip
                self._learn_clock(answer.headers.get("TT1-Time", ""))
                data = await _read(answer)
        except aiohttp.ClientConnectorCertificateError:
            raise RelayDownError(_NOT_TRUSTED) from None
        except (
            aiohttp.ClientError,
            TimeoutError,
            OSError,
            UnicodeError,
        ):  # the last: no host can be called that
            raise RelayDownError from None
        if answer.status < 300:
            return data
        code = _code(data)
        if answer.status == 507 and code in _FULL:
            raise RelayFullError(_FULL[code], code=f"relay-{code}")
        if answer.status == 429 or answer.status >= 500:
            raise RelayDownError
        if code in _ON_THE_WAY:
            raise RelayDownError(_DAMAGED)
        raise RelayRefusal(answer.status, code)

    def _learn_clock(self, text: str) -> None:
        if text.isascii() and text.isdigit() and len(text) < 12:
            self.skew = int(text) - self._clock.now()

    async def post_message(self, site: SiteId, compact: str) -> None:
        """Puts a signed message into another site's queue."""
        await self.call("POST", f"/v1/sites/{site.hex()}/queue", compact.encode())

    async def queue(self, after: int) -> list[SiteEntry]:
        """Our own queue; waits up to `POLL` seconds for the first entry, once the relay has answered at all."""
        wait = 0 if self.trouble else POLL
        data = await self.call("GET", f"/v1/queue?after={after}&wait={wait}", timeout=_LONG)
        return _decode(data, _Queue).messages

    async def ack(self, seqs: list[int]) -> None:
        """Removes entries that are on our disk."""
        await self.call("POST", "/v1/queue/ack", msgspec.json.encode({"seqs": seqs}))

    async def publish_prekey(self, kid: bytes, compact: str) -> None:
        """Offers a pre-key of ours."""
        await self.call("PUT", f"/v1/prekeys/{kid.hex()}", compact.encode())

    async def prekeys(self, site: SiteId) -> list[str]:
        """Another site's pre-keys, newest first, not verified."""
        data = await self.call("GET", f"/v1/sites/{site.hex()}/prekeys")
        return _decode(data, _Prekeys).prekeys

    async def put_pack(self, cid: Cid, n: int, kind: str, ct: bytes) -> None:
        """Uploads a pack; the same again is no error."""
        await self.call("PUT", f"/v1/packs/{cid.hex()}/{n}?kind={kind}", ct, _BULK)

    async def list_packs(self, cid: Cid, after: int, wait: int = POLL) -> PackList:
        """What arrived after `after`."""
        data = await self.call("GET", f"/v1/packs/{cid.hex()}?after={after}&wait={wait}", timeout=_LONG)
        return _decode(data, PackList)

    async def get_pack(self, cid: Cid, n: int) -> bytes:
        """A pack's ciphertext, not verified."""
        return await self.call("GET", f"/v1/packs/{cid.hex()}/{n}", timeout=_BULK)

    async def delete_packs(self, cid: Cid) -> None:
        """Deletes our packs at the relay; already gone is no error."""
        try:
            await self.call("DELETE", f"/v1/packs/{cid.hex()}")
        except RelayRefusal as why:
            if why.status not in (404, 410):
                raise

    async def add_readers(self, cid: Cid, offer: str) -> None:
        """Lets the sites that the offer names read the packs."""
        await self.call("POST", f"/v1/packs/{cid.hex()}/readers", offer.encode())

    async def put_hello(self, mailbox: Mailbox, body: bytes) -> None:
        """m0, or its tombstone."""
        await self.call("PUT", hello_path(mailbox), body)

    async def health(self) -> None:
        """Raises where the relay does not answer, or refuses us."""
        await self.call("GET", "/v1/queue?after=9007199254740991&wait=0")


def hello_path(mailbox: Mailbox) -> str:
    """Where m0 or its tombstone stands."""
    return f"/m/{mailbox.name}/0"


def slot_path(mailbox: Mailbox, run: RunId, slot: int) -> str:
    """Where m2, m4 or m6 of one run stands."""
    return f"/m/{mailbox.name}/{run.hex()}/{slot}"


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in answer.content.iter_any():
        data += chunk
        if len(data) > _ANSWER_CAP:
            raise RelayDownError
    return bytes(data)


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except _NOT_JSON:
        raise RelayDownError("The relay's answer cannot be read. Check that its address is right.") from None


def _code(data: bytes) -> str:
    try:
        code = msgspec.json.decode(data, type=dict[str, Any]).get("error", "")
    except _NOT_JSON:
        return "refused"
    return code if isinstance(code, str) and code.isascii() and len(code) < 32 else "refused"
