"""cpace_draft21.json: the draft's own vectors, appendix B.1. cpace_door.json: the same machinery under our labels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.transfer_kit import refused
from tests.vectors.vectors import load, raw
from transfer import cpace
from transfer.channel import Channel, check_code
from transfer.door import PhoneDoor, SiteDoor, channel_id, gate, prs
from transfer.errors import HeaderError
from transfer.ids import BlobKey, Digest, PublicKey, RunId, SiteId, Tid
from transfer.links import mailbox_of
from transfer.mailbox import Answer, Hello, Point32, Tag64
from transfer.messages import encode

DRAFT = load("cpace_draft21")
X25519 = {name: raw(value) for name, value in DRAFT["G_25519"].items()}
POINTS = {name.removeprefix("Invalid "): raw(value) for name, value in DRAFT["X25519_points"].items()}
SCALAR = raw("af46e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449aff")
NOT_NEUTRAL = {
    "Y6": "d8e2c776bbacd510d09fd9278b7edcd25fc5ae9adfba3b6e040e8d3b71b21806",
    "Y8": "c85c655ebe8be44ba9c0ffde69f2fe10194458d137f09bbff725ce58803cdb38",
    "Y9": "db64dafa9b8fdd136914e61461935fe92aa372cb056314e1231bc4ec12417456",
    "Y10": "e062dcd5376d58297be2618c7498f55baa07d7e03184e8aada20bca28888bf7a",
    "Y11": "993c6ad11c4c29da9a56f7691fd0ff8d732e49de6250b6c2e80003ff4629a175",
}
"""q6, q8, q9, qa, qb of appendix B.1.10: with bit 255 cleared (RFC 7748 5) these are points like any other."""


def test_the_draft_s_own_run() -> None:
    v = X25519
    assert cpace.generator(v["PRS"], v["CI"], v["sid"]) == v["g"]
    assert cpace.multiply(v["ya"], v["g"]) == v["Ya"]
    assert cpace.multiply(v["yb"], v["g"]) == v["Yb"]
    for scalar, point in ((v["ya"], v["Yb"]), (v["yb"], v["Ya"])):
        k = cpace.multiply(scalar, point)
        assert k == v["K"]
        assert cpace.isk(v["sid"], k, v["Ya"], v["ADa"], v["Yb"], v["ADb"]) == v["ISK_IR"]


@pytest.mark.parametrize("name", POINTS)
def test_every_invalid_point_of_the_draft(name: str) -> None:
    """Y0 to Y5 and Y7 MUST abort. The others are neutral only where bit 255 is not cleared, which X25519 does."""
    assert set(POINTS) == {f"Y{n}" for n in range(12)}
    if name in NOT_NEUTRAL:
        assert cpace.multiply(SCALAR, POINTS[name]) == raw(NOT_NEUTRAL[name])
    else:
        for scalar in (SCALAR, X25519["ya"], X25519["yb"], b"\x01" * 32):
            with refused(HeaderError):
                cpace.multiply(scalar, POINTS[name])


# ---- our own labels

DOORS = load("cpace_door")
MODES = [door["mode"] for door in DOORS]


def _door(mode: str) -> dict[str, Any]:
    found: dict[str, Any] = DOORS[MODES.index(mode)]
    return found


@pytest.mark.parametrize("mode", MODES)
def test_each_value_of_a_door(mode: str) -> None:
    v = _door(mode)
    q, sid, isk = raw(v["q"]), raw(v["sid"]), raw(v["isk"])
    tid, run = Tid(raw(v["tid"])), RunId(raw(v["nP"]))
    ya, yb, vp, h = raw(v["Ya"]), raw(v["Yb"]), PublicKey(raw(v["ADa_phone_key"])), raw(v["ADb_hash_offer"])
    assert prs(q, v["code"]) == raw(v["prs"])
    assert sid == tid + run
    assert channel_id(SiteId(raw(v["ci"])[9:])) == raw(v["ci"])
    assert cpace.generator(raw(v["prs"]), raw(v["ci"]), sid) == raw(v["generator"])
    assert cpace.multiply(raw(v["ya"]), raw(v["generator"])) == ya
    assert cpace.multiply(raw(v["yb"]), raw(v["generator"])) == yb
    assert cpace.multiply(raw(v["ya"]), yb) == cpace.multiply(raw(v["yb"]), ya) == raw(v["K_dh"])
    assert cpace.isk(sid, raw(v["K_dh"]), ya, vp, yb, h) == isk
    assert cpace.tag(sid, isk, ya, vp) == raw(v["Ta"])
    assert cpace.tag(sid, isk, yb, h) == raw(v["Tb"])
    assert check_code(isk, sid) == v["check_code"]
    if q:
        assert gate(q, tid, run, ya, vp) == raw(v["gate"])
        assert mailbox_of(q).hex() == v["mailbox"]
    else:
        assert v["gate"] == ""
        assert v["mailbox"] is None


@pytest.mark.parametrize("mode", MODES)
def test_the_boxes_of_a_door(mode: str) -> None:
    v = _door(mode)
    isk, sid = raw(v["isk"]), raw(v["sid"])
    site, phone = Channel.derive(isk, sid, "s2p"), Channel.derive(isk, sid, "p2s")
    assert (site.state.out_key, site.state.in_key) == (raw(v["key_s2p"]), raw(v["key_p2s"]))
    assert (phone.state.out_key, phone.state.in_key) == (raw(v["key_p2s"]), raw(v["key_s2p"]))
    assert site.seal(v["m4_plain"].encode()) == raw(v["m4_box"])
    assert phone.open(raw(v["m4_box"])) == v["m4_plain"].encode()
    assert phone.seal(v["m5_grant"].encode()) == raw(v["m5_box"])
    assert site.open(raw(v["m5_box"])) == v["m5_grant"].encode()


def _machines(v: dict[str, Any]) -> tuple[PhoneDoor, SiteDoor, SiteId]:
    """Both machines, fed with the vector's own random numbers in the order that they ask for them."""
    jws = load("jws")
    phone_random = iter([raw(v["ya"]), raw(jws["phone_seed"]), raw(v["nP"])])
    site = SiteId(raw(v["ci"])[9:])
    return (
        PhoneDoor(raw(v["q"]), v["code"], lambda n: next(phone_random)),
        SiteDoor(
            q=raw(v["q"]), code=v["code"], tid=Tid(raw(v["tid"])), site=site, offer=jws["offer"],
            random=lambda n: raw(v["yb"]),
        ),
        site,
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_the_machines_say_what_the_vector_says(mode: str) -> None:
    v = _door(mode)
    phone, door, site = _machines(v)
    m1 = phone.hello(encode(Hello(v=1, tid=Tid(raw(v["tid"])), s=site, exp=1796007200)))
    assert (m1.nP, m1.Ya, m1.vP, m1.gate) == tuple(
        raw(v[name]) for name in ("nP", "Ya", "ADa_phone_key", "gate")
    )
    m2 = door.start(m1)
    assert (m2.Yb, m2.hO) == (Point32(raw(v["Yb"])), Digest(raw(v["ADb_hash_offer"])))
    m3 = phone.point(encode(m2))
    assert m3.Ta == Tag64(raw(v["Ta"]))
    assert door.prove(m3)
    assert door.check == v["check_code"]


@pytest.mark.parametrize("mode", MODES)
def test_the_question_of_the_vector_is_older_than_the_schema(mode: str) -> None:
    """Tag and box are right, so the phone reads on, and then refuses an offer with `why` = "TREAT" (docs/spec)."""
    v = _door(mode)
    question = json.loads(v["m4_plain"])
    assert set(question) == {"offer", "summary", "salt", "state", "decided", "now"}
    phone, door, site = _machines(v)
    m1 = phone.hello(encode(Hello(v=1, tid=Tid(raw(v["tid"])), s=site, exp=1796007200)))
    phone.point(encode(door.start(m1)))
    m4 = Answer(v=1, Tb=Tag64(raw(v["Tb"])), box=BlobKey(raw(v["m4_box"])))
    with refused(HeaderError):
        phone.answer(encode(m4))
