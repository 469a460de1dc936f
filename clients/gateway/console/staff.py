"""Passwords of the staff: Argon2id (RFC 9106) by libsodium, and a check that takes the same time for everybody.

Rules for a password are those of NIST SP 800-63B 5.1.1.2: at least 12 characters, no rule about kinds of characters, no
expiry, and a refusal of what a guesser tries first. Text is normalised (NFKC), so that the same password typed on
another keyboard is the same password.

One check needs 64 MiB for about 0.1 s (libsodium's "interactive" limits; more than OWASP's minimum). Two run at once
and twenty wait, so that a flood of sign-ins costs memory for two.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import nacl.exceptions
from nacl.pwhash import argon2id

from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.views import Engine

MIN_CHARACTERS = 12
MAX_BYTES = 1024
MAX_NAME = 64
_OBVIOUS = (
    "password",
    "passw0rd",
    "letmein",
    "trauma",
    "transfer",
    "hospital",
    "welcome",
    "qwerty",
    "admin",
    "changeme",
)
_RUNS = ("abcdefghijklmnopqrstuvwxyz", "01234567890123456789", "qwertyuiopasdfghjklzxcvbnm")


class PasswordError(GatewayError):
    """This password is too easy to guess. Choose one of 12 characters or more, such as four unrelated words."""

    code = "password"


class SignInBusyError(GatewayError):
    """Too many people are signing in at this moment. Wait a few seconds and sign in again."""

    code = "sign-in-busy"


def hash_password(password: str) -> str:
    """The string to store for a new password (salt and limits are in it). Raises `PasswordError`."""
    text = _normal(password)
    if len(text) < MIN_CHARACTERS or len(text.encode()) > MAX_BYTES or _is_obvious(text):
        raise PasswordError
    hashed = argon2id.str(text.encode(), argon2id.OPSLIMIT_INTERACTIVE, argon2id.MEMLIMIT_INTERACTIVE)
    return hashed.rstrip(b"\0").decode("ascii")


def verify(hashed: str, password: str) -> bool:
    """Whether `password` belongs to the stored string. A string that is no Argon2id hash matches nothing."""
    text = _normal(password).encode()
    if len(text) > MAX_BYTES:
        return False
    try:
        return argon2id.verify(hashed.encode(), text)
    except (nacl.exceptions.CryptoError, ValueError):
        return False


def normal_name(name: str) -> str:
    """A name as it is stored and looked up."""
    return unicodedata.normalize("NFKC", name).strip()[:MAX_NAME]


class Staff:
    """Checks passwords beside the event loop. `close` ends its threads."""

    def __init__(self, engine: Engine, *, threads: int = 2, waiting: int = 20) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._room = threads + waiting

    def close(self) -> None:
        """Waits for no check that has not begun."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def role_of(self, name: str, password: str) -> str:
        """The person's role, or "" if the name or the password is wrong. Raises `SignInBusyError`."""
        if self._room == 0:
            raise SignInBusyError
        self._room -= 1
        try:
            hashed, role = await self._stored(name)
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._threads, verify, hashed or _nobody(), password)
            return role if right and hashed else ""
        finally:
            self._room += 1

    async def knows(self, name: str) -> bool:
        """Whether there is such a member of staff."""
        return bool((await self._stored(name))[0])

    async def _stored(self, name: str) -> tuple[str, str]:
        try:
            return await self._engine.user_hash(name)
        except AbsentError:
            return "", ""


@functools.cache
def _nobody() -> str:
    """A hash that no one knows the password of: what an unknown name is checked against."""
    return hash_password(secrets.token_urlsafe(32))


def _normal(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


def _is_obvious(text: str) -> bool:
    """Few different characters, a run of the alphabet or the keyboard, or a word of the list and little else."""
    low = text.casefold()
    if len(set(low)) <= 3 or any(low in run * 2 or low in run[::-1] * 2 for run in _RUNS):
        return True
    rest = low
    for word in _OBVIOUS:
        rest = rest.replace(word, "")
    return len(rest.strip("0123456789!?. -_")) < 3 and rest != low
