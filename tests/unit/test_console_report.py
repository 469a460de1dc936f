"""`clients.gateway.console.pages.report`, `console.uploads`: a file gets in from who may, and in no other way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import FormData

from clients.gateway.console import uploads
from clients.gateway.console.roles import may
from clients.gateway.errors import DiskFullError
from tests.console_kit import House, Person, house
from tests.fake_engine import STAFF
from tests.gateway_kit import PATIENCE
from tests.hl7_kit import a_pdf

PDF = b"%PDF-1.7 as it is\n%%EOF\n"


def newest(built: House) -> str:
    return max(built.engine.all_studies.values(), key=lambda s: s.last_at).id


async def filled(person: Person, study: str, pdf: bytes | None = None, **fields: str) -> FormData:
    """The form as a browser sends it: its fields in their order, then the file."""
    page = await person.open(f"/studies/{study}")
    form = FormData(default_to_multipart=True)
    for name, value in {**page.form(f"/studies/{study}/report").fields, **fields}.items():
        if name != "file":
            form.add_field(name, value)
    filename = "read.pdf" if pdf is not None else ""
    form.add_field("file", pdf or b"", filename=filename, content_type="application/octet-stream")
    return form


async def send(person: Person, study: str, form: FormData) -> str:
    return (await person._read(await person.client.post(f"/studies/{study}/report", data=form))).text


async def test_a_pdf_without_scripts() -> None:
    async with house() as built:
        person, study = await built.person("desk1"), newest(built)
        text = await send(person, study, await filled(person, study, PDF, title="Outside read"))
        assert person.path == f"/studies/{study}?report=added"
        assert "The report was added." in text
        assert built.engine.reports == {(study, "Outside read", "", PDF): "desk1"}
        assert "page:report" in built.engine.actions()


async def test_a_text_and_the_same_again() -> None:
    async with house() as built:
        person, study = await built.person("dr-lee"), newest(built)
        for said in ("The report was added.", "This report was here already"):
            form = await filled(person, study, text="No bleeding.\r\nFracture.")
            assert said in await send(person, study, form)
        assert list(built.engine.reports) == [(study, "Report", "No bleeding.\nFracture.", b"")]


async def test_one_form_sent_twice_is_done_once() -> None:
    async with house() as built:
        person, study = await built.person("desk1"), newest(built)
        page = await person.open(f"/studies/{study}")
        fields = {**page.form(f"/studies/{study}/report").fields, "text": "No bleeding."}
        fields.pop("file")
        for _ in range(2):
            form = FormData(default_to_multipart=True)
            for name, value in fields.items():
                form.add_field(name, value)
            await send(person, study, form)
        assert built.engine.actions().count("page:report") == 1


async def test_a_report_that_comes_too_late_for_a_transfer_says_so() -> None:
    async with house() as built:
        person, study = await built.person("desk1"), newest(built)
        peer = next(p.site for p in built.engine.all_peers.values() if p.reachable)
        view = await built.engine.send(study, peer, "transfer", "desk1")
        built.engine.change(view.tid, state="RELEASED")
        assert "Send the study again" in await send(person, study, await filled(person, study, PDF))


async def test_what_is_no_report_is_a_page_with_the_next_step() -> None:
    cases: list[tuple[bytes | None, dict[str, str], str]] = [
        (None, {}, "Give either a PDF or a text"),
        (PDF, {"text": "and a text"}, "Give either a PDF or a text"),
        (b"PK\3\4", {}, "This file is no PDF."),
        (b"%PDF-1.7 and then", {}, "This PDF is cut off."),
        (PDF, {"title": "x" * 121}, "A report needs a title"),
    ]
    async with house() as built:
        person, study = await built.person("desk1"), newest(built)
        for pdf, fields, words in cases:
            assert words in await send(person, study, await filled(person, study, pdf, **fields))
            assert person.status == 409
        assert built.engine.reports == {}


async def test_a_full_disk_is_named() -> None:
    async with house() as built:
        person, study = await built.person("desk1"), newest(built)
        form = await filled(person, study, PDF)
        built.engine.fails["add_report"] = DiskFullError()
        assert "disk is full" in await send(person, study, form)
        assert person.status == 507


async def test_who_may() -> None:
    async with house() as built:
        clerk, study = await built.person("desk1"), newest(built)
        for user, role in STAFF.items():
            form = await filled(clerk, study, PDF, title=user)
            person = await built.person(user)
            if may(role, "study.report"):
                form = await filled(person, study, PDF, title=user)
            await send(person, study, form)
            assert person.status == (200 if may(role, "study.report") else 403), user
        assert {title for _, title, _, _ in built.engine.reports} == {"desk1", "dr-lee", "admin"}


async def test_nothing_of_a_strangers_form_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> dict[str, str]:
        raise AssertionError("it was read")

    async with house() as built:
        clerk, study = await built.person("desk1"), newest(built)
        form = await filled(clerk, study, PDF)
        monkeypatch.setattr(uploads, "_parts", never)
        stranger = await built.person()
        await send(stranger, study, form)
        assert stranger.path.startswith("/sign-in")
        assert built.engine.reports == {}


async def test_a_form_of_another_site_or_session_changes_nothing() -> None:
    async with house() as built:
        person, study = await built.person("desk1"), newest(built)
        await send(person, study, await filled(person, study, PDF, csrf="x" * 43))
        assert person.status == 403
        form = await filled(person, study, PDF)
        answer = await person.client.post(
            f"/studies/{study}/report", data=form, headers={"Origin": "https://elsewhere.example"}
        )
        assert answer.status == 403
        assert built.engine.reports == {}


async def test_larger_than_a_report_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house() as built:
        person, study = await built.person("desk1"), newest(built)
        monkeypatch.setattr(uploads, "MAX_PDF", 100_000)
        await send(person, study, await filled(person, study, PDF + bytes(200_000)))
        assert person.status == 413
        monkeypatch.setattr(uploads, "_LARGEST_TEXT", 1000)
        await send(person, study, await filled(person, study, text="x" * 2000))
        assert person.status == 413
        assert built.engine.reports == {}


async def test_what_is_no_form_of_ours() -> None:
    """Another kind, a body that is none, too many parts, a part in another encoding."""
    async with house() as built:
        person, study = await built.person("desk1"), newest(built)
        place = f"/studies/{study}/report"
        many = FormData(default_to_multipart=True)
        for i in range(40):
            many.add_field(f"f{i}", "x")
        kind = {"Content-Type": "multipart/form-data; boundary=xyz"}
        part = b'--xyz\r\nContent-Disposition: form-data; name="text"\r\n\r\n'
        for data, headers in (
            ({"text": "x"}, {}),
            (many, {}),
            (b"rubbish", kind),
            (b"--xyz\r\nbroken", kind),
            (part + b"\xff\xfe\r\n--xyz--\r\n", kind),
            (part + b"never ends", kind),
            (b"--xyz\r\n\r\nno name\r\n--xyz--\r\n", kind),
            (b"x", {"Content-Type": "multipart/form-data"}),
            (b"--xyz\r\nContent-Type: multipart/mixed; boundary=abc\r\n\r\n--abc--\r\n--xyz--\r\n", kind),
        ):
            answer = await person.client.post(place, data=data, headers=headers)
            assert answer.status in (403, 415), data
            assert "Traceback" not in await answer.text()
        assert built.engine.reports == {}
        assert "The report was added." in await send(person, study, await filled(person, study, a_pdf()))


async def test_two_files_at_a_time_have_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third one is not read before one of them is where it belongs."""
    async with house() as built:
        people = [await built.person(name) for name in ("desk1", "dr-lee", "admin")]
        study, real = newest(built), built.engine.add_report
        forms = [await filled(p, study, PDF, title=f"Report {i}") for i, p in enumerate(people)]
        inside, go, read = 0, asyncio.Event(), 0
        two = asyncio.Event()

        async def slow(*args: Any) -> Any:
            nonlocal inside
            inside += 1
            if inside == 2:
                two.set()
            await go.wait()
            return await real(*args)

        parts = uploads._parts

        async def counted(request: Any) -> dict[str, str]:
            nonlocal read
            read += 1
            return await parts(request)

        monkeypatch.setattr(built.engine, "add_report", slow)
        monkeypatch.setattr(uploads, "_parts", counted)
        sending = [asyncio.ensure_future(send(p, study, f)) for p, f in zip(people, forms, strict=True)]
        async with asyncio.timeout(PATIENCE):
            await two.wait()
            assert read == 2
            go.set()
            await asyncio.gather(*sending)
        assert (read, len(built.engine.reports)) == (3, 3)
