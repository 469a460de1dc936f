"""What goes wrong at a page, as a person reads it: a stable code, one sentence, the next step.

    Problem
    +-- NotAllowedError     403 `role`            +-- BodyError        413 `form-size`
    +-- StaleFormError      403 `form`            +-- FormKindError    415 `form-kind`
    +-- ForeignFormError    403 `origin`          +-- FieldError       400 `field`
    +-- PageAbsentError     404 `page`            +-- SlowDownError    429 `slow-down`
    +-- MethodError         405 `method`          +-- WatchersError    503 `watchers`
    +-- PasswordWrongError  403 `sign-in`         +-- SlowError        503 `slow`
                                                  `-- InternalError    500 `internal`

`problem_of` makes one of these out of any exception. The engine's and the protocol's own errors keep their code
and sentence. Of an error that nobody foresaw the person sees a reference, and the log gets the kind of
the error and the line where it arose; never its text, which may hold a name.
"""

from __future__ import annotations

import secrets
import traceback
from typing import ClassVar

import structlog
from aiohttp import web

from clients.gateway.errors import (
    AbsentError,
    BusyError,
    DiskFullError,
    GatewayError,
    PacsDownError,
    RelayDownError,
)
from transfer.errors import StateError, TransferError

log = structlog.get_logger("console")


class Problem(Exception):
    """Something went wrong. Go back and try again."""

    status: ClassVar[int] = 400
    code = "problem"

    def __init__(self, sentence: str = "", *, code: str = "", status: int = 0, retry_after: int = 0) -> None:
        self.code = code or self.code
        self.sentence = sentence or " ".join((type(self).__doc__ or "").split())
        self.answer = status or self.status
        self.retry_after = retry_after
        super().__init__(self.code)

    @property
    def what(self) -> str:
        """The first sentence: what happened."""
        head, dot, _ = self.sentence.partition(". ")
        return head + "." if dot else head

    @property
    def next(self) -> str:
        """The rest: what to do."""
        return self.sentence.partition(". ")[2]


class NotAllowedError(Problem):
    """Your role may not do this. Ask a colleague whose role may, or your PACS administrator."""

    status, code = 403, "role"


class StaleFormError(Problem):
    """This form is too old to be used, and nothing was changed. Go back, reload the page and try again."""

    status, code = 403, "form"


class ForeignFormError(Problem):
    """This form came from another website, and nothing was changed. Open the page itself and try again."""

    status, code = 403, "origin"


class PasswordWrongError(Problem):
    """Name and password do not match. Try again, or ask your PACS administrator for a new password."""

    status, code = 403, "sign-in"


class PageAbsentError(Problem):
    """There is no page at this address. Choose one from the top of this page."""

    status, code = 404, "page"


class MethodError(Problem):
    """This address is not made for that. Choose a page from the top and try again from there."""

    status, code = 405, "method"


class BodyError(Problem):
    """The form was too large and was not read. Shorten what you typed and try again."""

    status, code = 413, "form-size"


class FormKindError(Problem):
    """The form came in a way that is not understood here. Use this page's own form."""

    status, code = 415, "form-kind"


class FieldError(Problem):
    """Something in the form is missing or cannot be used. Go back, correct it and try again."""

    status, code = 400, "field"


class SlowDownError(Problem):
    """There were too many tries. Wait a little, then try again."""

    status, code = 429, "slow-down"


class WatchersError(Problem):
    """Too many pages are open at once. Close some; this one can still be refreshed by hand."""

    status, code = 503, "watchers"


class SlowError(Problem):
    """The gateway took too long to answer. Reload the page; if this stays, call your PACS administrator."""

    status, code = 503, "slow"


class InternalError(Problem):
    """Something went wrong in this gateway. Try again; if this stays, give your PACS administrator the reference."""

    status, code = 500, "internal"


_BY_STATUS: dict[int, type[Problem]] = {
    404: PageAbsentError, 405: MethodError, 413: BodyError, 415: FormKindError,
}  # fmt: skip
_STATUS_OF: dict[type[GatewayError], int] = {
    AbsentError: 404, BusyError: 503, DiskFullError: 507, RelayDownError: 503, PacsDownError: 503,
}  # fmt: skip


def problem_of(why: Exception) -> Problem:
    """Any exception as a `Problem`; one that nobody foresaw is logged without its text."""
    if isinstance(why, Problem):
        return why
    if isinstance(why, GatewayError):
        status = next((s for kind, s in _STATUS_OF.items() if isinstance(why, kind)), 409)
        return Problem(why.sentence, code=why.code, status=status)
    if isinstance(why, TransferError):
        return Problem(why.sentence, code=why.code, status=409 if isinstance(why, StateError) else 400)
    if isinstance(why, TimeoutError):
        return SlowError()
    if isinstance(why, web.HTTPException):
        kind = _BY_STATUS.get(why.status)
        return kind() if kind else Problem(status=why.status)
    return _unforeseen(why)


def _unforeseen(why: Exception) -> Problem:
    reference = secrets.token_hex(4)
    frames = traceback.extract_tb(why.__traceback__)
    where = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "?"
    log.error("page failed", kind=type(why).__name__, where=where, reference=reference)
    return InternalError(f"{InternalError().sentence} Reference: {reference}.")
