"""The trust rules: who may open a study, and when (protocol s. 5). Everything else in this package serves this
file.

S makes a release L only if, in one transaction,

- the grant G names this offer and says yes: signed by the key of a handshake run that proved the PIN, or by S
  itself for its staff (`attest`: two of them; `override`: one). G is of the type that L names (s. 8);
- the offer is still OFFERED and has not run out by S's own clock;
- the pre-key is valid and signed by the pinned key of the offer's destination.

R opens only if, in this order, stopping at the first failure and never in part,

1. L is signed by the pinned sender, and so is the offer O it came with; 2. O is for this site, and its pre-
key is one that this site still has; 3. L names exactly this O (by hash), and the times fit: O not from the
future, L made before O ran out, here not later than 48 h after; 4. this offer was not used before (the same
L again is the same answer); 5. the sealed part opens with the pre-key, bound to tid, H(O) and H(G); 6. the
G inside is the one L names; for staff's types this site has allowed them of this peer; G is signed by the
run's key, or by the sender for its staff, says `approve`, and names this O.

A child offer (protocol s. 7) has a grant of its own, by the same rules, or is covered by its parent's: then
the parent's offer travels in L behind G, G names the parent, and `covering` says whether it reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from nacl.signing import SigningKey

from transfer import jws
from transfer.errors import (
    ClockError,
    DecidedError,
    ExpiredError,
    GrantTypeError,
    HashError,
    KeyUnknownError,
    NotForMeError,
    SizeError,
    UsedError,
)
from transfer.ids import BlobKey, ContentKey, Digest, Kid, PublicKey, SiteId, Tid
from transfer.messages import (
    Ack,
    Attest,
    Close,
    Grant,
    Offer,
    Override,
    Receipt,
    Release,
    ReleaseType,
    name_of,
    open_message,
    peek,
    sign_message,
)
from transfer.prekeys import PrekeyPair, read_prekey, seal_to

SKEW = 600
"""Seconds that an offer may come from R's future."""
KEEP = 48 * 3600
"""Seconds past the offer's end in which R still takes a first release."""
NO_RUN = PublicKey(bytes(32))
"""In the place of vP where no phone had a part in it."""
AnyGrant = Grant | Attest | Override
"""G: the person's, or staff's in their place."""
_GRANTS: Final[dict[ReleaseType, type[AnyGrant]]] = {"patient": Grant, "attest": Attest, "override": Override}
"""Which message G is, by the type that L names."""


class Pin(msgspec.Struct, frozen=True):
    """What this site decided about a peer when a person compared its fingerprint."""

    site: SiteId
    attest: bool = False
    override: bool = False

    def allows(self, kind: ReleaseType) -> bool:
        """Whether a release of this type may open here."""
        return {"patient": True, "attest": self.attest, "override": self.override}[kind]


class Opened(msgspec.Struct, frozen=True):
    """What a verified release gives."""

    key: ContentKey
    grant: AnyGrant
    grant_text: str
    release: Release
    parent: str = ""
    """The parent's offer whose grant this is; empty where the offer has a grant of its own."""

    def __repr__(self) -> str:
        return f"Opened({self.release.tid})"


def release_info(tid: Tid, offer: Digest, grant: Digest) -> bytes:
    """HPKE info: binds the sealed key to one offer and one grant."""
    return b"tt1/release" + tid + offer + grant


def check_grant(
    text: str, *, kind: ReleaseType = "patient", vp: PublicKey, offer_text: str, offer: Offer
) -> AnyGrant:
    """G of this type, for this offer, signed by the one key that may: the run's (`vp`) for `patient`, else S's own.
    Raises a `PeerError`.
    """
    message: AnyGrant = open_message(_GRANTS[kind], text, vp if kind == "patient" else offer.s)
    if message.tid != offer.tid or message.offer != jws.digest(offer_text):
        raise HashError
    return message


def says_yes(grant: AnyGrant) -> bool:
    """Whether G permits. There is no attestation or override that says no."""
    return not isinstance(grant, Grant) or grant.d == "approve"


def peek_grant(text: str) -> AnyGrant:
    """G of any type *without* checking who signed it: one that was checked before it was stored. Raises a
    `PeerError`.
    """
    return peek(_GRANTS[type_of(text)], text)


def type_of(text: str) -> ReleaseType:
    """By whose word G is: that of a phone, or of staff (protocol s. 8). Raises `HeaderError`."""
    name = name_of(text)
    return "attest" if name == Attest.NAME else "override" if name == Override.NAME else "patient"


def rung_of(grant: AnyGrant) -> str:
    """Who decided: `patient`, `proxy`, `attest` or `override`."""
    return grant.by if isinstance(grant, Grant) else grant.NAME


def covering(child: Offer, parent_text: str, *, at: int, opened: bool) -> Offer:
    """The parent's offer, if its grant covers `child` at `at` (protocol s. 7); else a `PeerError`. `at`: S's clock
    when the release is made. `opened`: the parent was released and is not over (at S; a diversion), or this site
    opened it (an addition).

    A child of a child is covered by nothing, so a grant never reaches further than what the person read.
    """
    parent = open_message(Offer, parent_text, child.s)
    if jws.digest(parent_text) != child.parent or parent.parent is not msgspec.UNSET or not opened:
        raise HashError
    if parent.s != child.s:
        raise NotForMeError
    if child.kind == "divert":
        if child.r not in parent.alt:
            raise NotForMeError
        if at >= parent.exp:
            raise ExpiredError
        return parent
    if child.r != parent.r:
        raise NotForMeError
    if child.cid == parent.cid:  # what was complete would not be any more
        raise HashError
    if not parent.add or child.iat > parent.iat + parent.add:
        raise ExpiredError
    return parent


