"""A transfer that was decided and one that was stopped, at both hospitals, without a socket."""

from __future__ import annotations

from tests.gateway_kit import Handset, House, carry
from transfer.ids import Tid


async def decided(s: House, r: House, d: str = "approve", **words: str) -> Tid:
    """A transfer that a phone answered, and what both sites then know."""
    tid = await s.offer_to(r)
    await carry(s, r)
    phone = await Handset.scan(s, tid)
    await phone.ask()
    await phone.decide(d, **words)
    await carry(s, r)
    return tid
