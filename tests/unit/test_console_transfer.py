from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from clients.gateway.console.pages.transfer import can_reopen, can_stop
from clients.gateway.views import LackingView, TransferView
from tests.console_kit import House, Person, house
from tests.fake_archive import match
from tests.fake_engine import blank
from transfer.states import RECEIVER, SENDER
from transfer.text import is_seen


async def sent(built: House, **values: Any) -> TransferView:
    """A transfer that the desk made."""
    study = next(iter(built.engine.all_studies.values()))
    peer = next(p.site for p in built.engine.all_peers.values() if p.reachable)
    view = await built.engine.send(study.id, peer, "transfer", "desk1")
    return built.engine.change(view.tid, **values)


def incoming(built: House, **values: Any) -> TransferView:
    """A transfer that another hospital offered."""
    view = blank(
        **{
            "tid": "ab" * 16,
            "role": "receive",
            "peer": "County Hospital",
            "created_at": built.clock.time,
            **values,
        }
    )
    built.engine.all_transfers[view.tid] = view
    return view


async def seen(person: Person, view: TransferView) -> str:
    return (await person.open(f"/transfers/{view.tid}")).text


async def test_the_desk_shows_qr_pin_check_time_left_and_tries() -> None:
    async with house() as built:
        view = await sent(built, check="", moved=40_000_000, bytes=140_000_000, speed=2e6)
        person = await built.person("desk1")
        text = await seen(person, view)
        for words in (
            "Waiting for the yes", "tell it, do not show it", view.pin[:3], "5 tries left", "No phone yet.",
            "2 h 0 min left", "40 MB of 140 MB so far uploaded", "2.0 MB/s", "50 s left", "575 images prepared",
            "Nobody can answer?", "burn the CD",
        ):  # fmt: skip
            assert words in text, words
        built.engine.change(view.tid, check="0042", joined_at=built.clock.time, tries_left=4)
        text = await seen(person, view)
        assert "0042" in text
        assert "It must show the same four digits." in text
        assert "4 tries left" in text


async def test_divert_names_who_is_covered_and_leads_to_the_transfer_that_takes_its_place() -> None:
    async with house() as built:
        north = built.engine.put_peer("Northside Trauma Center")
        far = built.engine.put_peer("Far Hospital", reachable=False)
        view = await sent(built, alternates=[north.name], state="RELEASED", decided_at=1, released_at=1)
        person = await built.person("desk1")
        page = await person.open(f"/transfers/{view.tid}")
        assert f"/transfers/{view.tid}/divert" in page.links
        page = await person.open(f"/transfers/{view.tid}/divert")
        first, then = page.text.index(north.name), page.text.index(far.name)
        assert first < page.text.index("The yes covers it: it goes at once.") < then
        assert "The question does not name it: the person is asked again" in page.text[then:]
        page = await person.send(f"/transfers/{view.tid}/divert", to=north.site)
        assert "To Northside Trauma Center" in page.text
        assert "was diverted here" in page.text
        page = await person.open(f"/transfers/{view.tid}")
        assert "It went to Northside Trauma Center instead" in page.text
        assert f"/transfers/{view.tid}/divert" not in page.links
        assert "page:divert" in built.engine.actions()


async def test_divert_to_nowhere_and_of_what_has_ended() -> None:
    async with house() as built:
        view = await sent(built)
        person = await built.person("desk1")
        await person.open(f"/transfers/{view.tid}/divert")
        page = await person.send(f"/transfers/{view.tid}/divert", to="")
        assert "No hospital was chosen." in page.text
        built.engine.change(view.tid, state="COMPLETE")
        page = await person.open(f"/transfers/{view.tid}/divert")
        assert "cannot be diverted" in page.text


@pytest.mark.parametrize("user", ["dr-lee", "privacy"])
async def test_those_who_do_not_send_see_neither_qr_nor_pin(user: str) -> None:
    async with house() as built:
        view = await sent(built)
        person = await built.person(user)
        text = await seen(person, view)
        assert person.answer is not None
        html = await person.answer.text()
        assert '<svg class="qr"' not in html
        assert view.link not in html
        assert view.pin not in html
        assert view.pin[:3] + " " + view.pin[3:] not in text
        assert "/stop" not in html
        assert "/reopen" not in html


