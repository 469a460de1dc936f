"""The audit log and a transfer's consent as FHIR R4: AuditEvent, Consent, Provenance, in a Bundle.

    AuditEvent   one line of the log, with the hash that chains it to the one before
    Consent      what a person decided about one transfer; a yes that was taken back is `inactive`
    Provenance   the signed bytes of that decision (Ed25519 over a JWS), for whoever wants to verify them

Resources are plain JSON values. Ids are derived from this site's key and the number of the line: the same line is
the same resource in each export, so a server that has it already takes it as an update.
"""

from __future__ import annotations

import base64
import uuid
from typing import Any

from clients.gateway.auditing.lines import Code, Line, instant, meaning
from clients.gateway.auditing.record import Decision, Record
from transfer.ids import SiteId

Resource = dict[str, Any]
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_ENDED_BY_THE_PERSON = "REVOKED"
_PURPOSE = {"TREAT": "treatment", "ETREAT": "Emergency Treatment"}


def bundle(resources: list[Resource], now: int) -> Resource:
    """A collection, each entry under its own URN."""
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": instant(now),
        "entry": [{"fullUrl": f"urn:uuid:{r['id']}", "resource": r} for r in resources],
    }


def audit_event(line: Line, site: SiteId, name: str) -> Resource:
    """One line of the log of the site `site`, which people call `name`."""
    what = meaning(line)
    event: Resource = {
        "resourceType": "AuditEvent",
        "id": _id(site, f"audit/{line.seq}"),
        "type": _coding(what.event),
        "action": what.action,
        "recorded": line.when,
        "outcome": "4" if line.failed else "0",
        "agent": [{"who": {"display": line.actor or "gateway"}, "requestor": True}],
        "source": {
            "site": name,
            "observer": {"display": name, "identifier": _urn(site.hex())},
            "type": [{"system": "http://terminology.hl7.org/CodeSystem/security-source-type", "code": "4"}],
        },
        "entity": [_entity(line)],
    }
    if what.kind is not None:
        event["subtype"] = [_coding(what.kind)]
    if what.purpose:
        event["purposeOfEvent"] = [_concept(_REASON, what.purpose, _PURPOSE[what.purpose])]
    return event


def _entity(line: Line) -> Resource:
    detail = [
        {"type": "action", "valueString": line.action},
        {"type": "chain-hash", "valueBase64Binary": _b64(line.hash)},
    ]
    if line.detail:
        detail.append({"type": "detail", "valueString": line.detail})
    entity: Resource = {
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": "2"},
        "detail": detail,
    }
    if line.subject:
        entity["what"] = {"identifier": _urn(line.subject)}
    return entity


def consent(record: Record, site: SiteId, name: str) -> Resource | None:
    """What a person decided about a transfer; None where nobody has, or where staff decided in their place."""
    decision = record.decision
    if decision is None or decision.rung not in ("patient", "proxy"):
        return None
    yes = decision.says == "approve"
    taken_back = record.state == _ENDED_BY_THE_PERSON or record.stop_asked
    status = "rejected" if not yes else "inactive" if taken_back else "active"
    provision: Resource = {
        "type": "permit" if yes else "deny",
        "actor": [
            {
                "role": _concept(
                    "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP", "information recipient"
                ),
                "reference": {"display": record.peer if record.role == "send" else name},
            }
        ],
        "purpose": [{"system": _REASON, "code": "TREAT", "display": _PURPOSE["TREAT"]}],
    }  # fmt: skip
    if record.expires_at:
        provision["period"] = {"end": instant(record.expires_at)}
    found: Resource = {
        "resourceType": "Consent",
        "id": _id(site, f"consent/{record.tid}"),
        "identifier": [_urn(record.tid)],
        "status": status,
        "scope": _concept(
            "http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", "Privacy Consent"
        ),
        "category": [_concept("http://loinc.org", "59284-0", "Consent Document")],
        "dateTime": instant(decision.at),
        "performer": [{"display": who(decision)}],
        "organization": [{"display": name}],
        "sourceAttachment": {"contentType": "application/jose", "data": _b64(decision.signed.encode())},
        "policyRule": _concept("http://terminology.hl7.org/CodeSystem/v3-ActCode", "OPTIN", "opt-in"),
        "provision": provision,
    }
    if record.patient_id:
        found["patient"] = {"identifier": {"value": record.patient_id}}
        if record.issuer:
            found["patient"]["identifier"]["assigner"] = {"display": record.issuer}
    return found


def provenance(record: Record, site: SiteId) -> Resource | None:
    """The signed decision behind a `Consent`."""
    decision = record.decision
    if decision is None or decision.rung not in ("patient", "proxy"):
        return None
    by = {"display": who(decision)}
    return {
        "resourceType": "Provenance",
        "id": _id(site, f"provenance/{record.tid}"),
        "target": [{"reference": f"urn:uuid:{_id(site, f'consent/{record.tid}')}"}],
        "recorded": instant(decision.at),
        "agent": [
            {
                "type": _concept(
                    "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "author", "Author"
                ),
                "who": by,
            }
        ],
        "signature": [
            {
                "type": [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.7"}],
                "when": instant(decision.at),
                "who": by,
                "sigFormat": "application/jose",
                "data": _b64(decision.signed.encode()),
            }
        ],
    }


def of_transfer(record: Record, site: SiteId, name: str) -> list[Resource]:
    """All resources of one transfer."""
    found = [consent(record, site, name), provenance(record, site)]
    return [*(x for x in found if x is not None), *(audit_event(x, site, name) for x in record.lines)]


def who(decision: Decision) -> str:
    """The person who decided, as staff read it."""
    if decision.rung == "patient":
        return "patient"
    return f"{decision.name or 'proxy'} ({decision.relation})"


def _id(site: SiteId, what: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:tt1:{site.hex()}:{what}"))


def _urn(ident: str) -> Resource:
    return {"system": "urn:ietf:rfc:3986", "value": f"urn:tt1:{ident}"}


def _coding(code: Code) -> Resource:
    return {"system": _DCM, "code": code.value, "display": code.meaning}


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
