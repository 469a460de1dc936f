"""Two hospitals, a relay's name and one offer, made the same way every time, for the tests of `transfer/`.

Nothing here is random: `stream(label)` is SHAKE-256 of a label, so a test that fails fails again. `payload` and
`signed` open the typed door at the back: they sign whatever bytes a dishonest peer might.
"""

from __future__ import annotations

import hashlib
import json
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from nacl.signing import SigningKey

from transfer import jws
from transfer.door import PhoneDoor, SiteDoor
from transfer.errors import TransferError
from transfer.ids import BlobKey, Cid, ContentKey, Digest, Kid, PublicKey, Tid
from transfer.mailbox import Hello, Question
from transfer.messages import (
    Attest,
    Grant,
    Message,
    Offer,
    Override,
    Release,
    ReleaseType,
    encode,
    peek,
    sign_message,
)
from transfer.prekeys import PrekeyPair, seal_to
from transfer.release import Pin, release_info
from transfer.sites import Identity
from transfer.summary import Summary, make_summary, summary_hash

NOW = 1_800_000_000
"""When everything here happens (Unix seconds)."""
THEN = NOW + 60
"""When the person, or staff, decide."""
HOURS = 3600

Random = Callable[[int], bytes]


def fixed(label: str, n: int = 32) -> bytes:
    """`n` bytes that only this label gives."""
    return hashlib.shake_256(b"tests " + label.encode()).digest(n)


def stream(label: str) -> Random:
    """A source of bytes, the same for the same label."""
    calls = iter(range(10**9))
    return lambda n: fixed(f"{label}/{next(calls)}", n)


S = Identity(fixed("sender"))
R = Identity(fixed("receiver"))
R2 = Identity(fixed("second receiver"))
OTHER = Identity(fixed("somebody else"))
PHONE = SigningKey(fixed("phone"))
VP = PublicKey(PHONE.verify_key.encode())
PAIR = PrekeyPair.generate(stream("pre-key"))
PREKEY = PAIR.publish(R.key, NOW - HOURS)
PAIR2 = PrekeyPair.generate(stream("second pre-key"))
K = ContentKey(fixed("content key"))
CID = Cid(fixed("cid", 16))
TID = Tid(fixed("tid", 16))
Q = fixed("q", 16)
PIN = "271828"
SALT = BlobKey(fixed("salt", 16))
SUMMARY = make_summary(
    Summary(
        person="J.D. 1961", from_="Valley Hospital", to="Lakeside Trauma Center", what="Head, today",
        why="transfer", until=NOW + 2 * HOURS, alt=[], add=0, call="Ward 3, 555 0100", declined=None,
    )
)  # fmt: skip
DIGEST = Digest(fixed("a digest"))
OTHER_DIGEST = Digest(fixed("some other message"))


def pair_of(kid: Kid) -> PrekeyPair | None:
    """R's key store: it holds one pair."""
    return PAIR if kid == PAIR.kid else None


def no_pair(kid: Kid) -> PrekeyPair | None:
    """A key store from which the pair was deleted."""
    return None


def an_offer(**changes: Any) -> Offer:
    """The offer from S to R, with `changes`."""
    fields: dict[str, Any] = {
        "v": 1, "tid": TID, "cid": CID, "s": S.site, "r": R.site, "kid": PAIR.kid,
        "sum": summary_hash(SALT, SUMMARY), "ct": "consent-2026-1", "why": "transfer", "alt": [], "add": 0,
        "iat": NOW, "exp": NOW + 2 * HOURS,
    }  # fmt: skip
    return Offer(**{**fields, **changes})


OFFER = an_offer()
OFFER_TEXT = sign_message(OFFER, S.key)
H_OFFER = jws.digest(OFFER_TEXT)


def a_grant(**changes: Any) -> Grant:
    """The patient's yes to that offer, with `changes`."""
    fields: dict[str, Any] = {
        "v": 1, "tid": TID, "offer": H_OFFER, "d": "approve", "by": "patient", "name": "", "rel": "self",
        "lang": "en", "t": THEN,
    }  # fmt: skip
    return Grant(**{**fields, **changes})


GRANT = a_grant()
GRANT_TEXT = sign_message(GRANT, PHONE)
H_GRANT = jws.digest(GRANT_TEXT)


def an_attestation(**changes: Any) -> Attest:
    """Two clinicians of S vouch for that offer, with `changes`."""
    fields: dict[str, Any] = {
        "v": 1, "tid": TID, "offer": H_OFFER, "by": ["dr.quill", "rn.marsh"], "reason": "unconscious, nobody with them",
        "iat": THEN,
    }  # fmt: skip
    return Attest(**{**fields, **changes})


