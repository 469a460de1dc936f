from __future__ import annotations

import pytest

from clients.gateway.console.roles import HOME
from clients.gateway.console.throttle import FREE_BY_NAME
from tests.console_kit import house
from tests.fake_engine import PASSWORD, STAFF


@pytest.mark.parametrize(("user", "role"), STAFF.items())
async def test_everybody_lands_on_the_first_page_of_their_role(user: str, role: str) -> None:
    async with house() as built:
        person = await built.person()
        await person.open("/")
        assert person.path == "/sign-in"
        await person.send("/sign-in", name=f" {user} ", password=PASSWORD)
        assert person.path == HOME[role]
        assert person.status == 200
        await person.open("/")
        assert person.path == HOME[role]
        await person.open("/sign-in")
        assert person.path == HOME[role]
        assert built.engine.lines[0].action == "page:sign-in"
        assert built.engine.lines[0].actor == user


async def test_a_wrong_password_and_an_unknown_name_get_the_same_page() -> None:
    async with house() as built:
        pages = []
        for name, password in (("desk1", "wrong words here"), ("nobody", PASSWORD)):
            person = await built.person()
            page = await person.sign_in(name, password)
            assert person.status == 403
            pages.append(page.text)
            assert page.form("/sign-in").fields["name"] == name
            assert page.form("/sign-in").fields["password"] == ""
        assert pages[0] == pages[1]
        assert "Name and password do not match." in pages[0]
        assert built.engine.sessions == {}
        said = [(line.actor, line.action) for line in built.engine.lines]
        assert said == [("desk1", "page:sign-in-refused"), ("unknown", "page:sign-in-refused")]
        assert "nobody" not in str(built.engine.lines), (
            "a name field may hold a password typed one field too early"
        )


async def test_too_many_tries_have_to_wait_and_cost_no_password_check() -> None:
    async with house() as built:
        person = await built.person()
        for _ in range(FREE_BY_NAME):
            await person.sign_in("desk1", "wrong words here")
        page = await person.sign_in("desk1")
        assert person.status == 429
        assert person.answer is not None
        assert person.answer.headers["Retry-After"] == "2"
        assert "Wait 2 seconds" in page.text
        assert built.engine.sessions == {}
        built.clock.time += 2
        await person.sign_in("desk1")
        assert person.path == "/desk"


async def test_the_sign_in_form_works_only_in_the_browser_it_was_given_to() -> None:
    async with house() as built:
        person, stranger = await built.person(), await built.person()
        await person.open("/sign-in")
        fields = {**person.page.form("/sign-in").fields, "name": "desk1", "password": PASSWORD}
        await stranger.post("/sign-in", fields)
        assert stranger.status == 403
        await stranger.open("/sign-in")
        await stranger.post("/sign-in", fields)
        assert stranger.status == 403
        await person.post("/sign-in", {**fields, "csrf": ""})
        assert person.status == 403
        await person.post("/sign-in", fields, headers={"Origin": "https://evil.example"})
        assert person.status == 403
        assert built.engine.sessions == {}
        await person.post("/sign-in", fields)
        assert person.path == "/desk"


async def test_a_second_tab_of_the_sign_in_page_does_not_break_the_first() -> None:
    async with house() as built:
        person = await built.person()
        first = (await person.open("/sign-in")).form("/sign-in").fields
        await person.open("/sign-in")
        await person.post("/sign-in", {**first, "name": "desk1", "password": PASSWORD})
        assert person.path == "/desk"


async def test_signing_in_again_ends_the_session_before_and_takes_a_new_token() -> None:
    async with house() as built:
        person = await built.person("desk1")
        before = dict(built.engine.sessions)
        token = (await person.open("/status")).form("/sign-out").fields["csrf"]
        jar = {c.key: c.value for c in person.client.session.cookie_jar}
        form = next(v for k, v in jar.items() if k.endswith("-form"))
        await person.post("/sign-in", {"csrf": form, "name": "admin", "password": PASSWORD})
        assert person.path == "/desk"
        assert not before.keys() & built.engine.sessions.keys()
        assert person.page.form("/sign-out").fields["csrf"] != token


async def test_signing_out_ends_the_session_at_the_server() -> None:
    async with house() as built:
        person = await built.person("desk1")
        jar = {c.key: c.value for c in person.client.session.cookie_jar}
        await person.send("/sign-out")
        assert person.path == "/sign-in"
        assert built.engine.sessions == {}
        person.client.session.cookie_jar.update_cookies(jar, person.client.make_url("/"))
        await person.open("/desk")
        assert person.path.startswith("/sign-in")
        assert built.engine.actions()[-1] == "page:sign-out"


async def test_another_site_cannot_sign_somebody_out() -> None:
    async with house() as built:
        person = await built.person("desk1")
        await person.post("/sign-out", {"csrf": "x"})
        assert person.status == 403
        await person.post(
            "/sign-out",
            person.page.form("/sign-out").fields if person.page.forms else {},
            headers={"Sec-Fetch-Site": "cross-site"},
        )
        assert person.status == 403
        assert len(built.engine.sessions) == 1


async def test_nobody_is_led_elsewhere_after_the_sign_in() -> None:
    async with house() as built:
        person = await built.person()
        await person.open("/sign-in", params={"next": "//evil.example/x"})
        await person.send("/sign-in", name="desk1", password=PASSWORD)
        assert person.path == "/desk"
        await person.open("/sign-in", params={"next": "https://evil.example"}, allow_redirects=False)
        assert person.answer is not None
        assert person.answer.headers["Location"] == "/"


async def test_what_was_typed_as_a_name_comes_back_as_text() -> None:
    async with house() as built:
        person = await built.person()
        await person.sign_in('"><script>alert(1)</script>', "x")
        assert person.answer is not None
        assert "<script>alert" not in await person.answer.text()
        assert person.page.form("/sign-in").fields["name"] == '"><script>alert(1)</script>'
