"""A QR code (ISO/IEC 18004) as an SVG element of the page.

An element and not an `<img>` with a `data:` address: the content security policy stays strict, and the secret in it
is never an address that a browser could log or cache.
"""

from __future__ import annotations

import qrcode
from markupsafe import Markup, escape
from qrcode.constants import ERROR_CORRECT_M

QUIET_ZONE = 4
"""Light modules around the symbol that the standard asks for (ISO/IEC 18004 6.3.8)."""


def svg(text: str, label: str) -> Markup:
    """The symbol for `text`, named `label` for those who do not see it."""
    code = qrcode.QRCode(error_correction=ERROR_CORRECT_M, border=QUIET_ZONE)
    code.add_data(text)
    code.make(fit=True)
    rows = code.get_matrix()
    path = "".join(_runs(y, row) for y, row in enumerate(rows))
    size = len(rows)
    return Markup(  # noqa: S704  # numbers of ours, and a label that is escaped
        f'<svg class="qr" viewBox="0 0 {size} {size}" role="img" aria-label="{escape(label)}" '
        f'shape-rendering="crispEdges"><path fill="#fff" d="M0 0h{size}v{size}H0z"/><path d="{path}"/></svg>'
    )


def _runs(y: int, row: list[bool]) -> str:
    """The dark modules of one row, each run of them as one rectangle."""
    out, x = [], 0
    while x < len(row):
        start = x
        while x < len(row) and row[x]:
            x += 1
        if x > start:
            out.append(f"M{start} {y}h{x - start}v1H{start}z")
        x += 1
    return "".join(out)