async def test_a_clerk_may_not_open_what_comes_in() -> None:
    async with house() as built:
        view = incoming(built, state="OPENED", patient_name="DOE, JANE")
        person = await built.person("desk1")
        text = await seen(person, view)
        assert person.status == 403
        assert "DOE" not in text
        assert built.engine.lines[-1].action == "page:refused"


async def test_before_the_offer_exists_the_page_says_what_comes() -> None:
    async with house() as built:
        view = await sent(built, state="PREPARING", link="", pin="")
        assert "It appears here by itself as soon as the offer is made." in await seen(
            await built.person("desk1"), view
        )


async def test_after_the_yes_the_code_is_gone_and_who_said_it_is_shown() -> None:
    async with house() as built:
        now = built.clock.time
        view = await sent(
            built, state="RELEASED", decided_by="proxy: A. TEST (parent)", decided_at=now, released_at=now
        )
        person = await built.person("desk1")
        text = await seen(person, view)
        assert person.answer is not None
        assert '<svg class="qr"' not in await person.answer.text()
        assert view.pin[:3] + " " + view.pin[3:] not in text
        assert "proxy: A. TEST (parent)" in text
        assert "Approved, on its way" in text


async def test_the_end_says_how_many_arrived_by_what_proof_and_the_receipt() -> None:
    async with house() as built:
        now = built.clock.time
        ended = {
            "decided_by": "patient",
            "decided_at": now,
            "released_at": now,
            "ended_at": now,
            "proof": "store",
            "receipt_code": "7QK4M2PX",
        }
        view = await sent(built, state="COMPLETE", stored=575, total=575, **ended)
        person = await built.person("desk1")
        text = await seen(person, view)
        for words in (
            "Complete",
            "575 of 575 images at the PACS of Lakeside Trauma Center",
            "C-STORE",
            "7QK4M2PX",
        ):
            assert words in text
        built.engine.change(view.tid, state="PARTIAL", stored=572, gaps=3, why="no-receipt")
        text = await seen(person, view)
        for words in (
            "Incomplete",
            "572 of 575",
            "3 images are missing.",
            "no-receipt",
            "Call Lakeside Trauma Center",
            "burn the CD",
        ):
            assert words in text
        built.engine.change(view.tid, state="DENIED", released_at=0, gaps=0, stored=0, total=0)
        text = await seen(person, view)
        assert "Nothing was opened at Lakeside Trauma Center" in text
        assert "Declined by" in text


async def test_a_stalled_link_is_said_and_the_engines_own_sentence_wins() -> None:
    async with house() as built:
        view = await sent(
            built,
            stalled=True,
            sentence="The relay does not answer. It goes on by itself.",
            alarms=["Call the site."],
        )
        text = await seen(await built.person("desk1"), view)
        assert "Nothing moved for 5 seconds." in text
        assert "The relay does not answer. It goes on by itself." in text
        assert "Call the site." in text


async def test_stopping_asks_first_and_then_stops_once() -> None:
    async with house() as built:
        view = await sent(built)
        person = await built.person("desk1")
        page = await person.open(f"/transfers/{view.tid}")
        assert f"/transfers/{view.tid}/stop" in page.links
        page = await person.open(f"/transfers/{view.tid}/stop")
        assert "Stop sending to Lakeside Trauma Center?" in page.text
        assert built.engine.all_transfers[view.tid].state == "OFFERED"
        fields = page.form(f"/transfers/{view.tid}/stop").fields
        for _ in range(2):
            page = await person.post(f"/transfers/{view.tid}/stop", fields)
            assert person.path == f"/transfers/{view.tid}"
            assert "Stopped" in page.text
        assert built.engine.actions().count("page:stop") == built.engine.actions().count("stopped") == 1
        assert f"/studies/{view.study}" in page.links, "a new transfer is one click away"
        page = await person.open(f"/transfers/{view.tid}/stop")
        assert "cannot be stopped any more" in page.text


