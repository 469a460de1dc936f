"""The pelvis: its bones and joints, muscles and what it holds."""

from __future__ import annotations

import numpy as np

from clients.phantom.canvas import section
from clients.phantom.torso import SIDES, Torso

_WING = ((15, -38, 4, 16), (10, -18, 20, 18), (-2, 4, 34, 18), (-16, 24, 36, 18), (-28, 42, 30, 14))
"""An iliac wing as a chain: from its middle outwards and backwards, turn, half length."""


def paint(t: Torso) -> None:
    """Iliac wings, sacrum, hips, and what they hold."""
    c, z = t.c, t.z
    _gluteal(t)
    bladder = section(z, 838, 40)
    c.ellipse(0, -24, 46 * bladder, 36 * bladder, 45)
    c.ellipse(0, -24, 43 * bladder, 33 * bladder, 4)
    c.ellipse(0, 22, 24 * section(z, 862, 28), 18 * section(z, 862, 28), 62, grain=t.fine * 5)
    if z > 800:
        c.ellipse(0, 52, 20, 18, 50)
        c.ellipse(0, 52, 15, 13, 0, grain=np.where(t.fine > 0.5, np.float32(-300), np.float32(30)))
    sacrum = section(z, 752, 66)
    if z > 716 and sacrum:
        c.bone(0, t.spine + 6, 54 * sacrum, 22 * sacrum, rind=2, cortex=700, marrow=170, grain=t.fine * 50)
        c.ellipse(0, t.spine + 16, 9, 6, 10)
        for side in SIDES:
            c.ellipse(side * 24 * sacrum, t.spine + 8, 4, 5, -20)
    c.bone(0, t.spine + 4, 9 if z > 810 else 0, 5)
    for side in SIDES:
        _wing(t, side)
        _hip(t, side)


def _wing(t: Torso, side: float) -> None:
    c, z = t.c, t.z
    wing = section(z, 745, 72)
    x = 104 - 14 * max(0.0, (z - 745) / 60)
    thick = (5.5 + 4.5 * max(0.0, (z - 745) / 70)) * wing
    # All cortex first, or the links would show
    for rind, hu in ((0.0, 950.0), (1.9, 200.0)):
        for dx, dy, turn, length in _WING:
            at = side * (x + dx * wing), 32 + dy * wing
            c.ellipse(*at, thick - rind, length * wing, hu, turn=side * turn, grain=t.fine * (24 * rind))


def _gluteal(t: Torso) -> None:
    c, z = t.c, t.z
    growth = min(1.0, max(0.0, (z - 690) / 90))
    for side in SIDES:
        c.ellipse(side * 88, 70, 66 * growth, 34 * growth, 54, turn=-side * 24, grain=t.streaks * 2)
        c.ellipse(side * 122, 28, 24 * growth, 42 * growth, 56, turn=side * 16, grain=t.streaks)
        if z > 820:
            low = min(1.0, (z - 820) / 50)
            c.ellipse(side * 106, -48, 38 * low, 30 * low, 56, turn=side * 26, grain=t.streaks)
            c.ellipse(side * 48, 4, 30 * low, 44 * low, 54, turn=-side * 14, grain=t.streaks)


def _hip(t: Torso, side: float) -> None:
    c, z = t.c, t.z
    cup = section(z, 842, 36)
    bone = t.fine * 40
    c.bone(side * 86, 2, 33 * cup, 37 * cup, rind=2.4, cortex=850, marrow=230, turn=-side * 12, grain=bone)
    c.ellipse(side * 104, 0, 30 * cup, 27 * cup, 35)
    neck = section(z, 864, 17)
    c.bone(side * 118, 6, 24 * neck, 13 * neck, turn=side * 12, rind=2, marrow=200, grain=bone)
    head = section(z, 846, 25)
    c.bone(side * 98, 0, 24 * head, 24 * head, rind=1.8, cortex=800, marrow=330, grain=t.fine * 55)
    trochanter = section(z, 866, 26)
    c.bone(side * 137, 20, 17 * trochanter, 20 * trochanter, rind=1.8, marrow=150, grain=bone)
    if z > 880:
        c.bone(side * 126, 10, 17, 17, rind=5, cortex=1350, marrow=20)
    ischium = section(z, 898, 36)
    c.bone(side * 60, 38, 15 * ischium, 21 * ischium, turn=side * 14, marrow=220, grain=bone)
    pubis = section(z, 878, 17)
    c.bone(side * 32, -44, 33 * pubis, 8 * pubis, turn=side * 24, marrow=240, grain=bone)
    ramus = section(z, 905, 18)
    c.bone(side * 36, 0, 6 * ramus, 27 * ramus, turn=-side * 34, marrow=240)
    c.ellipse(0, -52, 2.2, 15 * pubis, 90)
