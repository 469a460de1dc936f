from __future__ import annotations

import pytest
from nacl.secret import Aead

from tests.transfer_kit import CID, K, fixed, flip, refused, stream
from transfer import packs
from transfer.encoding import be32, hkdf
from transfer.errors import PackError
from transfer.ids import Cid, ContentKey
from transfer.packs import BUCKETS, OVERHEAD, SIZES, Kind, bucket_for, capacity, open_pack, seal_pack


def _forged(plain: bytes, kind: Kind = "D", n: int = 3) -> bytes:
    """A pack of K's owner with any plain text."""
    key = hkdf(K, CID, b"tt1/pack" + kind.encode() + be32(n))
    return bytes(Aead(key).encrypt(plain, b"tt1/pack" + CID + kind.encode() + be32(n), bytes(24)))


def test_the_sizes_of_the_text() -> None:
    assert BUCKETS == (65536, 131072, 262144, 524288, 1048576, 2097152, 4194304)
    assert {b + 40 for b in BUCKETS} == SIZES
    assert OVERHEAD == 40


@pytest.mark.parametrize("bucket", BUCKETS)
def test_every_bucket_s_edge(bucket: int) -> None:
    room = capacity(bucket)
    assert bucket_for(room) == bucket
    assert bucket_for(room - 1) == bucket
    if bucket != BUCKETS[-1]:
        assert bucket_for(room + 1) == 2 * bucket
    else:
        with refused(PackError):
            bucket_for(room + 1)


@pytest.mark.parametrize("size", [0, 1, 65531, 65532, 65533, 131068, 131069, 4194300])
def test_a_body_comes_back_and_the_pack_has_a_bucket_s_size(size: int) -> None:
    body = fixed("body", size)
    ct = seal_pack(K, CID, "D", 7, body, stream("nonce"))
    assert len(ct) == bucket_for(size) + OVERHEAD
    assert open_pack(K, CID, "D", 7, ct) == body


def test_a_body_beyond_the_largest_bucket_is_not_sealed() -> None:
    with refused(PackError):
        seal_pack(K, CID, "M", 0, bytes(4194301), stream("nonce"))


def test_the_nonce_is_random_and_first() -> None:
    """A second encryption of the same pack is harmless because it never repeats a nonce."""
    source = stream("nonce")
    one, two = seal_pack(K, CID, "D", 0, b"x", source), seal_pack(K, CID, "D", 0, b"x", source)
    assert one[:24] == fixed("nonce/0", 24)
    assert two[:24] == fixed("nonce/1", 24)
    assert one[24:] != two[24:]


def test_kind_number_cid_and_key_are_bound() -> None:
    ct = seal_pack(K, CID, "D", 7, b"body", stream("nonce"))
    for k, cid, kind, n in (
        (ContentKey(flip(K)), CID, "D", 7),
        (K, Cid(flip(CID)), "D", 7),
        (K, CID, "M", 7),
        (K, CID, "D", 6),
        (K, CID, "D", 7 << 8),
    ):
        with refused(PackError):
            open_pack(k, cid, kind, n, ct)  # type: ignore[arg-type]
    assert open_pack(K, CID, "D", 7, ct) == b"body"


@pytest.mark.parametrize("bit", [0, 191, 192, 223, 224, 300_000, 8 * 65576 - 1])
def test_a_changed_bit(bit: int) -> None:
    ct = seal_pack(K, CID, "D", 7, b"body", stream("nonce"))
    with refused(PackError):
        open_pack(K, CID, "D", 7, flip(ct, bit))


@pytest.mark.parametrize(
    "size", [0, 1, 23, 24, 39, 40, 41, 44, 65535, 65536, 65575, 65577, 65616, 131071, 2**23 + 40]
)
def test_what_has_no_bucket_s_size_is_not_even_decrypted(size: int) -> None:
    with refused(PackError):
        open_pack(K, CID, "D", 7, bytes(size))


def test_a_pack_cut_to_a_smaller_bucket() -> None:
    ct = seal_pack(K, CID, "D", 7, bytes(70000), stream("nonce"))
    with refused(PackError):
        open_pack(K, CID, "D", 7, ct[:65576])


@pytest.mark.parametrize("at", [4 + 5, 30000, 65535])
def test_padding_is_zeros(at: int) -> None:
    plain = bytearray(be32(5) + b"12345" + bytes(65536 - 9))
    assert open_pack(K, CID, "D", 3, _forged(bytes(plain))) == b"12345"
    plain[at] = 1
    with refused(PackError):
        open_pack(K, CID, "D", 3, _forged(bytes(plain)))


def test_the_largest_honest_length_and_one_more() -> None:
    full = be32(65532) + fixed("full", 65532)
    assert open_pack(K, CID, "D", 3, _forged(full)) == full[4:]
    for length in (65533, 65536, 2**31, 2**32 - 1):
        with refused(PackError):
            open_pack(K, CID, "D", 3, _forged(be32(length) + bytes(65532)))


def test_a_size_that_only_the_overhead_makes_right() -> None:
    """The plain text must be a bucket; 4 bytes for the length are always there."""
    for size in (0, 1, 3, 65535, 65537):
        with refused(PackError):
            open_pack(K, CID, "D", 3, _forged(bytes(size)))


def test_the_number_has_four_bytes() -> None:
    assert open_pack(K, CID, "D", 2**32 - 1, seal_pack(K, CID, "D", 2**32 - 1, b"", stream("n"))) == b""
    assert packs._aad(CID, "M", 258) == b"tt1/pack" + CID + b"M\x00\x00\x01\x02"
