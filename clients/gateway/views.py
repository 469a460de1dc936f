"""What the gateway's engine shows to its pages, its command line and its control socket: frozen values, no
methods.

`Engine` is the one door to the engine. Pages and commands hold an `Engine` and nothing else: the real one in
the same process, or a client of the control socket beside a running gateway. Ids are lower-case hex text.
Times are Unix seconds. Every method may raise `GatewayError` (a code, a sentence, the next step).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import msgspec

from clients.gateway.pulled import Archive
from clients.gateway.whose import Candidate, ComparisonView, IdentityView, WorklistView

HARMLESS = frozenset({"import-not-dicom", "import-dicomdir"})
"""Codes of what lies beside the images on a disc: an import passes it over, and nothing is missing for it."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all views."""


class SeriesView(View, frozen=True, kw_only=True):
    """One series of a study here. `number` and `description` are as the data set says, or empty."""

    uid: str
    number: str
    modality: str
    description: str
    instances: int
    bytes: int


class StudyView(View, frozen=True, kw_only=True):
    """One study that arrived here from a scanner, a PACS or a folder."""

    id: str
    """Our own id (32 hex); never the UID."""
    uid: str
    patient_name: str
    """As a person reads it: "DOE, JANE"; may be empty."""
    birth_date: str
    """YYYY-MM-DD or empty."""
    sex: str
    patient_id: str
    accession: str
    date: str
    """YYYY-MM-DD or empty."""
    time: str
    """HH:MM or empty."""
    description: str
    modalities: str
    """"CT", "CT, SR"."""
    instances: int
    bytes: int
    first_at: int
    last_at: int
    open: bool
    """True while images may still arrive (quiet time not over, staff did not close it)."""
    source: str
    """Calling AE title, or "import"."""
    refused: int
    """Instances that were refused with a named reason."""
    series: list[SeriesView]
    transfers: list[str]
    """tids of its transfers, newest first."""
    completeness: str = ""
    """Whether this is all of it, and who says so: "complete: PACS says 312, here 312"."""
    missing: int = -1
    """Images that the archive lists and that are not here; -1: it does not say."""
    prepared: str = ""
    """The site that a rule prepared it for; empty where none did, or the offer is made or was dismissed."""
    prepared_by: str = ""
    """"rule 2"."""


class PeerView(View, frozen=True, kw_only=True):
    """A paired site."""

    site: str
    """base64url id."""
    name: str
    place: str
    fingerprint: str
    pinned_at: int
    pinned_by: str
    roles: list[str]
    reachable: bool
    """It has a pre-key at the relay that is valid now (False: unknown or none: say "offers will wait")."""
    allow: list[str] = []
    """What its staff may decide in a patient's place, and we open: attest, override."""
    call: str = ""
    """Whom staff call there, by telephone, as the administrator here noted it; or empty."""


class SeriesProgress(View, frozen=True, kw_only=True):
    """One series of a transfer: "CT 2 · head 5 mm: 63/120"."""

    label: str
    have: int
    """R: instances stored at the PACS. S: instances sealed."""
    want: int
    """0 while nobody knows."""
    closed: bool


class RungView(View, frozen=True, kw_only=True):
    """One rung of the ladder, as it stands for a transfer."""

    name: str
    """`patient`, `proxy`, `voice`, `attest` or `override` (`clients.gateway.ladder`)."""
    at: int
    """From when on it is offered."""
    open: bool


class LackingView(View, frozen=True, kw_only=True):
    """One image that is missing, or of which the PACS has said less than of the others."""

    number: int
    """In the study, from 1."""
    series: str
    uid: str
    """SOP Instance UID, by which a PACS administrator finds it."""
    why: str
    """"find" or "store": the proof that it has; else the code of why it is missing."""


class NoteView(View, frozen=True, kw_only=True):
    """What a member of staff noted about who answered."""

    at: int
    by: str
    text: str


