"""`clients.gateway.sending.scans`: what a scanner may type, and what the desk says to it."""

from __future__ import annotations

import pytest

from clients.gateway.sending import scans
from clients.gateway.sending.scans import ScanError, read_scanned
from transfer.encoding import b64
from transfer.links import make_link, make_scan

Q = bytes(range(16))
GOOD = make_scan(Q)


@pytest.mark.parametrize("text", [GOOD, f"  {GOOD}\r\n", f"{GOOD}\t"])
def test_a_phone_s_code(text: str) -> None:
    assert read_scanned(text) == Q


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "scan-empty"), (" \n", "scan-empty"),
        ("4711", "scan-rubbish"), ("]C1MRN400003", "scan-rubbish"), ("x" * 5000, "scan-rubbish"),
        ("WIFI:S:guest;T:WPA;;", "scan-rubbish"), ("\x00\x1d", "scan-rubbish"), ("https://example.org", "scan-rubbish"),
        ("tt1", "scan-rubbish"), (b64(Q), "scan-rubbish"), ("١٢٣", "scan-rubbish"),
        (GOOD[:-1], "scan-damaged"), (GOOD + "A", "scan-damaged"), (GOOD + GOOD, "scan-damaged"),
        ("tt1:", "scan-damaged"),
        ("tt1:1." + b64(bytes(15)), "scan-damaged"), ("tt1:1." + "é" * 22, "scan-damaged"),
        (GOOD.swapcase(), "scan-caps"), (GOOD.upper(), "scan-caps"),
        ("tt1:2." + b64(Q), "scan-version"),
        ("https://relay.example/p", "scan-poster"), ("https://other.example/x/p#1." + b64(Q), "scan-poster"),
        ("https://relay.example/v", "scan-poster"),
        (make_link("https://relay.example", Q), "scan-link"),
    ],
)  # fmt: skip
def test_anything_else_has_a_name_and_a_next_step(text: str, code: str) -> None:
    with pytest.raises(ScanError) as why:
        read_scanned(text)
    assert why.value.code == code
    assert why.value.sentence.count(".") >= 2 or ";" in why.value.sentence
    assert not text.strip() or text not in str(why.value)


def test_every_error_has_a_code_of_its_own() -> None:
    kinds = [kind for kind in vars(scans).values() if isinstance(kind, type) and issubclass(kind, ScanError)]
    assert len({kind.code for kind in kinds}) == len(kinds) == 9
