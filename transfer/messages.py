"""The signed messages of TT-1 as typed values (protocol s. 2).

Each message is a frozen struct that knows its name and its cap in bytes. `sign_message` makes the compact text;
`open_message` checks cap, header and signature and only then parses the payload, once. A missing or unknown
field, a wrong type, a number out of its range or a version other than 1 is refused.

    prekey    R's hybrid key for releases      grant     the person's yes or no
    offer     one study to one destination     release   the content key, sealed to R
    attest    two clinicians' word for it      override  one clinician's, in an emergency
    manifest  what the packs hold (a chain)    receipt   what R's PACS holds
    close     an end without a study           ack       ends the other side's outbox entry
    card      a site, for pairing              request   a site's call to the relay
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta
from nacl.signing import SigningKey

from transfer import jws
from transfer.encoding import b64, unb64
from transfer.errors import HeaderError, VersionError
from transfer.ids import BlobKey, Cid, Digest, Fixed, Kid, Nonce, PublicKey, SiteId, Tid
from transfer.text import NAME_MOST, is_seen

Time = Annotated[int, Meta(ge=0, le=2**40)]
"""Unix seconds."""
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Size = Annotated[int, Meta(ge=0, le=2**50)]
"""Bytes."""
Uid = Annotated[str, Meta(pattern=r"^[0-9.]{1,64}\Z")]
"""A DICOM UID (PS3.5 9.1). Never part of a path, a URL or a log line."""

Reason = Literal["transfer", "consult", "drill"]
Relation = Literal["self", "parent", "spouse", "child", "relative", "guardian", "poa", "other"]
ReleaseType = Literal["patient", "attest", "override"]
StaffId = Annotated[str, Meta(min_length=1, max_length=64)]
"""How S names one of its staff: the name they sign in with."""
Words = Annotated[str, Meta(min_length=1, max_length=300)]
"""A reason, as staff wrote it, on one line."""
CloseState = Literal["DENIED", "EXPIRED", "REVOKED", "DIVERTED", "DECLINED"]
CloseWhy = Literal[
    "", "version", "header", "signature", "size", "unknown-site", "not-for-me", "expired", "clock",
    "kid-unknown", "grant-type-off", "used", "hash", "pack", "chain", "decided", "locked",
]  # fmt: skip


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all messages share: version 1, a name for the header, a cap in bytes of compact text."""

    NAME: ClassVar[str] = ""
    CAP: ClassVar[int] = 0

    v: Literal[1]


class Prekey(Message, frozen=True, forbid_unknown_fields=True):
    """R's public key for releases: ML-KEM-768 (1184 bytes) then X25519 (32)."""

    NAME: ClassVar[str] = "prekey"
    CAP: ClassVar[int] = 4096

    kid: Kid
    site: SiteId
    pk: BlobKey
    nbf: Time
    exp: Time


class Offer(Message, frozen=True, forbid_unknown_fields=True):
    """O: one study to one destination. It holds no name, no UID, no free text: the relay may read it."""

    NAME: ClassVar[str] = "offer"
    CAP: ClassVar[int] = 4096

    tid: Tid
    cid: Cid
    s: SiteId
    r: SiteId
    kid: Kid
    sum: Digest
    ct: Annotated[str, Meta(min_length=1, max_length=32, pattern=r"^[a-z0-9-]+\Z")]
    why: Reason
    alt: Annotated[list[SiteId], Meta(max_length=4)]
    add: Annotated[int, Meta(ge=0, le=7 * 86400)]
    iat: Time
    exp: Time
    parent: Digest | msgspec.UnsetType = msgspec.UNSET
    kind: Literal["divert", "add"] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if not self.iat < self.exp <= self.iat + 24 * 3600:
            raise ValueError("exp")
        if (self.parent is msgspec.UNSET) != (self.kind is msgspec.UNSET):
            raise ValueError("child")