class TransferView(View, frozen=True, kw_only=True):
    """One transfer, as the desk of S or the inbox of R shows it."""

    tid: str
    role: str
    """"send" or "receive"."""
    peer: str
    """The other site's name."""
    state: str
    """One of protocol s. 10: PREPARING, OFFERED, RELEASED, COMPLETE, ... (S); SEEN, OPENED, COMPLETE, ... (R)."""
    why: str
    """Stable code for the state, or empty."""
    sentence: str
    """The state in a sentence, with the next step."""
    study: str
    """S: the study's id here. R: empty."""
    patient_name: str
    """S: known. R: empty before the grant opened it."""
    birth_date: str
    what: str
    """"CT, 2026-11-24", from the summary; R: empty before it opened."""
    reason: str
    created_at: int
    expires_at: int
    ended_at: int
    link: str
    """S while OFFERED: the QR's address (contains the secret; show to staff only). Else empty."""
    pin: str
    check: str
    """Four digits of the newest run that proved the PIN, or empty."""
    tries_left: int
    locked: bool
    reopens_left: int
    joined_at: int
    """A phone proved the PIN then; 0 if none did."""
    decided_at: int
    decided_by: str
    """"patient", "proxy: NAME (parent)", "proxy (other)", or empty."""
    released_at: int
    first_stored_at: int
    """S learns it from progress only by the receipt: 0 there."""
    bytes: int
    """Ciphertext sealed so far (S) / announced so far (R)."""
    moved: int
    """Ciphertext uploaded (S) / fetched (R)."""
    speed: float
    """Bytes per second over the last 5 s."""
    stalled: bool
    """Nothing moved for 5 s although there is something to move."""
    instances: int
    """S: items of the study so far. R: listed so far."""
    total: int
    """0 until the end of the manifest is known."""
    stored: int
    """Instances that R's PACS holds (S: from the receipt)."""
    gaps: int
    proof: str
    receipt_code: str
    """A short code of the receipt, for phone calls: 8 characters, or empty."""
    series: list[SeriesProgress]
    alarms: list[str]
    """Sentences for staff, newest first."""
    lacking: list[LackingView] = []
    """R, after the end: images that are missing or have a weaker proof than others, at most 100."""
    waits: str = ""
    """What an open transfer stands still for, and the next step; empty where it moves."""
    door: str = "qr"
    """S: where somebody may answer: qr, voice or scan."""
    number: str = ""
    """S: the voice door's public number, said before the code; then `pin` is the code with its check digit."""
    codes: int = 0
    """S: how many codes it has had."""
    code_until: int = 0
    """S: when the code stops letting anybody in, where that is before the end of the offer; else 0."""
    identity: str = ""
    """R: sealed, waits (staff are to say who it is), prefix, match, as-is, corrected or unknown. S: empty."""
    filed: str = ""
    """R: under whose number the images are, in a sentence."""
    decided_name: str = ""
    """A proxy's, as typed: visible characters only. Who says no need not give it."""
    decided_rel: str = ""
    """A proxy's `rel` of the grant, or empty."""
    notes: list[NoteView] = []
    """S: what staff noted about who answered, oldest first. R: empty, no message carries it."""
    stop_asked: int = 0
    """When, after the end, the person's wish to stop sharing became known here; 0 if never."""
    rung: str = ""
    """Who decided: patient, proxy, attest, override; empty where nobody has."""
    decided_why: str = ""
    """The reason that staff gave who decided in the patient's place."""
    rungs: list[RungView] = []
    """S while OFFERED: how the yes may come, in order."""
    refused_at: int = 0
    """S while OFFERED: when a person said no to sending this study, in another transfer; else 0."""
    again: str = ""
    """S while OFFERED: why it was asked again after that."""
    follows: str = ""
    """S, DENIED: the rung that may follow in a new transfer; empty: none."""
    vouched_by: str = ""
    """S: the first of two clinicians, who waits for the second."""
    vouched_why: str = ""
    vouched_at: int = 0
    word: str = ""
    """S: what the second clinician confirms, for `attest`."""
    kind: str = ""
    """"divert" or "add" for what follows another transfer (protocol s. 7); else empty."""
    before: str = ""
    """S: tid of the transfer that it follows."""
    after: str = ""
    """S: tid of the diversion that took its place, or is to take it once somebody has said yes."""
    after_peer: str = ""
    """The name of that one's destination."""
    alternates: list[str] = []
    """S: names of the other sites that the question names."""
    add_until: int = 0
    """S: until when late images follow by themselves; 0 where that was never asked for, or there is no offer yet."""
    additions: list[str] = []
    """tids of what was added to it, oldest first."""
    changed_reports: int = 0
    """R: reports that it brings in the place of earlier ones."""
    contents: str = ""
    """Of an addition: what it brings, as "7 images, 1 report"."""
    peer_call: str = ""
    """Whom staff call at the other site, by telephone; or empty."""
    accession: str = ""
    """R, once it is open: the sender's accession number of the study."""


