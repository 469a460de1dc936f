from __future__ import annotations

from msgspec.structs import replace

from clients.gateway.errors import GatewayError, RelayDownError
from tests.console_kit import House, house


def newest(built: House) -> str:
    return max(built.engine.all_studies.values(), key=lambda s: s.last_at).id


async def test_from_the_desk_to_the_qr_in_two_clicks_without_scripts() -> None:
    async with house() as built:
        person = await built.person("desk1")
        page = await person.open("/desk")
        study = newest(built)
        assert f"/studies/{study}" in page.links
        await person.open(f"/studies/{study}")
        page = await person.send(f"/studies/{study}/send")
        view = next(iter(built.engine.all_transfers.values()))
        assert person.path == f"/transfers/{view.tid}"
        assert view.peer == "Lakeside Trauma Center", "the only one that can be reached is chosen"
        assert view.reason == "transfer"
        assert view.pin[:3] + " " + view.pin[3:] in page.text
        assert person.answer is not None
        assert '<svg class="qr"' in await person.answer.text()
        assert [line.action for line in built.engine.lines if line.subject in (study, view.tid)] == [
            "page:view-study",
            "page:send",
            "offered",
            "page:view-transfer",
        ]


async def test_nothing_is_chosen_for_the_clerk_where_two_centers_can_be_reached() -> None:
    async with house() as built:
        built.engine.put_peer("Third Hospital")
        person = await built.person("desk1")
        study = newest(built)
        await person.open(f"/studies/{study}")
        page = await person.send(f"/studies/{study}/send")
        assert person.status == 400
        assert "No trauma center was chosen." in page.text
        assert built.engine.all_transfers == {}


async def test_a_destination_or_reason_that_is_not_in_the_list_is_refused() -> None:
    async with house() as built:
        person = await built.person("desk1")
        path = f"/studies/{newest(built)}/send"
        for fields in ({"to": "x" * 43}, {"reason": "DOE JANE"}):
            await person.open(path.removesuffix("/send"))
            page = await person.send(path, **fields)
            assert person.status == 400
            assert "Go back" in page.text
        assert built.engine.all_transfers == {}


async def test_a_center_that_cannot_be_reached_is_marked_with_what_to_do() -> None:
    async with house() as built:
        page = await (await built.person("desk1")).open(f"/studies/{newest(built)}")
        assert "Not reachable now: the offer will wait." in page.text
        assert "existing route" in page.text


async def test_without_a_paired_center_the_existing_route_is_said_in_words() -> None:
    async with house() as built:
        built.engine.all_peers.clear()
        page = await (await built.person("desk1")).open(f"/studies/{newest(built)}")
        assert "No trauma center is paired with this hospital." in page.text
        assert "Do not wait for that." in page.text
        assert "burn the CD" in page.text
        assert not [f for f in page.forms if f.action.endswith("/send")]


async def test_other_hospitals_may_be_named_and_are_shown() -> None:
    async with house() as built:
        north = built.engine.put_peer("Northside Trauma Center")
        built.engine.put_peer("Hill Hospital")
        study = newest(built)
        person = await built.person("desk1")
        page = await person.open(f"/studies/{study}")
        to = next(p.site for p in built.engine.all_peers.values() if p.site != north.site)
        assert "It may have to go to another trauma center" in page.text
        fields = {"to": to, "alt-1": north.site, "alt-2": to}
        page = await person.send(f"/studies/{study}/send", **fields)
        (view,) = [v for v in built.engine.all_transfers.values() if v.study == study and v.alternates]
        assert view.alternates == [north.name]
        assert f"Or to {north.name}" in page.text


async def test_for_how_long_late_images_follow_is_chosen_with_the_policy_s_time_first() -> None:
    async with house() as built:
        built.engine.add_seconds = 5400
        study = newest(built)
        person = await built.person("desk1")
        page = await person.open(f"/studies/{study}")
        assert "follow under the same yes for 1 h 30 min" in page.text
        assert "do not follow: each needs a new transfer" in page.text
        for add in ("-1", "x", "9999999"):
            await person.open(f"/studies/{study}")
            await person.send(f"/studies/{study}/send", add=add)
            assert person.status == 400
        assert built.engine.all_transfers == {}
        await person.open(f"/studies/{study}")
        await person.send(f"/studies/{study}/send", add="7200")
        (view,) = built.engine.all_transfers.values()
        assert view.add_until == built.clock.time + 7200


async def test_a_site_that_only_sends_is_no_destination() -> None:
    async with house() as built:
        for site, peer in list(built.engine.all_peers.items()):
            built.engine.all_peers[site] = replace(peer, roles=["send"])
        page = await (await built.person("desk1")).open(f"/studies/{newest(built)}")
        assert "No trauma center is paired" in page.text


async def test_a_study_that_is_on_its_way_says_so_before_it_is_sent_twice() -> None:
    async with house() as built:
        person = await built.person("desk1")
        study = newest(built)
        await person.open(f"/studies/{study}")
        await person.send(f"/studies/{study}/send")
        page = await person.open(f"/studies/{study}")
        assert "It is already on its way to Lakeside Trauma Center." in page.text
        assert "Sent before" in page.text


async def test_an_empty_study_cannot_be_sent() -> None:
    async with house() as built:
        study = built.engine.all_studies[newest(built)]
        built.engine.put_study(replace(study, instances=0, series=[]))
        page = await (await built.person("desk1")).open(f"/studies/{study.id}")
        assert "This study has no images yet." in page.text
        assert not [f for f in page.forms if f.action.endswith("/send")]


async def test_staff_close_a_study_and_again_after_more_images_came() -> None:
    async with house() as built:
        person = await built.person("desk1")
        study = built.engine.all_studies[newest(built)]
        for instances in (575, 576):
            built.engine.put_study(replace(study, open=True, instances=instances))
            page = await person.open(f"/studies/{study.id}")
            assert "still arriving" in page.text
            page = await person.send(f"/studies/{study.id}/close")
            assert person.path == f"/studies/{study.id}"
            assert "all here" in page.text
            assert not built.engine.all_studies[study.id].open


async def test_what_the_engine_refuses_is_said_with_its_code_and_may_be_tried_again() -> None:
    async with house() as built:
        person = await built.person("desk1")
        path = f"/studies/{newest(built)}/send"
        await person.open(path.removesuffix("/send"))
        fields = person.page.form(path).fields
        built.engine.fails["send"] = GatewayError(
            "Two patients are in this study. Ask CT to send them apart.", code="two-patients"
        )
        page = await person.post(path, fields)
        assert person.status == 409
        assert "Two patients are in this study." in page.text
        assert "two-patients" in page.text
        built.engine.fails["send"] = RelayDownError()
        await person.post(path, fields)
        assert person.status == 503
        built.engine.fails.clear()
        await person.post(path, fields)
        assert person.path.startswith("/transfers/")


async def test_a_clinician_sees_the_study_and_no_form_to_send_it() -> None:
    async with house() as built:
        page = await (await built.person("dr-lee")).open(f"/studies/{newest(built)}")
        assert "C-spine 1 mm bone" in page.text
        assert [f.action for f in page.forms] == ["/sign-out", f"/studies/{newest(built)}/report"]
