"""The chest: lungs and heart, and the bones around them."""

from __future__ import annotations

import math

import numpy as np

from clients.phantom.canvas import along, section
from clients.phantom.torso import APEX, SIDES, Torso

_MEDIASTINUM = np.array(
    [(262, 30, 40), (300, 34, 50), (350, 33, 58), (400, 36, 62), (470, 34, 56), (548, 26, 40)], float
)
"""z, half width, half depth."""


def paint(t: Torso) -> None:
    """Lungs with their vessels, then what lies between them."""
    c, z = t.c, t.z
    a, b = t.a - t.fat - t.wall, t.b - t.fat - t.wall
    apex = min(1.0, section(z, 345, 345 - APEX)) if z < 345 else 1.0
    if apex:
        inner = 1 + 0.8 * np.clip(1 - np.abs(c.xs) / np.float32(a), 0, 1)
        vessels = np.maximum(t.tubes * inner, t.dots)
        lung = -868 + t.coarse * 14 + t.fine * 14 + vessels * np.float32(480)
        lung += np.clip(c.ys, -60, 90) * np.float32(0.45)
        rx, ry = a * 0.50 * apex, b * 0.98 * apex
        for side in SIDES:
            c.ellipse(side * a * 0.55, t.y + 6, rx, ry, 0, turn=-side * 6, grain=lung, within=t.cavity)
    rx, ry = along(z, _MEDIASTINUM)
    c.ellipse(2, -4, rx, ry, -80, grain=t.fine * 8, within=t.cavity)
    c.ellipse(0, t.spine, 34, 26, 20, within=t.cavity)
    _heart(t)
    for side in SIDES:
        hilum = section(z, 378, 34)
        c.ellipse(side * 34 + 3, 10, 20 * hilum, 9 * hilum, 150, turn=side * 22, within=t.cavity)
        c.ellipse(side * 32, 16, 5.5 * hilum, 6 * hilum, -985)
    c.ellipse(2, 33, 7, 5, 45)
    c.bone(0, t.y - t.b + t.fat + 12, 17 if 290 < z < 470 else 0, 5.5, marrow=180)


def _heart(t: Torso) -> None:
    c, z = t.c, t.z
    size = section(z, 432, 58)
    if not size:
        return
    c.ellipse(22, -24, 68 * size, 56 * size, -85, turn=28, within=t.cavity)
    c.ellipse(22, -24, 63 * size, 50 * size, 105, turn=28, grain=t.fine * 5, within=t.cavity)
    c.ellipse(40, -22, 25 * size, 34 * section(z, 440, 44), 175, turn=48)
    c.ellipse(2, -44, 30 * size, 22 * section(z, 436, 48), 165, turn=20)
    c.ellipse(14, 12, 36 * size, 17 * section(z, 415, 34), 170, turn=8)
    c.ellipse(-26, -18, 17 * size, 25 * section(z, 425, 40), 168, turn=-12)


def paint_girdle(t: Torso) -> None:
    """Shoulder blades, collar bones, heads of the humeri."""
    c, z = t.c, t.z
    for side in SIDES:
        blade = section(z, 355, 72)
        x = 92 + 30 * max(0.0, (340 - z) / 80)
        c.ellipse(side * x, t.y + t.b - 34, 40 * blade, 13 * blade, 56, turn=side * 32, grain=t.streaks)
        c.bone(side * x, t.y + t.b - 32, 38 * blade, 3.0, turn=side * 34, rind=1.4, cortex=900)
        head = section(z, 318, 25)
        c.bone(side * 156, 4, 24 * head, 24 * head, rind=2.2, marrow=280, grain=t.fine * 50)
        socket = section(z, 322, 20)
        c.bone(side * 126, 14, 5 * socket, 15 * socket, turn=-side * 12)
        collar = section(z, 291, 13)
        x, y = side * (48 + (300 - z) * 2.4), -34 + (z - 290) * 0.6
        c.bone(x, y, 34 * collar, 6.5 * collar, turn=side * 16, rind=2)


def paint_ribs(t: Torso) -> None:
    """Each rib goes down from the spine around to the front: a slice cuts it once, slantwise."""
    c, z = t.c, t.z
    rx = t.a - t.fat - t.wall + 5
    ry = t.b - t.fat - t.wall + 5
    for k in range(12):
        start = 262 + 24.5 * k
        drop = 46 + 7.5 * k if k < 8 else 80.0
        way = (z - start) / drop
        if not 0 <= way <= (1 if k < 10 else 0.55):
            continue
        # 0 at the spine, pi at the breastbone
        angle = math.acos(1 - 2 * way)
        x, y = rx * math.sin(angle) * 0.99, t.y + ry * math.cos(angle)
        slope = drop / 2 * max(0.25, math.sin(angle)) / 150
        length = min(22.0, 6.5 / max(0.2, slope))
        turn = math.degrees(math.atan2(-ry * math.sin(angle), rx * math.cos(angle)))
        cartilage = way > 0.86
        for side in SIDES:
            if cartilage:
                c.ellipse(side * x, y, length, 5.0, 120, turn=side * turn)
            else:
                c.bone(side * x, y, length, 4.8, turn=side * turn, rind=1.5, cortex=1000, marrow=180)
