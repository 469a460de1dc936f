"""The relay's database, blobs and log, dumped while a transfer is unanswered, while it is delivered, after PARTIAL and
after COMPLETE: nothing in them that a study, a patient or a key could be learned from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pydicom
import pytest
import pytest_asyncio

from clients.drill import Phone
from clients.gateway.store.vault import Vault
from clients.gateway.views import TransferView
from tests.programs import RECEIVER, SENDER, Programs, running, write_study
from tests.secrets_kit import PREAMBLE, forms, found, found_number, query, secrets_of
from transfer.encoding import be32, hkdf

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROXY = "Zita Vormundschaft"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Programs]:
    async with running(tmp_path_factory.mktemp("blind")) as programs:
        yield programs


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_study(tmp_path / "study", instances=8, side=128)
    return tmp_path / "study"


def of_the_study(study: Path) -> dict[str, bytes]:
    """What the images say, by name."""
    needles = {}
    for file in study.iterdir():
        ds = pydicom.dcmread(file, stop_before_pixels=True)
        for keyword in (
            "PatientName", "PatientID", "AccessionNumber", "StudyDescription", "StudyInstanceUID", "PatientBirthDate",
        ):  # fmt: skip
            needles[keyword] = str(ds[keyword].value).encode()
        needles[f"series {ds.SeriesNumber}"] = ds.SeriesInstanceUID.encode()
        needles[f"instance {ds.InstanceNumber}"] = ds.SOPInstanceUID.encode()
    family, _, given = needles["PatientName"].partition(b"^")
    return {**needles, "family name": family, "given name": given}


def of_the_gateways(world: Programs, view: TransferView) -> dict[str, bytes]:
    """Keys of both sites and of this transfer, while it is open; and what follows from them."""
    needles: dict[str, bytes] = {}
    for site in (world.sender, world.receiver):
        vault = Vault.load(site.folder)
        needles[f"{site.name}: site key"] = (site.folder / "site.key").read_bytes()
        ((identity,),) = query(site.folder, "SELECT v FROM own WHERE k='identity'")
        needles[f"{site.name}: identity"] = vault.open("identity", bytes(identity))
        for at, (pair,) in enumerate(query(site.folder, "SELECT pair_sealed FROM prekeys")):
            plain = vault.open("prekey", bytes(pair))
            needles[f"{site.name}: pre-key {at}, ML-KEM"], needles[f"pre-key {at}, X25519"] = (
                plain[:64],
                plain[64:],
            )
        for purpose, held in secrets_of(site.folder, view.tid).items():
            for n, secret in enumerate(held):
                if purpose != "pin":
                    needles[f"{site.name}: {purpose} {n}"] = secret.plain
    key = needles["sender: content-key 0"]
    ((cid,),) = query(world.sender.folder, "SELECT cid FROM sends WHERE tid=?", [bytes.fromhex(view.tid)])
    for kind, n in query(world.sender.folder, "SELECT kind, n FROM packs WHERE cid=?", [cid]):
        needles[f"pack key {n}"] = hkdf(key, bytes(cid), b"tt1/pack" + str(kind).encode() + be32(n))
    needles["gate key"] = hkdf(needles["sender: q 0"], b"", b"tt1/gate")
    return needles


def assert_blind(world: Programs, needles: dict[str, bytes], pin: str) -> None:
    """Nothing of it is with the relay; and this search would have found it."""
    places = (world.base / "relay", world.relay.log)
    assert found(needles, *places) == set()
    assert not found_number(pin, *places)
    assert found({"site": SENDER.encode()}, *places), "cards are there: the relay's files were read"


async def approve(view: TransferView) -> None:
    async with Phone(view.link, view.pin) as phone:
        await phone.ask()
        status = await phone.decide("approve", by="proxy", name=PROXY, rel="parent")
        assert (status.state, status.refused) == ("RELEASED", "")


@pytest.mark.parametrize("end", ["COMPLETE", "PARTIAL"])
async def test_from_the_offer_to_the_end(world: Programs, study: Path, end: str) -> None:
    of_study = of_the_study(study)
    view = await world.offer(study)
    await world.sender.when(view.tid, lambda v: v.total > 0 and v.moved == v.bytes)
    await world.receiver.when(view.tid, lambda v: v.state == "SEEN" and 0 < v.bytes == v.moved)
    async with Phone(view.link, view.pin) as phone:
        await phone.ask()
    secrets = of_the_gateways(world, view)
    assert len(secrets) > 12
    needles = {
        **of_study,
        **secrets,
        "preamble": PREAMBLE,
        "proxy": PROXY.encode(),
        "PIN": b'"' + view.pin.encode(),
    }
    assert len(list((world.base / "relay" / "packs").rglob("*"))) > 3, "the packs are there"
    assert_blind(world, needles, view.pin)
    assert found(of_study, world.sender.folder) == set(of_study), (
        "what is looked for is in the sender's files"
    )

    world.store.hold("up", 60_000)
    await approve(view)
    await world.store.held.wait()
    await world.receiver.until(view.tid, "OPENED")
    needles.update(of_the_gateways(world, view))
    assert_blind(world, needles, view.pin)

    if end == "PARTIAL":
        await world.sender.engine.cancel(view.tid, "test")
        world.store.release()
        await world.receiver.until(view.tid, "REVOKED")
    else:
        world.store.release()
        await world.receiver.until(view.tid, "COMPLETE")
        assert found(of_study, world.base / "pacs") >= {"family name", "StudyInstanceUID"}
    await world.sender.until(view.tid, "COMPLETE", "REVOKED")
    assert_blind(world, needles, view.pin)


async def test_logs_of_the_gateways_are_blind_too(world: Programs, study: Path) -> None:
    """No name, UID, PIN or key in a line of any party's log."""
    view = await world.offer(study)
    needles = {**of_the_study(study), **of_the_gateways(world, view), "proxy": PROXY.encode()}
    await approve(view)
    await world.sender.until(view.tid, "COMPLETE")
    logs = [program.log for program in world.programs]
    assert all(log.exists() for log in logs)
    assert found(needles, *logs) == set()
    assert not found_number(view.pin, *logs)
    assert not found({"destination": RECEIVER.encode()}, *logs)


@pytest.mark.parametrize(
    "needle", [b"Nadelohr^Xaver", b"1.2.826.0.1.3680043.8.498.42", bytes(range(200, 232))]
)
async def test_the_search_finds_what_is_hidden_in_any_form(tmp_path: Path, needle: bytes) -> None:
    import base64

    for n, cover in enumerate((b"", b"x", b"xy", b"xyz")):
        wrapped = cover + needle + cover
        for form in (
            wrapped, wrapped.hex().encode(), wrapped.hex().upper().encode(), base64.b64encode(wrapped),
            base64.urlsafe_b64encode(wrapped),
        ):  # fmt: skip
            (tmp_path / f"file{n}").write_bytes(b"\x01\x02" + form + b"\x03")
            assert found({"it": needle}, tmp_path) == {"it"}
            (tmp_path / f"file{n}").unlink()
    assert found({"it": needle}, tmp_path) == set()
    assert len(set(forms(needle))) > 5
