"""The QR door: the handshake of a phone and S as two machines without I/O (protocol s. 3).

    phone                                   S
    hello(m0) -> Start (m1)   ------->      start(m1) -> Point (m2)
    point(m2) -> Proof (m3)   ------->      [spend a try]  prove(m3) -> True, or False: the PIN was wrong
    answer(m4) -> Asked       <-------      answer(question) -> Answer (m4)
    decide(...) -> Sealed (m5) ------>      channel.open, then `read_wish`
    status(m6) -> Status      <-------      channel.seal

Both know q (from the QR) and the PIN (told). The tables say which call each state takes; any other raises
`StateError`, and any refusal ends the run. The phone key `vP` is in the phone's associated data and H(O) in
S's, so the run is bound to one key and one offer; S needs no signature of its own because CPace
authenticates it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final

import msgspec
from nacl.signing import SigningKey

from transfer import cpace, jws
from transfer.channel import Channel, check_code
from transfer.encoding import hkdf, lv, same, sha256
from transfer.errors import (
    ExpiredError,
    HashError,
    HeaderError,
    LockedError,
    PeerError,
    SignatureError,
    SizeError,
    StateError,
    VersionError,
)
from transfer.ids import BlobKey, PublicKey, RunId, SiteId, Tid
from transfer.mailbox import (
    SUMMARY_CAP,
    Answer,
    Decided,
    Hello,
    Point,
    Point32,
    Proof,
    Question,
    Refusal,
    Sealed,
    Start,
    Status,
    Stop,
    Tag64,
    Tombstone,
    read_body,
)
from transfer.messages import Grant, Offer, decode, encode, open_message, peek, sign_message
from transfer.summary import Summary, read_summary, summary_hash

PHONE: Final[dict[tuple[str, str], str]] = {
    ("NEW", "hello"): "STARTED",
    ("STARTED", "point"): "PROVING",
    ("PROVING", "answer"): "ASKED",
    ("ASKED", "decide"): "DECIDED",
    ("ASKED", "stop"): "DECIDED",
    ("DECIDED", "status"): "DECIDED",
    ("DECIDED", "stop"): "DECIDED",
}
SITE: Final[dict[tuple[str, str], str]] = {
    ("NEW", "start"): "POINTED",
    ("POINTED", "prove"): "PROVED",
    ("PROVED", "answer"): "OPEN",
}


class WrongPinError(PeerError):
    """The PIN was not right. Ask for it again; the number of tries is limited."""

    code = "wrong"

    def __init__(self, left: int) -> None:
        self.left = left
        super().__init__()


class EndedError(PeerError):
    """This transfer has ended. Ask the staff if you need to know more."""

    code = "ended"

    def __init__(self, state: str) -> None:
        self.state = state
        super().__init__()


class Asked(msgspec.Struct, frozen=True):
    """What the person is asked: the verified offer and its words; `decided` if somebody answered before."""

    offer: Offer
    summary: Summary
    state: str
    decided: Decided | None
    now: int
    check: str


class _Machine:
    TABLE: dict[tuple[str, str], str]

    def __init__(self) -> None:
        self.state = "NEW"

    def _step(self, event: str) -> None:
        after = self.TABLE.get((self.state, event))
        if after is None:
            raise StateError
        self.state = after

    def _refuse(self, why: PeerError) -> PeerError:
        self.state = "DEAD"
        return why


def prs(q: bytes, code: str) -> bytes:
    """The password of both sides. Raises `HeaderError` for a code that is not ASCII digits."""
    if not (code.isascii() and code.isdigit()):
        raise HeaderError
    return lv(q) + lv(code.encode("ascii"))


def channel_id(site: SiteId) -> bytes:
    """CI: binds the run to S's identity."""
    return b"tt1/cpace" + site


def gate(q: bytes, tid: Tid, run: RunId, ya: bytes, vp: bytes) -> bytes:
    """Proof that the writer of m1 saw the QR: keeps strangers from costing anything."""
    key = hkdf(q, b"", b"tt1/gate")
    return hmac.new(key, b"tt1/m1" + tid + run + ya + vp, hashlib.sha256).digest()


