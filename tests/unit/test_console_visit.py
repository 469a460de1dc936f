from __future__ import annotations

import asyncio

import pytest

from clients.gateway.console.sessions import IDLE
from clients.gateway.console.visit import REFRESH, safe_place
from tests.console_kit import House, Person, house


async def ready(built: House) -> tuple[Person, str, dict[str, str]]:
    """A clerk in front of a study; its send address and the form's fields, a trauma center chosen."""
    person = await built.person("desk1")
    study = next(iter(built.engine.all_studies.values()))
    await person.open(f"/studies/{study.id}")
    path = f"/studies/{study.id}/send"
    return person, path, person.page.form(path).fields


@pytest.mark.parametrize("csrf", ["", "x", "A" * 43, None])
async def test_a_form_without_its_token_changes_nothing_and_is_audited(csrf: str | None) -> None:
    async with house() as built:
        person, path, fields = await ready(built)
        sent = {k: v for k, v in {**fields, "csrf": csrf}.items() if v is not None}
        page = await person.post(path, sent)
        assert person.status == 403
        assert "nothing was changed" in page.text
        assert built.engine.all_transfers == {}
        assert (built.engine.lines[-1].action, built.engine.lines[-1].detail) == ("page:refused", "form")


async def test_the_token_of_another_session_is_no_token_here() -> None:
    async with house() as built:
        person, path, fields = await ready(built)
        other = await built.person("admin")
        token = other.page.form("/sign-out").fields["csrf"]
        await person.post(path, {**fields, "csrf": token})
        assert person.status == 403
        assert built.engine.all_transfers == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://[broken"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "nonsense"},
    ],
)
async def test_a_form_from_elsewhere_changes_nothing_even_with_the_token(headers: dict[str, str]) -> None:
    async with house() as built:
        person, path, fields = await ready(built)
        page = await person.post(path, fields, headers=headers)
        assert person.status == 403
        assert "came from another website" in page.text
        assert built.engine.all_transfers == {}


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("", b"csrf=\xff"),
        ("; charset=utf-8", b"\xff=a"),
        ("; charset=none-such", b"csrf=a"),
        ("; charset=hex", b"csrf=a"),
        ("; charset=unicode_escape", rb"csrf=\ud800"),
    ],
)
async def test_a_form_in_no_known_text_is_refused_by_name(charset: str, body: bytes) -> None:
    async with house() as built:
        person, path, _ = await ready(built)
        kind = {"Content-Type": "application/x-www-form-urlencoded" + charset}
        for address in ("/sign-in", path):
            answer = await person.client.post(address, data=body, headers=kind)
            assert answer.status == 415
            assert "use this page's own form" in (await answer.text()).lower().replace("&#39;", "'")
        assert built.engine.all_transfers == {}


async def test_a_form_from_here_is_done_whether_or_not_the_browser_says_so() -> None:
    async with house() as built:
        person, path, fields = await ready(built)
        own = f"http://{built.server.host}:{built.server.port}"
        for mark, headers in {
            "a": {},
            "b": {"Origin": own},
            "c": {"Origin": own, "Sec-Fetch-Site": "same-origin"},
            "d": {"Sec-Fetch-Site": "none"},
        }.items():
            await person.post(path, {**fields, "once": mark}, headers=headers)
            assert person.status == 200
        assert len(built.engine.all_transfers) == 4


async def test_a_double_click_makes_one_offer() -> None:
    async with house() as built:
        person, path, fields = await ready(built)
        answers = await asyncio.gather(
            *(person.client.post(path, data=fields, allow_redirects=False) for _ in range(4))
        )
        assert {a.status for a in answers} == {303}
        assert len({a.headers["Location"] for a in answers}) == 1
        assert len(built.engine.all_transfers) == 1
        assert built.engine.actions().count("page:send") == 1
        await person.open(path.removesuffix("/send"))
        await person.send(path)
        assert len(built.engine.all_transfers) == 2, "the page opened anew is a new form"


async def test_a_post_answers_with_the_address_to_go_to() -> None:
    async with house() as built:
        person, path, fields = await ready(built)
        answer = await person.client.post(path, data=fields, allow_redirects=False)
        assert answer.status == 303
        assert answer.headers["Location"].startswith("/transfers/")


async def test_an_ended_session_leads_to_the_sign_in_and_back() -> None:
    async with house() as built:
        person, path, fields = await ready(built)
        built.clock.time += IDLE
        page = await person.post(path, fields)
        assert built.engine.all_transfers == {}
        assert "You were signed out" in page.text
        await person.send("/sign-in", name="desk1", password="four unrelated words")
        assert person.path == path.removesuffix("/send")
        assert person.status == 200


async def test_a_page_that_fetches_itself_keeps_no_session_awake_and_is_told_when_it_ended() -> None:
    async with house() as built:
        person = await built.person("desk1")
        for _ in range(3):
            built.clock.time += IDLE // 3 - 1
            await person.open("/desk", headers={REFRESH: "1"})
            assert person.status == 200
        assert built.engine.actions().count("page:view-desk") == 1
        built.clock.time += 3
        await person.open("/desk", headers={REFRESH: "1"}, allow_redirects=False)
        assert person.status == 401


async def test_a_refresh_shows_nothing_that_a_visit_would_not() -> None:
    async with house() as built:
        person = await built.person("desk1")
        await person.open("/audit", headers={REFRESH: "1"})
        assert person.status == 403
        study = next(iter(built.engine.all_studies.values()))
        await person.open(f"/studies/{study.id}", headers={REFRESH: "1"})
        assert built.engine.lines[-1].action == "page:view-study"


@pytest.mark.parametrize("path", ["/", "/desk", "/transfers/" + "0" * 32, "/transfers/" + "a" * 32 + "/stop"])
def test_places_of_ours(path: str) -> None:
    assert safe_place(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "/desk?x",
        "/a//b",
        "/desk\n",
        "/%2f",
        "/" + "a" * 300,
        "desk",
    ],
)
def test_places_that_are_not(path: str) -> None:
    assert safe_place(path) == "/"
