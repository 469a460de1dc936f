from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from clients.gateway.codec import MAX_ORIGINAL, CodecError, Coded, coding, decode, encode
from tests.image_kit import (
    BIG,
    EXPLICIT,
    IMPLICIT,
    ROOT,
    data_set,
    encoded,
    image_elements,
    real_files,
    smooth,
)

VECTORS = json.loads((ROOT / "tests" / "vectors" / "codecs.json").read_text())
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
DEFLATED = "1.2.840.10008.1.2.1.99"


def round_trip(data: bytes, syntax: str) -> Coded:
    coded = encode(data, syntax)
    assert decode(coded.codec, coded.body, len(data)) == data
    assert len(coded.body) <= len(data)
    return coded


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: str(v["about"]))
def test_the_vectors_of_the_specification(vector: dict[str, Any]) -> None:
    data = decode(vector["codec"], base64.b64decode(vector["body"]), vector["original"])
    assert hashlib.sha256(data).hexdigest() == vector["sha256"]


def test_there_is_a_vector_for_each_codec() -> None:
    assert {vector["codec"] for vector in VECTORS} == {"ht1", "sh1", "zs1", "raw"}


def test_every_real_file_comes_back_byte_for_byte() -> None:
    codecs = {}
    for name, data, syntax in real_files():
        codecs[name] = round_trip(data, syntax).codec
    assert len(codecs) > 100
    # One of each kind, from the files that pydicom always brings
    assert codecs["test_files/CT_small.dcm"] == "ht1"
    assert codecs["test_files/MR_small_implicit.dcm"] == "ht1"
    assert codecs["test_files/MR_small_padded.dcm"] == "ht1"
    assert codecs["test_files/examples_rgb_color.dcm"] == "ht1"
    assert codecs["test_files/MR_small_bigendian.dcm"] == "sh1"
    assert codecs["test_files/MR_truncated.dcm"] == "sh1"
    assert codecs["test_files/reportsi.dcm"] == "zs1"
    assert codecs["test_files/rtplan_truncated.dcm"] == "zs1"
    assert codecs["test_files/examples_jpeg2k.dcm"] == "raw"


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(
    ("shape", "dtype", "frames"),
    [
        ((64, 48), "<u2", 0),
        ((64, 48), "<i2", 0),
        ((65, 63), "u1", 0),  # odd number of bytes: a pad byte follows
        ((5, 40, 32), "<u2", 5),
        ((40, 50, 3), "u1", 0),
        ((3, 40, 50, 3), "u1", 3),
        ((40, 50, 3), "<u2", 0),
    ],
)
def test_images_of_every_shape_take_htj2k(
    shape: tuple[int, ...], dtype: str, frames: int, syntax: str
) -> None:
    data = data_set(smooth(shape, dtype), syntax, frames)
    coded = round_trip(data, syntax)
    assert coded.codec == "ht1"
    assert len(coded.body) < len(data) * 0.75


def test_the_container_is_coded_and_not_bits_stored() -> None:
    pixels = smooth((64, 64))
    pixels[10:30, 20:50] |= 0xA000  # an overlay in the unused bits, as older scanners stored it
    data = encoded(image_elements(pixels, bits=12))
    assert round_trip(data, EXPLICIT).codec == "ht1"


@pytest.mark.parametrize("dtype", ["<u2", "<i2"])
def test_the_ends_of_the_range_survive(dtype: str) -> None:
    info = np.iinfo(dtype)
    pixels = smooth((64, 64), dtype)
    pixels[::7, ::5], pixels[::5, ::7] = info.min, info.max
    round_trip(data_set(pixels), EXPLICIT)


def test_colour_by_plane_is_three_images() -> None:
    pixels = np.ascontiguousarray(smooth((64, 40, 3), "u1").transpose(2, 0, 1))
    ds = image_elements(smooth((64, 40, 3), "u1"))
    ds.PlanarConfiguration = 1
    ds.PixelData = pixels.tobytes()
    coded = round_trip(encoded(ds), EXPLICIT)
    assert coded.codec == "ht1"
    assert int.from_bytes(coded.body[4:8], "big") == 3


def test_what_follows_the_pixels_is_kept() -> None:
    ds = image_elements(smooth((64, 64)))
    ds.add_new(0xFFFCFFFC, "OB", b"trailing padding")
    data = encoded(ds)
    assert data.endswith(b"trailing padding")
    assert round_trip(data, EXPLICIT).codec == "ht1"
    assert round_trip(data + b"\0\1\2", EXPLICIT).codec == "ht1"


def test_truncated_pixels_fall_back() -> None:
    data = data_set(smooth((64, 64)))
    for cut in (1, 2, 1001, 5000):
        assert round_trip(data[:-cut], EXPLICIT).codec == "sh1"


