from __future__ import annotations

import pytest
from msgspec.structs import replace

from clients.gateway.console.app import ACTIONS, HEADERS, LARGEST_FORM, PAGES
from clients.gateway.console.roles import may
from clients.gateway.views import RungView
from tests.console_kit import House, Person, house
from tests.fake_archive import match
from tests.fake_engine import STAFF, blank

TID = "0123456789abcdef" * 2


async def addresses(built: House) -> dict[str, str]:
    """A real address for each address of the tables."""
    study = next(iter(built.engine.all_studies.values()))
    peer = next(p.site for p in built.engine.all_peers.values() if p.reachable)
    view = await built.engine.send(study.id, peer, "transfer", "desk1")
    built.engine.ask_who(view.tid)
    upper = [RungView(name=name, at=0, open=True) for name in ("attest", "override")]
    built.engine.change(view.tid, rungs=upper, rung="override", decided_why="nobody with them")
    built.engine.archived = [match()]
    pull = await built.engine.pull("1.2.3", "desk1")
    found = {}
    for path in [p[0] for p in PAGES] + [a[0] for a in ACTIONS]:
        of = {"studies": study.id, "pulls": pull.id}.get(path.split("/")[1], view.tid)
        found[path] = path.replace("{id:[0-9a-f]{32}}", of)
    return found


@pytest.mark.parametrize(("user", "role"), STAFF.items())
async def test_every_role_opens_exactly_the_pages_of_its_table(user: str, role: str) -> None:
    async with house() as built:
        places = await addresses(built)
        person = await built.person(user)
        for path, permission, _ in PAGES:
            page = await person.open(places[path])
            assert person.status == (200 if may(role, permission) else 403), path
            if person.status == 403:
                assert "Your role may not do this" in page.text
                assert built.engine.lines[-1].action == "page:refused"
                assert built.engine.lines[-1].detail == permission


@pytest.mark.parametrize(("user", "role"), STAFF.items())
async def test_every_role_sends_exactly_the_forms_of_its_table(user: str, role: str) -> None:
    async with house() as built:
        places = await addresses(built)
        person = await built.person(user)
        csrf = person.page.form("/sign-out").fields["csrf"]
        peer = next(p.site for p in built.engine.all_peers.values() if p.reachable)
        for path, permission, name, _ in ACTIONS:
            answer = await person.client.post(
                places[path], data={"csrf": csrf, "to": peer, "q": "DOE"}, allow_redirects=False
            )
            allowed = may(role, permission)
            assert answer.status in ((303, 400, 409) if allowed else (403,)), path
            assert ("page:" + name in built.engine.actions()) is allowed


async def test_nobody_reaches_anything_without_signing_in() -> None:
    async with house() as built:
        places = await addresses(built)
        person = await built.person()
        lines = len(built.engine.lines)
        for path, *_ in PAGES:
            await person.open(places[path])
            assert person.path.startswith("/sign-in"), path
        for path, *_ in ACTIONS:
            await person.post(places[path], {"csrf": "", "to": "x"})
            assert person.path.startswith("/sign-in"), path
        assert (await person.client.get("/live")).status == 401
        assert len(built.engine.lines) == lines
        assert all(t.state == "OFFERED" for t in built.engine.all_transfers.values())


async def test_navigation_shows_only_what_the_role_may_open() -> None:
    expected = {
        "desk1": {"/desk", "/archive", "/sent", "/status"},
        "dr-lee": {"/desk", "/sent", "/inbox", "/status"},
        "admin": {"/desk", "/archive", "/sent", "/inbox", "/sites", "/audit", "/status"},
        "privacy": {"/sent", "/inbox", "/audit", "/status"},
    }
    async with house() as built:
        for user, pages in expected.items():
            person = await built.person(user)
            links = {x for x in (await person.open("/status")).links if x.startswith("/")}
            assert links == pages | ({"/status"} if user else set())


@pytest.mark.parametrize("user", ["admin", "dr-lee"])
async def test_every_page_marks_the_tab_that_it_is_below(user: str) -> None:
    above = {"studies": "/desk", "poster": "/desk", "pulls": "/archive", "transfers": "/sent"}
    async with house() as built:
        places = await addresses(built)
        person = await built.person(user)
        for path, permission, _ in PAGES:
            if not may(STAFF[user], permission):
                continue
            page = await person.open(places[path])
            tab = above.get(path.split("/")[1])
            if path.endswith(("/identity", "/compare")):
                tab = "/inbox"
            if tab is None:
                assert page.current == {path: "page"}
            else:
                assert page.current == ({tab: "true"} if tab in page.links else {}), path
        built.engine.all_transfers[TID] = blank(tid=TID, role="receive", peer="County Hospital", state="SEEN")
        assert (await person.open(f"/transfers/{TID}")).current == {"/inbox": "true"}


