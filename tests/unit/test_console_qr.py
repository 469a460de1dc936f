from __future__ import annotations

import re

import qrcode
from qrcode.constants import ERROR_CORRECT_M

from clients.gateway.console.qr import svg

LINK = "https://relay.example/s#1.AAAAAAAAAAAAAAAAAAAAAA"


def drawn(markup: str) -> list[list[bool]]:
    """The modules that the SVG paints, read back from its path."""
    found = re.search(r'viewBox="0 0 (\d+) (\d+)"', markup)
    assert found
    size = int(found[1])
    grid = [[False] * size for _ in range(size)]
    for x, y, width, back in re.findall(r"M(\d+) (\d+)h(\d+)v1H(\d+)z", markup):
        assert x == back
        for i in range(int(width)):
            assert not grid[int(y)][int(x) + i]
            grid[int(y)][int(x) + i] = True
    return grid


def test_the_svg_paints_exactly_the_modules_of_the_symbol() -> None:
    code = qrcode.QRCode(error_correction=ERROR_CORRECT_M, border=4)
    code.add_data(LINK)
    code.make(fit=True)
    grid = drawn(svg(LINK, "label"))
    assert grid == code.get_matrix()
    assert not any(any(row) for row in (*grid[:4], *grid[-4:])), "the quiet zone is light"


def test_it_is_an_element_with_a_name_and_holds_the_link_in_no_readable_form() -> None:
    markup = svg(LINK, 'for the "phone" <b>')
    assert markup.startswith("<svg")
    assert "for the &#34;phone&#34; &lt;b&gt;" in markup
    assert "AAAAAA" not in markup
    assert "style" not in markup
    assert "data:" not in markup
