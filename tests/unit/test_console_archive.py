"""The pages around the archive: search, fetch, progress, and offers that a rule prepared."""

from __future__ import annotations

import re

from msgspec.structs import replace

from tests.console_kit import house
from tests.fake_archive import match


async def test_a_search_shows_what_the_pacs_has_and_puts_no_name_in_an_address() -> None:
    async with house() as built:
        built.engine.archived = [match(), match("1.2.4", patient_name="ROE, RICK", instances=-1, here=0)]
        person = await built.person("desk1")
        await person.open("/archive")
        page = await person.send("/archive", accession="A7701", name="DOE, JANE", date="2026-11-24")
        assert re.fullmatch(r"/archive\?s=[0-9a-f]{16}", person.path)
        assert "DOE, JANE" in page.text
        assert "ROE, RICK" in page.text
        assert "not said" in page.text
        assert not any("1.2.4" in value for form in page.forms for value in form.fields.values())
        assert built.engine.searched[0]["accession"] == "A7701"
        assert "page:search-archive" in built.engine.actions()
        assert not any("A7701" in line.detail or "DOE" in line.detail for line in built.engine.lines)
        other = await built.person("admin")
        page = await other.open(person.path)
        assert "DOE, JANE" not in page.text, "a finding is of the session that searched"
        assert "no longer kept" in page.text


async def test_too_little_to_search_for_is_said_and_nothing_found_too() -> None:
    async with house() as built:
        person = await built.person("desk1")
        await person.open("/archive")
        page = await person.send("/archive")
        assert person.status == 400
        assert "Give an accession number" in page.text
        built.engine.search_says = replace(
            built.engine.search_says, sentence="The PACS cannot be reached.", code="pacs-down"
        )
        await person.open("/archive")
        page = await person.send("/archive", accession="A1")
        assert "The PACS cannot be reached." in page.text


async def test_a_study_is_fetched_watched_and_stopped() -> None:
    async with house() as built:
        built.engine.archived = [match()]
        person = await built.person("desk1")
        await person.open("/archive")
        await person.send("/archive", patient_id="4711")
        page = await person.send("/archive/get")
        assert re.fullmatch(r"/pulls/[0-9a-f]{32}", person.path)
        (ident,) = built.engine.all_pulls
        built.engine.change_pull(ident, here=120, completed=121, failed=2, remaining=565)
        page = await person.open(f"/pulls/{ident}")
        assert "120 of 688 here" in page.text
        assert "2 failed" in page.text
        assert "565 to go" in page.text
        page = await person.send(f"/pulls/{ident}/stop")
        assert "It was stopped." in page.text
        built.engine.change_pull(
            ident, state="INCOMPLETE", sentence="11 images missing: PACS says 688, here 677.", missing=11,
            misses=["1.2.840.1"], notes=["The PACS also sent 1 image of another study."],
        )  # fmt: skip
        page = await person.open(f"/pulls/{ident}")
        assert "Incomplete" in page.text
        assert "11 images missing" in page.text
        assert "another study" in page.text
        assert "DOE, JANE" in (await person.open("/archive")).text, "fetched lately"


async def test_a_place_that_is_not_in_the_list_fetches_nothing() -> None:
    async with house() as built:
        built.engine.archived = [match()]
        person = await built.person("desk1")
        await person.open("/archive")
        page = await person.send("/archive", accession="A7701")
        fields = page.form("/archive/get").fields
        for place in ("1", "-1", "x", "٣", "999999999"):
            page = await person.post("/archive/get", {**fields, "n": place, "once": f"m{place}"})
            assert person.status == 400
            assert "no longer kept" in page.text
        assert not built.engine.all_pulls


async def test_a_prepared_transfer_is_one_click_or_dismissed_and_never_offered_by_itself() -> None:
    async with house() as built:
        peer = next(iter(built.engine.all_peers.values()))
        studies = [s for s in built.engine.all_studies.values() if not s.transfers][:2]
        for study in studies:
            built.engine.put_study(replace(study, prepared=peer.name, prepared_by="rule 2"))
        before = len(built.engine.all_transfers)
        person = await built.person("desk1")
        page = await person.open("/desk")
        assert f"for {peer.name}, not offered" in page.text
        page = await person.open(f"/studies/{studies[0].id}")
        assert f"Prepared for {peer.name}" in page.text
        assert len(built.engine.all_transfers) == before
        await person.send(f"/studies/{studies[0].id}/offer")
        assert re.fullmatch(r"/transfers/[0-9a-f]{32}", person.path)
        assert len(built.engine.all_transfers) == before + 1
        await person.open(f"/studies/{studies[1].id}")
        page = await person.send(f"/studies/{studies[1].id}/dismiss")
        assert person.path == "/desk"
        assert "not offered" not in page.text
        assert {"page:offer-prepared", "page:dismiss-prepared"} <= set(built.engine.actions())


async def test_the_desk_says_how_complete_a_study_is() -> None:
    async with house() as built:
        study = next(iter(built.engine.all_studies.values()))
        built.engine.put_study(
            replace(study, completeness="11 missing: PACS says 586, here 575", missing=11, open=False)
        )
        person = await built.person("desk1")
        assert "11 missing: PACS says 586, here 575" in (await person.open("/desk")).text
        page = await person.open(f"/studies/{study.id}")
        assert "get them from the PACS" in page.text
        built.engine.put_study(
            replace(study, completeness="complete: PACS says 575, here 575", missing=0, open=False)
        )
        assert "complete: PACS says 575, here 575" in (await person.open("/desk")).text


async def test_a_clinician_may_not_search_the_archive() -> None:
    async with house() as built:
        person = await built.person("dr-lee")
        page = await person.open("/desk")
        assert "/archive" not in page.links
        await person.open("/archive")
        assert person.status == 403