def an_override(**changes: Any) -> Override:
    """One clinician of S decides on that offer, with `changes`."""
    fields: dict[str, Any] = {
        "v": 1, "tid": TID, "offer": H_OFFER, "by": ["dr.quill"], "reason": "helicopter leaves now", "iat": THEN
    }  # fmt: skip
    return Override(**{**fields, **changes})


EXAMPLES: dict[ReleaseType, Grant | Attest | Override] = {
    "patient": GRANT,
    "attest": an_attestation(),
    "override": an_override(),
}
ALL = Pin(S.site, attest=True, override=True)
"""R's pin of S, with every type of release switched on."""


def forged_release(offer_text: str, inside: str, pair: PrekeyPair = PAIR, *, iat: int = THEN) -> str:
    """L that S signed without a look: `inside` stands behind K, and begins with a grant."""
    offer, h_offer, h_grant = (
        peek(Offer, offer_text),
        jws.digest(offer_text),
        jws.digest(inside.partition("~")[0]),
    )
    info = release_info(offer.tid, h_offer, h_grant)
    release = Release(
        v=1, tid=offer.tid, offer=h_offer, grant=h_grant, pk=VP, type="patient", r=offer.r, kid=offer.kid,
        sealed=BlobKey(seal_to(pair.public, K + inside.encode(), info)), iat=iat,
    )  # fmt: skip
    return sign_message(release, S.key)


def payload(message: msgspec.Struct, **changes: Any) -> dict[str, Any]:
    """A message as a plain dict, with `changes`; a change to `...` removes the field."""
    fields: dict[str, Any] = json.loads(encode(message))
    fields.update(changes)
    return {name: value for name, value in fields.items() if value is not ...}


def signed(kind: type[Message], body: dict[str, Any] | bytes, key: SigningKey) -> str:
    """Whatever `body` is, with a signature that holds."""
    return jws.sign(
        kind.NAME, body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode(), key
    )


@contextmanager
def refused(error: type[TransferError]) -> Iterator[None]:
    """The block must raise exactly `error`, which must say nothing but its own code and sentence."""
    with pytest.raises(TransferError) as caught:
        yield
    assert caught.type is error
    assert str(caught.value) == f"{error.code}: {caught.value.sentence}"
    assert caught.value.args == ()
    shown = "".join(traceback.format_exception_only(caught.value))
    assert shown.count("\n") == 1


def flip(data: bytes, bit: int = 0) -> bytes:
    """`data` with one bit changed (`bit` counts from the left, modulo the length)."""
    at, mask = divmod(bit % (8 * len(data)), 8)
    return data[:at] + bytes([data[at] ^ (0x80 >> mask)]) + data[at + 1 :]


class Doors(NamedTuple):
    """The two ends of one run."""

    phone: PhoneDoor
    site: SiteDoor


def hello(**changes: Any) -> bytes:
    """m0 as the relay keeps it."""
    fields: dict[str, Any] = {"v": 1, "tid": TID, "s": S.site, "exp": OFFER.exp}
    return encode(Hello(**{**fields, **changes}))


def doors(label: str = "run", *, pin: str = PIN, q: bytes = Q, offer: str = OFFER_TEXT) -> Doors:
    """A phone whose owner types `pin`, and S, which expects `PIN`."""
    site = SiteDoor(q=q, code=PIN, tid=TID, site=S.site, offer=offer, random=stream(f"{label} site"))
    return Doors(PhoneDoor(q, pin, stream(f"{label} phone")), site)


def a_question(**changes: Any) -> Question:
    """What S asks in m4, with `changes`."""
    fields: dict[str, Any] = {
        "offer": OFFER_TEXT, "summary": SUMMARY, "salt": SALT, "state": "OFFERED", "decided": None, "now": NOW + 30,
    }  # fmt: skip
    return Question(**{**fields, **changes})


def joined(label: str = "run", **question: Any) -> Doors:
    """Both ends after m4: the phone has asked the person."""
    ends = doors(label)
    m2 = ends.site.start(ends.phone.hello(hello()))
    assert ends.site.prove(ends.phone.point(encode(m2)))
    ends.phone.answer(encode(ends.site.answer(a_question(**question))))
    return ends


SPEC = Path(__file__).resolve().parent.parent / "docs" / "spec"


def assert_generated(page: str, block: str, text: str) -> None:
    """That `block` of docs/spec/`page` is what the code says. `UPDATE_SPEC=1 pytest ...` writes it there instead."""
    path = SPEC / page
    begin, end = f"<!-- generated: {block} -->\n", "<!-- end -->"
    before, found, rest = path.read_text("utf-8").partition(begin)
    assert found, f"{page} has no block {block}"
    old, found, after = rest.partition(end)
    assert found, f"{page}: block {block} has no end"
    if os.environ.get("UPDATE_SPEC") == "1":
        path.write_text(before + begin + text + end + after, "utf-8")
        return
    assert old == text, f"docs/spec/{page} is behind the code: run the test once with UPDATE_SPEC=1"