class Grant(Message, frozen=True, forbid_unknown_fields=True):
    """G: what a person decided, signed by the key of their handshake run."""

    NAME: ClassVar[str] = "grant"
    CAP: ClassVar[int] = 2048

    tid: Tid
    offer: Digest
    d: Literal["approve", "deny"]
    by: Literal["patient", "proxy"]
    name: Annotated[str, Meta(max_length=NAME_MOST)]
    rel: Relation
    lang: Annotated[str, Meta(pattern=r"^[a-z]{2}(-[A-Z]{2})?\Z")]
    t: Time

    def __post_init__(self) -> None:
        patient = self.by == "patient"
        if patient != (self.rel == "self") or (patient and self.name):
            raise ValueError("by")
        if not is_seen(self.name):
            raise ValueError("name")


class Attest(Message, frozen=True, forbid_unknown_fields=True):
    """G where nobody can be asked: two members of S's staff vouch for the transfer (protocol s. 8)."""

    NAME: ClassVar[str] = "attest"
    CAP: ClassVar[int] = 2048

    tid: Tid
    offer: Digest
    by: Annotated[list[StaffId], Meta(min_length=2, max_length=2)]
    reason: Words
    iat: Time

    def __post_init__(self) -> None:
        if self.by[0] == self.by[1] or not all(map(is_seen, self.by)):
            raise ValueError("by")
        if not is_seen(self.reason):
            raise ValueError("reason")


class Override(Message, frozen=True, forbid_unknown_fields=True):
    """G in an emergency: one member of S's staff decides, with a reason (protocol s. 8)."""

    NAME: ClassVar[str] = "override"
    CAP: ClassVar[int] = 2048

    tid: Tid
    offer: Digest
    by: Annotated[list[StaffId], Meta(min_length=1, max_length=1)]
    reason: Words
    iat: Time

    def __post_init__(self) -> None:
        if not is_seen(self.by[0]) or not is_seen(self.reason):
            raise ValueError("by, reason")


class Release(Message, frozen=True, forbid_unknown_fields=True):
    """L: the content key and the grant, sealed to one pre-key of R."""

    NAME: ClassVar[str] = "release"
    CAP: ClassVar[int] = 16384

    tid: Tid
    offer: Digest
    grant: Digest
    pk: PublicKey
    type: ReleaseType
    r: SiteId
    kid: Kid
    sealed: BlobKey
    iat: Time

    def __post_init__(self) -> None:
        if self.type != "patient" and self.pk != bytes(32):
            raise ValueError("pk")


class PackEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One pack as the manifest lists it: kind, number, bytes and hash of its ciphertext."""

    kind: Literal["D", "M"]
    n: Count
    size: Size
    hash: Digest


class SeriesEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One series: its number, its UID, items this record adds, items expected in all (0 = unknown), closed."""

    no: Count
    uid: Uid
    have: Count
    want: Count
    closed: bool


class ItemEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One instance in the stream; `offset` and `length` are of its coded bytes, `original` of its data set."""

    no: Count
    series: Count
    sop_class: Uid
    sop_uid: Uid
    syntax: Uid
    codec: Annotated[str, Meta(min_length=1, max_length=16)]
    offset: Size
    length: Size
    original: Size
    hash: Digest


class Manifest(Message, frozen=True, forbid_unknown_fields=True):
    """M_i: one record of the chain that says what the packs hold. `prev` is empty for the first."""

    NAME: ClassVar[str] = "manifest"
    CAP: ClassVar[int] = 2**22 - 4

    cid: Cid
    i: Count
    prev: str
    packs: list[PackEntry]
    series: list[SeriesEntry]
    items: list[ItemEntry]
    end: bool
    total: Count


class Receipt(Message, frozen=True, forbid_unknown_fields=True):
    """A: what R's PACS holds, how R knows, and the numbers of the items that are missing."""

    NAME: ClassVar[str] = "receipt"
    CAP: ClassVar[int] = 65536

    tid: Tid
    offer: Digest
    grant: Digest
    manifest: Digest
    state: Literal["COMPLETE", "PARTIAL"]
    proof: Literal["commit", "find", "store"]
    gaps: list[Count]
    iat: Time

    def __post_init__(self) -> None:
        if self.state == "COMPLETE" and self.gaps:
            raise ValueError("gaps")


