"""One byte range of a `Range` header (RFC 9110 14.1.2, 14.2)."""

from __future__ import annotations

import re

from relay.errors import RangeError

_ONE = re.compile(r"bytes=[ \t]*(?:(\d{1,15})-(\d{0,15})|-(\d{1,15}))[ \t]*\Z", re.ASCII)


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """`(start, end)`, end excluded, of one range of a body of `size` bytes.

    None where the header is to be ignored, and the whole body sent: another unit, several ranges, or a form
    that is invalid (14.2). `RangeError` where it cannot be satisfied.
    """
    match = _ONE.match(header)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        if int(suffix) == 0:
            raise RangeError(headers={"Content-Range": f"bytes */{size}"})
        return max(0, size - int(suffix)), size
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise RangeError(headers={"Content-Range": f"bytes */{size}"})
    return int(first), min(size, int(last) + 1) if last else size
