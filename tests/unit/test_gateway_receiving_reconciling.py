"""`clients.gateway.receiving.reconciling` and the waiting of `identity`: asked, confirmed, frozen; late, or later."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from clients.gateway.config import Config, RelaySection, SiteSection, WorklistSection
from clients.gateway.dicom.person import PersonError
from clients.gateway.dicom.worklist import WorklistError
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.receiving.identity import OtherPatientError, code_of
from clients.gateway.receiving.merging import waiting
from clients.gateway.receiving.reconciling import NotAskedError, UnconfirmedError, worklist_of
from clients.gateway.store.database import Database, rows, value
from tests.gateway_kit import NOW
from tests.office_kit import BOTH, HEADER, PEER, SAME, TID, Office
from transfer.ids import Tid


async def test_nothing_is_decided_before_both_identifiers_are_confirmed(db: Database) -> None:
    office = Office(db)
    await office.opened()
    asked = office.asks()
    await office.waits()
    view = await office.reconciling.view(TID)
    assert (view.state, view.how, view.filed_id, view.until) == ("waits", "", "", NOW + 600)
    assert view.sender is not None
    assert (view.sender.name, view.sender.patient_id) == ("TEST, ALPHA", "4711")
    for confirmed in ([], ["name"], ["birth_date", "sex"], ["name"] * 99, ["x"] * 16 + BOTH):
        with pytest.raises(UnconfirmedError):
            await office.reconciling.choose(TID, SAME, confirmed, "dr-lee")
    assert not asked.done()
    view = await office.reconciling.choose(TID, SAME, BOTH, "dr-lee")
    frozen = await asked
    assert frozen.change is not None
    local = frozen.change.local
    assert (local.patient_id, local.issuer) == ("900", "LAKESIDE")
    assert (local.patient_name, local.birth_date, local.sex) == (None, None, None), "the number alone"
    assert (view.state, view.how, view.filed_id, view.filed_issuer, view.by) == (
        "filed", "match", "900", "LAKESIDE", "dr-lee",
    )  # fmt: skip
    assert await office.audit() == [
        ("dr-lee", "incoming.identity", "match, typed, confirmed name birth_date")
    ]
    with pytest.raises(NotAskedError):
        await office.reconciling.choose(TID, None, [], "dr-lee")


async def test_name_and_the_rest_are_written_only_if_wanted_and_only_if_they_fit(db: Database) -> None:
    office = Office(db, issuer="")
    await office.opened()
    asked = office.asks()
    await office.waits()
    japanese = msgspec.structs.replace(SAME, name="山田^太郎", whole=True)
    with pytest.raises(PersonError) as caught:
        await office.reconciling.choose(TID, japanese, [*BOTH, "number", "differs-name"], "dr-lee")
    assert caught.value.code == "name-letters"
    german = msgspec.structs.replace(SAME, name="Müller, Änn", whole=True)
    await office.reconciling.choose(TID, german, ["birth_date", "number", "differs-name"], "dr-lee")
    frozen = await asked
    assert frozen.change is not None
    local = frozen.change.local
    assert (local.issuer, local.patient_name, local.birth_date, local.sex) == (
        "",
        "Müller^Änn",
        "19840312",
        "F",
    )


async def test_an_unknown_patient_needs_more_than_a_name(db: Database) -> None:
    office = Office(db)
    await office.opened()
    asked = office.asks(msgspec.structs.replace(HEADER, patient_name="DOE, JANE"))
    await office.waits()
    doe = msgspec.structs.replace(SAME, name="DOE, JANE")
    sides = await office.reconciling.compare(TID, doe)
    assert sides.doe
    assert [c.key for c in sides.confirm] == ["number", "arrival"]
    with pytest.raises(UnconfirmedError):
        await office.reconciling.choose(TID, doe, BOTH, "dr-lee")
    await office.reconciling.choose(TID, doe, ["number", "arrival"], "dr-lee")
    assert (await asked).change is not None


async def test_nobody_knows_yet(db: Database) -> None:
    office = Office(db)
    await office.opened()
    asked = office.asks()
    await office.waits()
    await office.reconciling.choose(TID, None, [], "dr-lee")
    frozen = await asked
    assert frozen.change is not None
    assert frozen.change.local.patient_id.startswith(code_of("", PEER))
    view = await office.reconciling.view(TID)
    assert (view.how, view.filed_issuer) == ("prefix", "VALLEY")
    assert "Merge it when you know who it is." in view.sentence
    assert await office.alarms() == []


async def test_nobody_says_anything_in_time(db: Database) -> None:
    """Also over a restart: the time is counted from when it was first asked."""
    office = Office(db)
    await office.opened()
    asked = office.asks()
    await office.waits()
    asked.cancel()
    again = Office(db)
    again.clock.at = NOW + 599
    waits = again.asks()
    await again.waits()
    again.clock.at = NOW + 600
    again.identities.decided.set()
    frozen = await waits
    assert frozen.change is not None
    assert frozen.change.local.patient_id.endswith("-4711")
    assert await again.alarms() == ["identity-late"]
    assert await again.audit() == [("gateway", "incoming.identity", "prefix, nobody said who")]
    assert await db.run(lambda con: value(con, "SELECT why FROM receives")) == ""
    with pytest.raises(NotAskedError):
        await again.reconciling.choose(TID, SAME, BOTH, "dr-lee")


async def test_a_site_may_wait_for_as_long_as_it_takes(db: Database) -> None:
    office = Office(db, wait=0)
    await office.opened()
    asked = office.asks()
    await office.waits()
    office.clock.at = NOW + 6 * 24 * 3600
    office.identities.decided.set()
    assert (await office.reconciling.view(TID)).until == 0
    await office.reconciling.choose(TID, SAME, BOTH, "dr-lee")
    frozen = await asked
    assert frozen.by == "dr-lee"


async def test_what_was_decided_stays_decided_over_a_restart_and_a_change_of_policy(db: Database) -> None:
    office = Office(db)
    await office.opened()
    asked = office.asks()
    await office.waits()
    await office.reconciling.choose(TID, SAME, BOTH, "dr-lee")
    before = await asked
    for policy in ("prefix", "as-is", "match"):
        other = Office(db, policy)  # type: ignore[arg-type]
        assert await other.identities.of(TID, PEER, msgspec.structs.replace(HEADER, patient_id="9")) == before
        assert (await other.reconciling.view(TID)).how == "match"


async def test_an_image_of_another_patient_is_not_filed_with_the_first(db: Database) -> None:
    office = Office(db, "prefix")
    await office.opened()
    frozen = await office.identities.of(TID, PEER, HEADER)
    await office.identities.check(
        TID, frozen, msgspec.structs.replace(HEADER, patient_name="TEST, A", issuer="")
    )
    with pytest.raises(OtherPatientError):
        await office.identities.check(TID, frozen, msgspec.structs.replace(HEADER, patient_id="4712"))
    assert await office.alarms() == ["identity-other"]
    as_is = Office(db, "as-is")
    other = Tid(b"u" * 16)
    await as_is.opened(other)
    kept = await as_is.identities.of(other, PEER, HEADER)
    await as_is.identities.check(other, kept, msgspec.structs.replace(HEADER, patient_id="4712"))


async def test_a_later_true_identity_is_told_once_and_nothing_is_sent_again(db: Database) -> None:
    office = Office(db, "prefix")
    await office.opened()
    frozen = await office.identities.of(TID, PEER, HEADER)
    assert frozen.change is not None
    with pytest.raises(GatewayError) as caught:
        await office.reconciling.correct(TID, SAME, BOTH, "dr-lee")
    assert caught.value.code == "merge-open"
    await office.ended()
    with pytest.raises(UnconfirmedError):
        await office.reconciling.correct(TID, SAME, ["name"], "dr-lee")
    same = msgspec.structs.replace(SAME, patient_id=frozen.change.local.patient_id)
    for work in (
        office.reconciling.correct(TID, same, BOTH, "dr-lee"),
        office.reconciling.compare(TID, same),
    ):
        with pytest.raises(GatewayError) as caught:
            await work
        assert caught.value.code == "merge-same"
    view = await office.reconciling.correct(TID, SAME, BOTH, "dr-lee")
    (said,) = view.changes
    assert (said.kind, said.to_id, said.to_issuer, said.state) == ("merge", "900", "LAKESIDE", "waiting")
    assert "our patient 900 (LAKESIDE)" in view.sentence
    (change,) = await db.run(waiting)
    assert (change.from_id, change.from_issuer) == (frozen.change.local.patient_id, "VALLEY")
    assert (change.to_name, change.to_birth_date, change.to_sex) == ("TEST^ALPHA", "19840312", "F")
    assert (await office.audit())[-1] == ("dr-lee", "incoming.merge", "")
    with pytest.raises(GatewayError) as caught:
        await office.reconciling.correct(TID, SAME, BOTH, "dr-lee")
    assert caught.value.code == "merge-same", "sent twice, said once"
    assert len(await db.run(lambda con: rows(con, "SELECT * FROM identities"))) == 1, (
        "what was stored is not changed"
    )


async def test_a_correction_may_be_corrected_and_what_is_under_our_number_is_confirmed_for_itself(
    db: Database,
) -> None:
    """DOE, JANE gets a name under the number she has; then she is our 900; then 900's date of birth was wrong."""
    office = Office(db, "prefix")
    await office.opened()
    await office.identities.of(TID, PEER, msgspec.structs.replace(HEADER, patient_name="DOE, JANE"))
    await office.ended()
    view = await office.reconciling.view(TID)
    number, doe = view.now_id, ["number", "arrival", "differs-name"]
    named = msgspec.structs.replace(SAME, patient_id=number)
    sides = await office.reconciling.compare(TID, named)
    assert (sides.told, sides.again, [c.key for c in sides.confirm]) == ("update", False, doe)
    view = await office.reconciling.correct(TID, named, doe, "dr-lee")
    assert (view.now_id, view.changes[0].kind, view.changes[0].to_issuer) == (number, "update", "VALLEY")
    assert f"the patient of {number} (VALLEY) is TEST, ALPHA, 1984-03-12, F." in view.sentence
    sides = await office.reconciling.compare(TID, SAME)
    assert (sides.told, sides.again, [c.key for c in sides.confirm]) == ("merge", True, doe)
    view = await office.reconciling.correct(TID, SAME, doe, "dr-lee")
    assert (view.now_id, view.now_issuer) == ("900", "LAKESIDE")
    for other in (
        msgspec.structs.replace(SAME, birth_date="1984-03-13"),
        msgspec.structs.replace(SAME, patient_id="901"),
    ):
        keys = [c.key for c in (await office.reconciling.compare(TID, other)).confirm]
        assert keys[-1] == "all"
        with pytest.raises(UnconfirmedError):
            await office.reconciling.correct(TID, other, keys[:-1], "dr-lee")
        await office.reconciling.correct(TID, other, keys, "dr-lee")
    changes = await db.run(waiting)
    assert [(c.kind, c.from_id, c.to_id) for c in changes] == [
        ("update", number, number), ("merge", number, "900"), ("update", "900", "900"), ("merge", "900", "901"),
    ]  # fmt: skip
    told = [action for _, action, _ in await office.audit() if "update" in action or "merge" in action]
    assert told == ["incoming.update", "incoming.merge"] * 2


