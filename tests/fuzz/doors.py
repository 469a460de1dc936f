"""What a phone, a relay and S tell each other through a mailbox, packs and the stream in them, and what people type."""

from __future__ import annotations

import json

from clients.gateway.errors import RelayDownError
from clients.gateway.peers import relay as answers
from relay.errors import RelayError
from relay.params import number
from relay.ranges import byte_range
from tests.fuzz.harness import Harness
from tests.transfer_kit import (
    CID,
    NOW,
    OFFER,
    OFFER_TEXT,
    PIN,
    PREKEY,
    TID,
    K,
    Q,
    S,
    a_question,
    doors,
    fixed,
    hello,
    joined,
    stream,
)  # fmt: skip
from transfer import mailbox
from transfer.channel import Channel
from transfer.door import PhoneDoor, SiteDoor, prs
from transfer.errors import HashError, HeaderError, PackError, PeerError, TransferError
from transfer.ids import BlobKey, Digest, MailboxId
from transfer.links import damm, mailbox_of, make_link, read_link
from transfer.mailbox import Body, Decided, Question, read_body
from transfer.messages import decode, encode
from transfer.packs import BUCKETS, LENGTH, OVERHEAD, capacity, open_pack, seal_pack
from transfer.stream import Assembler, Cutter

KINDS: list[type[Body]] = list(Body.__subclasses__())
_RUN = joined()
_STATE = _RUN.site.channel.state
_WISH = _RUN.phone.stop().box


def _bodies() -> list[bytes]:
    """m0 to m6 of a run that went well, and what S says instead."""
    ends = doors()
    m0 = hello()
    m1 = ends.phone.hello(m0)
    m2 = ends.site.start(m1)
    m3 = ends.phone.point(encode(m2))
    assert ends.site.prove(m3)
    m4 = ends.site.answer(a_question(decided=Decided("deny", NOW)))
    ends.phone.answer(encode(m4))
    m5 = ends.phone.stop()
    m6 = mailbox.Sealed(v=1, box=BlobKey(ends.site.channel.seal(b"{}")))
    said = [mailbox.Tombstone(v=1, ended="DENIED"), mailbox.Refusal(v=1, error="wrong", left=3)]
    return [m0, *(encode(body) for body in (m1, m2, m3, m4, m5, m6, *said))]


def _body(data: bytes) -> None:
    """One body from the relay, read as each kind; what is taken says the same again."""
    read = 0
    for kind in KINDS:
        try:
            body = read_body(data, kind)
        except PeerError:
            continue
        read += 1
        assert json.loads(encode(body)) == json.loads(data)
    if not read:
        raise HeaderError


def _site(data: bytes) -> None:
    """m1 and m3 of a stranger, one a line: S spends nothing and gives nothing away without the QR and the PIN."""
    site = SiteDoor(q=Q, code=PIN, tid=TID, site=S.site, offer=OFFER_TEXT, random=stream("run site"))
    first, _, second = data.partition(b"\n")
    site.start(read_body(first, mailbox.Start))
    proof = read_body(second, mailbox.Proof)
    if site.prove(proof):  # JSON has more than one spelling of it
        assert proof == read_body(_bodies()[3], mailbox.Proof), "a proof that no phone made was taken"


def _phone(data: bytes) -> None:
    """m0, m2, m4 from the relay, one a line: nothing but S's own question is ever shown."""
    phone = PhoneDoor(Q, PIN, stream("run phone"))
    lines = data.split(b"\n", 2)
    phone.hello(lines[0])
    if len(lines) > 1:
        phone.point(lines[1])
    if len(lines) > 2:
        asked = phone.answer(lines[2])
        assert asked.offer == OFFER


def _question(data: bytes) -> None:
    """What S itself may put into m4."""
    question = decode(data, Question)
    ends = doors()
    assert ends.site.prove(ends.phone.point(encode(ends.site.start(ends.phone.hello(hello())))))
    asked = ends.phone.answer(encode(ends.site.answer(question)))
    assert asked.offer.tid == TID


def _box(data: bytes) -> None:
    """A box that a relay puts before S: only the one that the phone sealed opens, and after a refusal none."""
    channel = Channel(_STATE)
    try:
        channel.open(data)
    except PeerError:
        try:
            channel.open(_WISH)
        except PeerError:
            raise HashError from None
        raise AssertionError("a channel lives on after its first failure") from None
    assert data == _WISH


def _pack(data: bytes) -> None:
    """First byte even: any ciphertext. Odd: any plain text under the right key, as a sender may make it."""
    if data[:1] < b"\x80":
        assert not open_pack(K, CID, "D", 0, data[1:]), "a ciphertext that nobody made was opened"
        return
    from nacl.secret import Aead

    from transfer import packs

    plain = data[1:].ljust(next((b for b in BUCKETS if b >= len(data) - 1), BUCKETS[-1]), b"\0")
    ct = bytes(Aead(packs._key(K, CID, "D", 0)).encrypt(plain, packs._aad(CID, "D", 0), bytes(24)))
    body = open_pack(K, CID, "D", 0, ct)
    assert plain == len(body).to_bytes(4, "big") + body + bytes(len(plain) - LENGTH - len(body))


