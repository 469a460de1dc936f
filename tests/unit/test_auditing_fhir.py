"""`clients.gateway.auditing.fhir`: valid FHIR (of R4B, whose three resources are those of R4) that says what is so."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from fhir.resources.R4B.bundle import Bundle

from clients.gateway.auditing import fhir
from clients.gateway.auditing.lines import Line, lines
from clients.gateway.auditing.record import Record, record_of
from tests.auditing_kit import decided
from tests.gateway_kit import House, houses
from transfer import jws
from transfer.ids import Tid
from transfer.messages import Grant

AT = 1_790_000_000


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    async with houses(tmp_path) as (s, r):
        yield s, r


async def exported(house: House, tid: Tid) -> tuple[Record, list[fhir.Resource]]:
    """What a validator of others says is FHIR."""
    record = await house.db.run(lambda con: record_of(con, house.vault, tid))
    made = fhir.bundle(fhir.of_transfer(record, house.site, house.name), AT)
    Bundle.model_validate_json(msgspec.json.encode(made))
    return record, [entry["resource"] for entry in made["entry"]]


@pytest.mark.parametrize(
    ("d", "status", "kind"), [("approve", "active", "permit"), ("deny", "rejected", "deny")]
)
async def test_a_decision_is_a_consent_at_both_hospitals(
    pair: tuple[House, House], d: str, status: str, kind: str
) -> None:
    s, r = pair
    tid = await decided(s, r, d)
    for house in pair if d == "approve" else (s,):
        record, found = await exported(house, tid)
        (consent,) = [x for x in found if x["resourceType"] == "Consent"]
        assert (consent["status"], consent["provision"]["type"]) == (status, kind)
        assert consent["provision"]["actor"][0]["reference"]["display"] == r.name
        (proof,) = [x for x in found if x["resourceType"] == "Provenance"]
        assert proof["target"][0]["reference"] == f"urn:uuid:{consent['id']}"
        assert record.decision is not None
        signed = base64.b64decode(proof["signature"][0]["data"]).decode()
        jws.verify(Grant.NAME, signed, record.decision.key, Grant.CAP)


async def test_a_yes_that_was_taken_back_is_inactive(pair: tuple[House, House]) -> None:
    s, r = pair
    tid = await decided(s, r)
    record, _ = await exported(s, tid)
    late = msgspec.structs.replace(record.lines[-1], action="incoming.stop-asked")
    for changes in ({"state": "REVOKED"}, {"state": "COMPLETE", "lines": [*record.lines, late]}):
        gone = fhir.consent(msgspec.structs.replace(record, **changes), s.site, s.name)
        assert gone is not None
        assert gone["status"] == "inactive"


async def test_no_decision_is_no_consent(pair: tuple[House, House]) -> None:
    s, r = pair
    _, found = await exported(s, await s.offer_to(r))
    assert {x["resourceType"] for x in found} == {"AuditEvent"}


async def test_every_line_of_the_log_is_an_event_with_its_hash_and_the_same_id_each_time(
    pair: tuple[House, House],
) -> None:
    s, r = pair
    await decided(s, r)
    log = await s.db.run(lambda con: lines(con, limit=10_000))
    events = [fhir.audit_event(x, s.site, s.name) for x in log]
    Bundle.model_validate_json(msgspec.json.encode(fhir.bundle(events, AT)))
    assert events == [fhir.audit_event(x, s.site, s.name) for x in log]
    assert len({x["id"] for x in events}) == len(log) > 5
    for line, event in zip(log, events, strict=True):
        hashes = [d["valueBase64Binary"] for d in event["entity"][0]["detail"] if d["type"] == "chain-hash"]
        assert hashes == [base64.b64encode(line.hash).decode()]


async def test_an_override_is_a_break_glass_event_for_emergency_treatment(pair: tuple[House, House]) -> None:
    line = Line(seq=7, at=AT, actor="dr", action="transfer.override", subject="ab", detail="x", hash=b"h")
    event = fhir.audit_event(line, pair[0].site, "Valley")
    assert (event["type"]["code"], event["subtype"][0]["code"]) == ("110113", "110127")
    assert event["purposeOfEvent"][0]["coding"][0]["code"] == "ETREAT"
    Bundle.model_validate_json(msgspec.json.encode(fhir.bundle([event], AT)))
