"""pack.json: six packs of one stream, from the plain items to the hash of each ciphertext and back."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.transfer_kit import flip, refused
from tests.vectors.vectors import load, raw
from transfer.encoding import be32, hkdf, sha256
from transfer.errors import PackError
from transfer.ids import Cid, ContentKey, SiteId
from transfer.manifest import Chain
from transfer.packs import open_pack, seal_pack
from transfer.stream import Assembler, Cutter

V = load("pack")
JWS = load("jws")
K, CID = ContentKey(raw(V["K"])), Cid(raw(V["cid"]))


def _fix(label: str, n: int) -> bytes:
    return hashlib.shake_256(b"tt1 vectors " + label.encode()).digest(n)


ITEMS = [b"DICM" * 1000, _fix("big", 65532) + _fix("big2", 100)]


def _bodies() -> list[bytes]:
    cutter = Cutter(2**16)
    bodies = []
    for item in ITEMS:
        cutter.add(item)
        body = cutter.next()
        while body is not None:
            bodies.append(body)
            body = cutter.next()
        if (rest := cutter.next(flush=True)) is not None:
            bodies.append(rest)
    return [*bodies, JWS["manifest_0"].encode(), JWS["manifest_1"].encode(), b""]


@pytest.mark.parametrize("pack", V["packs"], ids=lambda pack: f"{pack['kind']}{pack['n']}")
def test_each_pack(pack: dict[str, Any]) -> None:
    kind, n = pack["kind"], pack["n"]
    body = _bodies()[n]
    assert (len(body), sha256(body).hex()) == (pack["body_len"], pack["body_sha256"])
    assert hkdf(K, CID, b"tt1/pack" + kind.encode() + be32(n)).hex() == pack["key"]
    assert (b"tt1/pack" + CID + kind.encode() + be32(n)).hex() == pack["aad"]
    ct = seal_pack(K, CID, kind, n, body, lambda size: raw(pack["nonce"]))
    assert len(ct) == pack["ct_len"]
    assert sha256(ct).hex() == pack["ct_sha256"]
    assert (ct[:56].hex(), ct[-16:].hex()) == (pack["ct_first56"], pack["ct_last16"])
    assert open_pack(K, CID, kind, n, ct) == body
    for changed in (flip(ct), ct[:-1], ct + b"\x00", b""):
        with refused(PackError):
            open_pack(K, CID, kind, n, changed)


def test_the_packs_are_those_of_the_manifest_and_give_the_items_back() -> None:
    chain, assembler = Chain(CID, SiteId(raw(JWS["S"]))), Assembler()
    entries = [*chain.add(JWS["manifest_0"]).items, *chain.add(JWS["manifest_1"]).items]
    for n, body in enumerate(_bodies()):
        if V["packs"][n]["kind"] == "D" and body:
            assert chain.packs[n].hex() == V["packs"][n]["ct_sha256"]
            assembler.add(body)
    for item, entry in zip(ITEMS, entries, strict=True):
        assert assembler.take(entry.offset, entry.length) == item
        assert sha256(item) == entry.hash
