"""How large the next packs are and how many fly at once, by how long the relay takes to answer for one.

What flies is the time of an answer times the speed of the link (Little's law), so the answer's time is measured
and the speed need not be known: it would be our own speed and not the link's while packs are still being sealed.
The least time that an answer took is the way there and back; what others take more they spent in a queue. A short
queue says that the link could carry more, and the next packs are twice as large; a long one makes a phone's
message and the last pack of a study wait (performance: in-flight bytes make the tail), and packs get smaller, or
fewer at once. Between the two bounds nothing changes: with a way of 40 ms that is 6 x 64 KiB at 10 Mb/s, 8 x
128 KiB at 50 Mb/s, 8 x 512 KiB at 200 Mb/s, a quarter to a third of a second of each. Four streams left a fifth of
10 Mb/s idle: the relay forces each pack to its disk before it answers.

Half of that flies while a phone is answered, a third on a slow link: its messages and ours share the hospital's link
with the packs, each would wait behind all that flies, and there are ten of them between the scan and the release. At
10 Mb/s, behind 2 x 64 KiB in one queue, a message waits 34 ms in the mean, behind three of them 88. What flies still
fills a link whose way is shorter than a tenth of a second. A link that nothing is known of yet is taken for a slow one.

Several streams, because a lost segment holds up one of them, and because one stream whose congestion control takes
each loss for congestion carries a fraction of its link.
"""

from __future__ import annotations

import math

from transfer.packs import BUCKETS

QUICK, LATE = 0.1, 0.3
"""Seconds of an answer beyond the least. A doubled pack that was quick is not late."""
_WAY = 2.0
"""Seconds after a phone's last message for which its next ones find room."""
_REST = 30.0
"""Seconds without a pack after which the way may be another."""
FEW, MOST = 6, 8
FLYING = 2**23
"""Bytes that fly at once at the most: they are in memory, here and at the receiver. With a way of 40 ms it fills any
link that a hospital has.
"""
_LADDER = [
    (FEW, FEW // 3, BUCKETS[0]),
    *((MOST, MOST // 2, bucket) for bucket in BUCKETS if MOST * bucket <= FLYING),
]
"""(streams, those beside a phone, bytes of a pack), from the slowest link to the fastest."""


class Pace:
    """One gateway's way to its relay."""

    def __init__(self) -> None:
        self._rung, self._least, self._last, self._narrow_until = 0, math.inf, 0.0, 0.0

    @property
    def streams(self) -> int:
        """Packs that may fly at once."""
        return _LADDER[self._rung][0]

    @property
    def bucket(self) -> int:
        """Bytes of the next pack's plain text."""
        return _LADDER[self._rung][2]

    def flying(self, now: float) -> int:
        """Packs that may fly at this moment: one until the first answer, for how long the way is by itself would
        never be known from several; fewer while a phone is answered.
        """
        if self._least == math.inf:
            return 1
        return _LADDER[self._rung][1] if now < self._narrow_until else self.streams

    def make_way(self, now: float) -> None:
        """A phone has said something, or will soon: times are monotonic."""
        self._narrow_until = now + _WAY

    def answered(self, size: int, began: float, now: float) -> None:
        """The relay has a pack of `size` bytes; times are monotonic.

        Only a pack of the size that is made now changes something: those on their way after a step are of another. And
        the first one, which went alone, says nothing of a queue.
        """
        if began > self._last + _REST:
            self._least = math.inf
        alone = self._least == math.inf
        self._least, self._last = min(self._least, now - began), now
        queued = now - began - self._least
        if alone or not self.bucket <= size < 2 * self.bucket:
            return
        if queued < QUICK:
            self._rung = min(self._rung + 1, len(_LADDER) - 1)
        elif queued > LATE:
            self._rung = max(self._rung - 1, 0)
