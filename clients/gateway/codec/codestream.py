"""What a JPEG 2000 codestream says about itself, checked before native code sees it.

A codestream comes from a peer, and its main header decides how much memory a decoder takes and which of its
paths it walks. So there is one profile, the one that `frames` writes, and everything else is refused here
(markers: ITU-T T.800 annex A; HTJ2K: T.814):

    SOC  SIZ  { CAP | COD | QCD | COM }  SOT  SOD  ...  EOC

- one tile that is the image, at the origin, no subsampling; size, components and depth as announced;
- HT block coding, one quality layer, five decompositions with the reversible 5-3 filter, blocks of 64 x 64,
  no precincts, no SOP or EPH; component transform for three components and only for them;
- one tile-part that ends with the codestream.
"""

from __future__ import annotations

import struct

from clients.gateway.codec.errors import CodecError

_SOC, _SIZ, _CAP, _COD, _QCD, _COM = 0xFF4F, 0xFF51, 0xFF50, 0xFF52, 0xFF5C, 0xFF64
_SOT, _SOD, _EOC = 0xFF90, 0xFF93, 0xFFD9
_SIZ_FIXED = struct.Struct(">HIIIIIIIIH")
_SOT_BODY = struct.Struct(">HIBB")
_HT = 0x4000
"""Rsiz, bit 14: the codestream may use T.814."""
_LEVELS = 5
_SUB_BANDS = 3 * _LEVELS + 1
_MAX_SEGMENTS = 16


def check(stream: memoryview, rows: int, columns: int, samples: int, bits: int) -> bool:
    """Refuses (`CodecError`) a codestream that is not `rows` x `columns` x `samples` of `bits` in our profile.

    Says whether its components are signed.
    """
    try:
        at, signed = _siz(stream, rows, columns, samples, bits)
        seen: set[int] = set()
        for _ in range(_MAX_SEGMENTS):
            marker, body, at = _segment(stream, at)
            if marker == _SOT:
                break
            if marker != _COM and marker in seen:
                raise CodecError
            seen.add(marker)
            _main(marker, body, samples)
        if marker != _SOT or not seen >= {_CAP, _COD, _QCD}:
            raise CodecError
        tile, length, part, parts = _SOT_BODY.unpack(body)
        start = at - len(body) - 4
        ends = int.from_bytes(stream[at : at + 2], "big") == _SOD and bytes(stream[-2:]) == b"\xff\xd9"
        if (tile, length, part, parts) != (0, len(stream) - start - 2, 0, 1) or not ends:
            raise CodecError
    except struct.error:
        raise CodecError from None
    return signed


def _segment(stream: memoryview, at: int) -> tuple[int, memoryview, int]:
    """The marker at `at`, its segment's body and where the next marker is (T.800 A.1.1)."""
    marker, length = struct.unpack_from(">HH", stream, at)
    end = at + 2 + length
    if length < 2 or end > len(stream):
        raise CodecError
    return marker, stream[at + 4 : end], end


def _siz(stream: memoryview, rows: int, columns: int, samples: int, bits: int) -> tuple[int, bool]:
    """SIZ directly after SOC (T.800 A.5.1): where the next marker is, and the sign of the components."""
    if bytes(stream[:2]) != _SOC.to_bytes(2, "big"):
        raise CodecError
    marker, body, at = _segment(stream, 2)
    fixed = _SIZ_FIXED.unpack_from(body)
    if marker != _SIZ or fixed != (_HT, columns, rows, 0, 0, columns, rows, 0, 0, samples):
        raise CodecError
    unsigned = bytes((bits - 1, 1, 1)) * samples
    negative = bytes((bits - 1 | 0x80, 1, 1)) * samples
    components = bytes(body[_SIZ_FIXED.size :])
    if components not in (unsigned, negative):
        raise CodecError
    return at, components == negative


def _main(marker: int, body: memoryview, samples: int) -> None:
    """Any other segment of the main header."""
    if marker == _COD:
        # Scod; progression, layers, component transform; levels, block width, block height, HT, 5-3 filter
        ok = len(body) == 10 and body[0] == 0 and body[1] <= 4
        ok = ok and bytes(body[2:]) == bytes((0, 1, samples == 3, _LEVELS, 4, 4, 0x40, 1))
    elif marker == _QCD:
        ok = len(body) == 1 + _SUB_BANDS and body[0] & 0x1F == 0
    elif marker == _CAP:
        # Pcap: part 15 and no other; one word of it
        ok = len(body) == 6 and bytes(body[:4]) == b"\x00\x02\x00\x00"
    else:
        ok = marker == _COM
    if not ok:
        raise CodecError