def make_release(
    *,
    key: SigningKey,
    offer_text: str,
    offer: Offer,
    grant_text: str,
    kind: ReleaseType = "patient",
    vp: PublicKey = NO_RUN,
    prekey_text: str,
    content_key: ContentKey,
    now: int,
    parent_text: str = "",
) -> str:
    """L. Raises a `PeerError` where one of S's rules does not hold; the caller commits it before it sends it. Whether
    staff may decide is the caller's policy; that nobody said no, its table.

    `parent_text`: the parent's offer, where `grant_text` answers that one and covers this child. The caller has seen,
    in the same transaction, that the parent is released, and for a diversion that it is not over.
    """
    granted_text, granted = offer_text, offer
    if parent_text:
        granted_text, granted = parent_text, covering(offer, parent_text, at=now, opened=True)
    grant = check_grant(grant_text, kind=kind, vp=vp, offer_text=granted_text, offer=granted)
    if not says_yes(grant):
        raise DecidedError
    if now >= offer.exp:
        raise ExpiredError
    prekey = read_prekey(prekey_text, site=offer.r, now=now)
    if prekey.kid != offer.kid:
        raise KeyUnknownError
    h_offer, h_grant = jws.digest(offer_text), jws.digest(grant_text)
    inside = f"{grant_text}~{parent_text}" if parent_text else grant_text
    sealed = seal_to(
        prekey.pk, content_key + inside.encode("ascii"), release_info(offer.tid, h_offer, h_grant)
    )
    release = Release(
        v=1, tid=offer.tid, offer=h_offer, grant=h_grant, pk=vp, type=kind,
        r=offer.r, kid=offer.kid, sealed=BlobKey(sealed), iat=now,
    )  # fmt: skip
    return sign_message(release, key)


def accept_offer(
    offer_text: str, *, pin: Pin, me: SiteId, now: int, prekey: Callable[[Kid], PrekeyPair | None]
) -> Offer:
    """O as R may take it into its inbox. Raises a `PeerError`; `ClockError` and `KeyUnknownError` are S's to cure."""
    offer = _offer_for(me, offer_text, pin, prekey)
    _check_times(offer, now)
    return offer


def _offer_for(me: SiteId, offer_text: str, pin: Pin, prekey: Callable[[Kid], PrekeyPair | None]) -> Offer:
    offer = open_message(Offer, offer_text, pin.site)
    if offer.s != pin.site or offer.r != me:
        raise NotForMeError
    if prekey(offer.kid) is None:
        raise KeyUnknownError
    return offer


def _check_times(offer: Offer, now: int) -> None:
    if offer.iat - SKEW > now:
        raise ClockError
    if now > offer.exp + KEEP:
        raise ExpiredError


def open_release(
    release_text: str,
    offer_text: str,
    *,
    pin: Pin,
    me: SiteId,
    now: int,
    prekey: Callable[[Kid], PrekeyPair | None],
    used: Digest | None,
    opened: Callable[[Digest], bool] = lambda parent: False,
) -> Opened:
    """K and G, if every rule above holds; else a `PeerError`. `used`: H(L) this tid was used with, or None.
    `opened`: whether this site opened the study of the offer with this hash (asked for an addition alone).
    """
    release = open_message(Release, release_text, pin.site)
    offer = _offer_for(me, offer_text, pin, prekey)
    if release.r != me or release.kid != offer.kid:
        raise NotForMeError
    h_offer = jws.digest(offer_text)
    if release.offer != h_offer or release.tid != offer.tid:
        raise HashError
    _check_times(offer, now)
    if release.iat > offer.exp:
        raise ExpiredError
    if used is not None and used != jws.digest(release_text):
        raise UsedError
    pair = prekey(release.kid)
    if pair is None:
        raise KeyUnknownError
    plain = pair.open(release.sealed, release_info(offer.tid, h_offer, release.grant))
    if len(plain) <= 32:
        raise SizeError
    content_key = ContentKey(plain[:32])
    text = plain[32:].decode("ascii", "replace")
    grant_text, behind, parent_text = text.partition("~")
    if not text.isascii() or jws.digest(grant_text) != release.grant:
        raise HashError
    if not pin.allows(release.type):
        raise GrantTypeError
    granted_text, granted = offer_text, offer
    if behind:
        if isinstance(offer.parent, msgspec.UnsetType):
            raise HashError
        is_opened = offer.kind == "divert" or opened(offer.parent)
        granted_text, granted = parent_text, covering(offer, parent_text, at=release.iat, opened=is_opened)
    grant = check_grant(grant_text, kind=release.type, vp=release.pk, offer_text=granted_text, offer=granted)
    if not says_yes(grant):
        raise DecidedError
    return Opened(content_key, grant, grant_text, release, parent_text)


def accept_receipt(
    text: str, *, r: SiteId, tid: Tid, offer: Digest, grant: Digest, manifests: frozenset[Digest]
) -> Receipt:
    """A, if R signed it for this offer, this grant and a manifest record that S made. Raises a `PeerError`."""
    receipt = open_message(Receipt, text, r)
    if receipt.tid != tid or receipt.offer != offer or receipt.grant != grant:
        raise HashError
    if receipt.manifest not in manifests:
        raise HashError
    return receipt


def accept_close(text: str, *, site: SiteId, tid: Tid, offer: Digest, from_receiver: bool) -> Close:
    """C, if `site` signed it for this offer and may say what it says: R only DECLINED, S anything else."""
    close = open_message(Close, text, site)
    if close.tid != tid or close.offer != offer or (close.state == "DECLINED") != from_receiver:
        raise HashError
    return close


def make_ack(key: SigningKey, message: str) -> str:
    """The end-to-end acknowledgement of a message that is on disk."""
    return sign_message(Ack(v=1, of=jws.digest(message)), key)
