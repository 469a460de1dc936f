"""Every way in which the relay says no (docs/spec/relay-http.md).

    RelayError                500 `relay`        what nobody foresaw
    +-- ConfigError           -   `config`       at start: a value that cannot be used
    +-- HeaderError           400 `header`       +-- GoneError        410 `gone`
    +-- VersionError          400 `version`      +-- ClockError       412 `clock`
    +-- SignatureError        400 `signature`    +-- SizeError        413 `size`
    +-- HashError             400 `hash`         +-- RangeError       416 `range`
    +-- NotForMeError         400 `not-for-me`   +-- RateError        429 `rate`
    +-- UnknownSiteError      401 `unknown-site` +-- BusyError        503 `busy`
    +-- NotYoursError         403 `not-yours`    +-- QuotaError       507 `quota`
    +-- AbsentError           404 `absent`       `-- DiskError        507 `disk`
    +-- MethodError           405 `method`
    +-- SlowError             408 `slow`
    +-- DifferentError        409 `different`
    +-- ReplayedError         409 `replayed`

A docstring is what people read: its first sentence says what happened, the rest what to do next. No error
carries an id, an address or a byte of what was refused.
"""

from __future__ import annotations

from typing import ClassVar

from transfer.errors import TransferError


class RelayError(Exception):
    """The relay could not do this. Try again, and call the relay's operator if it stays."""

    code: ClassVar[str] = "relay"
    status: ClassVar[int] = 500

    def __init__(self, sentence: str = "", *, retry: int = 0, headers: dict[str, str] | None = None) -> None:
        text = sentence or " ".join((type(self).__doc__ or "").split())
        self.sentence, _, self.next = text.partition(". ")
        self.sentence = self.sentence.rstrip(".") + "."
        self.headers = {**({"Retry-After": str(retry)} if retry else {}), **(headers or {})}
        super().__init__(f"{self.code}: {text}")

    @classmethod
    def codes(cls) -> list[str]:
        """Every code there is, for those who count them."""
        return [RelayError.code, *(kind.code for kind in RelayError.__subclasses__())]


class ConfigError(RelayError):
    """The relay's configuration has a value that cannot be used. Correct it and start again."""

    code = "config"


class HeaderError(RelayError):
    """The request is not in the agreed form. Update the program that made it."""

    code = "header"
    status = 400


class VersionError(RelayError):
    """The request is of another version of the protocol. Update the older of the two programs."""

    code = "version"
    status = 400


class SignatureError(RelayError):
    """The signature does not match the site's key. Check that this gateway still has the key it was enrolled with."""

    code = "signature"
    status = 400


class HashError(RelayError):
    """The body that arrived is not the one that was signed. Send it again."""

    code = "hash"
    status = 400


class NotForMeError(RelayError):
    """The request was made for another relay or call. Check that both sides use the same address of the relay."""

    code = "not-for-me"
    status = 400


class UnknownSiteError(RelayError):
    """This site is not enrolled at this relay. Give its card to the relay's operator."""

    code = "unknown-site"
    status = 401


class NotYoursError(RelayError):
    """This belongs to another site. Ask that site to offer it to yours."""

    code = "not-yours"
    status = 403


class AbsentError(RelayError):
    """There is nothing under this name here. Check the name, or wait until it was sent."""

    code = "absent"
    status = 404


class MethodError(RelayError):
    """This cannot be done with what is under this name. Update the program that tried."""

    code = "method"
    status = 405


class SlowError(RelayError):
    """The request stopped arriving and was given up. Send it again."""

    code = "slow"
    status = 408


class DifferentError(RelayError):
    """Something else is kept under this name already and stays as it is. Use a new name."""

    code = "different"
    status = 409


class ReplayedError(RelayError):
    """This very request was made before. Sign it anew and send it again."""

    code = "replayed"
    status = 409


class GoneError(RelayError):
    """This was deleted or has expired, and its name is not used again. Use a new name."""

    code = "gone"
    status = 410


class ClockError(RelayError):
    """The request's time differs too much from the relay's. Set the clock, then try again."""

    code = "clock"
    status = 412


class SizeError(RelayError):
    """The body is not of a size that is allowed here. Nothing of it was kept; send it in the agreed sizes."""

    code = "size"
    status = 413


class RangeError(RelayError):
    """The range asked for lies behind the end. Ask for a range within it, or for the whole."""

    code = "range"
    status = 416


class RateError(RelayError):
    """Too many requests at once. Wait a moment, then go on more slowly."""

    code = "rate"
    status = 429


class BusyError(RelayError):
    """The relay is busy or being stopped. Try again in a minute."""

    code = "busy"
    status = 503


class QuotaError(RelayError):
    """There is no room left for this site here. Delete what is not needed, or ask the relay's operator for more."""

    code = "quota"
    status = 507


class DiskError(RelayError):
    """The relay's disk is full and nothing of this was kept. Try again later; the relay's operator must make room."""

    code = "disk"
    status = 507


def of_peer(why: TransferError) -> RelayError:
    """The relay's answer where `transfer` refused a message."""
    for kind in RelayError.__subclasses__():
        if kind.code == why.code:
            return kind()
    return HeaderError()
