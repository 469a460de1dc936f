"""The transfer record on paper (PDF), for the chart: what was asked, who said what, what arrived, on which proof.

It holds what the database holds and no image; where staff decided in the patient's place it says so in red.
"""

from __future__ import annotations

import io
import time
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from clients.gateway.auditing.fhir import who
from clients.gateway.auditing.record import Record

_STAFF = {"attest": "two clinicians attested", "override": "emergency override"}
_PROOF = {
    "commit": "the PACS committed to keep every image",
    "find": "the PACS was asked for every image",
    "store": "the PACS answered that it stored every image",
}
_MOST = 500
"""Lines of the log on paper; the rest is counted."""


def packet(record: Record, name: str, now: int) -> bytes:
    """The PDF of one transfer, as the site `name` knows it."""
    out = io.BytesIO()
    styles = getSampleStyleSheet()
    small = ParagraphStyle("small", parent=styles["BodyText"], fontSize=7, leading=9)
    red = ParagraphStyle("red", parent=styles["BodyText"], textColor=colors.red, fontName="Helvetica-Bold")
    story: list[Flowable] = [Paragraph("Transfer record", styles["Title"])]
    if record.decision is not None and record.decision.rung in _STAFF:
        story.append(Paragraph(f"Without the patient's yes: {_STAFF[record.decision.rung]}.", red))
    story += [_pairs(_facts(record, name), styles["BodyText"]), Spacer(0, 6 * mm)]
    story.append(Paragraph("What happened", styles["Heading2"]))
    shown = record.lines[:_MOST]
    rows = [[_cell(x, small) for x in (_time(n.at), n.actor, n.action, n.detail)] for n in shown]
    if rows:
        story.append(Table(rows, colWidths=[34 * mm, 30 * mm, 46 * mm, 60 * mm], style=_GRID, repeatRows=0))
    if len(record.lines) > _MOST:
        story.append(Paragraph(f"{len(record.lines) - _MOST} more lines are in the audit log.", small))
    story += [Spacer(0, 6 * mm), Paragraph("Signed messages (SHA-256)", styles["Heading2"])]
    story.append(_pairs(list(record.digests.items()), small))
    made = f"Made {_time(now)} by {name}. The same digests are in the other hospital's record."
    story.append(Paragraph(escape(made), small))
    SimpleDocTemplate(
        out, pagesize=A4, title=f"Transfer {record.tid}", author=name, leftMargin=20 * mm, rightMargin=20 * mm
    ).build(story)
    return out.getvalue()


def _facts(record: Record, name: str) -> list[tuple[str, str]]:
    here, there = ("From", "To") if record.role == "send" else ("To", "From")
    facts = [
        ("Transfer", record.tid), (here, name), (there, record.peer), ("Purpose", record.reason),
        ("Patient ID", record.patient_id), ("Begun", f"{_time(record.created_at)} {record.created_by}"),
    ]  # fmt: skip
    if (decision := record.decision) is not None:
        verb = "approved" if decision.says == "approve" else "declined"
        facts.append(("Decision", f"{verb} by {who(decision)}, {_time(decision.at)}"))
    facts.append(("End", f"{record.state} {record.why} {_time(record.ended_at)}"))
    if (receipt := record.receipt) is not None:
        facts.append(("Proof", _PROOF[receipt.proof]))
        facts.append(("Missing", f"{len(receipt.gaps)} images"))
    return [(key, text.strip()) for key, text in facts if text.strip()]


_GRID = TableStyle(
    [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.lightgrey)]
)


def _pairs(pairs: list[tuple[str, str]], style: ParagraphStyle) -> Table:
    rows = [[_cell(key, style), _cell(text, style)] for key, text in pairs] or [["", ""]]
    return Table(rows, colWidths=[34 * mm, 136 * mm], style=_GRID)


def _cell(text: str, style: ParagraphStyle) -> Paragraph:
    """Text of others is data: neither mark-up nor a link."""
    return Paragraph(escape(text), style)


def _time(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at)) if at else ""
