"""S beside a real relay, for the tests of the phone page: one offer, one PIN, answers as a test wants them.

`Hospital` is a sending gateway cut down to its mailbox: the protocol core (`transfer.door.SiteDoor`), the
gateway's own relay client, and switches for what may go wrong: a slot that stays silent, a body that was
changed on the way, a state at which the phone arrives late.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import msgspec
from playwright.async_api import Page, Request, expect

from clients.gateway.clock import SystemClock
from clients.gateway.peers.relay import RelayClient, SiteEntry
from transfer.channel import Channel
from transfer.door import SiteDoor, read_wish, receipt_code
from transfer.errors import PeerError
from transfer.ids import BlobKey, Cid, Kid, SiteId, Tid
from transfer.links import (
    VOICE_DIGITS,
    Door,
    mailbox_of,
    make_address,
    make_link,
    make_nameplate,
    make_pin,
    read_scan,
)
from transfer.mailbox import Decided, Hello, Proof, Question, Refusal, Sealed, Start, Status, Stop, Tombstone
from transfer.messages import Grant, Offer, decode, encode, sign_message
from transfer.sites import Identity
from transfer.summary import Summary, make_summary, summary_hash

CONSENT_TEXT = "2026-1"
TRIES = 5
AFTER: dict[str, str] = {"approve": "RELEASED", "deny": "DENIED", "stop": "REVOKED"}


class Hospital:
    """One offer of a sending hospital at a relay."""

    def __init__(self, url: str, identity: Identity, **words: Any) -> None:
        self.identity = identity
        self.client = RelayClient(url, identity.key, SystemClock(), os.urandom)
        self.url = url
        self.door: Door = words.pop("door", "qr")
        self.number, self.q, self.pin = "", os.urandom(16), make_pin(os.urandom)
        if self.door == "voice":
            self.number, self.q = make_nameplate(os.urandom).name, b""
            self.pin = make_pin(os.urandom, VOICE_DIGITS)
        self.tid, self.now = Tid(os.urandom(16)), int(time.time())
        self.exp = self.now + words.pop("seconds", 7080)
        self.words: dict[str, Any] = {
            "person": "J. D., born 1980", "from_": "Valley Hospital", "to": "Lakeside Trauma Center",
            "what": "CT of head, chest, 2026-11-24", "why": "transfer", "until": self.exp, "alt": [], "add": 0,
            "call": "Ward 3, 555 010 0199", "declined": None,
        } | words  # fmt: skip
        self.summary = make_summary(Summary(**self.words))
        self.salt = BlobKey(os.urandom(16))
        self.state = "OFFERED"
        self.decided: Decided | None = None
        self.left = TRIES
        self.silent: set[int] = set()
        """Slots that are not answered (2, 4, 6), until `speak`."""
        self.change: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        """What a dishonest relay does to the body of a slot."""
        self.refuse = ""
        """Why the next grant is refused."""
        self.wishes: asyncio.Queue[Grant | Stop] = asyncio.Queue()
        self.starts = self.proofs = 0
        self._held: list[tuple[str, int, bytes]] = []
        self.runs: dict[str, SiteDoor] = {}
        self._channels: dict[str, Channel] = {}
        self._seen: dict[str, bytes] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def mailbox(self) -> str:
        """The mailbox's name in paths."""
        return self.number or mailbox_of(self.q).hex()

    @property
    def link(self) -> str:
        """What the QR says, or the address of another door."""
        return make_link(self.url, self.q) if self.door == "qr" else make_address(self.url, self.door)

    @property
    def check(self) -> str:
        """The check code of the newest proven run."""
        return [door.check for door in self.runs.values() if door.state == "OPEN"][-1]

    def sign(self, **changes: Any) -> str:
        """The offer, with `changes` that an honest S would not make."""
        fields: dict[str, Any] = {
            "v": 1, "tid": self.tid, "cid": Cid(os.urandom(16)), "s": self.identity.site, "r": SiteId(os.urandom(32)),
            "kid": Kid(os.urandom(8)), "sum": summary_hash(self.salt, self.summary), "ct": CONSENT_TEXT,
            "why": self.words["why"], "alt": [SiteId(os.urandom(32)) for _ in self.words["alt"]],
            "add": self.words["add"], "iat": self.now, "exp": self.exp,
        }  # fmt: skip
        return sign_message(Offer(**fields | changes), self.identity.key)

    async def open(self) -> None:
        """Makes the offer, writes m0 and begins to answer."""
        self.offer = self.sign()
        await self.client.open()
        if self.door != "scan":
            await self.hello()
        self._task = asyncio.create_task(self._serve())

    async def hello(self) -> None:
        """Writes m0."""
        await self.put("0", encode(Hello(v=1, tid=self.tid, s=self.identity.site, exp=self.exp)))

    async def scan(self, text: str) -> None:
        """The staff scan what a phone shows."""
        self.q = read_scan(text)
        await self.hello()

    async def close(self) -> None:
        """Stops answering."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.client.close()

    async def put(self, tail: str, body: bytes) -> None:
        """Writes into the mailbox."""
        await self.client.call("PUT", f"/m/{self.mailbox}/{tail}", body)

    async def end(self, state: str) -> None:
        """m0 becomes a tombstone."""
        await self.put("0", encode(Tombstone(v=1, ended=state)))

    async def speak(self) -> None:
        """Sends all that was held back, and holds back nothing more."""
        self.silent.clear()
        held, self._held = self._held, []
        for run, slot, body in held:
            await self.put(f"{run}/{slot}", body)

    async def tell(self, state: str, *, refused: str = "", code: str = "") -> None:
        """m6 to every phone that has spoken."""
        self.state = state
        status = Status(
            v=1, state=state, at=int(time.time()), refused=refused, decided=self.decided,
            code=code or receipt_code(self.tid.hex()),
        )  # fmt: skip
        for run in self._seen:
            box = BlobKey(self._channels[run].seal(encode(status)))
            await self._answer(run, 6, encode(Sealed(v=1, box=box)))

    async def _serve(self) -> None:
        after = 0
        while True:
            for entry in await self.client.queue(after):
                after = entry.seq
                if entry.mb == self.mailbox:
                    await self._handle(entry)
                    await self.client.ack([entry.seq])  # others share this queue: theirs stays

    async def _handle(self, entry: SiteEntry) -> None:
        body = msgspec.json.encode(entry.body)
        if entry.slot == 1:
            await self._start(entry.run, decode(body, Start))
        elif entry.slot == 3:
            await self._prove(entry.run, decode(body, Proof))
        elif entry.slot == 5 and self._seen.get(entry.run) != body:
            self._seen[entry.run] = body
            await self._take(entry.run, self._channels[entry.run].open(decode(body, Sealed).box))

    async def _start(self, run: str, m1: Start) -> None:
        self.starts += 1
        door = SiteDoor(
            q=self.q,
            code=self.pin,
            tid=self.tid,
            site=self.identity.site,
            offer=self.offer,
            random=os.urandom,
        )
        try:
            m2 = door.start(m1)
        except PeerError:
            return
        self.runs[run] = door
        await self._answer(run, 2, encode(m2))

    async def _prove(self, run: str, m3: Proof) -> None:
        self.proofs += 1
        door = self.runs[run]
        if self.left <= 0 or not door.prove(m3):
            self.left = max(0, self.left - 1)
            error = "wrong" if self.left else "locked"
            return await self._answer(run, 4, encode(Refusal(v=1, error=error, left=self.left)))  # type: ignore[arg-type]
        question = Question(
            offer=self.offer, summary=self.summary, salt=self.salt, state=self.state, decided=self.decided,
            now=int(time.time()),
        )  # fmt: skip
        m4 = door.answer(question)
        self._channels[run] = door.channel
        return await self._answer(run, 4, encode(m4))

    async def _take(self, run: str, plain: bytes) -> None:
        found = read_wish(plain, vp=self.runs[run].vp, tid=self.tid, offer=self.offer)
        wish = found if isinstance(found, Stop) else found[0]
        self.wishes.put_nowait(wish)
        if self.refuse:
            return await self.tell(self.state, refused=self.refuse)
        d = wish.d if isinstance(wish, Grant) else "stop"
        if isinstance(wish, Grant):
            self.decided = Decided(wish.d, int(time.time()))
        return await self.tell(AFTER[d])

    async def _answer(self, run: str, slot: int, body: bytes) -> None:
        if slot in self.change:
            body = msgspec.json.encode(self.change[slot](msgspec.json.decode(body)))
        if slot in self.silent:
            self._held.append((run, slot, body))
        else:
            await self.put(f"{run}/{slot}", body)


class Trips:
    """How many round trips a page takes from here on: the longest chain of requests of which each began after the one
    before it had its answer. An answer that nobody waited for counts too, so it is never less than what it costs.
    """

    def __init__(self, page: Page) -> None:
        self.count = 0
        self._answered = 0
        self._open: dict[Request, int] = {}
        page.on("request", self._begin)
        page.on("response", lambda response: self._answer(response.request))

    def _begin(self, request: Request) -> None:
        self._open[request] = self._answered + 1
        self.count = max(self.count, self._answered + 1)

    def _answer(self, request: Request) -> None:
        self._answered = max(self._answered, self._open.pop(request, 0))


async def shows(page: Page, name: str) -> None:
    """Waits until the page called `name` (docs/spec/phone.md) stands on the screen."""
    await expect(page.locator("body")).to_have_attribute("data-page", name, timeout=30_000)


async def enter(page: Page, pin: str) -> None:
    """Types the PIN and goes on."""
    await page.locator("#code").fill(pin)
    await page.locator("form button").click()


def wrong_pin(pin: str) -> str:
    """Six digits that are not the PIN."""
    return f"{(int(pin) + 1) % 10**6:06d}"
