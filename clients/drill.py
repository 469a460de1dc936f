"""A phone without a browser: the same handshake as the page, for drills, scripts and tests (protocol s. 3).

It holds q and the PIN (or the number and the code that a voice said) in memory, makes one run, answers, and follows the
state until the transfer ends or `follow` seconds have passed.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from clients.gateway.errors import GatewayError
from transfer.door import Asked, PhoneDoor, WrongPinError
from transfer.errors import DecidedError, HeaderError, PeerError, by_code
from transfer.ids import Nameplate
from transfer.links import heard, mailbox_of, read_address, read_link
from transfer.mailbox import Status
from transfer.messages import encode
from transfer.states import TERMINAL

_WAIT = 25
_PATIENCE = 60.0
"""Seconds in which S has to take an answer."""
_STEP = 20.0
"""Seconds in which S has to answer one step of the handshake (protocol s. 10)."""
_RUNS = 3
_APPEAR = 3.0
"""Seconds in which a link that was shown just now may not be at the relay yet."""


class NoAnswerError(GatewayError):
    """The hospital did not answer in time. Check that its gateway runs and reaches the relay, then try again."""

    code = "no-answer"


class LinkError(GatewayError):
    """This link leads to nothing, or no longer. Copy the whole link once more, or ask the staff for a new code."""

    code = "link"


class TrustError(GatewayError):
    """The relay's certificate is not trusted here. Give its CA with --ca-file if it is one of your own."""

    code = "certificate"


class TypoError(GatewayError):
    """This code was heard or typed wrong: its last digit does not fit. No try was spent; ask for it once more."""

    code = "typo"


def _heard(code: str) -> str:
    try:
        return heard("".join(code.split()))
    except HeaderError:
        raise TypoError from None


