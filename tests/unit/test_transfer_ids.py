from __future__ import annotations

import pytest

from tests.transfer_kit import fixed, refused
from transfer import ids
from transfer.errors import HeaderError
from transfer.ids import BlobKey, ContentKey, Digest, Fixed, Kid, Tid

KINDS = [
    ids.SiteId,
    ids.PublicKey,
    Digest,
    Kid,
    Tid,
    ids.Cid,
    ids.RunId,
    ids.Nonce,
    ids.MailboxId,
    ContentKey,
]


@pytest.mark.parametrize("kind", KINDS)
def test_each_id_has_one_length(kind: type[Fixed]) -> None:
    raw = fixed("id", kind.SIZE)
    assert kind(raw) == raw
    for wrong in (raw[:-1], raw + b"\x00", b""):
        with refused(HeaderError):
            kind(wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_text_and_hex_go_there_and_back(kind: type[Fixed]) -> None:
    value = kind(fixed("id", kind.SIZE))
    assert kind.parse(value.text) == value
    assert kind.from_hex(value.hex()) == value
    assert type(kind.parse(value.text)) is kind


@pytest.mark.parametrize(
    "text", ["", "A", "A" * 21, "A" * 23, "A" * 21 + "B", "A" * 21 + "=", "A" * 20 + "é "]
)
def test_other_text_is_refused(text: str) -> None:
    with refused(HeaderError):
        Tid.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "00" * 15,
        "00" * 17,
        "AB" * 16,
        "0x" + "00" * 15,
        " " + "00" * 16,
        "0 " * 16,
        "zz" * 16,
        "٠" * 32,
    ],
)
def test_hex_is_lower_case_and_nothing_else(text: str) -> None:
    with refused(HeaderError):
        Tid.from_hex(text)


def test_a_content_key_is_never_shown() -> None:
    key = ContentKey(fixed("key"))
    for shown in (repr(key), str(key), f"{key}", f"{key!r}"):
        assert shown == "ContentKey(...)"


def test_an_id_reads_as_the_text_of_messages() -> None:
    assert str(Tid(bytes(16))) == "A" * 22
    assert BlobKey(b"\xff\xfe").text == "__4"