@pytest.mark.parametrize(
    ("state", "ended", "words", "after"),
    [
        ("OFFERED", 0, "Nobody has opened it", "REVOKED"),
        ("RELEASED", 0, "has opened stays there", "REVOKED"),
        ("COMPLETE", 9, "It was too late to stop it", "COMPLETE"),
        ("DIVERTED", 9, "It went to another hospital", "DIVERTED"),
    ],
)
async def test_somebody_asks_staff_to_stop(state: str, ended: int, words: str, after: str) -> None:
    async with house() as built:
        view = await sent(built, state=state, ended_at=ended, released_at=state == "RELEASED")
        person = await built.person("desk1")
        there = f"/transfers/{view.tid}/stop-asked"
        page = await person.open(f"/transfers/{view.tid}" if ended else f"/transfers/{view.tid}/stop")
        assert there in page.links
        page = await person.open(there)
        assert words in page.text
        page = await person.send(there, asker="", reason="")
        assert "Choose who asked to stop" in page.text
        page = await person.open(there)
        page = await person.send(there, asker="parent", reason="called at 14:10")
        assert "asked to stop by parent: called at 14:10" in page.text
        assert (await built.engine.transfer(view.tid)).state == after
        assert there not in page.links
        page = await person.open(there)
        assert "nothing to stop" in page.text


async def test_whoever_needs_more_reads_whom_to_call_and_what_to_name() -> None:
    async with house() as built:
        person = await built.person("dr-lee")
        view = incoming(built, state="COMPLETE", accession="A4711", peer_call="CT desk, 555 010 0142", gaps=2)
        text = await seen(person, view)
        assert text.count("County Hospital (CT desk, 555 010 0142)") == 2, "for more, and for what is missing"
        for words in (view.tid[:8], "their accession number A4711", "thin slices", "Send more"):
            assert words in text
        built.engine.change(view.tid, accession="", peer_call="")
        assert "accession" not in await seen(person, view)


async def test_stopping_what_ended_meanwhile_says_so() -> None:
    async with house() as built:
        view = await sent(built)
        person = await built.person("desk1")
        page = await person.open(f"/transfers/{view.tid}/stop")
        built.engine.change(view.tid, state="COMPLETE")
        page = await person.send(f"/transfers/{view.tid}/stop")
        assert person.status == 409
        assert "Reload the page to see where it stands." in page.text
        assert built.engine.all_transfers[view.tid].state == "COMPLETE"


async def test_stopping_after_the_yes_warns_that_what_was_opened_stays() -> None:
    async with house() as built:
        view = await sent(built, state="RELEASED")
        page = await (await built.person("desk1")).open(f"/transfers/{view.tid}/stop")
        assert "It was approved already." in page.text


async def test_a_locked_code_is_re_opened_with_a_new_one() -> None:
    async with house() as built:
        view = await sent(built, locked=True, tries_left=0)
        person = await built.person("desk1")
        text = await seen(person, view)
        assert "Locked" in text
        assert view.pin[:3] + " " + view.pin[3:] not in text
        fields = person.page.form(f"/transfers/{view.tid}/reopen").fields
        for _ in range(2):
            page = await person.post(f"/transfers/{view.tid}/reopen", fields)
            assert person.path == f"/transfers/{view.tid}"
        again = built.engine.all_transfers[view.tid]
        assert again.reopens_left == 2, "a double click re-opens once"
        assert again.link != view.link
        assert again.pin[:3] + " " + again.pin[3:] in page.text


async def test_an_expired_one_is_re_opened_as_a_new_transfer() -> None:
    async with house() as built:
        view = await sent(built, state="EXPIRED", link="", pin="", ended_at=built.clock.time)
        person = await built.person("desk1")
        await person.open(f"/transfers/{view.tid}")
        await person.send(f"/transfers/{view.tid}/reopen")
        assert person.path != f"/transfers/{view.tid}"
        assert person.path.startswith("/transfers/")
        assert len(built.engine.all_transfers) == 2


