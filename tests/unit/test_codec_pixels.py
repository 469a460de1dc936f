from __future__ import annotations

import numpy as np
import pytest

from clients.gateway.codec.pixels import Grid, find
from tests.image_kit import BIG, EXPLICIT, IMPLICIT, data_set, encoded, image_elements, smooth


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_the_range_is_the_value_of_the_top_level_element(syntax: str) -> None:
    pixels = smooth((40, 48))
    data = data_set(pixels, syntax)
    found = find(data, syntax)
    assert found is not None
    assert data[found.start : found.start + found.length] == pixels.tobytes()
    assert found.width == 2
    assert found.grid == Grid(count=1, rows=40, columns=48, samples=1, width=2, signed=False)


def test_a_nested_tag_is_not_taken_for_the_pixels() -> None:
    data = data_set(smooth((40, 48)))
    first = data.index(b"\xe0\x7f\x10\x00")
    found = find(data, EXPLICIT)
    assert found is not None
    assert found.start > first + 100


def test_a_pad_byte_is_not_part_of_the_images() -> None:
    found = find(data_set(smooth((33, 35), "u1")), EXPLICIT)
    assert found is not None
    assert found.grid is not None
    assert (found.length, found.grid.size) == (33 * 35 + 1, 33 * 35)


def test_frames_and_colour() -> None:
    found = find(data_set(smooth((4, 40, 36, 3), "u1"), frames=4), EXPLICIT)
    assert found is not None
    assert found.grid == Grid(count=4, rows=40, columns=36, samples=3, width=1, signed=False)
    assert found.grid.size == found.length


def test_sign_is_the_pixel_representation() -> None:
    found = find(data_set(smooth((40, 48), "<i2")), EXPLICIT)
    assert found is not None
    assert found.grid is not None
    assert found.grid.signed


def test_big_endian_has_containers_but_no_grid() -> None:
    data = data_set(smooth((40, 48), ">u2"), BIG)
    found = find(data, BIG)
    assert found is not None
    assert (found.width, found.length, found.grid) == (2, 40 * 48 * 2, None)


def test_truncated_pixels_are_what_is_there() -> None:
    data = data_set(smooth((40, 48)))
    found = find(data[:-100], EXPLICIT)
    assert found is not None
    assert (found.length, found.grid) == (40 * 48 * 2 - 100, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Rows", 0),
        ("Columns", 0),
        ("Rows", 65535),
        ("SamplesPerPixel", 2),
        ("SamplesPerPixel", 0),
        ("BitsAllocated", 32),
        ("NumberOfFrames", 0),
        ("NumberOfFrames", -1),
        ("NumberOfFrames", 2),
    ],
)
def test_a_shape_that_does_not_fit_has_no_grid(name: str, value: int) -> None:
    ds = image_elements(smooth((40, 48)))
    setattr(ds, name, value)
    found = find(encoded(ds), EXPLICIT)
    assert found is not None
    assert found.grid is None


@pytest.mark.parametrize("bits", [0, 1, 12, 24, 65535])
def test_odd_containers_are_nothing_to_code(bits: int) -> None:
    ds = image_elements(smooth((40, 48)))
    ds.BitsAllocated = bits
    assert find(encoded(ds), EXPLICIT) is None


def test_no_pixels() -> None:
    ds = image_elements(smooth((40, 48)))
    del ds.PixelData
    assert find(encoded(ds), EXPLICIT) is None
    assert find(b"", EXPLICIT) is None


def test_the_wrong_syntax_finds_nothing_or_raises() -> None:
    data = data_set(smooth((40, 48)))
    for syntax in (BIG, IMPLICIT):
        try:
            found = find(data, syntax)
        except Exception:
            continue
        assert found is None or found.grid is None


@pytest.mark.parametrize("name", ["FloatPixelData", "DoubleFloatPixelData"])
def test_floats_have_the_width_of_their_element(name: str) -> None:
    ds = image_elements(smooth((40, 48)))
    del ds.PixelData
    width = 4 if name == "FloatPixelData" else 8
    setattr(ds, name, smooth((40, 48), f"<f{width}").tobytes())
    found = find(encoded(ds), EXPLICIT)
    assert found is not None
    assert (found.width, found.grid) == (width, None)


def test_random_bytes_find_nothing() -> None:
    rng = np.random.default_rng(6)
    for _ in range(200):
        data = rng.bytes(300)
        for syntax in (EXPLICIT, IMPLICIT, BIG):
            try:
                found = find(data, syntax)
            except Exception:
                continue
            assert found is None or found.start + found.length <= len(data)