class NoticeView(View, frozen=True, kw_only=True):
    """S: what the patient is told, on paper, of what staff decided in their place."""

    tid: str
    rung: str
    """attest or override."""
    by: str
    at: int
    why: str
    to: str
    """The other site's name."""
    what: str
    call: str
    """Whom to call, or empty."""
    link: str
    """Where a phone can see it, with the PIN, while a phone still can; else empty. It holds nothing about anybody."""
    pin: str
    refused_at: int = 0
    """When a person had said no to sending this study before, in another transfer; 0 if nobody had."""


class AuditView(View, frozen=True, kw_only=True):
    """One line of the append-only audit log."""

    seq: int
    at: int
    actor: str
    action: str
    subject: str
    detail: str


class CheckView(View, frozen=True, kw_only=True):
    """One line of `gateway echo`: "relay", "clock", "pacs" (and "pacs-NAME" for each other destination), "dicom",
    "disk", "database"; "sites", "transfer", "outbox" once for each that is wrong.
    """

    name: str
    ok: bool
    sentence: str


class UserView(View, frozen=True, kw_only=True):
    """One member of staff."""

    name: str
    role: str
    """clerk, clinician, pacs-admin or privacy-officer."""
    created_at: int
    disabled: bool


class SessionView(View, frozen=True, kw_only=True):
    """A signed-in person."""

    user: str
    role: str
    csrf: str
    started_at: int
    """The sign-in: no use of the session moves its end further than 12 hours from here."""
    expires_at: int
    """30 minutes after the last use, or 12 hours after the sign-in, whatever comes first."""


class ReportView(View, frozen=True, kw_only=True):
    """What became of a report."""

    study: str
    same: bool
    """It was here already."""
    late: bool
    """A transfer under way was closed before it, and does not have it."""


