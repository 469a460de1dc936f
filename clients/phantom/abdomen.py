"""The abdomen: liver, spleen, stomach, bowel, kidneys, pancreas."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clients.phantom.canvas import section
from clients.phantom.torso import SIDES, Torso

_COLON = (
    (-104, 8, 720), (-106, 10, 690), (-104, 6, 660), (-100, -4, 630), (-84, -40, 615), (-56, -68, 622),
    (-22, -76, 632), (14, -76, 630), (48, -68, 612), (78, -42, 590), (104, 2, 580), (110, 18, 615),
    (112, 18, 655), (110, 12, 695), (100, 0, 735), (74, 8, 770), (40, 24, 790), (14, 50, 805),
)  # fmt: skip
"""Its course, from the caecum up, across and down again: x, y, z."""


class Loop(NamedTuple):
    """A piece of bowel: an ellipsoid with a wall, and gas above its fluid where `gas` is set."""

    x: float
    y: float
    z: float
    r: float
    rz: float
    turn: float
    gas: bool
    colon: bool


def bowel(rng: np.random.Generator) -> list[Loop]:
    """Small bowel and colon of this patient."""
    loops = []
    for _ in range(95):
        z = rng.uniform(600, 815)
        wide = 95 if z < 740 else 62
        x, y, r, rz = rng.uniform((-wide, -78, 9, 12), (wide, -8, 15, 34))
        loops.append(Loop(x, y, z, r, rz, turn=rng.uniform(0, 180), gas=rng.random() < 0.16, colon=False))
    for x, y, z in _COLON:
        loops.append(Loop(x, y, z, rng.uniform(17, 23), 27, turn=0, gas=rng.random() < 0.6, colon=True))
    return loops


def paint(t: Torso, loops: list[Loop]) -> None:
    """Domes of the diaphragm, then the organs from back to front."""
    c, z, inside = t.c, t.z, t.cavity
    dome = section(z, 570, 92) if z < 570 else 1.0
    if z < 548:
        c.ellipse(72, 2, 72 * dome, 82 * dome, 55, within=inside)
        c.ellipse(72, 2, 70 * dome, 80 * dome, -95, within=inside, grain=t.fine * 6)
    _bowel(t, loops)
    _stomach(t)
    liver = np.asarray(108 + t.fine * 3 + t.tubes * 40, np.float32)
    right = section(z, 552, 98)
    c.ellipse(-72, -2, 72 * right, 88 * right, 0, turn=-14, grain=liver, within=inside)
    left = section(z, 545, 52)
    c.ellipse(0, -52, 66 * left, 33 * left, 0, turn=-14, grain=liver, within=inside)
    _retroperitoneum(t)
    c.ellipse(-42, -62, 15 * section(z, 598, 26), 19 * section(z, 598, 26), 8, turn=20)
    spleen = section(z, 540, 54)
    c.ellipse(102, 34, 27 * spleen, 45 * spleen, 122, turn=16, grain=t.fine * 3, within=inside)


def _retroperitoneum(t: Torso) -> None:
    """Psoas, kidneys with cortex, medulla and sinus, pancreas."""
    c, z = t.c, t.z
    for side in SIDES:
        psoas = min(1.0, max(0.0, (z - 570) / 90)) * (1.0 if z < 800 else max(0.3, 1 - (z - 800) / 120))
        out = 0.0 if z < 690 else (z - 690) * 0.42
        x, y = side * (36 + out), t.spine + 2 - 1.25 * out
        c.ellipse(x, y, 19 * psoas, 21 * psoas, 58, turn=side * 20, grain=t.streaks)
        if z < 690:
            c.ellipse(side * 68, t.spine + 26, 22 * psoas, 11 * psoas, 57, turn=-side * 22, grain=t.streaks)
        kidney = section(z, 612 if side < 0 else 600, 54)
        if kidney:
            x, y, turn = side * 64, t.spine + 4, side * 34
            c.ellipse(x, y, 25 * kidney, 30 * kidney, 185, turn=turn, grain=t.fine * 4)
            medulla = np.where(t.coarse > -0.1, np.float32(0), np.float32(40))
            c.ellipse(x, y, 18 * kidney, 22 * kidney, 145, turn=turn, grain=medulla)
            c.ellipse(x - side * 9 * kidney, y - 5 * kidney, 12 * kidney, 11 * kidney, -65, turn=turn)
            c.ellipse(x - side * 7 * kidney, y - 4 * kidney, 5 * kidney, 6 * kidney, 20, turn=turn)
    pancreas = section(z, 588, 20)
    lobes = np.where(t.fine > 0.9, np.float32(-70), np.float32(0))
    c.ellipse(22, -14, 60 * pancreas, 12 * pancreas, 98, turn=14, grain=lobes)
    c.ellipse(-24, -16, 17 * pancreas, 19 * pancreas, 98, grain=lobes)
    c.ellipse(14, -2, 50 * pancreas, 4.5 * pancreas, 165, turn=14)
    c.ellipse(2, -14, 5.5 if 580 < z < 690 else 0, 5.5, 170)


def _stomach(t: Torso) -> None:
    c, z = t.c, t.z
    size = section(z, 545, 62)
    c.ellipse(58, -42, 43 * size, 45 * size, 85, turn=-24, within=t.cavity)
    c.ellipse(58, -42, 39 * size, 41 * size, 28, turn=-24, within=t.cavity, grain=t.coarse * 5)
    gas = t.cavity * (t.c.rows[:, None] < -56)
    c.ellipse(58, -42, 38.5 * size, 40.5 * size, -985, turn=-24, within=gas)


def _bowel(t: Torso, loops: list[Loop]) -> None:
    """Mesentery with its vessels, then the loops that reach this slice."""
    c, z, inside = t.c, t.z, t.cavity
    mesentery = section(z, 690, 110)
    c.ellipse(0, -30, 80 * mesentery, 42 * mesentery, 0, within=inside, grain=-100 + t.tubes * 210)
    stool = np.where(t.fine > 0.3, np.float32(-240), np.float32(35)) + t.coarse * 25
    for i, loop in enumerate(loops):
        size = section(z, loop.z, loop.rz)
        if not size:
            continue
        r, ry = loop.r * size, loop.r * size * (0.95 if loop.colon else 0.72)
        c.ellipse(loop.x, loop.y, r, ry, 70 if loop.colon else 95, turn=loop.turn, within=inside)
        inner = max(0.1, r - 2.6), max(0.1, ry - 2.6)
        content = stool if loop.colon else 24 + t.coarse * 8 + (i % 3) * 8
        c.ellipse(loop.x, loop.y, *inner, 0, turn=loop.turn, grain=content)
        if loop.gas:
            top = np.broadcast_to(
                c.rows[:, None] < loop.y - (0.1 if loop.colon else 0.25) * loop.r, c.hu.shape
            ).astype(np.float32)
            c.ellipse(loop.x, loop.y, *inner, -990, turn=loop.turn, within=top)
