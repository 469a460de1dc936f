from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from clients.gateway.codec import openjph
from clients.gateway.codec.errors import CodecError
from tests.image_kit import smooth


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", "<i2"])
@pytest.mark.parametrize("shape", [(64, 48), (33, 35), (40, 36, 3)])
def test_round_trip(shape: tuple[int, ...], dtype: str) -> None:
    image = smooth(shape, dtype, level=10)
    target = np.empty_like(image)
    openjph.decode_image(openjph.encode_image(image), target)
    assert np.array_equal(image, target)


def broken_off() -> bytes:
    """A codestream whose headers are right and whose packets end too early."""
    stream = openjph.encode_image(smooth((256, 256)))
    sot = stream.index(b"\xff\x90\x00\x0a")
    kept = stream[: sot + 300]
    length = (len(kept) - sot).to_bytes(4, "big")
    return kept[: sot + 6] + length + kept[sot + 10 :] + b"\xff\xd9"


def test_what_the_binding_swallows_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    target = np.empty((256, 256), "<u2")
    with pytest.raises((CodecError, RuntimeError)):
        openjph.decode_image(broken_off(), target)
    rng = np.random.default_rng(7)
    stream = bytearray(openjph.encode_image(smooth((256, 256))))
    swallowed = 0
    for _ in range(200):
        changed = stream.copy()
        for at in rng.integers(140, len(stream) - 2, 12):
            changed[at] = 0xFF
        try:
            openjph.decode_image(bytes(changed), target)
        except CodecError:
            swallowed += 1
        except RuntimeError:
            pass
    assert swallowed
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_the_hooks_pass_on_what_is_not_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    uncaught = openjph._uncaught(lambda *args: seen.append(args))
    unraisable = openjph._unraisable(seen.append)

    class Event:
        object = "imagecodecs._htj2k._copy_from_codestream"

    class Other:
        object = print

    uncaught(ValueError, ValueError(), None)
    unraisable(Event)
    assert len(seen) == 2

    def call(*events: Any) -> None:
        with openjph._errors():
            for event in events:
                uncaught(ValueError, ValueError(), None)
                unraisable(event)

    call(Other)
    with pytest.raises(CodecError):
        call(Other, Event)
    assert seen[2:] == [Other, Other]
    assert sys.excepthook is not sys.__excepthook__