def _packs() -> list[bytes]:
    sealed = seal_pack(K, CID, "D", 0, b"", stream("pack"))
    return [b"\0" + sealed, b"\xff\0\0\0\x05hello", b"\xff\0\0\0\0", b"\xff\0\1\0\0" + bytes(2**16)]


def _stream(data: bytes) -> None:
    """Bodies that arrive, items that are taken, in any order and of any size: as a plain buffer would give them."""
    assembler, whole, dropped = Assembler(), b"", 0
    steps = iter(data[:400])
    for step in steps:
        if step < 85:
            body = fixed(f"{step}", step * 7)
            assembler.add(body)
            whole += body
        else:
            offset = next(steps, 0) * next(steps, 0)
            if step < 170:
                length = next(steps, 0) * 5
                try:
                    got = assembler.take(offset, length)
                except HashError:
                    assert offset + length > len(whole) or offset < dropped or not length
                else:
                    assert got == whole[offset : offset + length]
            else:
                assembler.forget(min(offset, len(whole)))
                dropped = max(dropped, min(offset, len(whole)))
        assert assembler.end == len(whole)
        assert assembler.held <= len(whole)
    cutter = Cutter(BUCKETS[0])
    cutter.add(whole)
    parts = list(iter(lambda: cutter.next(flush=True), None))
    assert b"".join(parts) == whole
    assert all(len(part) <= capacity(BUCKETS[0]) for part in parts)


def _link(data: bytes) -> None:
    """The text of a QR, and what was typed for a PIN."""
    text = data.decode("utf-8", "replace")
    for call in (lambda: prs(Q, text), lambda: damm(text)):
        try:
            call()
        except PeerError:
            continue
        assert text.isascii()
        assert text.isdigit() or not text
    page, q = read_link(text)
    assert make_link(page, q) == text.strip()
    assert len(MailboxId(mailbox_of(q))) == 16


def _url(data: bytes) -> None:
    """The parts of a path, a query and a `Range` at the relay."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        assert 0 <= number(text, 2**53) <= 2**53
    except (TransferError, RelayError):
        pass
    for size in (1, 2**16 + OVERHEAD):
        found = byte_range(text, size)
        if found is not None:
            assert 0 <= found[0] < found[1] <= size
    Digest.from_hex(text)


def _answer(data: bytes) -> None:
    """What a relay answers to a gateway."""
    assert len(answers._code(data)) < 32
    taken = 0
    for kind in (answers._Queue, answers._Prekeys, answers.PackList):
        try:
            answers._decode(data, kind)
        except RelayDownError:
            continue
        taken += 1
    if not taken:
        raise RelayDownError


FAMILY = (PeerError,)
HARNESSES = [
    Harness(name="mailbox", run=_body, samples=_bodies, family=FAMILY),
    Harness(name="site-door", share=0.3, run=_site, samples=lambda: [b"\n".join(_bodies()[1:4:2])], family=FAMILY),
    Harness(name="phone-door", share=0.5, run=_phone, samples=lambda: [b"\n".join(_bodies()[0:5:2])], family=FAMILY),
    Harness(name="question", run=_question, samples=lambda: [encode(a_question())], family=FAMILY),
    Harness(name="box", run=_box, samples=lambda: [bytes(_WISH), b""], family=FAMILY),
    Harness(name="pack", run=_pack, samples=_packs, family=(PackError,)),
    Harness(
        name="stream", run=_stream, family=(),
        samples=lambda: [bytes([80, 80, 90, 10, 10, 20, 200, 20, 20, 90, 20, 20, 9, 80, 90, 1, 1, 1]),
        bytes(range(256))],
    ),
    Harness(
        name="link", run=_link, family=FAMILY,
        samples=lambda: [make_link("https://relay.example", Q).encode(), b"https://r.example/x/s#1.",
        b"https://r/v#1.7", PIN.encode()],
    ),
    Harness(
        name="url", run=_url, family=(TransferError, RelayError),
        samples=lambda: [b"0", b"9007199254740991", b"bytes=0-5", b"bytes=-5", b"bytes=7-", b"bytes= 1-2 ",
        b"ab" * 32],
    ),
    Harness(
        name="relay-answer", run=_answer, family=(RelayDownError,),
        samples=lambda: [
            b'{"messages":[{"seq":1,"at":2,"from":"AA","body":"a.b.c"},{"seq":2,"at":2,"mb":"00","run":"01","slot":1,"i":0,"body":{"v":1}}]}',
            json.dumps({"prekeys": [PREKEY]}).encode(), b'{"packs":[[0,"D",65576],[1,"M",65576]],"next":2}',
            b'{"error":"absent","sentence":"No.","next":"Wait.","now":1}',
        ],
    ),
]  # fmt: skip