async def test_the_sender_s_own_number_is_never_merged(db: Database) -> None:
    """It may be another patient's here, and a merge would take that patient's images too."""
    office = Office(db, "as-is")
    await office.opened()
    await office.identities.of(TID, PEER, HEADER)
    await office.ended()
    for person in (SAME, msgspec.structs.replace(SAME, patient_id="4711", name="TEST, BRAVO")):
        with pytest.raises(GatewayError) as caught:
            await office.reconciling.correct(TID, person, BOTH, "dr-lee")
        assert caught.value.code == "merge-as-is"
    view = await office.reconciling.view(TID)
    assert (view.how, view.filed_id, view.filed_issuer) == ("as-is", "4711", "VALLEY")
    assert view.sentence.startswith("Not for clinical use before reconciliation")


async def test_other_transfers_of_the_same_patient_are_counted(db: Database) -> None:
    office = Office(db, "prefix")
    for tid, number in ((TID, "4711"), (Tid(b"u" * 16), "4711"), (Tid(b"v" * 16), "4712")):
        await office.opened(tid)
        await office.identities.of(tid, PEER, msgspec.structs.replace(HEADER, patient_id=number))
    assert (await office.reconciling.view(TID)).others == 1


async def test_what_ended_unopened_or_long_ago_says_nothing(db: Database) -> None:
    office = Office(db, "as-is")
    await office.opened()
    assert (await office.reconciling.view(TID)).sentence.startswith(
        "Not for clinical use before reconciliation: it will"
    )
    await office.ended("DENIED")
    view = await office.reconciling.view(TID)
    assert (view.state, view.how, view.sentence, view.sender) == ("unknown", "", "", None)


