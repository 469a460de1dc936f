"""`clients.gateway.console.pages.door`: another door, a scanner's field, a poster; without scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from clients.gateway.sending.scans import KINDS
from clients.gateway.views import TransferView
from tests.console_kit import House, Person, house
from transfer.links import make_link, make_scan

CODE = make_scan(b"q" * 16)


@pytest.fixture
async def made() -> AsyncIterator[House]:
    async with house() as built:
        yield built


async def offered(made: House, **values: Any) -> TransferView:
    study = (await made.engine.studies())[0]
    peer = next(iter(made.engine.all_peers))
    view = await made.engine.send(study.id, peer, "transfer", "desk1")
    return made.engine.change(view.tid, **values)


def now(made: House, view: TransferView) -> TransferView:
    return made.engine.all_transfers[view.tid]


async def switched(person: Person, view: TransferView, door: str) -> None:
    """By the button of the transfer's page."""
    await person.open(f"/transfers/{view.tid}")
    action = f"/transfers/{view.tid}/door"
    form = next(f for f in person.page.forms if f.action == action and f.fields["door"] == door)
    await person.post(action, form.fields)


async def test_a_number_and_a_code_to_read_out(made: House) -> None:
    view, person = await offered(made), await made.person("desk1")
    await switched(person, view, "voice")
    assert person.path == f"/transfers/{view.tid}"
    fresh = now(made, view)
    text = person.page.text
    for said in (
        f"{fresh.number[:3]} {fresh.number[3:]}", f"{fresh.pin[:3]} {fresh.pin[3:6]} {fresh.pin[6:]}",
        "relay.example/v", "10 min left", "3 tries left", "Abra esta dirección", made.engine.name,
    ):  # fmt: skip
        assert said in text
    assert "https://relay.example/v" not in text
    await switched(person, view, "qr")
    assert now(made, view).door == "qr"
    assert "QR code" in await raw(person)


async def raw(person: Person) -> str:
    assert person.answer is not None
    return await person.answer.text()


async def test_the_same_form_twice_is_one_code(made: House) -> None:
    view, person = await offered(made), await made.person("desk1")
    await person.open(f"/transfers/{view.tid}")
    action = f"/transfers/{view.tid}/door"
    form = next(f for f in person.page.forms if f.action == action)
    await person.post(action, form.fields)
    first = now(made, view)
    await person.post(action, form.fields)
    assert now(made, view) == first


async def test_a_scanner_types_into_the_field(made: House) -> None:
    view, person = await offered(made), await made.person("desk1")
    page = await person.open(f"/transfers/{view.tid}/scan")
    assert "relay.example/p" in page.text
    assert "autofocus" in await raw(person)
    assert person.answer is not None
    assert person.answer.headers["Permissions-Policy"].startswith("camera=(self)")
    await person.send(f"/transfers/{view.tid}/door", scanned=CODE)
    fresh = now(made, view)
    assert (fresh.door, person.path) == ("scan", f"/transfers/{view.tid}")
    assert f"{fresh.pin[:3]} {fresh.pin[3:]}" in person.page.text
    assert person.answer.headers["Permissions-Policy"].startswith("camera=()")


@pytest.mark.parametrize(
    ("text", "code"),
    [("", "scan-empty"), ("4711", "scan-rubbish"), (CODE[:-1], "scan-damaged"), (CODE.swapcase(), "scan-caps"),
     ("https://other.example/p", "scan-poster"), (make_link("https://relay.example", b"q" * 16), "scan-link")],
)  # fmt: skip
async def test_what_is_no_code_is_said_and_scanned_again(made: House, text: str, code: str) -> None:
    view, person = await offered(made), await made.person("desk1")
    await person.open(f"/transfers/{view.tid}/scan")
    page = await person.send(f"/transfers/{view.tid}/door", scanned=text)
    assert person.path == f"/transfers/{view.tid}/scan?why={code}"
    assert KINDS[code]().sentence in page.text
    assert not text or text not in page.text
    assert now(made, view) == view
    await person.send(f"/transfers/{view.tid}/door", scanned=CODE)
    assert now(made, view).door == "scan"


async def test_any_other_why_says_nothing(made: House) -> None:
    view, person = await offered(made), await made.person("desk1")
    page = await person.open(f"/transfers/{view.tid}/scan?why=<script>")
    assert (person.status, "script" in page.text) == (200, False)


@pytest.mark.parametrize(
    "values", [{"state": "RELEASED"}, {"locked": True, "tries_left": 0}, {"kind": "add"}]
)
async def test_who_does_not_wait_is_not_asked_at_another_door(made: House, values: dict[str, Any]) -> None:
    view, person = await offered(made, **values), await made.person("desk1")
    page = await person.open(f"/transfers/{view.tid}")
    assert f"/transfers/{view.tid}/door" not in [f.action for f in page.forms]
    await person.open(f"/transfers/{view.tid}/scan")
    assert person.status == 400


@pytest.mark.parametrize(
    ("user", "status"), [("desk1", 200), ("admin", 200), ("dr-lee", 403), ("privacy", 403)]
)
async def test_who_may(made: House, user: str, status: int) -> None:
    view, person = await offered(made), await made.person(user)
    await person.open(f"/transfers/{view.tid}/scan")
    assert person.status == status
    page = await person.open(f"/transfers/{view.tid}")
    assert (f"/transfers/{view.tid}/door" in [f.action for f in page.forms]) == (status == 200)


async def test_a_door_without_a_code_says_what_to_do(made: House) -> None:
    closed = {"door": "voice", "link": "", "pin": "", "number": ""}
    view, person = await offered(made, **closed), await made.person("desk1")
    assert "No code is open" in (await person.open(f"/transfers/{view.tid}")).text
    made.engine.change(view.tid, code_until=made.clock.now() + 500)
    assert "as soon as it is ours" in (await person.open(f"/transfers/{view.tid}")).text


async def test_a_poster_in_two_languages(made: House) -> None:
    person = await made.person("desk1")
    page = await person.open("/poster")
    for said in (made.engine.name, "relay.example/p", "relay.example/v", "Muestre al personal", "PIN"):
        assert said in page.text