class Close(Message, frozen=True, forbid_unknown_fields=True):
    """C: an end without delivery, from S, or DECLINED from R."""

    NAME: ClassVar[str] = "close"
    CAP: ClassVar[int] = 1024

    tid: Tid
    offer: Digest
    state: CloseState
    why: CloseWhy
    iat: Time


class Ack(Message, frozen=True, forbid_unknown_fields=True):
    """The other side has this message on its disk."""

    NAME: ClassVar[str] = "ack"
    CAP: ClassVar[int] = 512

    of: Digest


class Card(Message, frozen=True, forbid_unknown_fields=True):
    """A site, as its own people describe it. Pinned only after a person compared the fingerprint."""

    NAME: ClassVar[str] = "card"
    CAP: ClassVar[int] = 2048

    site: SiteId
    name: Annotated[str, Meta(min_length=1, max_length=80)]
    place: Annotated[str, Meta(max_length=80)]
    relay: Annotated[str, Meta(max_length=200, pattern=r"^https?://[^\s/]+\Z")]
    page: Annotated[str, Meta(max_length=200, pattern=r"^(https?://[^\s]+)?\Z")]
    roles: Annotated[list[Literal["send", "receive"]], Meta(min_length=1, max_length=2)]
    iat: Time


class Request(Message, frozen=True, forbid_unknown_fields=True):
    """One call of a site to the relay (protocol s. 12)."""

    NAME: ClassVar[str] = "request"
    CAP: ClassVar[int] = 1024

    site: SiteId
    aud: Annotated[str, Meta(max_length=200)]
    m: Literal["GET", "PUT", "POST", "DELETE"]
    p: Annotated[str, Meta(max_length=300)]
    h: Digest
    iat: Time
    jti: Nonce


M = TypeVar("M", bound=msgspec.Struct)
S = TypeVar("S", bound=Message)


def _decode_hook(kind: type[Any], value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("text expected")
    return kind.parse(value) if issubclass(kind, Fixed) else kind(unb64(value))


def encode(value: msgspec.Struct) -> bytes:
    """JSON of a struct; ids as base64url text."""
    return msgspec.json.encode(value, enc_hook=b64)


def decode(data: bytes, kind: type[M]) -> M:
    """A struct from JSON. Raises `VersionError` where only `v` is unknown, else `HeaderError`."""
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_decode_hook)
    except HeaderError:
        raise
    except (msgspec.MsgspecError, ValueError, RecursionError) as why:
        if str(why).endswith("`$.v`"):
            raise VersionError from None
        raise HeaderError from None


def sign_message(message: Message, key: SigningKey) -> str:
    """The compact text of `message` under `key`."""
    compact = jws.sign(message.NAME, encode(message), key)
    if len(compact) > message.CAP:
        raise ValueError(f"{message.NAME} over its cap")
    return compact


def open_message(kind: type[S], compact: str, public: bytes) -> S:
    """The message, if `public` signed it. Raises a `PeerError`; parses nothing before the signature held."""
    return decode(jws.verify(kind.NAME, compact, public, kind.CAP), kind)


def peek(kind: type[S], compact: str) -> S:
    """The message *without* checking who signed it: to find the pinned key that must then verify it."""
    return decode(jws.unverified_payload(kind.NAME, compact, kind.CAP), kind)


def name_of(compact: str) -> str:
    """Which message a compact text claims to be; `HeaderError` if none of ours."""
    head = compact[:80].split(".", 1)[0]
    for kind in Message.__subclasses__():
        if head == jws.header(kind.NAME):
            return kind.NAME
    raise HeaderError
