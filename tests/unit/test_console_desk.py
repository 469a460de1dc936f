from __future__ import annotations

import re

from msgspec.structs import replace

from clients.gateway.console.pages.desk import SHOWN
from tests.console_kit import house


async def test_the_desk_lists_name_birth_date_time_counts_and_source() -> None:
    async with house() as built:
        person = await built.person("desk1")
        page = await person.open("/desk")
        study = max(built.engine.all_studies.values(), key=lambda s: s.last_at)
        for words in (
            study.patient_name,
            study.birth_date,
            study.time,
            "575 images",
            "302 MB",
            study.source,
            "arriving",
        ):
            assert words in page.text
        assert "No name" in page.text
        assert "3 refused" in page.text
        assert "The other hospital decides whose images these are." in page.text
        assert page.text.index("DOE, JANE") < page.text.index("TEST, ALPHA"), "the newest first"


async def test_a_search_finds_by_name_number_and_accession_and_leaves_no_name_in_an_address() -> None:
    async with house() as built:
        person = await built.person("desk1")
        study = next(s for s in built.engine.all_studies.values() if s.patient_name == "TEST, BRAVO")
        for typed in ("bravo test", f"  {study.patient_id} ", study.accession):
            await person.open("/desk")
            page = await person.send("/desk", q=typed)
            assert re.fullmatch(r"/desk\?s=[0-9a-f]{16}", person.path)
            assert "TEST, BRAVO" in page.text
            assert "DOE, JANE" not in page.text
            assert "1 match" in page.text
            assert page.form("/desk").fields["q"] == " ".join(typed.split())
        assert not any(
            "bravo" in line.detail.casefold() or study.patient_id in line.detail
            for line in built.engine.lines
        )
        assert "page:search" in built.engine.actions()


async def test_a_search_stays_after_a_reload_but_not_for_others() -> None:
    async with house() as built:
        person, other = await built.person("desk1"), await built.person("admin")
        await person.open("/desk")
        await person.send("/desk", q="BRAVO")
        address = person.path
        assert "DOE, JANE" not in (await person.open(address)).text
        page = await other.open(address)
        assert "BRAVO" not in page.form("/desk").fields["q"]
        assert "That search is no longer kept." in page.text
        assert "DOE, JANE" in page.text


async def test_an_empty_search_shows_all_and_one_without_a_match_says_what_to_do() -> None:
    async with house() as built:
        person = await built.person("desk1")
        await person.open("/desk")
        await person.send("/desk", q="   ")
        assert person.path == "/desk"
        page = await person.send("/desk", q="%_' OR 1=1 --")
        assert "Nothing here matches" in page.text
        assert "ask CT or the PACS" in page.text
        await person.open("/desk")
        await person.send("/desk", q="x" * 5000)
        assert len(person.page.form("/desk").fields["q"]) == 100


async def test_a_single_match_of_a_scan_puts_the_focus_on_send() -> None:
    async with house() as built:
        person = await built.person("desk1")
        await person.open("/desk")
        await person.send("/desk", q="400003")
        assert person.answer is not None
        html = await person.answer.text()
        assert len(re.findall(r"<a [^>]*id=\"send-[^>]*autofocus", html)) == 1


async def test_only_the_newest_are_shown_and_the_page_says_so() -> None:
    async with house() as built:
        study = next(iter(built.engine.all_studies.values()))
        for i in range(SHOWN + 5):
            built.engine.put_study(replace(study, id=f"{i:032x}"))
        page = await (await built.person("desk1")).open("/desk")
        assert sum(link.startswith("/studies/") for link in page.links) == 2 * SHOWN
        assert f"only {SHOWN} are shown" in page.text


async def test_an_empty_desk_says_how_a_study_gets_there() -> None:
    async with house() as built:
        built.engine.all_studies.clear()
        page = await (await built.person("desk1")).open("/desk")
        assert "No studies yet" in page.text


async def test_a_clinician_reads_the_desk_and_is_offered_no_send() -> None:
    async with house() as built:
        person = await built.person("dr-lee")
        await person.open("/desk")
        assert person.answer is not None
        html = await person.answer.text()
        assert ">Open</a>" in html
        assert ">Send</a>" not in html


async def test_a_name_with_markup_is_shown_as_text() -> None:
    async with house() as built:
        study = next(iter(built.engine.all_studies.values()))
        built.engine.put_study(
            replace(study, patient_name='<img src=x onerror="alert(1)">', description="</td><script>")
        )
        person = await built.person("desk1")
        page = await person.open("/desk")
        assert person.answer is not None
        html = await person.answer.text()
        assert "<img" not in html
        assert "</td><script>" not in html
        assert '<img src=x onerror="alert(1)">' in page.text