async def test_what_comes_in_is_sealed_then_opens_series_by_series() -> None:
    async with house() as built:
        view = incoming(built, state="SEEN", bytes=180_000_000, moved=140_000_000)
        person = await built.person("dr-lee")
        text = await seen(person, view)
        assert "From County Hospital" in text
        assert "140 MB of 180 MB here, still sealed, waiting for the yes" in text
        assert "Patient unknown until it is opened" in text
        assert "Filed under our own number of the sender's patient." in text
        view = await sent(built)
        incoming(built, state="OPENED", stored=63, total=183, series=view.series, patient_name="DOE, JANE")
        text = await seen(person, built.engine.all_transfers["ab" * 16])
        assert "63 of 183 images at the PACS" in text
        assert "63/63" in text
        incoming(built, state="COMPLETE", stored=688, total=688, ended_at=built.clock.time, proof="store")
        assert "PACS confirmed 688/688" in await seen(person, built.engine.all_transfers["ab" * 16])


async def test_images_that_are_missing_or_less_sure_are_named() -> None:
    async with house() as built:
        lacking = [
            LackingView(number=7, series="CT 2 <b>head</b>", uid="2.25.77", why="uid-conflict"),
            LackingView(number=9, series="CT 2", uid="2.25.99", why="find"),
        ]
        view = incoming(
            built, state="PARTIAL", why="uid-conflict", stored=8, total=9, gaps=1, proof="find", lacking=lacking,
            ended_at=built.clock.time,
        )  # fmt: skip
        text = await seen(await built.person("dr-lee"), view)
        for words in (
            "2 images missing, or with less proof",
            "image 7, CT 2 <b>head</b>",
            "2.25.77",
            "uid-conflict",
        ):
            assert words in text


@pytest.mark.parametrize("role", ["send", "receive"])
async def test_every_state_of_both_sides_has_a_page(role: str) -> None:
    async with house() as built:
        person = await built.person("admin")
        for state in {after.to for after in (SENDER if role == "send" else RECEIVER).values()}:
            for locked in (False, True):
                built.engine.all_transfers["cd" * 16] = blank(
                    tid="cd" * 16, role=role, peer="X", state=state, locked=locked
                )
                await person.open("/transfers/" + "cd" * 16)
                assert person.status == 200, state
                for path in ("/sent", "/inbox"):
                    await person.open(path)
                    assert person.status == 200, state


def test_who_may_be_stopped_and_re_opened() -> None:
    def view(**values: Any) -> TransferView:
        return blank(
            **{"tid": "aa", "role": "send", "peer": "", "state": "OFFERED", "reopens_left": 1, **values}
        )

    assert can_stop(view())
    assert can_stop(view(state="RELEASED"))
    assert not can_stop(view(state="COMPLETE"))
    assert not can_stop(view(role="receive", state="SEEN"))
    assert can_reopen(view())
    assert can_reopen(view(state="EXPIRED"))
    assert not can_reopen(view(state="EXPIRED", decided_at=1))
    assert not can_reopen(view(reopens_left=0))
    assert not can_reopen(view(state="DENIED"))
    assert not can_reopen(view(role="receive"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("נועה לוי", "<bdi>נועה לוי</bdi> (guardian)"),
        ("\u202eeoD\u202c \u200bJane\x07<b>", "<bdi>eoD Jane&lt;b&gt;</bdi> (guardian)"),
    ],
)
async def test_a_name_turns_no_sentence_round(name: str, shown: str) -> None:
    """On the desk's page and in the inbox: isolated, and without what cannot be seen."""
    who = {"decided_by": f"proxy: {name} (guardian)", "decided_name": name, "decided_rel": "guardian"}
    async with house() as built:
        mine = await sent(built, state="RELEASED", decided_at=built.clock.time, patient_name=name, **who)
        incoming(built, state="OPENED", decided_at=built.clock.time, patient_name=name, **who)
        for user, path in (("desk1", f"/transfers/{mine.tid}"), ("dr-lee", "/inbox")):
            person = await built.person(user)
            await person.open(path)
            assert person.answer is not None
            html = await person.answer.text()
            assert shown in html
            assert shown.removesuffix(" (guardian)") in html
            assert is_seen(html.replace("\n", ""))


