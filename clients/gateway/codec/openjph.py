"""The one place that calls OpenJPH, through imagecodecs.

Three habits of that binding are kept in here:

- it takes an array of either sign and returns one; `planar=False` keeps colour-by-pixel as it is;
- it never looks behind an empty buffer, so an empty codestream must not reach it (`codestream.check`);
- a codestream that breaks off in its packets raises inside a function that cannot raise: Cython prints the
  error through `sys.excepthook`, hands it to `sys.unraisablehook` and goes on as if the image were whole.

So both hooks are taken over, once, for the time that this thread is inside a call: nothing is printed, the
failure is remembered and becomes a `CodecError`. At any other time they do what they did before.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import imagecodecs
from numpy.typing import NDArray

from clients.gateway.codec.errors import CodecError

Image = NDArray[Any]
"""rows x columns, or rows x columns x 3; 8 or 16 bits, of either sign."""


class _Call(threading.local):
    """Whether this thread is inside OpenJPH, and whether an error was swallowed there."""

    active = False
    failed = False


_call = _Call()


def encode_image(image: Image) -> bytes:
    """`image` as a reversible codestream of the profile that `codestream` describes."""
    with _errors():
        stream = imagecodecs.htj2k_encode(image, reversible=True, rgb=image.ndim == 3, planar=False)
    return bytes(stream)


def decode_image(stream: bytes, target: Image) -> None:
    """Decodes `stream`, which has passed `codestream.check`, into `target`."""
    with _errors():
        imagecodecs.htj2k_decode(stream, planar=False, out=target)


@contextmanager
def _errors() -> Iterator[None]:
    """Raises `CodecError` at the end where the binding swallowed an error; its own pass through."""
    _call.active, _call.failed = True, False
    try:
        yield
    finally:
        _call.active = False
    if _call.failed:
        raise CodecError


def _uncaught(previous: Callable[..., Any]) -> Callable[..., Any]:
    def hook(*args: Any) -> None:
        if not _call.active:
            previous(*args)

    return hook


def _unraisable(previous: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def hook(event: Any) -> None:
        # A finalizer that fails while this thread is inside is somebody else's
        if _call.active and str(event.object).startswith("imagecodecs."):
            _call.failed = True
        else:
            previous(event)

    return hook


sys.excepthook = _uncaught(sys.excepthook)
sys.unraisablehook = _unraisable(sys.unraisablehook)
