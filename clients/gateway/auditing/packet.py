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
from clients.gateway.auditing.lines import NOTE
from clients.gateway.auditing.record import Record
from clients.gateway.fonts import substitute
from clients.gateway.sending.view import STAFF_WORDS
from transfer.text import seen

_PROOF = {
    "commit": "the PACS committed to keep every image",
    "find": "the PACS was asked for every image",
    "store": "the PACS answered that it stored every image",
}
_MOST = 500
"""Lines of the log on paper; the rest is counted."""


def packet(record: Record, name: str, now: int) -> bytes:
    """The PDF of one transfer, as the site `name` knows it. A letter that no font here has is a box."""
    out = io.BytesIO()
    facts, shown = _facts(record, name), record.lines[:_MOST]
    paper = _Paper("".join(x for _, x in facts) + name + "".join(n.actor + n.detail for n in shown))
    story: list[Flowable] = [paper.say("Transfer record", "Title")]
    if record.decision is not None and record.decision.rung in STAFF_WORDS:
        story.append(paper.say(f"Without the patient's yes: {STAFF_WORDS[record.decision.rung]}.", "red"))
    story += [paper.pairs(facts, "BodyText"), Spacer(0, 6 * mm), paper.say("What happened", "Heading2")]
    rows = [[paper.say(x, "small") for x in (_time(n.at), n.actor, n.action, n.detail)] for n in shown]
    if rows:
        story.append(Table(rows, colWidths=[34 * mm, 30 * mm, 46 * mm, 60 * mm], style=_GRID))
    if more := len(record.lines) - len(shown):
        story.append(paper.say(f"{more} more lines are in the audit log.", "small"))
    story += [Spacer(0, 6 * mm), paper.say("Signed messages (SHA-256)", "Heading2")]
    made = f"Made {_time(now)} by {name}. The same digests are in the other hospital's record."
    story += [paper.pairs(list(record.digests.items()), "small"), paper.say(made, "small")]
    SimpleDocTemplate(
        out, pagesize=A4, title=f"Transfer {record.tid}", author=name, leftMargin=20 * mm, rightMargin=20 * mm
    ).build(story)
    return out.getvalue()


class _Paper:
    """Paragraphs in a font that shows the letters of one record."""

    def __init__(self, text: str) -> None:
        font, self._letters = substitute(text)
        styles = self._styles = getSampleStyleSheet()
        styles["BodyText"].fontName = font
        styles.add(ParagraphStyle("small", parent=styles["BodyText"], fontSize=7, leading=9))
        styles.add(ParagraphStyle("red", parent=styles["BodyText"], textColor=colors.red))

    def say(self, text: str, style: str) -> Paragraph:
        """Text of others is data: neither mark-up nor a link."""
        return Paragraph(
            escape("".join(c if c in self._letters else "\u25a1" for c in seen(text))), self._styles[style]
        )

    def pairs(self, pairs: list[tuple[str, str]], style: str) -> Table:
        """Two columns."""
        rows = [[self.say(key, style), self.say(text, style)] for key, text in pairs] or [["", ""]]
        return Table(rows, colWidths=[34 * mm, 136 * mm], style=_GRID)


def _facts(record: Record, name: str) -> list[tuple[str, str]]:
    here, there = ("From", "To") if record.role == "send" else ("To", "From")
    facts = [
        ("Transfer", record.tid), (here, name), (there, record.peer), ("Purpose", record.reason),
        ("Patient ID", record.patient_id), ("Begun", f"{_time(record.created_at)} {record.created_by}"),
    ]  # fmt: skip
    if (decision := record.decision) is not None:
        verb = "approved" if decision.says == "approve" else "declined"
        facts.append(("Decision", f"{verb} by {who(decision)}, {_time(decision.at)}"))
        facts.append(("Reason", decision.reason))
    noted = (f"{n.detail} ({n.actor}, {_time(n.at)})" for n in record.lines if n.action == NOTE)
    facts += [("Noted", text) for text in noted]
    if record.stop_asked:
        facts.append(("Asked to stop", f"{_time(record.stop_asked)}, after the end"))
    facts.append(("End", f"{record.state} {record.why} {_time(record.ended_at)}"))
    if (receipt := record.receipt) is not None:
        facts.append(("Proof", _PROOF[receipt.proof]))
        facts.append(("Missing", f"{len(receipt.gaps)} images"))
    return [(key, text.strip()) for key, text in facts if text.strip()]


_GRID = TableStyle(
    [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.lightgrey)]
)


def _time(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at)) if at else ""