class Engine(Archive, Protocol):
    """What pages and commands may ask of a gateway. `actor` is who asks, for the audit log."""

    name: str
    """This site's name."""
    site: str
    """This site's id (base64url)."""
    policy: str
    """[identity] policy: prefix, match or as-is."""
    add_seconds: int
    """[policy] add_seconds: for how long late images follow where nobody says otherwise."""
    page: str
    """Where this site's phone page is, without a door."""

    async def studies(self, query: str = "", limit: int = 100) -> list[StudyView]: ...
    async def study(self, study_id: str) -> StudyView: ...
    async def close_study(self, study_id: str, actor: str) -> None: ...
    async def peers(self) -> list[PeerView]: ...
    async def pin_peer(self, card: str, actor: str) -> PeerView: ...
    async def unpin_peer(self, name: str, actor: str) -> PeerView: ...
    async def call_peer(self, name: str, call: str, actor: str) -> PeerView:
        """Notes whom staff call at a site (at most 80 characters; empty: nobody knows)."""
        ...

    async def allow_peer(self, name: str, kinds: list[str], actor: str) -> PeerView:
        """Opens from now on what its staff decide by these types (attest, override), and by no other."""
        ...

    async def send(
        self, study_id: str, to: str, reason: str, actor: str, alt: Sequence[str] = (), add: int | None = None
    ) -> TransferView:
        """`alt`: at most four other sites that the question names, to which it may be diverted under the same yes.
        `add`: seconds in which late images and reports follow under it; None: as the policy says.
        """
        ...

    async def close_additions(self, tid: str, actor: str) -> TransferView:
        """Nothing follows this transfer any more. Raises `GatewayError` where nothing could."""
        ...

    async def divert(self, tid: str, to: str, actor: str) -> TransferView:
        """The same study to another site instead: the transfer that takes this one's place."""
        ...

    async def transfers(self, role: str = "", limit: int = 100) -> list[TransferView]: ...
    async def transfer(self, tid: str) -> TransferView: ...
    async def cancel(self, tid: str, actor: str) -> TransferView: ...
    async def stop_asked(self, tid: str, asker: str, reason: str, actor: str) -> TransferView:
        """The person asked staff to stop sharing; `asker`: "patient", or who speaks for them by a grant's code. Before
        the end it stops everything that is open, after it the destination is told, once.
        """
        ...

    async def reopen(self, tid: str, actor: str) -> TransferView: ...
    async def note(self, tid: str, minor: bool, interpreter: str, basis: str, actor: str) -> TransferView:
        """Notes who answered: the patient is a minor, an interpreter's language, on what the right to answer rests."""

    async def door(self, tid: str, door: str, scanned: str, actor: str) -> TransferView:
        """A new code at the door "qr", "voice" or "scan" (there, what was `scanned`). Tries that are spent stay so."""
        ...

    # The upper rungs (`sending.rungs`): `actor` has just given their password
    async def attest(self, tid: str, reason: str, word: str, actor: str) -> TransferView:
        """The first clinician's word (a reason, no `word`), or the second's to the `word` that they read."""
        ...

    async def override(self, tid: str, reason: str, actor: str) -> TransferView: ...
    async def again(self, tid: str, reason: str, actor: str) -> TransferView:
        """A new transfer of what a person has said no to."""
        ...

    async def notice(self, tid: str) -> NoticeView:
        """`AbsentError` where staff did not decide."""
        ...

    async def import_path(self, path: str, actor: str, early: bool = False) -> dict[str, Any]:
        """Takes a folder, a file or a ZIP: {studies, accepted, skipped: [{name, code}]}.

        `early`: returns as soon as it is known that everything in it can be used and the first image is here; the
        others follow, and the study closes by itself behind the last.
        """
        ...

    # Whose images a received study is (`receiving.reconciling`)
    async def identity(self, tid: str) -> IdentityView: ...
    async def worklist(self, patient_id: str, accession: str, name: str) -> WorklistView: ...
    async def compare(self, tid: str, candidate: Candidate) -> ComparisonView: ...
    async def identify(
        self, tid: str, candidate: Candidate | None, confirmed: list[str], actor: str
    ) -> IdentityView:
        """Before anything is stored; None: nobody knows yet, so it goes under the sender's number behind its code."""
        ...

    async def correct(self, tid: str, candidate: Candidate, confirmed: list[str], actor: str) -> IdentityView:
        """Afterwards: nothing is sent again, the hospital's systems are told."""
        ...

    async def add_report(self, study_id: str, title: str, text: str, pdf: bytes, actor: str) -> ReportView:
        """Adds a PDF, or else a text, to a study as a document."""
        ...

    async def report_file(self, study_id: str, path: str, title: str, actor: str) -> ReportView:
        """The same with a file: a PDF, or a text in UTF-8."""
        ...

    async def checks(self) -> list[CheckView]: ...
    async def audit(self, before: int = 0, limit: int = 100) -> list[AuditView]: ...
    async def record(self, actor: str, action: str, subject: str = "", detail: str = "") -> None: ...
    def changes(self) -> AsyncIterator[None]: ...

    # Staff and sessions (console/staff.py does the hashing)
    async def user_add(self, name: str, role: str, password_hash: str, actor: str) -> None: ...
    async def user_remove(self, name: str, actor: str) -> None: ...
    async def user_hash(self, name: str) -> tuple[str, str]:
        """(password hash, role). `AbsentError` for a name that is unknown or disabled."""
        ...

    async def users(self) -> list[UserView]: ...
    async def session_put(self, token_hash: str, session: SessionView) -> None: ...
    async def session_get(self, token_hash: str) -> SessionView | None: ...
    async def session_drop(self, token_hash: str) -> None: ...
