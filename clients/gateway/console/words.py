"""How the pages say sizes, times and states. Everything that a template has to put into words is here.

A `Words` holds the moment of the answer, so that one page tells one time. Sizes are decimal (1 MB = 10^6 bytes), times
are the gateway's local time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from clients.gateway.sending.words import contents, groups, noun, series_label
from clients.gateway.views import SeriesView, StudyView, TransferView

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
REASONS: Final[Mapping[str, str]] = {
    "transfer": "The patient is being transferred",
    "consult": "The trauma center is asked for advice",
    "drill": "This is a drill",
}
PROOFS: Final[Mapping[str, str]] = {
    "commit": "the PACS took charge of every stored image (storage commitment)",
    "find": "the PACS lists every stored image (query)",
    "store": "the PACS answered success for every stored image (C-STORE, or a query after a lost answer)",
}
RELATIONS: Final[Mapping[str, str]] = {
    "parent": "mother or father",
    "spouse": "wife, husband or partner",
    "child": "son or daughter",
    "relative": "other family",
    "guardian": "guardian",
    "poa": "has a legal paper to decide",
    "other": "someone else",
}
"""Who a proxy says that they are to the patient, in the words that the phone asked them with."""
CHECKS: Final[Mapping[str, str]] = {
    "relay": "Relay",
    "clock": "Clock",
    "pacs": "PACS",
    "dicom": "DICOM listener",
    "hl7": "HL7 listener",
    "disk": "Disk",
    "database": "Database",
    "certificate": "Certificate",
    "sites": "Paired sites",
    "transfer": "Transfer",
    "transfers": "Transfers",
    "outbox": "Messages",
    "alarm": "Alarm",
}
"""What `observe.checks` looks at, as the status page calls it."""

POLICIES: Final[Mapping[str, tuple[str, str]]] = {
    "prefix": (
        "Filed under our own number of the sender's patient.",
        "It begins with the sender's code, and nobody else has it. Merge it with your patient when you know who it is.",
    ),
    "match": (
        "Nothing is stored before somebody here says who the patient is.",
        "Compare two identifiers; the sender's number may be another patient's here.",
    ),
    "as-is": (
        "Not for clinical use before reconciliation.",
        "Filed under the sender's own patient number, unchanged: it may be another patient's here.",
    ),
}
"""What becomes of the patient's number here, by [identity] policy: what it is, and what to do."""


RUNGS: Final[Mapping[str, tuple[str, str]]] = {
    "patient": ("The patient answers", "Show the QR code and tell the PIN."),
    "proxy": (
        "Someone who is with them answers",
        "The same code works on their phone: they say who they are to the patient.",
    ),
    "voice": (
        "Someone answers by telephone",
        "Call a relative or guardian; tell them the address and the numbers.",
    ),
    "attest": (
        "Two clinicians attest",
        "Where nobody can be asked: each with their own name, password and reason.",
    ),
    "override": ("Emergency override", "One clinician decides alone, with a reason, because it cannot wait."),
}
"""The rungs of the ladder: what each is called, and what to do."""


class StateWords(msgspec.Struct, frozen=True):
    """A state as a person reads it. `tone` is a colour and a mark of the style sheet; `step` of four, 0 = none."""

    label: str
    tone: str
    step: int
    sentence: str