async def check_headers(person: Person) -> None:
    for path in (
        "/sign-in",
        "/",
        "/desk",
        "/nothing",
        "/live?x",
        "/static/console.css",
        "/static/none.css",
        "/desk/..%2f",
    ):
        await person.open(path, allow_redirects=False)
        assert person.answer is not None
        for name, value in HEADERS.items():
            assert person.answer.headers[name] == value, (path, name)


async def test_every_answer_carries_the_security_headers() -> None:
    async with house() as built:
        person = await built.person()
        await check_headers(person)
        await person.client.post("/sign-in", data=b"x", headers={"Content-Type": "text/plain"})
        answer = await person.client.request("DELETE", "/sign-in")
        assert answer.status == 405
        assert answer.headers["Cache-Control"] == "no-store"
        for name in HEADERS:
            assert name in answer.headers


async def test_the_content_security_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    for word in ("unsafe", "*", "data:", "http", "blob:"):
        assert word not in policy
    async with house() as built:
        places = await addresses(built)
        person = await built.person("admin")
        for path, permission, _ in PAGES:
            if not may("pacs-admin", permission):
                continue
            await person.open(places[path])
            assert person.answer is not None
            html = await person.answer.text()
            for word in (
                " style=",
                "<style",
                " onclick",
                "javascript:",
                "data:",
                "http://",
                "https://",
                "<script>",
            ):
                if word == "https://" and path.endswith("}}"):
                    continue  # the address for a phone without a camera
                assert word not in html, (path, word)


async def test_pages_are_not_kept_by_caches_and_not_compressed() -> None:
    async with house() as built:
        person = await built.person("desk1")
        await person.open("/desk", headers={"Accept-Encoding": "gzip"})
        assert person.answer is not None
        assert person.answer.headers["Cache-Control"] == "no-store"
        assert "Content-Encoding" not in person.answer.headers


async def test_a_full_list_of_fifty_studies_and_sixty_transfers_weighs_less_than_100_kb() -> None:
    async with house() as built:
        study = next(iter(built.engine.all_studies.values()))
        long = "LONGFAMILYNAME-WITHANOTHER, FIRSTNAME MIDDLENAME"
        for i in range(120):
            view = blank(
                tid=f"{i:032x}",
                role="send",
                peer="Lakeside Trauma Center",
                state="OFFERED",
                patient_name=long,
            )
            built.engine.all_transfers[view.tid] = view
            built.engine.put_study(replace(study, id=f"{i:032x}", patient_name=long, transfers=[view.tid]))
        person = await built.person("admin")
        for path in ("/desk", "/sent", "/inbox"):
            await person.open(path)
            assert person.answer is not None
            assert len(await person.answer.read()) < 100_000, path


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/studies/1.2.840.1",
        "/studies/" + "G" * 32,
        "/transfers/" + "0" * 31,
        "/transfers/../desk/x",
        "/desk/",
        "/static/../app.py",
    ],
)
async def test_an_address_that_is_not_there_is_a_page_with_the_next_step(path: str) -> None:
    async with house() as built:
        person = await built.person("desk1")
        page = await person.open(path)
        assert person.status == 404
        assert "There is no page at this address." in page.text
        assert "/desk" in page.links


@pytest.mark.parametrize("place", ["/studies/", "/transfers/"])
async def test_an_id_that_is_not_there_is_a_page_too(place: str) -> None:
    async with house() as built:
        person = await built.person("desk1")
        page = await person.open(place + TID)
        assert person.status == 404
        assert "There is nothing under this name here." in page.text
        assert "absent" in page.text


async def test_a_large_body_and_a_body_of_another_kind_are_not_read() -> None:
    async with house() as built:
        person = await built.person("desk1")
        page = await person.post("/desk", {"q": "x" * (LARGEST_FORM + 1)})
        assert person.status == 413
        assert "form-size" in page.text
        for kind in ("multipart/form-data; boundary=x", "application/json", "text/plain"):
            answer = await person.client.post("/desk", data=b"--x\r\n", headers={"Content-Type": kind})
            assert answer.status == 415


async def test_what_breaks_in_the_engine_is_a_page_and_never_a_traceback() -> None:
    async with house() as built:
        person = await built.person("desk1")
        built.engine.fails["studies"] = RuntimeError("DOE^JANE 1.2.840.113")
        page = await person.open("/desk")
        assert person.status == 500
        assert "Reference:" in page.text
        for word in ("DOE", "1.2.840", "Traceback", "RuntimeError"):
            assert word not in page.text


async def test_nothing_is_shown_that_the_audit_log_did_not_take() -> None:
    async with house() as built:
        person = await built.person("desk1")
        study = next(iter(built.engine.all_studies.values()))
        built.engine.fails["record"] = OSError("full")
        for path in ("/desk", f"/studies/{study.id}"):
            page = await person.open(path)
            assert person.status == 500
            assert study.patient_name not in page.text
