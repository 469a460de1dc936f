"""What the staff scanned at the desk, and what to do where that is no phone's code (protocol s. 1, door `scan`).

A scanner types whatever it is pointed at: a wristband, a poster, the desk's own QR, half a code. Each gets an error of
its own with the next step; none of them holds a byte of what was scanned.
"""

from __future__ import annotations

from clients.gateway.errors import GatewayError
from transfer.errors import HeaderError, VersionError
from transfer.links import make_scan, read_address, read_scan

_MOST = 200
"""Characters that a phone's code, or a link that was taken for one, may have."""
_BEGINS = make_scan(b"\x00" * 16).partition(".")[0]


class ScanError(GatewayError):
    """This is not the code of a phone. Scan the square code on the phone's screen, and hold it still until it beeps."""

    code = "scan-rubbish"


class NoScanError(ScanError):
    """Nothing was scanned. Put the cursor into the field, then scan the square code on the phone's screen."""

    code = "scan-empty"


class DamagedScanError(ScanError):
    """The phone's code was not read whole. Scan it once more; if this stays, look at the scanner's keyboard layout."""

    code = "scan-damaged"


class CapsScanError(ScanError):
    """Capital and small letters came the wrong way round. Turn off Caps Lock, then scan the phone's code once more."""

    code = "scan-caps"


class PosterScanError(ScanError):
    """This is the address on a poster. Open it on the phone; then scan the code that the phone shows."""

    code = "scan-poster"


class LinkScanError(ScanError):
    """This is the code of a desk's screen, which a phone scans. Scan the code that the phone shows instead."""

    code = "scan-link"


class VersionScanError(ScanError):
    """The phone's page is of another version. Load it again there, then scan the new code; or use the QR code."""

    code = "scan-version"


class OldScanError(ScanError):
    """This code of a phone was used before. Touch "New code" on the phone, then scan the new one."""

    code = "scan-old"


class UsedScanError(ScanError):
    """Another transfer waits for this phone. Look whose it is; else touch "New code" on it and scan again."""

    code = "scan-used"


_KINDS: tuple[type[ScanError], ...] = (ScanError, *ScanError.__subclasses__())
KINDS = {kind.code: kind for kind in _KINDS}
"""Every one by its code."""


def read_scanned(text: str) -> bytes:
    """q of what a scanner typed. Raises a `ScanError`."""
    text = text.strip()
    if not text:
        raise NoScanError
    if len(text) > _MOST:
        raise ScanError
    try:
        return read_scan(text)
    except VersionError:
        raise VersionScanError from None
    except HeaderError:
        raise _what(text) from None


def _what(text: str) -> ScanError:
    if text.startswith(_BEGINS[:4]):
        return DamagedScanError()
    if text.casefold().startswith(_BEGINS[:4]):
        return CapsScanError()
    try:
        _, door = read_address(text)
    except HeaderError:
        return ScanError()
    return LinkScanError() if door == "qr" else PosterScanError()