class Phone:
    """One run of one phone. Use as an async context manager."""

    def __init__(
        self, link: str, pin: str, tls: ssl.SSLContext | None = None, *, number: str = "", q: bytes = b""
    ) -> None:
        """`number`: at the voice door, whose `pin` is the code with its check digit. `q`: of the code that this phone
        shows at the scan door.
        """
        try:
            self._base, door = read_address(link)
            if door == "qr":
                _, q = read_link(link)
            self._mailbox = (Nameplate(number.encode()) if door == "voice" else mailbox_of(q)).name
        except (HeaderError, UnicodeEncodeError):
            raise LinkError from None
        self._q, self._pin = (b"", _heard(pin)) if door == "voice" else (q, pin)
        self._door = PhoneDoor(self._q, self._pin, os.urandom)
        self._tls = tls
        self._seen = 0

    async def __aenter__(self) -> Phone:
        connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *why: object) -> None:
        await self._session.close()

    async def ask(self) -> Asked:
        """From m0 to the question. Raises `WrongPinError`, `LockedError`, `EndedError` or another `PeerError`;
        `LinkError`, `TrustError`, `NoAnswerError`.
        """
        for attempt in range(_RUNS):
            self._door = PhoneDoor(self._q, self._pin, os.urandom)
            try:
                return await self._run()
            except (
                NoAnswerError
            ):  # S was restarted, or the code was just replaced: a new run, nothing was spent
                if attempt == _RUNS - 1:
                    raise
        raise NoAnswerError

    async def _run(self) -> Asked:
        start = self._door.hello(await self._get("0", patience=_STEP))
        proof = self._door.point(await self._exchange(1, encode(start)))
        return self._door.answer(await self._exchange(3, encode(proof)))

    async def _exchange(self, slot: int, body: bytes) -> bytes:
        """Posts to a slot and gets what comes in the next one, which is asked for meanwhile: one round trip less."""
        posting = asyncio.create_task(self._post(slot, body))
        getting = asyncio.create_task(self._get(f"{self._door.run.hex()}/{slot + 1}", patience=_STEP))
        try:
            await posting
            return await getting
        finally:
            for task in (posting, getting):
                task.cancel()
            await asyncio.gather(posting, getting, return_exceptions=True)

    async def decide(self, d: str, *, by: str, name: str, rel: str, lang: str = "en") -> Status:
        """Sends the answer and waits for what S made of it."""
        sealed = self._door.decide(d, by=by, name=name, rel=rel, lang=lang, t=int(time.time()))
        await self._post(5, encode(sealed))
        return await self._status()

    async def stop(self) -> Status:
        """Asks to stop sharing."""
        await self._post(5, encode(self._door.stop()))
        return await self._status()

    async def follow(self, seconds: float, told: Callable[[Status], None]) -> Status | None:
        """The last status within `seconds`, or the terminal one."""
        status: Status | None = None
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                status = await self._status(until - time.monotonic())
            except NoAnswerError:
                break
            told(status)
            if status.state in TERMINAL:
                break
        return status

    async def _status(self, patience: float = _PATIENCE) -> Status:
        body = await self._get(f"{self._door.run.hex()}/6", index=self._seen, patience=patience)
        self._seen += 1
        return self._door.status(body)

    async def _get(self, path: str, *, index: int = 0, patience: float = _PATIENCE) -> bytes:
        until, appears = time.monotonic() + patience, time.monotonic() + _APPEAR
        while (rest := until - time.monotonic()) > 0:
            wait = max(0, min(_WAIT, int(rest)))
            query = "" if path == "0" else f"?i={index}&wait={wait}"
            try:
                async with self._session.get(
                    f"{self._base}/m/{self._mailbox}/{path}{query}", timeout=aiohttp.ClientTimeout(wait + 15)
                ) as answer:
                    if answer.status == 200:
                        return await answer.read()
                    if path == "0" and (
                        answer.status == 410 or (answer.status == 404 and time.monotonic() > appears)
                    ):
                        raise LinkError
                    if path != "0" and answer.status in (404, 410):
                        raise NoAnswerError
            except aiohttp.ClientSSLError:
                raise TrustError from None
            except (aiohttp.InvalidURL, UnicodeError):  # no host can be called that (RFC 1035 2.3.4)
                raise LinkError from None
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.2 if path == "0" or rest < 1 else 0.05)
        raise NoAnswerError

    async def _post(self, slot: int, body: bytes) -> None:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            try:
                async with self._session.post(
                    f"{self._base}/m/{self._mailbox}/{self._door.run.hex()}/{slot}", data=body,
                    headers={"Content-Type": "application/json"}, timeout=aiohttp.ClientTimeout(15),
                ) as answer:  # fmt: skip
                    if answer.status < 300:
                        return
                    if answer.status < 429:
                        raise NoAnswerError
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.5)
        raise NoAnswerError


async def run_phone(
    link: str, pin: str, *, approve: bool, by: str, name: str, rel: str, tls: ssl.SSLContext | None,
    told: Callable[[str, dict[str, Any]], None], number: str = "", q: bytes = b"",
) -> str:  # fmt: skip
    """One whole drill; `told` gets events. Returns S's state after the answer. Raises errors of the protocol, also
    where the answer did not count.
    """
    d = "approve" if approve else "deny"
    async with Phone(link, pin, tls, number=number, q=q) as phone:
        try:
            asked = await phone.ask()
        except WrongPinError as why:
            told("wrong", {"left": why.left})
            raise
        summary = asked.summary
        told("asked", {"check": asked.check, "state": asked.state, "to": summary.to, "what": summary.what})
        if asked.decided is not None:
            told("decided", {"d": asked.decided.d, "at": asked.decided.at})
            if asked.decided.d != d:
                raise DecidedError
            return asked.state
        status = await phone.decide(d, by=by, name=name, rel=rel)
        told("answered", {"state": status.state, "refused": status.refused, "code": status.code})
        if status.refused:
            raise by_code().get(status.refused, PeerError)()
        return status.state
