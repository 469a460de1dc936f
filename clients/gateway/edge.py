"""What comes to the engine from a page or through the control socket, read into our types; and what goes back out."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

import msgspec

from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.whose import Candidate
from transfer.errors import HeaderError, TransferError
from transfer.ids import Tid

T = TypeVar("T")


def tid_of(text: str) -> Tid:
    """A transfer's number as pages and commands write it. Raises `AbsentError`."""
    try:
        return Tid.from_hex(text)
    except HeaderError:
        raise AbsentError from None


def candidate_of(given: Any) -> Candidate:
    """A candidate, also as the JSON of one. Raises `GatewayError`."""
    try:
        return msgspec.convert(given, Candidate)
    except msgspec.ValidationError:
        raise GatewayError("The patient cannot be read. Give a number, and texts.", code="header") from None


def keys_of(given: Any) -> list[str]:
    """What staff have confirmed. Raises `GatewayError`."""
    try:
        return msgspec.convert(given, list[str])
    except msgspec.ValidationError:
        raise GatewayError("What was confirmed cannot be read.", code="header") from None


async def translated(work: Awaitable[T]) -> T:
    """The protocol's errors as the gateway's: same code, same sentence."""
    try:
        return await work
    except TransferError as why:
        raise GatewayError(why.sentence, code=why.code) from None
