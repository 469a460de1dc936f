"""The relay's database, blobs and log, dumped while a transfer is unanswered, while it is delivered, after PARTIAL and
after COMPLETE: nothing in them that a study, a patient or a key could be learned from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from clients.drill import Phone
from clients.gateway.views import TransferView
from tests.programs import RECEIVER, SENDER, Programs, running, write_study
from tests.secrets_kit import PREAMBLE, forms, found, found_number, of_the_gateways, of_the_study

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