@pytest.mark.parametrize(
    ("by", "rel", "words"),
    [
        ("patient", "", "Declined by the patient,"),
        ("proxy (other)", "other", "Declined by someone who speaks for the patient,"),
    ],
)
async def test_the_desk_says_who_refused(by: str, rel: str, words: str) -> None:
    async with house() as built:
        view = await sent(
            built,
            state="DENIED",
            decided_at=built.clock.time,
            decided_by=by,
            decided_rel=rel,
            follows="patient",
        )
        text = await seen(await built.person("desk1"), view)
        assert words in text
        assert "Ask again?" in text


async def test_staff_note_who_answered() -> None:
    """What a grant has no field for; a clinician may, and the privacy officer only reads it."""
    async with house() as built:
        view = await sent(built, birth_date="2020-01-01")
        person = await built.person("dr-lee")
        page = await person.open(f"/transfers/{view.tid}")
        assert "younger than 18" in page.text
        page = await person.send(f"/transfers/{view.tid}/note", interpreter=" נועה\u202e ", basis="x <b>")
        assert "minor; interpreter: נועה; basis: x <b> noted by dr-lee" in page.text
        for too_much in ({"interpreter": "x" * 41}, {"basis": "x" * 201}):
            page = await person.send(f"/transfers/{view.tid}/note", **too_much)
            assert "at most 40 letters" in page.text
            await person.open(f"/transfers/{view.tid}")
        officer = await built.person("privacy")
        page = await officer.open(f"/transfers/{view.tid}")
        assert "noted by dr-lee" in page.text
        assert [form for form in page.forms if form.action.endswith("/note")] == []


async def test_a_living_transfer_says_until_when_and_shows_what_was_added() -> None:
    """Staff close it, or fetch more from their PACS; after that late images are a new transfer."""
    async with house() as built:
        now = built.clock.time
        added = blank(
            tid="cd" * 16, role="send", peer="Lakeside Trauma Center", kind="add", contents="7 images, 1 report",
            state="COMPLETE", created_at=now,
        )  # fmt: skip
        view = await sent(
            built,
            state="COMPLETE",
            released_at=now,
            add_until=now + 3600,
            additions=[added.tid],
            link="",
            pin="",
        )
        built.engine.all_transfers[added.tid] = replace(added, before=view.tid)
        person = await built.person("desk1")
        page = await person.open(f"/transfers/{view.tid}")
        assert "follows by itself: nobody is asked again" in page.text
        assert "7 images, 1 report Complete" in page.text
        assert f"/transfers/{added.tid}" in page.links
        child = await person.open(f"/transfers/{added.tid}")
        assert "New in a study that came before: 7 images, 1 report." in child.text
        assert f"/transfers/{view.tid}" in child.links

        built.engine.archived = [match((await built.engine.study(view.study)).uid)]
        await person.open(f"/transfers/{view.tid}")
        await person.send(f"/transfers/{view.tid}/more")
        assert person.path.startswith("/pulls/")

        await person.open(f"/transfers/{view.tid}")
        page = await person.send(f"/transfers/{view.tid}/close-additions")
        assert (await built.engine.transfer(view.tid)).add_until == now
        assert "What comes now is a new transfer, with a question of its own" in page.text
        assert not [f for f in page.forms if f.action.endswith(("/close-additions", "/more"))]


async def test_more_from_the_sender_is_asked_on_the_telephone() -> None:
    """There is no message for it: the inbox says whom to call, and what that desk presses."""
    async with house() as built:
        view = incoming(built, state="COMPLETE", patient_name="TEST, ALPHA")
        text = await seen(await built.person("dr-lee"), view)
        assert "Do you need more of this study" in text
        assert f"transfer {view.tid[:8]}" in text
        assert "Send more" in text