async def test_who_is_not_there_and_what_cannot_be_asked(db: Database) -> None:
    office = Office(db)
    for work in (office.reconciling.view(TID), office.reconciling.compare(TID, SAME)):
        with pytest.raises(AbsentError):
            await work
    for words, code in (
        (("47*", "", ""), "mrn-wildcard"), (("", "A\\B", ""), "accession"), (("", "1" * 17, ""), "accession"),
        (("", "", "TE*"), "name-character"),
    ):  # fmt: skip
        with pytest.raises(PersonError) as refused:
            await office.reconciling.search(*words)
        assert refused.value.code == code
    for words, code in ((("", "", "DOE, JANE"), "worklist-doe"), (("4711", "", "DOE"), "worklist-none")):
        with pytest.raises(WorklistError) as caught:
            await office.reconciling.search(*words)
        assert caught.value.code == code


def test_where_the_worklist_is() -> None:
    site: dict[str, Any] = {"site": SiteSection(name="L"), "relay": RelaySection(url="https://r.example")}
    assert worklist_of(Config(**site)) is None
    to = worklist_of(Config(**site, worklist=WorklistSection(aet="RIS", address="ris.example:105")))
    assert to is not None
    assert (to.aet, to.host, to.port, to.calling_aet, to.tls) == ("RIS", "ris.example", 105, "TRAUMATX", None)
