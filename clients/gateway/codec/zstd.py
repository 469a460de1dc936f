"""One Zstandard frame (RFC 8878), with its content's size known before a byte is inflated.

Level 1 everywhere: it is the fast end of the scale, and what it codes here is a header of some kilobytes or
the fallback of an instance that HTJ2K cannot take. A frame states its content size (RFC 8878 3.1.1.1.4) and
needs no dictionary; a reader that knows which size to expect can refuse any other *before* it allocates.
"""

from __future__ import annotations

import zstandard

from clients.gateway.codec.errors import CodecError

LEVEL = 1
_MAX_FRAME_HEADER = 18
"""RFC 8878 3.1.1: magic 4, descriptor 1, window 1, dictionary 4, content size 8."""


def deflate(data: bytes | memoryview) -> bytes:
    """`data` as one frame that states its content size."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(data)


def inflate(frame: bytes | memoryview, size: int) -> bytes:
    """The content of `frame`, which must be exactly `size` bytes and fill `frame`. Raises `CodecError`."""
    try:
        header = zstandard.get_frame_parameters(bytes(frame[:_MAX_FRAME_HEADER]))
        if header.content_size != size or header.dict_id:
            raise CodecError
        content = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except (zstandard.ZstdError, ValueError, MemoryError):
        raise CodecError from None
    if len(content) != size:
        raise CodecError
    return content
