"""Random fields: what bends the anatomy, what veins a lung and a liver, and the grain of a reconstruction.

A `Cloud` is a stack of coarse random pictures; any height between two of them is their mixture, brought back to
unit variance, so that the texture flows from slice to slice and never fades. `Grain` is the noise of
filtered back-projection: little at the lowest frequencies, most of it at a third of Nyquist, none at the top.
"""

from __future__ import annotations

import numpy as np

from clients.phantom.canvas import Grid


class Cloud:
    """A smooth random field over a slice, of unit variance, that changes with height."""

    def __init__(self, rng: np.random.Generator, cells: int, step: float, heights: int) -> None:
        """`cells` bumps across the picture, a new picture every `step` millimetres."""
        self._stack = rng.standard_normal((heights, cells, cells), dtype=np.float32)
        self._step = step
        self._weights: dict[int, Grid] = {}

    def at(self, z: float, size: int) -> Grid:
        """The field at `z`, for a canvas of `size` pixels."""
        position = max(0.0, z / self._step) % (len(self._stack) - 1)
        i, t = int(position), position % 1
        mixed = self._stack[i] * np.float32(1 - t) + self._stack[i + 1] * np.float32(t)
        mixed /= np.float32(np.hypot(1 - t, t))
        w = self._weights.get(size)
        if w is None:
            w = self._weights[size] = _bumps(size, mixed.shape[0])
        return np.asarray(w @ mixed @ w.T, np.float32)


def _bumps(size: int, cells: int) -> Grid:
    """`size` x `cells`: each pixel as a mixture of the cells near it, by a bell of one cell, of unit variance."""
    at = np.linspace(-0.5, cells - 0.5, size, dtype=np.float32)[:, None] - np.arange(cells, dtype=np.float32)
    w = np.exp(-1.4 * at * at)
    return np.asarray(w / np.linalg.norm(w, axis=1, keepdims=True), np.float32)


class Grain:
    """Pictures of reconstruction noise of unit variance."""

    def __init__(self, rng: np.random.Generator, size: int, sharpness: float, pictures: int = 6) -> None:
        """`sharpness`: the frequency at which the kernel ends, in Nyquist frequencies."""
        f = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
        radius = np.hypot(*f) * 2 / sharpness
        power = np.sqrt(radius + 0.02) * np.exp(-(radius**3) * 2.2)
        self._pictures = []
        for _ in range(pictures):
            white = np.fft.rfft2(rng.standard_normal((size, size)))
            grain = np.fft.irfft2(white * power, (size, size))
            self._pictures.append(np.asarray(grain / grain.std(), np.float32))
        self._rng = rng

    def next(self) -> Grid:
        """A picture that was not seen before: two of the stock, moved and mixed."""
        i, j = self._rng.choice(len(self._pictures), 2, replace=False)
        size = len(self._pictures[0])
        a, b = self._rng.integers(0, size, 2), self._rng.integers(0, size, 2)
        mixed = np.roll(self._pictures[i], (int(a[0]), int(a[1])), (0, 1))
        mixed += np.roll(self._pictures[j], (int(b[0]), int(b[1])), (0, 1))
        return np.asarray(mixed * np.float32(0.7071), np.float32)
