"""Sites: an identity key, a card to hand out, a fingerprint for people to compare (protocol s. 0, 1).

A card is signed by the key that it names, so it proves nothing about *who* that is: a person compares the
fingerprint over another channel, and only then is the site pinned.
"""

from __future__ import annotations

from nacl.signing import SigningKey

from transfer.encoding import sha256
from transfer.errors import SignatureError
from transfer.ids import SiteId
from transfer.messages import Card, open_message, peek, sign_message


class Identity:
    """A site's Ed25519 key pair. `seed` is the 32 secret bytes."""

    def __init__(self, seed: bytes) -> None:
        self.key = SigningKey(seed)
        self.site = SiteId(self.key.verify_key.encode())

    def __repr__(self) -> str:
        return f"Identity({self.site})"

    def card(self, *, name: str, place: str, relay: str, page: str, roles: list[str], now: int) -> str:
        """This site's signed card."""
        card = Card(
            v=1, site=self.site, name=name, place=place, relay=relay, page=page,
            roles=roles, iat=now,  # type: ignore[arg-type]  # checked when it is read
        )  # fmt: skip
        return sign_message(card, self.key)


def read_card(compact: str) -> Card:
    """A card that its own key signed. Raises a `PeerError`."""
    compact = compact.strip()
    card = open_message(Card, compact, peek(Card, compact).site)
    if card.site == bytes(32):
        raise SignatureError
    return card


def fingerprint(site: SiteId) -> str:
    """What two people read to each other: 8 groups of 4 digits from SHA-256 of the key (106 bits)."""
    number = int.from_bytes(sha256(b"tt1/fingerprint", site)[:16], "big") % 10**32
    digits = f"{number:032d}"
    return " ".join(digits[i : i + 4] for i in range(0, 32, 4))
