"""The scanner: anatomy at a height, the table under it, the noise of the reconstruction, stored as a CT stores it.

Stored values are Hounsfield units + 1024 in 12 bits of a 16-bit container; outside the reconstructed circle
they are 0, as scanners write it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.phantom import trunk
from clients.phantom.abdomen import bowel
from clients.phantom.canvas import Canvas, Grid
from clients.phantom.head import Head
from clients.phantom.texture import Cloud, Grain
from clients.phantom.torso import Torso

INTERCEPT = -1024
NECK = 205.0
"""Below this height the trunk is painted, above it the head."""
END = 940.0
"""Where the scan ends, at the ischia."""
SHADOW_STEP = 4.0
"""Millimetres between two rows of a scout before they are drawn out."""


class Protocol:
    """How a series is reconstructed: matrix, field of view in millimetres, kernel and noise."""

    def __init__(
        self, rng: np.random.Generator, fov: float, y: float, sharpness: float, noise: float
    ) -> None:
        self.canvas = Canvas(512, fov, 0.0, y)
        self.grain = Grain(rng, 512, sharpness)
        self.noise = noise
        axis = np.linspace(-1, 1, 512, dtype=np.float32)
        radius = np.hypot(axis[None, :], axis[:, None])
        self.outside = radius > 1
        # Noise is highest in the middle, where every ray has crossed most of the body
        self.depth: Grid = np.asarray(0.45 + 0.75 * np.exp(-2.6 * radius * radius), np.float32)


class Scanner:
    """Scans one patient, who is made from `seed`."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._bend = Cloud(rng, 5, 45, 24), Cloud(rng, 5, 45, 24)
        self._folds = Cloud(rng, 26, 9, 60)
        self._coarse = Cloud(rng, 40, 14, 70)
        self._veins = Cloud(rng, 58, 9, 60)
        self._fine = Grain(rng, 512, 0.26)
        self._loops = bowel(rng)
        self.head = Protocol(rng, 240, -4, 0.7, 4.5)
        self.body = Protocol(rng, 460, 4, 1.3, 19.5)
        self._rng = rng
        self._coarse_canvas = Canvas(170, 510, 0, 0)

    def anatomy(self, canvas: Canvas, z: float) -> Grid:
        """Hounsfield units at `z`, without noise."""
        size = canvas.size
        bend = np.float32(1.7 if z < NECK else 3.0)
        canvas.clear(self._bend[0].at(z, size) * bend, self._bend[1].at(z, size) * bend)
        fine = self._fine.next()[:size, :size]
        if z < NECK:
            Head(canvas, z, self._folds.at(z, size), fine).paint()
        if z > 141:
            torso = Torso(canvas, z, self._coarse.at(z, size), self._veins.at(z, size), fine)
            if z < NECK:
                trunk.paint_neck(torso)
            else:
                trunk.paint(torso, self._loops)
        self._table(canvas, z)
        return canvas.hu

    def axial(self, protocol: Protocol, z: float) -> NDArray[np.uint16]:
        """The stored slice at `z`."""
        hu = self.anatomy(protocol.canvas, z)
        noise = protocol.grain.next()
        noise *= protocol.depth
        hu += noise * np.float32(protocol.noise)
        return self._stored(hu, protocol.outside)

    def shadow(self, z: float) -> tuple[Grid, Grid]:
        """What the body at `z` takes from rays from the front and from the side: a row of each scout."""
        hu = self.anatomy(self._coarse_canvas, z)
        density = np.maximum(hu + 1000, 0) * np.float32(self._coarse_canvas.pixel / 1000)
        return density.sum(0), density.sum(1)

    def scout(self, rows: Grid) -> NDArray[np.uint16]:
        """The rows of `shadow` as a stored projection of 512 columns and one row for each millimetre."""
        height = int(rows.shape[0] * SHADOW_STEP)
        tall = np.array(
            [np.interp(np.arange(height) / SHADOW_STEP, np.arange(len(rows)), c) for c in rows.T]
        ).T
        wide = np.array(
            [np.interp(np.linspace(0, rows.shape[1] - 1, 512), np.arange(rows.shape[1]), r) for r in tall]
        )
        # As a scanner scales it: fat and lung below zero, the densest twentieth near 900; the noise of few photons
        body = wide[wide > 20]
        middle, dense = np.percentile(body, (45, 97))
        hu = np.asarray((wide - middle) * (800 / (dense - middle)), np.float32)
        hu += self._rng.standard_normal(hu.shape, dtype=np.float32) * np.float32(9)
        return self._stored(hu, wide < 0)

    def _stored(self, hu: Grid, outside: NDArray[np.bool_]) -> NDArray[np.uint16]:
        hu += np.float32(0.5 - INTERCEPT)
        stored = np.clip(hu, 0, 4095, out=hu).astype(np.uint16)
        stored[outside] = 0
        return stored

    def _table(self, canvas: Canvas, z: float) -> None:
        """The couch: a shell of carbon fibre around foam; a holder of the same under the head."""
        canvas.xs = canvas.columns[None, :] + np.zeros_like(canvas.hu)
        canvas.ys = canvas.rows[:, None] + np.zeros_like(canvas.hu)
        air = (canvas.hu < -930).astype(np.float32)
        if z < NECK + 20:
            below = np.asarray(canvas.ys > 20, np.float32) * air
            canvas.ellipse(0, 10, 106, 112, -350, within=below)
            canvas.ellipse(0, 10, 103, 109, -940, within=below)
            canvas.ellipse(0, 9, 99, 105, -1000, within=below)
        else:
            air *= canvas.ys > 60
            canvas.ellipse(0, -160, 560, 294, -420, within=air)
            canvas.ellipse(0, -160, 557, 291, -950, within=air)
            canvas.ellipse(0, -350, 900, 478, -400, within=air)
            canvas.ellipse(0, -350, 900, 475.5, -1000, within=air)