def test_big_endian_is_shuffled() -> None:
    data = data_set(smooth((64, 64)).astype(">u2").view("<u2").byteswap().view(">u2"), BIG)
    assert round_trip(data, BIG).codec == "sh1"


def test_float_pixels_are_shuffled() -> None:
    ds = image_elements(smooth((64, 64)))
    del ds.PixelData
    ds.FloatPixelData = smooth((64, 64), "<f4").tobytes()
    assert round_trip(encoded(ds), EXPLICIT).codec == "sh1"


def test_a_drawing_goes_to_the_dictionary() -> None:
    pixels = np.zeros((256, 256, 3), "u1")
    rng = np.random.default_rng(4)
    letter = (rng.integers(0, 2, (16, 16, 3)) * 255).astype("u1")
    for y, x in rng.integers(0, 15, (12, 2)):
        pixels[y * 16 : y * 16 + 16, x * 16 : x * 16 + 16] = letter
    assert round_trip(data_set(pixels), EXPLICIT).codec == "zs1"


@pytest.mark.parametrize("syntax", [JPEG_BASELINE, DEFLATED, "1.2.3", "", "../../etc"])
def test_other_syntaxes_are_never_parsed(syntax: str) -> None:
    assert round_trip(data_set(smooth((64, 64))), syntax).codec == "zs1"


def test_noise_and_nothing_stay_raw() -> None:
    noise = np.random.default_rng(5).bytes(50_000)
    assert encode(noise, EXPLICIT) == Coded("raw", noise)
    assert encode(b"", EXPLICIT) == Coded("raw", b"")


def test_a_view_is_as_good_as_bytes() -> None:
    data = data_set(smooth((64, 64)))
    coded = encode(memoryview(data), EXPLICIT)
    assert coded == encode(data, EXPLICIT)
    assert decode(coded.codec, memoryview(coded.body), len(data)) == data


def test_a_codec_that_lies_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_set(smooth((64, 64)))

    def wrong(body: memoryview, original: int) -> Iterator[bytes]:
        yield data[: original // 2]
        yield bytes(original - original // 2)

    def short(body: memoryview, original: int) -> Iterator[bytes]:
        yield data[:-1]

    for parts in (wrong, short):
        monkeypatch.setattr(coding.frames, "parts", parts)
        assert encode(data, EXPLICIT).codec == "sh1"


def test_large_fragments_are_not_packed_again() -> None:
    data = b"fragment" * (1 << 17)
    assert encode(data, JPEG_BASELINE).codec == "raw"
    assert encode(data[:-1], JPEG_BASELINE).codec == "zs1"
    assert encode(data, DEFLATED).codec == "zs1"


def test_an_exception_in_a_codec_means_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_set(smooth((64, 64)))

    def broken(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(coding.frames, "encode", broken)
    monkeypatch.setattr(coding.shuffle, "encode", broken)
    assert encode(data, EXPLICIT).codec == "zs1"
    monkeypatch.setattr(coding, "find", broken)
    assert encode(data, EXPLICIT).codec == "zs1"


@pytest.mark.parametrize("codec", ["ht1", "sh1", "zs1", "raw"])
@pytest.mark.parametrize("body", [b"", b"\0" * 8, b"\xff" * 64, b"DICM" * 100])
@pytest.mark.parametrize("original", [-1, 0, 1, 63, MAX_ORIGINAL, 1 << 62])
def test_nonsense_is_named(codec: str, body: bytes, original: int) -> None:
    if codec == "raw" and len(body) == original:
        assert decode(codec, body, original) == body
    else:
        with pytest.raises(CodecError):
            decode(codec, body, original)


@pytest.mark.parametrize("codec", ["", "ht2", "HT1", "raw ", "../raw"])
def test_an_unknown_codec_is_named(codec: str) -> None:
    with pytest.raises(CodecError) as caught:
        decode(codec, b"", 0)
    assert caught.value.code == "codec"
    assert "Ask the sender" in caught.value.sentence


def test_the_error_carries_no_byte_of_what_was_refused() -> None:
    coded = encode(data_set(smooth((64, 64))), EXPLICIT)
    with pytest.raises(CodecError) as caught:
        decode("zs1", coded.body, 10)
    assert caught.value.__cause__ is None
    assert "NOBODY" not in str(caught.value)


def test_many_threads_at_once() -> None:
    sets = [data_set(smooth((96, 96), seed=i)) for i in range(8)]
    failed: list[int] = []

    def work(i: int) -> None:
        for _ in range(10):
            coded = encode(sets[i], EXPLICIT)
            if coded.codec != "ht1" or decode(coded.codec, coded.body, len(sets[i])) != sets[i]:
                failed.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
