"""What the relay remembers beside the packs' bytes: the seam `MetaStore` and its values.

Each method is one transaction: it happens whole and is durable when it returns, or it raises a `RelayError`
and nothing happened. `relay.sqlite` keeps it in a file, `relay.memory` in dictionaries; both pass the same
tests. A later one may live in PostgreSQL.

The rules that every store keeps:

- The first site to use a content id or a mailbox owns it. One that was deleted or ran out is *gone*: it stays
  known, and its name is never used again.
- What is created once never changes. The same bytes again are the same success; others raise `DifferentError`.
- Numbers of letters and arrivals only grow. At each start a store counts on from the clock (`first_number`), so
  that a site that remembers a number from a store that was lost, or put back to an older state, still hears of
  everything new.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from relay.errors import GoneError, NotYoursError
from transfer.ids import Cid, Digest, Kid, Nonce, SiteId
from transfer.requests import REMEMBER

Kind = Literal["D", "M"]
DAY = 86_400
PACK_LIFE = 9 * DAY
"""From the first word of a content id."""
LETTER_LIFE = 30 * DAY
ENDED_LIFE = 7 * DAY
"""A mailbox after its tombstone."""
UNUSED_LIFE = 8 * DAY
"""A mailbox after the `exp` of its m0, if no tombstone came."""
REQUEST_LIFE = REMEMBER + 60
"""Longer than any request can stay within the clock's tolerance (twice 900 s)."""
PREKEYS = 8
"""Of one site."""
BOX_MESSAGES = 512
"""In one mailbox."""
BOX_PHONE_MESSAGES = 384
"""Of these, what phones may fill: the owner's answers always find room."""
BOX_OPEN_RUNS = 64
"""Runs of one mailbox that wait for their m2."""
RUN_PATIENCE = 600
"""Seconds after which a run counts as given up."""


class Site(msgspec.Struct, frozen=True):
    """An enrolled site and its card."""

    site: SiteId
    name: str
    card: str
    at: int


class Letter(msgspec.Struct, frozen=True):
    """What waits in a site's queue: a site's message, or a phone's (then `sender` is empty)."""

    seq: int
    at: int
    sender: bytes
    body: bytes
    mb: str = ""
    run: str = ""
    slot: int = 0
    i: int = 0


class Pack(msgspec.Struct, frozen=True):
    """One pack of ciphertext. `arrival` grows with each pack that is listed."""

    n: int
    kind: Kind
    size: int
    digest: Digest
    arrival: int


class Hello(msgspec.Struct, frozen=True):
    """m0 of a mailbox or its tombstone, as the owner wrote it; when the mailbox dies if nothing else comes."""

    body: bytes
    ended: bool
    dies: int


class Posted(msgspec.Struct, frozen=True):
    """Where a mailbox message went: its number in the slot, the mailbox's owner, and whether it is new."""

    i: int
    owner: SiteId
    new: bool


class Counts(msgspec.Struct, frozen=True):
    """How much of everything is here, over all sites."""

    cids: int
    packs: int
    bytes: int
    letters: int
    mailboxes: int


class MetaStore(Protocol):
    """See the module. `now` is always the relay's clock."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Returns where a change could be made now. `BusyError`, `DiskError`."""

    async def counts(self) -> Counts: ...

    # Sites
    async def enroll(self, site: Site) -> None:
        """Adds a site, or takes its newer card."""

    async def site(self, site: SiteId) -> Site | None: ...
    async def remember(self, site: SiteId, jti: Nonce, now: int) -> bool:
        """False if this site used this `jti` before."""

    # Queues
    async def post(self, owner: SiteId, sender: SiteId, digest: Digest, body: bytes, now: int) -> int:
        """The letter's number; the old one while the same letter still waits. `AbsentError`, `QuotaError`."""

    async def letters(self, owner: SiteId, after: int, most: int) -> list[Letter]: ...
    async def ack(self, owner: SiteId, seqs: list[int]) -> None: ...

    # Pre-keys
    async def put_prekey(
        self, site: SiteId, kid: Kid, compact: str, nbf: int, exp: int, now: int
    ) -> None: ...
    async def prekeys(self, site: SiteId, now: int) -> list[str]:
        """Newest first, none that has expired. `AbsentError` if the site is not enrolled."""

    # Packs
    async def own(self, cid: Cid, site: SiteId, now: int) -> None:
        """Makes `site` the owner if nobody is. `NotYoursError`, `GoneError`, `QuotaError`."""

    async def add_pack(self, cid: Cid, site: SiteId, pack: Pack) -> bool:
        """True if it is new. `NotYoursError`, `GoneError`, `DifferentError`, `QuotaError`. The store sets `arrival`."""

    async def pack(self, cid: Cid, n: int, reader: SiteId) -> Pack:
        """`AbsentError`, `NotYoursError`, `GoneError`."""

    async def find_pack(self, cid: Cid, n: int, owner: SiteId) -> tuple[bool, Pack | None]:
        """Whether `owner` has this content id, and the pack if it is there. `NotYoursError`, `GoneError`."""

    async def every_pack(self, after: int, most: int) -> list[tuple[Cid, Pack]]:
        """Of all sites, in the order of arrival."""

    async def forget_packs(self, cid: Cid, numbers: list[int]) -> None:
        """Their bytes were lost: nobody put them. Unknown ones are no error."""

    async def packs(self, cid: Cid, reader: SiteId, after: int, most: int) -> list[Pack]:
        """In the order of arrival. `AbsentError`, `NotYoursError`, `GoneError`."""

    async def add_readers(self, cid: Cid, site: SiteId, readers: list[SiteId], now: int) -> None: ...
    async def delete_cid(self, cid: Cid, site: SiteId, now: int) -> None:
        """Its name is gone at once. `AbsentError`, `NotYoursError`; again is no error."""

    # Mailboxes
    async def put_hello(self, mb: str, site: SiteId, hello: Hello, now: int) -> None: ...
    async def hello(self, mb: str) -> bytes: ...
    async def put_message(
        self, mb: str, run: str, slot: int, body: bytes, digest: Digest, site: SiteId | None, now: int
    ) -> Posted:
        """By the owner, or by a phone (`site` None), whose message also becomes a letter to the owner."""

    async def message(self, mb: str, run: str, slot: int, i: int) -> bytes | None: ...
    async def delete_mailbox(self, mb: str, site: SiteId) -> None: ...

    # Sweeping
    async def expire(self, now: int, most: int) -> bool:
        """Forgets up to `most` of each kind of thing that ran out; True if there is more."""

    async def doomed(self, most: int) -> list[Cid]:
        """Content ids that are gone and whose bytes may still be there."""

    async def erased(self, cid: Cid) -> None:
        """Its bytes are gone too."""

    async def alive(self, cids: list[Cid]) -> set[Cid]:
        """Those that are known and not erased."""


def first_number(now: int) -> int:
    """Where a store starts to count: above what any life before reached at under 10^6 a second; up to 2^52."""
    return min(now, 2**32) << 20


def check_owner(owner: bytes, site: SiteId, gone: bool) -> None:
    """`NotYoursError` for a stranger, `GoneError` for the owner of what is gone."""
    if owner != site:
        raise NotYoursError
    if gone:
        raise GoneError
