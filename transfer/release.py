"""The trust rules: who may open a study, and when (protocol s. 5). Everything else in this package serves this
file.

S makes a release L only if, in one transaction,

- the grant G is signed by the key of a handshake run that proved the PIN, says `approve`, and names this offer;
- the offer is still OFFERED and has not run out by S's own clock;
- the pre-key is valid and signed by the pinned key of the offer's destination.

R opens only if, in this order, stopping at the first failure and never in part,

1. L is signed by the pinned sender, and so is the offer O it came with; 2. O is for this site, and its pre-
key is one that this site still has; 3. L names exactly this O (by hash), and the times fit: O not from the
future, L made before O ran out, here not later than 48 h after; 4. this offer was not used before (the same
L again is the same answer); 5. the sealed part opens with the pre-key, bound to tid, H(O) and H(G); 6. the
G inside is the one L names; it is signed by the run's key, says `approve`, and names this O.

Grants by attestation and override, and child offers, have their place in the messages and are refused by
name here.
"""

from __future__ import annotations

from collections.abc import Callable

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
    VersionError,
)
from transfer.ids import BlobKey, ContentKey, Digest, Kid, PublicKey, SiteId, Tid
from transfer.messages import (
    Ack,
    Close,
    Grant,
    Offer,
    Receipt,
    Release,
    open_message,
    sign_message,
)
from transfer.prekeys import PrekeyPair, read_prekey, seal_to

SKEW = 600
"""Seconds that an offer may come from R's future."""
KEEP = 48 * 3600
"""Seconds past the offer's end in which R still takes a first release."""


class Pin(msgspec.Struct, frozen=True):
    """What this site decided about a peer when a person compared its fingerprint."""

    site: SiteId
    attest: bool = False
    override: bool = False


class Opened(msgspec.Struct, frozen=True):
    """What a verified release gives."""

    key: ContentKey
    grant: Grant
    grant_text: str
    release: Release

    def __repr__(self) -> str:
        return f"Opened({self.release.tid})"


def release_info(tid: Tid, offer: Digest, grant: Digest) -> bytes:
    """HPKE info: binds the sealed key to one offer and one grant."""
    return b"tt1/release" + tid + offer + grant


def check_grant(grant: str, *, vp: PublicKey, offer_text: str, offer: Offer) -> Grant:
    """G, if the run's key signed it for this offer. Raises a `PeerError`."""
    message = open_message(Grant, grant, vp)
    if message.tid != offer.tid or message.offer != jws.digest(offer_text):
        raise HashError
    return message


def make_release(
    *,
    key: SigningKey,
    offer_text: str,
    offer: Offer,
    grant_text: str,
    vp: PublicKey,
    prekey_text: str,
    content_key: ContentKey,
    now: int,
) -> str:
    """L. Raises a `PeerError` where one of S's rules does not hold; the caller commits it before it sends it."""
    grant = check_grant(grant_text, vp=vp, offer_text=offer_text, offer=offer)
    if grant.d != "approve":
        raise DecidedError
    if now >= offer.exp:
        raise ExpiredError
    prekey = read_prekey(prekey_text, site=offer.r, now=now)
    if prekey.kid != offer.kid:
        raise KeyUnknownError
    h_offer, h_grant = jws.digest(offer_text), jws.digest(grant_text)
    sealed = seal_to(
        prekey.pk, content_key + grant_text.encode("ascii"), release_info(offer.tid, h_offer, h_grant)
    )
    release = Release(
        v=1, tid=offer.tid, offer=h_offer, grant=h_grant, pk=vp, type="patient",
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
    if offer.parent is not msgspec.UNSET:
        raise VersionError  # child offers are not part of this version
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
) -> Opened:
    """K and G, if every rule above holds; else a `PeerError`. `used`: H(L) this tid was used with, or None."""
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
    grant_text = plain[32:].decode("ascii", "replace")
    if not grant_text.isascii() or jws.digest(grant_text) != release.grant:
        raise HashError
    if release.type != "patient":
        raise GrantTypeError  # attestation and override are not part of this version
    grant = check_grant(grant_text, vp=release.pk, offer_text=offer_text, offer=offer)
    if grant.d != "approve":
        raise DecidedError
    return Opened(content_key, grant, grant_text, release)


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