class PhoneDoor(_Machine):
    """The phone's side of one run. `random(n)` gives n bytes; nothing of this outlives the page."""

    TABLE = PHONE

    def __init__(self, q: bytes, code: str, random: Callable[[int], bytes]) -> None:
        super().__init__()
        self._q, self._prs = q, prs(q, code)
        self._scalar = random(32)
        self._key = SigningKey(random(32))
        self.run = RunId(random(16))
        self.vp = PublicKey(self._key.verify_key.encode())

    def hello(self, body: bytes) -> Start:
        """m0 in, m1 out. Raises `EndedError` for a tombstone or a code that is over, else a `PeerError`."""
        self._step("hello")
        try:
            self._m0 = read_body(body, Hello)
        except PeerError as why:
            self.state = "DEAD"
            try:
                raise EndedError(read_body(body, Tombstone).ended)
            except (HeaderError, SizeError, VersionError):
                raise why from None
        if not self._m0.exp:
            self.state = "DEAD"
            raise EndedError("EXPIRED")
        self._sid = self._m0.tid + self.run
        g = cpace.generator(self._prs, channel_id(self._m0.s), self._sid)
        self._ya = cpace.multiply(self._scalar, g)
        mac = gate(self._q, self._m0.tid, self.run, self._ya, self.vp) if self._q else b""
        return Start(v=1, nP=self.run, Ya=Point32(self._ya), vP=self.vp, gate=BlobKey(mac))

    def point(self, body: bytes) -> Proof:
        """m2 in, m3 out."""
        self._step("point")
        try:
            m2 = read_body(body, Point)
            k = cpace.multiply(self._scalar, m2.Yb)
        except PeerError as why:
            raise self._refuse(why) from None
        self._m2 = m2
        self._isk = cpace.isk(self._sid, k, self._ya, self.vp, m2.Yb, m2.hO)
        self._expected = cpace.tag(self._sid, self._isk, m2.Yb, m2.hO)
        return Proof(v=1, Ta=Tag64(cpace.tag(self._sid, self._isk, self._ya, self.vp)))

    def answer(self, body: bytes) -> Asked:
        """m4 in. Raises `WrongPinError` (tries left) or `LockedError`: neither can be authenticated."""
        self._step("answer")
        try:
            self._hear_refusal(body)
            return self._read_question(read_body(body, Answer))
        except PeerError as why:
            raise self._refuse(why) from None

    def _hear_refusal(self, body: bytes) -> None:
        try:
            refusal = read_body(body, Refusal)
        except HeaderError:
            return  # then it is the answer
        raise WrongPinError(refusal.left) if refusal.error == "wrong" else LockedError

    def _read_question(self, m4: Answer) -> Asked:
        if not same(m4.Tb, self._expected):
            raise SignatureError
        self._channel = Channel.derive(self._isk, self._sid, "p2s")
        question = decode(self._channel.open(m4.box), Question)
        if len(question.summary.encode()) > SUMMARY_CAP:
            raise SizeError
        if jws.digest(question.offer) != self._m2.hO:
            raise HashError
        offer = peek(Offer, question.offer)  # S is authenticated by CPace; a phone knows no site key
        if offer.tid != self._m0.tid or offer.s != self._m0.s:
            raise HashError
        if summary_hash(question.salt, question.summary) != offer.sum:
            raise HashError
        if question.state == "OFFERED" and question.now >= offer.exp:
            raise ExpiredError
        summary = read_summary(question.summary)
        self._hash = self._m2.hO
        return Asked(
            offer, summary, question.state, question.decided, question.now, check_code(self._isk, self._sid)
        )

    def decide(self, d: str, *, by: str, name: str, rel: str, lang: str, t: int) -> Sealed:
        """m5 with the grant G, signed by this run's key. `HeaderError` for a form that needs correcting: ask again."""
        self._step("decide")
        try:
            grant = Grant(
                v=1, tid=self._m0.tid, offer=self._hash, d=d, by=by, name=name, rel=rel, lang=lang, t=t  # type: ignore[arg-type]
            )  # fmt: skip
            compact = sign_message(decode(encode(grant), Grant), self._key)
        except (HeaderError, ValueError):
            self.state = "ASKED"
            raise HeaderError from None
        return Sealed(v=1, box=BlobKey(self._channel.seal(compact.encode())))

    def stop(self) -> Sealed:
        """m5 that asks to stop sharing."""
        self._step("stop")
        return Sealed(v=1, box=BlobKey(self._channel.seal(encode(Stop(v=1, stop=True)))))

    def status(self, body: bytes) -> Status:
        """m6 in."""
        self._step("status")
        try:
            return decode(self._channel.open(read_body(body, Sealed).box), Status)
        except PeerError as why:
            raise self._refuse(why) from None


