"""Every way in which the protocol says no (protocol s. 13).

    TransferError
    +-- LocalError            our own caller asked for what may not be
    |   `-- StateError        `state`
    `-- PeerError             what a peer sent is refused
        +-- VersionError      `version`        +-- ExpiredError     `expired`
        +-- HeaderError       `header`         +-- ClockError       `clock`
        +-- SignatureError    `signature`      +-- KeyUnknownError  `kid-unknown`
        +-- SizeError         `size`           +-- GrantTypeError   `grant-type-off`
        +-- UnknownSiteError  `unknown-site`   +-- UsedError        `used`
        +-- NotForMeError     `not-for-me`     +-- HashError        `hash`
        +-- PackError         `pack`           +-- DecidedError     `decided`
        +-- ChainError        `chain`          `-- LockedError      `locked`

Each class has a stable `code`; its docstring is the sentence that a person reads, with the next step. An
error never carries a name, a UID, a key or any byte of what was refused.
"""

from __future__ import annotations

from typing import ClassVar


class TransferError(Exception):
    """Something went wrong. Try again, and call your PACS administrator if it stays."""

    code: ClassVar[str] = "error"

    @property
    def sentence(self) -> str:
        """What a person reads: what happened and what to do next."""
        return " ".join((type(self).__doc__ or "").split())

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"


class LocalError(TransferError):
    """This step is not possible here. Look at the transfer's state and choose another step."""

    code = "local"


class StateError(LocalError):
    """The transfer is no longer in a state that allows this. Reload the page to see where it stands."""

    code = "state"


class PeerError(TransferError):
    """The other side sent something that this gateway refuses. Call the other site."""

    code = "peer"


class VersionError(PeerError):
    """The other side speaks another version of the protocol. Update the older of the two gateways."""

    code = "version"


class HeaderError(PeerError):
    """A message was not in the agreed form and was refused. Ask the sender to make a new offer."""

    code = "header"


class SignatureError(PeerError):
    """A message's signature does not match the paired site's key. Do not use it; call the other site."""

    code = "signature"


class SizeError(PeerError):
    """A message was larger than the protocol allows and was refused. Ask the sender to try again."""

    code = "size"


class UnknownSiteError(PeerError):
    """This site is not paired with yours. Pair it by its card and compare the fingerprint first."""

    code = "unknown-site"


class NotForMeError(PeerError):
    """This message is meant for another site and was refused. Ask the sender to check the destination."""

    code = "not-for-me"


class ExpiredError(PeerError):
    """The time to answer this offer has run out. Ask the sender to make a new one."""

    code = "expired"


class ClockError(PeerError):
    """The two sites' clocks differ by more than ten minutes. Set the clocks, then send again."""

    code = "clock"


class KeyUnknownError(PeerError):
    """The offer was made for a key that this site no longer has. The sender must make a new offer."""

    code = "kid-unknown"


class GrantTypeError(PeerError):
    """This kind of permission is switched off for that site. Ask the sender for the patient's own answer."""

    code = "grant-type-off"


class UsedError(PeerError):
    """This permission was used before and cannot be used twice. Ask the sender to make a new offer."""

    code = "used"


class HashError(PeerError):
    """What arrived is not what was announced. It was not used; ask the sender to send it again."""

    code = "hash"


class PackError(PeerError):
    """A part of the study arrived damaged and was not used. It is fetched again by itself."""

    code = "pack"


class ChainError(PeerError):
    """The list of images does not fit together, so delivery stopped. Ask the sender for a new transfer."""

    code = "chain"


class DecidedError(PeerError):
    """Somebody has already answered this question. The first answer counts."""

    code = "decided"


class LockedError(PeerError):
    """Too many wrong PINs. Ask the staff for a new code."""

    code = "locked"


def by_code() -> dict[str, type[TransferError]]:
    """Every error class by its stable code."""
    found: dict[str, type[TransferError]] = {}
    todo: list[type[TransferError]] = [TransferError]
    while todo:
        cls = todo.pop()
        found[cls.code] = cls
        todo.extend(cls.__subclasses__())
    return found
