"""Head and upper neck, painted slice by slice. Heights are millimetres below the vertex."""

from __future__ import annotations

import math

import numpy as np

from clients.phantom.canvas import Canvas, Grid, along, section

_OUTLINE = np.array(
    # z, half width, half depth, y of the middle
    [
        (0, 14, 16, 6), (4, 36, 44, 5), (10, 51, 63, 4), (25, 67, 84, 2), (45, 75, 93, 0), (70, 79, 98, -2),
        (95, 79, 98, -3), (120, 77, 97, -4), (145, 73, 93, -4), (165, 67, 88, -2), (185, 62, 82, 0),
        (205, 59, 75, 4), (225, 60, 66, 9),
    ],
    dtype=float,
)  # fmt: skip
_SIDES = (-1.0, 1.0)


class Head:
    """Paints a slice of the head. The fields are of unit variance and as large as the canvas."""

    def __init__(self, canvas: Canvas, z: float, folds: Grid, cells: Grid) -> None:
        """`folds`: coarse, for gyri; `cells`: fine, for air cells, bone and parenchyma."""
        self.c, self.z, self.folds, self.cells = canvas, z, folds, cells
        self.a, self.b, self.y = along(z, _OUTLINE)
        self.foam = np.where(cells > 0, np.float32(-850), np.float32(500))

    def paint(self) -> None:
        """All of it, from the skin inwards."""
        self._skin()
        if self.z < 142:
            self._skull()
        if self.z < 100:
            self._cerebrum()
        elif self.z < 150:
            self._base()
            self._posterior_fossa()
        if self.z > 84:
            self._face()
        if self.z > 150:
            self._jaw()

    def _skin(self) -> None:
        c, a, b, y = self.c, self.a, self.b, self.y
        c.ellipse(0, y, a, b, 25)
        c.ellipse(0, y, a - 1.6, b - 1.6, -85, grain=self.cells * 10)
        inset = 3.5 if self.z < 100 else 5.0
        c.ellipse(0, y, a - inset, b - inset, 45, grain=np.minimum(self.cells, 0.5) * 22)
        # The nose and the ears
        c.ellipse(0, y - b, 9, 15 * section(self.z, 133, 24), 30)
        for side in _SIDES:
            c.ellipse(side * (a + 3), 16, 4.5, 15 * section(self.z, 125, 28), 5, turn=side * 25)

    def _skull(self) -> None:
        """The calvarium: two tables with diploe between them. Below the orbits only its back is left."""
        c = self.c
        a, b = self.a - 5, self.b - 5
        y, cut = self.y, 0.0
        if self.z > 100:
            cut = min(1.0, (self.z - 100) / 40)
            y, b, a = self.y + 40 * cut, b - 42 * cut, a - 26 * max(0.0, cut - 0.55)
        c.ellipse(0, y, a, b, 1500, soft=1.2)
        if min(a, b) > 8:
            c.ellipse(0, y, a - 1.9, b - 2.1, 680, grain=self.cells * 120)
            c.ellipse(0, y, a - 4.6, b - 5.0, 1450)
            c.ellipse(0, y, a - 6.6, b - 7.2, 14)
        self.inner = (y, a - 7.2, b - 7.8)

    def _cerebrum(self) -> None:
        """Cortex, white matter, ventricles, basal ganglia, falx; and a small haematoma under the skull."""
        c, z = self.c, self.z
        y, a, b = self.inner
        if min(a, b) < 6:
            return
        box, grey = c.cover(0, y, a, b)
        u, v = c.xs[box] / np.float32(a), (c.ys[box] - np.float32(y)) / np.float32(b)
        depth = 1 - np.sqrt(u * u + v * v)
        folds, cells = self.folds[box], self.cells[box]
        # Sulci: where the folds change sign, near the surface
        sulci = np.clip(1.3 - np.abs(folds) * 4.5, 0, 1) * np.clip(1.3 - depth * 5.5, 0, 1)
        c.blend(box, grey * (1 - 0.85 * sulci), 37 + cells * np.float32(1.2))
        white = np.clip((depth - 0.17 + folds * np.float32(0.055)) * 16, 0, 1) * np.clip(
            np.abs(u) * 26 - 0.8, 0, 1
        )
        c.blend(box, grey * white, 28 + cells * np.float32(0.8))
        self._deep(y, a, b)
        # Interhemispheric fissure and falx; higher up the sinus at its back, which has contrast
        if z < 62:
            c.ellipse(0, y, 1.4, b * 0.98, 14)
            c.ellipse(0, y, 0.6, b, 55)
        else:
            for end in (-0.74, 0.78):
                c.ellipse(0, y + end * b, 1.2, b * 0.22, 20)
                c.ellipse(0, y + end * b, 0.6, b * 0.24, 55)
        c.ellipse(0, y + b * 0.985, 4.0, 3.2, 70)
        lens = section(z, 52, 24)
        if lens:
            y0, a0, b0 = self.inner
            within = c.mask(0, y0, a0 + 0.6, b0 + 0.6)
            c.ellipse(a0 * 0.97, y0 - 8, 7 * lens, 27 * lens, 66, turn=4, grain=self.cells * 4, within=within)

    def _deep(self, y: float, a: float, b: float) -> None:
        c, z = self.c, self.z
        for side in _SIDES:
            nuclei = section(z, 74, 15)
            c.ellipse(side * 23, y - 4, 6 * nuclei, 17 * nuclei, 39, turn=side * 18)
            c.ellipse(side * 10, y + 10, 8.5 * nuclei, 13 * nuclei, 39, turn=-side * 20)
            c.ellipse(side * 11.5, y - 24, 4 * nuclei, 9 * nuclei, 39, turn=side * 25)
            # Sylvian fissure with the insula behind it
            fissure = section(z, 82, 18)
            c.ellipse(side * a * 0.66, y - 12, 9 * fissure, 1.7, 12, turn=-side * 12)
            c.ellipse(side * a * 0.5, y - 6, 1.6, 12 * fissure, 14, turn=side * 10)
            # Lateral ventricles: bodies above, frontal horns, occipital horns and plexus below
            body = section(z, 58, 16)
            c.ellipse(side * 9, y - 2, 5.2 * body, 33 * body, 7, turn=side * 9)
            horn = section(z, 70, 14)
            c.ellipse(side * 8, y - 27, 3.6 * horn, 13 * horn, 7, turn=side * 24)
            c.ellipse(side * 22, y + 33, 4.6 * horn, 18 * horn, 7, turn=-side * 24)
            c.ellipse(side * 19, y + 26, 2.4 * horn, 5 * horn, 120 if horn > 0.3 else 30, turn=-side * 24)
        third = section(z, 80, 13)
        c.ellipse(0, y + 4, 1.9 * third, 13 * third, 7)
        c.ellipse(0, y + 21, 2.4, 2.4, 160 if third > 0.6 else 36)
        # Cisterns around the midbrain
        cistern = section(z, 95, 10)
        c.ellipse(0, y - 2, 16 * cistern, 15 * cistern, 10)
        c.ellipse(0, y + 6, 14 * cistern, 13 * cistern, 33)

    def _base(self) -> None:
        """Middle fossae, petrous bones with their air cells, clivus, sphenoid."""
        c, z = self.c, self.z
        for side in _SIDES:
            lobe = section(z, 100, 22)
            c.ellipse(side * 42, -12, 26.8 * lobe, 30.8 * lobe, 800, turn=side * 14)
            c.ellipse(side * 42, -12, 26 * lobe, 30 * lobe, 14, turn=side * 14)
            c.ellipse(side * 42, -12, 25 * lobe, 29 * lobe, 34, turn=side * 14, grain=self.folds * 3)
            wedge = section(z, 124, 17)
            c.bone(side * 37, 15, 31 * wedge, 10 * wedge, turn=-side * 32, rind=2.5, marrow=850)
            c.ellipse(side * 57, 27, 13 * wedge, 15 * wedge, 0, grain=self.foam)
            c.ellipse(side * 66, 10, 13, 3.2 * section(z, 124, 4), -980)
            c.ellipse(side * 30, 13, 4 * section(z, 121, 4), 2.5, 60, turn=-side * 32)
        clivus = section(z, 120, 22)
        c.bone(0, -2, 13 * clivus, 9 * clivus, marrow=420, grain=self.cells * 60)
        sphenoid = section(z, 116, 12)
        c.bone(0, -22, 19 * sphenoid, 14 * sphenoid, rind=1.4, marrow=-980)
        c.ellipse(3, -22, 0.8, 13 * sphenoid, 700)

    def _posterior_fossa(self) -> None:
        c, z = self.c, self.z
        fossa = section(z, 104, 42)
        y = 46 + (z - 100) * 0.1
        c.ellipse(0, y, 52 * fossa, 40 * fossa, 1250)
        c.ellipse(0, y, 49 * fossa, 37 * fossa, 12)
        stripes = np.sin(c.ys * np.float32(1.5) + self.folds) * np.float32(2.2)
        c.ellipse(0, y + 3, 47 * fossa, 33 * fossa, 37, grain=stripes + self.cells)
        c.ellipse(0, y - 26 * fossa, 17, 14 * fossa, 10)
        c.ellipse(0, y - 25 * fossa, 14, 12 * fossa, 31, grain=self.cells)
        fourth = section(z, 112, 11)
        c.ellipse(0, y - 9, 8 * fourth, 4 * fourth, 7)
        c.ellipse(0, y + 35 * fossa, 2, 5, 55)

    def _face(self) -> None:
        c, z = self.c, self.z
        front = self.y - self.b
        self._sinuses(front)
        for side in _SIDES:
            orbit = section(z, 113, 20)
            if orbit:
                c.ellipse(side * 31, front + 32, 21.5 * orbit, 27 * orbit, 1000, turn=-side * 16)
                c.ellipse(side * 31, front + 31, 20 * orbit, 26.5 * orbit, -90, turn=-side * 16)
                for offset in (-1, 1):
                    x, turn = side * 31 + offset * 13 * orbit, -side * 18 + offset * 14
                    c.ellipse(x, front + 36, 1.9, 15 * orbit, 55, turn=turn)
            globe = section(z, 113, 12)
            if globe:
                c.ellipse(side * 31, front + 22, 12.4 * globe, 12.4 * globe, 60)
                c.ellipse(side * 31, front + 22, 11 * globe, 11 * globe, 12)
                c.ellipse(side * 31, front + 14, 4.6 * section(z, 113, 5), 2.2, 95)
                c.ellipse(side * 27, front + 46, 2.0 * section(z, 113, 4), 14, 40, turn=-side * 17)
            cheek = section(z, 134, 16)
            c.bone(side * 52, front + 40, 5 * cheek, 14 * cheek, turn=side * 30)
            c.bone(side * 66, front + 66, 2.3 * section(z, 136, 6), 24, turn=side * 6)

    def _sinuses(self, front: float) -> None:
        """Frontal, ethmoid and maxillary sinuses and the nose between them."""
        c, z = self.c, self.z
        frontal = section(z, 92, 12)
        c.bone(0, front + 9, 17 * frontal, 6.5 * frontal, rind=1.5, marrow=-970)
        ethmoid = section(z, 112, 20)
        c.bone(0, front + 38, 13 * ethmoid, 27 * ethmoid, rind=1.2, marrow=0, cortex=700, grain=self.foam)
        nose = section(z, 142, 24)
        c.ellipse(0, front + 32, 14 * nose, 31 * nose, 700)
        c.ellipse(0, front + 32, 12.6 * nose, 29 * nose, -960)
        for side in _SIDES:
            for depth in (24, 42):
                c.ellipse(side * 6.5, front + depth, 3.0, 8.5 * nose, 50, turn=side * 12)
            maxillary = section(z, 143, 18)
            x, turn = side * 29, side * 18
            c.bone(x, front + 36, 17 * maxillary, 19 * maxillary, rind=1.4, marrow=-985, turn=turn)
            c.ellipse(side * 29, front + 52, 15 * maxillary, 4.5 * maxillary, 30, turn=side * 10)
        c.ellipse(0, front + 32, 0.9, 28 * nose, 450)

    def _jaw(self) -> None:
        """Palate, teeth, mandible, tongue and throat."""
        c, z = self.c, self.z
        front = self.y - self.b
        tongue = section(z, 182, 18)
        c.ellipse(0, front + 42, 24 * tongue, 26 * tongue, 58, grain=self.cells * 8)
        for row, middle in ((0, 170), (1, 181)):
            teeth = section(z, middle, 7)
            for k in range(-6, 7) if teeth else ():
                turn = k * 0.22
                x, y = 25 * math.sin(turn) * (1 + 0.05 * abs(k)), front + 45 - 34 * math.cos(turn)
                c.ellipse(x, y, 3.1, 3.6 * teeth, 2100 - 250 * row)
        palate = section(z, 163, 4)
        c.ellipse(0, front + 35, 22 * palate, 27 * palate, 700, grain=self.cells * 120)
        body = section(z, 195, 15)
        for k in range(-9, 10) if body else ():
            turn = k * 0.155
            x, y = 36 * math.sin(turn) * (1 + 0.02 * abs(k)), front + 52 - 42 * math.cos(turn)
            c.bone(x, y, 6.6, 5.6, turn=math.degrees(turn), rind=1.6, cortex=1300, marrow=320)
        for side in _SIDES:
            ramus = section(z, 168, 32)
            c.bone(side * 46, front + 72, 4.6 * ramus, 15 * ramus, turn=side * 8, rind=1.6, cortex=1300)
            c.ellipse(side * 54, front + 62, 7 * ramus, 19 * ramus, 60, turn=side * 8, grain=self.cells * 10)
            c.ellipse(side * 53, front + 92, 9 * ramus, 13 * ramus, 5, grain=self.cells * 14)