class Pointed(msgspec.Struct, frozen=True):
    """What S must keep of a run whose try is spent to compare the same m3 after a crash. All of it is secret."""

    sid: bytes
    isk: bytes
    expected: bytes
    tb: bytes

    def __repr__(self) -> str:
        return "Pointed(...)"


class SiteDoor(_Machine):
    """S's side of one run, from m1 to m4. In memory until a try is spent: a crash before has the phone begin again.
    After it the run goes on with `resume`.
    """

    TABLE = SITE

    def __init__(
        self, *, q: bytes, code: str, tid: Tid, site: SiteId, offer: str, random: Callable[[int], bytes]
    ) -> None:
        super().__init__()
        self._q, self._prs, self._tid, self._site = q, prs(q, code), tid, site
        self._offer = offer
        self._scalar = random(32)

    def start(self, m1: Start) -> Point:
        """m1 in, m2 out. Raises a `PeerError`: drop it silently and spend nothing."""
        self._step("start")
        expected = gate(self._q, self._tid, m1.nP, m1.Ya, m1.vP) if self._q else b""
        if len(m1.gate) != len(expected) or not same(m1.gate, expected):
            raise self._refuse(SignatureError())
        self.run, self.vp = m1.nP, m1.vP
        self._sid = self._tid + m1.nP
        g = cpace.generator(self._prs, channel_id(self._site), self._sid)
        yb = cpace.multiply(self._scalar, g)
        digest = jws.digest(self._offer)
        try:
            k = cpace.multiply(self._scalar, m1.Ya)
        except PeerError as why:
            raise self._refuse(why) from None
        self._isk = cpace.isk(self._sid, k, m1.Ya, m1.vP, yb, digest)
        self._expected = cpace.tag(self._sid, self._isk, m1.Ya, m1.vP)
        self._tb = cpace.tag(self._sid, self._isk, yb, digest)
        return Point(v=1, Yb=Point32(yb), hO=digest)

    @property
    def pointed(self) -> Pointed:
        """This run between m2 and m3."""
        return Pointed(self._sid, self._isk, self._expected, self._tb)

    @classmethod
    def resume(cls, kept: Pointed) -> SiteDoor:
        """The run as `pointed` kept it. The caller compares nothing but the m3 for which the try was spent."""
        door = cls.__new__(cls)
        door.state = "POINTED"
        door._sid, door._isk, door._expected, door._tb = kept.sid, kept.isk, kept.expected, kept.tb
        return door

    def prove(self, m3: Proof) -> bool:
        """Whether the phone knew the PIN. The caller has spent a try, on disk, before it asks."""
        self._step("prove")
        if not same(m3.Ta, self._expected):
            self.state = "DEAD"
            return False
        self.channel = Channel.derive(self._isk, self._sid, "s2p")
        self.check = check_code(self._isk, self._sid)
        return True

    def answer(self, question: Question) -> Answer:
        """m4: S's confirmation and the question."""
        self._step("answer")
        return Answer(v=1, Tb=Tag64(self._tb), box=BlobKey(self.channel.seal(encode(question))))


def read_wish(plain: bytes, *, vp: PublicKey, tid: Tid, offer: str) -> tuple[Grant, str] | Stop:
    """What an opened m5 asks: a grant for this offer with its compact text, or to stop. Raises a `PeerError`."""
    if plain.startswith(b"{"):
        return decode(plain, Stop)
    try:
        compact = plain.decode("ascii")
    except UnicodeDecodeError:
        raise HeaderError from None
    grant = open_message(Grant, compact, vp)
    if grant.tid != tid or grant.offer != jws.digest(offer):
        raise HashError
    return grant, compact


def receipt_code(receipt: str) -> str:
    """Eight characters to read on the telephone: Crockford's alphabet over H(receipt)."""
    n = int.from_bytes(sha256(receipt.encode())[:5], "big")
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    text = "".join(alphabet[(n >> shift) & 31] for shift in range(35, -1, -5))
    return f"{text[:4]}-{text[4:]}"
