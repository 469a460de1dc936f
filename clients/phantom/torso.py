"""One slice of the trunk before anything is in it: its outline, its layers, the textures at this height.

Heights are millimetres below the vertex.
"""

from __future__ import annotations

import numpy as np

from clients.phantom.canvas import Canvas, Grid, along

SIDES = (-1.0, 1.0)
"""The patient's right and left."""
APEX = 262.0
"""The apex of the lungs: below it there is a cavity."""
_SHAPE = np.array(
    # z, half width, half depth, y of the middle, fat under the skin, wall, y of the vertebral bodies
    [
        (140, 73, 93, -4, 4, 6, 20), (185, 62, 82, 0, 5, 8, 22), (205, 59, 75, 4, 5, 10, 22),
        (225, 60, 67, 9, 5, 12, 23),
        (250, 68, 63, 14, 6, 14, 27), (270, 100, 68, 16, 8, 16, 33), (290, 148, 78, 12, 10, 20, 39),
        (315, 172, 90, 7, 12, 24, 44), (345, 176, 102, 2, 14, 25, 48), (390, 172, 113, -2, 14, 22, 53),
        (440, 168, 119, -4, 15, 19, 56), (490, 164, 118, -4, 16, 17, 52), (540, 160, 114, -4, 18, 16, 45),
        (610, 157, 110, -4, 22, 15, 37), (680, 162, 112, -4, 25, 15, 34), (740, 176, 115, -2, 26, 16, 50),
        (800, 186, 115, 0, 27, 18, 74), (850, 188, 110, 2, 28, 20, 86), (900, 184, 104, 4, 27, 20, 92),
        (960, 178, 98, 6, 26, 20, 92),
    ],
    dtype=float,
)  # fmt: skip


class Torso:
    """What every part of the trunk is painted with and measured by."""

    def __init__(self, canvas: Canvas, z: float, coarse: Grid, veins: Grid, fine: Grid) -> None:
        """Fields of unit variance: `coarse` for organs, `veins` for vessels, `fine` for muscle, bone, parenchyma."""
        self.c, self.z, self.coarse, self.fine = canvas, z, coarse, fine
        self.a, self.b, self.y, self.fat, self.wall, self.spine = along(z, _SHAPE)
        # Vessels are where a field changes sign; a second field breaks the lines up into twigs and dots
        self.tubes = np.clip(1.2 - np.abs(veins) * 7, 0, 1) * np.clip(coarse * 1.6 + 0.35, 0, 1)
        self.dots = np.clip(fine * 2.2 - 4.2, 0, 1)
        self.streaks = np.minimum(fine, 0) * np.float32(26)
        self.cavity = self.inside(self.fat + self.wall)

    def inside(self, inset: float) -> Grid:
        """The body's outline, `inset` millimetres further in: flatter in front and behind than an ellipse."""
        a, b = self.a - inset, self.b - inset
        whole = self.c.mask(0, self.y, a * 0.94, b)
        for side in SIDES if self.z > APEX else ():
            np.maximum(whole, self.c.mask(side * a * 0.24, self.y, a * 0.76, b * 0.95), out=whole)
        return whole