SENDING: Final[Mapping[str, StateWords]] = {
    "PREPARING": StateWords(
        "Preparing", "busy", 1, "The offer is being made. The QR code appears here by itself."
    ),
    "OFFERED": StateWords(
        "Waiting for the yes", "wait", 2, "Show the QR code and tell the PIN. The upload goes on meanwhile."
    ),
    "RELEASED": StateWords(
        "Approved, on its way",
        "busy",
        3,
        "The trauma center opens it and stores it. Nothing is left to do here.",
    ),
    "COMPLETE": StateWords("Complete", "good", 4, "The trauma center's PACS has every image."),
    "PARTIAL": StateWords(
        "Incomplete",
        "bad",
        4,
        "Not every image arrived. Call the trauma center, then send again or use the existing route.",
    ),
    "DENIED": StateWords(
        "Declined", "ended", 0, "The person said no, and nothing was opened. Treat it as their decision."
    ),
    "EXPIRED": StateWords(
        "Time ran out", "ended", 0, "Nobody answered in time, and nothing was opened. Send again if needed."
    ),
    "REVOKED": StateWords(
        "Stopped", "ended", 0, "It was stopped here. What the other side had opened before stays there."
    ),
    "DIVERTED": StateWords("Diverted", "ended", 0, "It went to another hospital instead."),
}
RECEIVING: Final[Mapping[str, StateWords]] = {
    "SEEN": StateWords(
        "Sealed, waiting for the yes",
        "wait",
        2,
        "It opens by itself after the yes. Nothing is left to do here.",
    ),
    "OPENED": StateWords(
        "Opened, going to the PACS", "busy", 3, "Images are stored as they come, the first series first."
    ),
    "COMPLETE": StateWords("Complete", "good", 4, "The PACS confirmed every image."),
    "PARTIAL": StateWords(
        "Incomplete", "bad", 4, "The PACS does not have every image. Call the sending hospital."
    ),
    "DENIED": StateWords(
        "Declined", "ended", 0, "The person said no. What was here was never opened and is deleted."
    ),
    "EXPIRED": StateWords(
        "Time ran out", "ended", 0, "Nobody answered in time. What was here is deleted, unopened."
    ),
    "REVOKED": StateWords(
        "Stopped by the sender",
        "ended",
        0,
        "The sending hospital stopped it. What the PACS already has stays.",
    ),
    "DIVERTED": StateWords(
        "Diverted", "ended", 0, "The sending hospital sent it to another hospital instead."
    ),
    "DECLINED": StateWords("Refused here", "bad", 0, "This gateway refused it. Call the sending hospital."),
}
ASKED: Final = StateWords(
    "Opened: who is it?", "wait", 3, "Nothing is stored before somebody here says who this patient is."
)
FOLLOWS: Final = StateWords("More on its way", "busy", 1, "It follows by itself, under the same yes.")
LOCKED: Final = StateWords(
    "Locked", "bad", 2, "Too many wrong PINs, or too many phones. Re-open it to get a new QR code and PIN."
)
UNKNOWN: Final = StateWords("Unknown", "ended", 0, "Reload this page.")
STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "send": ("Prepared", "Patient or proxy asked", "On its way", "Stored"),
    "receive": ("Announced", "Sealed here", "Opened", "Stored"),
}
LIVING: Final = frozenset({"RELEASED", "COMPLETE", "PARTIAL"})
"""States in which late images may follow a transfer that this site sends."""
OPEN: Final = frozenset({"PREPARING", "OFFERED", "RELEASED", "SEEN", "OPENED"})


