"""Neck and trunk, from the skin inwards: layers, great vessels, spine; then what chest, abdomen and pelvis add."""

from __future__ import annotations

import numpy as np

from clients.phantom import abdomen, chest, pelvis
from clients.phantom.abdomen import Loop
from clients.phantom.canvas import along, section
from clients.phantom.torso import APEX, SIDES, Torso

_AORTA = np.array(
    [
        (338, 4, 8, 13),
        (352, 20, 26, 13),
        (400, 24, 28, 12.5),
        (500, 14, 26, 11.5),
        (560, 8, 18, 11),
        (690, 6, 6, 9.5),
    ],
    float,
)
_CAVA = np.array(
    [
        (300, -22, -6, 9),
        (380, -26, -4, 10),
        (425, -28, 2, 12),
        (520, -22, 18, 12),
        (600, -20, 10, 12),
        (700, -16, 14, 12),
    ],
    float,
)
_AIRWAY = np.array(
    [(150, 0, -22, 12), (195, 0, -14, 9), (215, 0, -14, 8), (260, 0, -4, 9), (362, 0, 10, 9)], float
)


def paint(t: Torso, loops: list[Loop]) -> None:
    """A slice of the trunk; `loops` are this patient's bowel."""
    z = t.z
    _body(t)
    if APEX - 25 < z < 548:
        chest.paint(t)
    if z > 455:
        abdomen.paint(t, loops)
    paint_neck(t)
    if 255 < z < 430:
        chest.paint_girdle(t)
    if APEX < z < 640:
        chest.paint_ribs(t)
    if z > 685:
        pelvis.paint(t)


def paint_neck(t: Torso) -> None:
    """Vessels and spine, and what else the neck has and the head has not."""
    _vessels(t)
    _vertebra(t)
    _neck(t)


def _body(t: Torso) -> None:
    """Skin, fat, the muscular wall, paraspinal and chest muscles."""
    c, z = t.c, t.z
    everything = slice(None), slice(None)
    for cover, hu in (
        (t.inside(0), 15.0),
        (t.inside(2.0), -104 + t.fine * 7),
        (t.inside(t.fat), 54 + t.streaks),
    ):
        c.blend(everything, cover, hu)
    shoulder = section(z, 312, 58)
    if shoulder:
        for side in SIDES:
            c.ellipse(side * 158, 10, 44 * shoulder, 52 * shoulder, 10)
            c.ellipse(side * 158, 10, 42 * shoulder, 50 * shoulder, -100)
            c.ellipse(side * 156, 10, 35 * shoulder, 42 * shoulder, 55, grain=t.streaks)
    if z > APEX:
        inner = -98 if z > 500 else 10
        c.blend(everything, t.cavity, inner + t.fine * 6)
        back = min(1.0, max(0.0, (775 - z) / 60))
        for side in SIDES:
            c.ellipse(side * 34, t.spine + 34, 32 * back, 24 * back, -70, turn=-side * 16)
            c.ellipse(side * 32, t.spine + 33, 28 * back, 20 * back, 56, turn=-side * 16, grain=t.streaks)


def _vessels(t: Torso) -> None:
    """Aorta with its arch and branches, venae cavae, pulmonary trunk."""
    c, z = t.c, t.z
    if 338 < z < 700:
        x, y, r = along(z, _AORTA)
        c.ellipse(x, y, r + 1.2, r + 1.2, 60)
        c.ellipse(x, y, r, r, 185)
    arch = section(z, 340, 11)
    c.ellipse(4, -6, 13 * arch, 34 * arch, 185, turn=-32)
    if 348 < z < 405:
        c.ellipse(-8, -30, 16, 16, 185)
        trunk = section(z, 376, 20)
        c.ellipse(22, -26, 14 * trunk, 24 * trunk, 190, turn=-40)
    if 300 < z < 712:
        x, y, r = along(z, _CAVA)
        c.ellipse(x, y, r, r * 0.82, 150)
    if 268 < z < 332:
        for x, y, r in ((-14, -14, 6), (6, -16, 4.5), (18, -8, 5), (-30, -20, 8), (24, -24, 7)):
            c.ellipse(x, y, r, r, 180)
    if z > 690:
        out = (z - 690) * 0.52
        for side in SIDES:
            c.ellipse(side * min(62, 8 + out), 8 - min(52, (z - 690) * 0.38), 5.5, 5.5, 175)
            c.ellipse(side * min(64, 14 + out), 18 - min(52, (z - 690) * 0.38), 6.5, 6, 140)
    if z < 362:
        x, y, r = along(z, _AIRWAY)
        c.ellipse(x, y, r + 2, r + 1.8, 90 if z > 200 else 45)
        c.ellipse(x, y, r, r * 0.85, -990)


def _neck(t: Torso) -> None:
    """Carotids and jugular veins, thyroid, muscles of the neck."""
    c, z = t.c, t.z
    if z > 275:
        return
    for side in SIDES:
        c.ellipse(side * 40, 18, 12, 20, -60, turn=side * 30)
        c.ellipse(side * 43, 10, 9, 18, 60, turn=side * 35, grain=t.streaks * 0.5)
        c.ellipse(side * 27, 36, 17, 22, 58, turn=-side * 22, grain=t.streaks)
        c.ellipse(side * 26, 2, 4, 4, 190)
        c.ellipse(side * 34, 4, 6.5, 5.5, 165)
        lobe = section(z, 248, 18)
        c.ellipse(side * 14, -4, 6.5 * lobe, 10 * lobe, 135)
    cartilage = section(z, 222, 13)
    c.ellipse(0, -16, 15 * cartilage, 15 * cartilage, 240)
    c.ellipse(0, -14, 12.5 * cartilage, 13 * cartilage, 60)
    c.ellipse(0, -13, 5.5 * cartilage, 9 * cartilage, -980)


def _vertebra(t: Torso) -> None:
    """One height of the spine: bodies and discs take turns, arches and processes behind."""
    c, z, y = t.c, t.z, t.spine
    if z > 722:
        return
    grown = min(1.0, max(0.0, (z - 150) / 450))
    rx, ry, pitch = 11 + 13 * grown, 8.5 + 9 * grown, 17 + 15 * grown
    phase = (z % pitch) / pitch
    canal = y + ry + 9
    arch = 1450 if phase < 0.7 else 900
    c.bone(0, canal, 14 + 2 * grown, 11.5, rind=2.2, cortex=arch * 0.65, marrow=260, grain=t.fine * 45)
    for side in SIDES:
        if phase < 0.6:
            c.bone(side * (16 + 12 * grown), canal + 2, 12 + 7 * grown, 4.5, turn=side * 20, marrow=200)
        c.bone(side * (12 + 4 * grown), canal + 7, 6, 7, turn=side * 15, rind=2, cortex=900, marrow=350)
    c.bone(0, canal + 17 + 8 * grown, 3.6, 12 + 6 * grown, marrow=260)
    if phase < 0.72:
        edge = min(phase, 0.72 - phase) < 0.07
        c.bone(0, y, rx, ry, rind=1.5, cortex=780, marrow=560 if edge else 190, grain=t.fine * 38)
    else:
        c.ellipse(0, y, rx + 0.5, ry + 0.5, 95)
    c.ellipse(0, canal, 10.5, 8.2, -20)
    c.ellipse(0, canal, 8.5, 6.6, 18)
    c.ellipse(0, canal, 5.5, 4.2, 40 if z < 600 else 22)
