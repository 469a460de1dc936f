"""A slice to paint on: Hounsfield units over millimetres, with edges as soft as a scanner's.

Coordinates are the patient's (PS3.3 C.7.6.2.1.1): x grows to the patient's left, which is the right of the
picture, y to the back, which is down. Every shape is an ellipse, and nothing looks like one: the coordinates
themselves are bent a little, differently in each slice, by a smooth field.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float32]
_BEND = 10.0
"""Millimetres that the coordinates may be bent: bounding boxes are wider by it."""


class Canvas:
    """`size` x `size` pixels over `fov` millimetres around (`x`, `y`)."""

    def __init__(self, size: int, fov: float, x: float = 0.0, y: float = 0.0) -> None:
        self.size, self.pixel = size, fov / size
        axis = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(self.pixel)
        self.columns, self.rows = axis + np.float32(x), axis + np.float32(y)
        self.hu: Grid = np.empty((size, size), np.float32)
        self.xs = self.ys = self.hu

    def clear(self, bend_x: Grid | float = 0.0, bend_y: Grid | float = 0.0) -> None:
        """Air, and coordinates bent by so many millimetres."""
        self.hu.fill(-1000.0)
        self.xs = self.columns[None, :] + bend_x + np.zeros_like(self.hu)
        self.ys = self.rows[:, None] + bend_y + np.zeros_like(self.hu)

    def box(self, x: float, y: float, reach_x: float, reach_y: float) -> tuple[slice, slice]:
        """The pixels that a shape of that reach around (x, y) can touch."""
        x0, x1 = np.searchsorted(self.columns, (x - reach_x - _BEND, x + reach_x + _BEND))
        y0, y1 = np.searchsorted(self.rows, (y - reach_y - _BEND, y + reach_y + _BEND))
        return slice(int(y0), int(y1)), slice(int(x0), int(x1))

    def cover(
        self, x: float, y: float, rx: float, ry: float, turn: float = 0.0, soft: float = 1.0
    ) -> tuple[tuple[slice, slice], Grid]:
        """How much of each pixel an ellipse covers, 0 to 1, within its box. `turn` in degrees, clockwise."""
        c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        box = self.box(x, y, math.hypot(rx * c, ry * s), math.hypot(rx * s, ry * c))
        u, v = self.xs[box] - np.float32(x), self.ys[box] - np.float32(y)
        if turn:
            u, v = u * np.float32(c) + v * np.float32(s), v * np.float32(c) - u * np.float32(s)
        u *= np.float32(1 / rx)
        v *= np.float32(1 / ry)
        u *= u
        v *= v
        u += v
        # The square of the radius passes 1 with slope 2 / radius
        steep = np.float32(min(rx, ry) / (2 * self.pixel * soft))
        np.subtract(1, u, out=u)
        u *= steep
        u += np.float32(0.5)
        return box, np.clip(u, 0, 1, out=u)

    def blend(self, box: tuple[slice, slice], cover: Grid, hu: Grid | float) -> None:
        """Paints `hu` where `cover` says."""
        part = self.hu[box]
        part += cover * (hu - part)

    def ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        hu: float,
        *,
        turn: float = 0.0,
        soft: float = 1.0,
        grain: Grid | None = None,
        within: Grid | None = None,
    ) -> None:
        """An ellipse of `hu` plus `grain`; `within`, both as large as the canvas, limits it."""
        if min(rx, ry) < 0.2 or abs(x) > 400:
            return
        box, cover = self.cover(x, y, rx, ry, turn, soft)
        if not cover.size:
            return
        if within is not None:
            cover *= within[box]
        self.blend(box, cover, hu if grain is None else hu + grain[box])

    def bone(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        *,
        turn: float = 0.0,
        rind: float = 1.8,
        cortex: float = 1050.0,
        marrow: float = 230.0,
        grain: Grid | None = None,
    ) -> None:
        """An ellipse with a dense rind of `rind` millimetres around marrow."""
        self.ellipse(x, y, rx, ry, cortex, turn=turn)
        if min(rx, ry) > rind:
            self.ellipse(x, y, rx - rind, ry - rind, marrow, turn=turn, grain=grain)

    def mask(self, x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Grid:
        """The cover of an ellipse on a canvas of its own."""
        whole: Grid = np.zeros_like(self.hu)
        if min(rx, ry) > 0.2:
            box, cover = self.cover(x, y, rx, ry, turn)
            whole[box] = cover
        return whole


def section(z: float, middle: float, radius: float) -> float:
    """How wide an ellipsoid is at `z`, 0 to 1 of its width in the middle."""
    t = (z - middle) / radius
    return math.sqrt(1 - t * t) if abs(t) < 1 else 0.0


def along(z: float, knots: Any) -> NDArray[np.float64]:
    """A row between the rows of `knots`, whose first column is z; the ends go on unchanged."""
    at = np.clip(z, knots[0, 0], knots[-1, 0])
    i = min(int(np.searchsorted(knots[:, 0], at, side="right")), len(knots) - 1)
    t = (at - knots[i - 1, 0]) / (knots[i, 0] - knots[i - 1, 0])
    return np.asarray(knots[i - 1, 1:] * (1 - t) + knots[i, 1:] * t)