class Words(msgspec.Struct, frozen=True):
    """What templates call. `now` is the time of the answer."""

    now: int

    def state(self, view: TransferView) -> StateWords:
        """The state of a transfer."""
        if view.locked and view.state == "OFFERED":
            return LOCKED
        if view.kind == "add" and view.state in ("PREPARING", "SEEN"):
            return FOLLOWS
        if view.identity == "waits" and view.state == "OPENED":
            return ASKED
        return (SENDING if view.role == "send" else RECEIVING).get(view.state, UNKNOWN)

    def steps(self, view: TransferView) -> tuple[str, ...]:
        """The four steps that a transfer goes through."""
        return STEPS.get(view.role, ())

    def is_open(self, view: TransferView) -> bool:
        """Whether a transfer has not ended."""
        return view.state in OPEN

    def size(self, count: float) -> str:
        """Bytes: "0 B", "512 kB", "1.4 MB", "140 MB", "2.3 GB"."""
        unit, names = float(max(count, 0)), ["B", "kB", "MB", "GB", "TB"]
        while unit >= 999.5 and len(names) > 1:
            unit /= 1000
            names.pop(0)
        digits = 1 if unit < 9.95 and names[0] in ("MB", "GB", "TB") else 0
        return f"{unit:.{digits}f} {names[0]}"

    def count(self, number: int, one: str, many: str = "") -> str:
        """ "1 image", "120 images"."""
        return f"{number:,} {one if number == 1 else many or one + 's'}"

    def contents(self, study: StudyView) -> str:
        """What a study has: "120 images", "1 image, 2 reports"."""
        others = [(s.modality, s.instances) for s in study.series if noun(s.modality) != "image"]
        images = study.instances - sum(instances for _, instances in others)
        return contents([("", max(images, 0)), *others])

    def kind(self, series: SeriesView) -> str:
        """The modality as the data set says it, in words where it is no image: "CT 2", "SR 99 (report)"."""
        return series_label(series.modality, series.number, "")

    def moment(self, at: int) -> str:
        """A time: "14:03:22" today, else "2026-11-24 14:03"; "" for 0."""
        if at <= 0:
            return ""
        then, today = time.localtime(at), time.localtime(self.now)
        if then[:3] == today[:3]:
            return time.strftime("%H:%M:%S", then)
        return time.strftime("%Y-%m-%d %H:%M", then)

    def stamp(self, at: int) -> str:
        """A time with its date: "2026-11-24 14:03:22"."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))

    def machine(self, at: int) -> str:
        """A time for `<time datetime>`."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))

    def full(self, at: int) -> str:
        """A time with its date and zone, for what is printed or exported."""
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(at))

    def span(self, seconds: float) -> str:
        """A duration, rounded up: "40 s", "4 min", "1 h 55 min"."""
        left = max(0, round(seconds))
        if left < 90:
            return f"{left} s"
        minutes = -(-left // 60)
        if minutes < 90:
            return f"{minutes} min"
        return f"{minutes // 60} h {minutes % 60} min"

    def period(self, hours: float) -> str:
        """For how long something may follow: "8 hours", "3 days", "1 h 30 min"."""
        if hours >= 48 and hours % 24 == 0:
            return self.count(int(hours // 24), "day")
        return self.count(int(hours), "hour") if hours % 1 == 0 else self.span(hours * 3600)

    def lives(self, view: TransferView) -> bool:
        """Whether late images follow a transfer by themselves, now or after its yes."""
        waits = view.state == "OFFERED" or (view.state in LIVING and view.released_at > 0)
        return view.add_until > self.now and waits

    def left(self, at: int) -> str:
        """How long until then: "97 min"; "" if it has passed."""
        return self.span(at - self.now) if at > self.now else ""

    def remaining(self, view: TransferView) -> str:
        """How long the bytes that are known will take at today's speed; "" where nothing moves."""
        rest = view.bytes - view.moved
        return self.span(rest / view.speed) if rest > 0 and view.speed > 0 and not view.stalled else ""

    def reason(self, code: str) -> str:
        """Why it is sent."""
        return REASONS.get(code, code)

    def rung(self, name: str) -> tuple[str, str]:
        """One way to a yes: what it is called, and what to do."""
        return RUNGS.get(name, (name, ""))

    def policy(self, code: str) -> tuple[str, str]:
        """Under whose number received images are filed, and what to do."""
        return POLICIES.get(code, POLICIES["as-is"])

    def proof(self, code: str) -> str:
        """What the receipt rests on."""
        return PROOFS.get(code, code)

    def is_minor(self, birth_date: str) -> bool:
        """Whether somebody born on this day (YYYY-MM-DD, or empty) is younger than 18."""
        today = time.strftime("%Y-%m-%d", time.localtime(self.now))
        if not _DAY.fullmatch(birth_date):
            return False
        return f"{int(birth_date[:4]) + 18:04}{birth_date[4:]}" > today

    def relation(self, code: str) -> str:
        """Who a proxy is to the patient."""
        return RELATIONS.get(code, code)

    def check(self, name: str) -> str:
        """A check; another destination than the default by its own name: "PACS archive"."""
        if name.startswith("pacs-"):
            return f"{CHECKS['pacs']} {name.removeprefix('pacs-')}"
        return CHECKS.get(name, name)

    def spaced(self, digits: str) -> str:
        """Six digits in two groups, as people say them."""
        return f"{digits[:3]} {digits[3:]}" if len(digits) == 6 else digits

    def groups(self, digits: str) -> str:
        """A number or a code as it is read out: "123 4567", "123 456 789"."""
        return groups(digits)

    def address(self, link: str) -> str:
        """An address as it is said and typed; browsers try https by themselves."""
        return link.removeprefix("https://")

    def short(self, tid: str) -> str:
        """The start of an id: enough for two people on the telephone to mean the same transfer."""
        return tid[:8]
