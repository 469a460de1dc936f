"""`gateway echo`: each part of a gateway, whether it works, and the next step where it does not.

Relay, clock and PACS are asked now; a site without a key is asked for once more. Each wait has its time-out, and all
are asked at once, so that one dead party costs the time of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil

from clients.gateway.dicom.scu import StoreScu
from clients.gateway.dicom.statuses import TROUBLES
from clients.gateway.dicom.tls import ends_at
from clients.gateway.errors import GatewayError, RelayDownError
from clients.gateway.observe.health import Health
from clients.gateway.observe.standing import absence, facts_of, of_receive, of_send
from clients.gateway.peers.pins import Peer
from clients.gateway.peers.relay import RelayFullError
from clients.gateway.receiving.routing import DEFAULT
from clients.gateway.rooms import Rooms
from clients.gateway.store.database import Con, quoted, rows, value
from clients.gateway.views import CheckView
from transfer.states import OPEN_RECEIVER, OPEN_SENDER

PATIENCE = 15.0
"""Seconds for one party to answer: people wait for this, and the pages for no longer than twenty."""
SKEW = 120
"""Seconds between our clock and the relay's that nobody need look at."""
RENEW = 14
"""Days before its end from which a certificate has to be renewed."""
OVERDUE = 900
"""Seconds after which what others must learn is overdue."""
RECENT = 86_400
"""Seconds for which an alarm of the gateway is shown after it was last raised."""
_ASKED = 32
"""Sites that are asked for their key at once."""
_SHOWN = 50
"""Transfers that are named."""
_RELAY = {
    "relay-unknown-site": "The relay does not know this site. Ask its operator to enroll this site's card.",
    "relay-not-for-me": "The relay goes by another address than relay.url. Ask its operator which, and correct"
    " gateway.toml.",
    "relay-clock": "This machine's clock differs too much from the relay's. Set the clock.",
    "relay-signature": "The relay does not accept this site's key. Ask its operator to enroll this site's card anew.",
}
_MUTE = (
    "The PACS took the association and did not answer the C-ECHO. It may not know this gateway: ask its administrator"
    " to add the AE title {aet} and this machine's address."
)
_UNANSWERED = {"pacs-lost": _MUTE, "pacs-late": _MUTE}
"""What `statuses.TROUBLES` says of an image is not to the point of an echo. Orthanc ends the association of a title
that it does not know only once it asks for something.
"""


async def check(rooms: Rooms) -> list[CheckView]:
    """All checks, in the order in which one would look."""
    found = await asyncio.gather(
        _relay(rooms), _pacs(rooms), _source(rooms), _machine(rooms), _transfers(rooms)
    )
    relay, pacs, source, machine, transfers = found
    sites = await _sites(rooms) if all(c.ok for c in relay[:1]) else []
    return [*relay, *pacs, *source, *machine, *await _certificates(rooms), *sites, *transfers]


async def _relay(rooms: Rooms) -> list[CheckView]:
    try:
        async with asyncio.timeout(PATIENCE):
            await rooms.relay.health()
    except TimeoutError:
        return [CheckView(name="relay", ok=False, sentence=RelayDownError().sentence)]
    except GatewayError as why:
        return [CheckView(name="relay", ok=False, sentence=_RELAY.get(why.code, why.sentence))]
    sentence = "The relay answers and knows this site."
    if rooms.uploader.full:
        sentence = RelayFullError().sentence
    skew = rooms.relay.skew
    clock = f"This machine's clock differs from the relay's by {abs(skew)} s."
    return [
        CheckView(name="relay", ok=not rooms.uploader.full, sentence=sentence),
        CheckView(
            name="clock",
            ok=abs(skew) < SKEW,
            sentence=clock + ("" if abs(skew) < SKEW else " Set the clock."),
        ),
    ]


async def _pacs(rooms: Rooms) -> list[CheckView]:
    """Every destination: the default's line is "pacs", another's "pacs-" and its name."""
    if rooms.destinations is None:
        return [CheckView(name="pacs", ok=True, sentence="No PACS is set: this site only sends.")]
    aet = rooms.config.dicom.aet
    named = (("pacs" if to.name == DEFAULT else f"pacs-{to.name}", to.scu) for to in rooms.destinations)
    return await asyncio.gather(*(_echo(name, scu, aet) for name, scu in named))


async def _source(rooms: Rooms) -> list[CheckView]:
    """The archive that studies are fetched from, asked by a child of the moment."""
    if rooms.archive.source is None:
        return []
    scu = StoreScu(rooms.archive.source.archive)
    try:
        return [await _echo("source", scu, rooms.config.dicom.aet)]
    finally:
        await scu.stop()


async def _echo(name: str, scu: StoreScu, aet: str) -> CheckView:
    try:
        async with asyncio.timeout(PATIENCE):
            echo = await scu.echo()
    except TimeoutError:
        return CheckView(name=name, ok=False, sentence=TROUBLES["pacs-silent"][1])
    sentence = _UNANSWERED.get(echo.code, echo.sentence).format(aet=aet)
    return CheckView(name=name, ok=echo.ok, sentence=sentence)


async def _machine(rooms: Rooms) -> list[CheckView]:
    """The DICOM port, the disk and the database."""
    found = []
    if rooms.scp is not None and rooms.scp_address is not None:
        host, port = rooms.scp_address
        alive = rooms.scp.alive
        sentence = f"Scanners and PACS may send to {rooms.config.dicom.aet} at {host}:{port}."
        if not alive:
            sentence = (
                f"Nobody listens at {host}:{port}. It starts again by itself; if this stays, look for another"
                " program on that port."
            )
        found.append(CheckView(name="dicom", ok=alive, sentence=sentence))
    if rooms.hl7.address is not None:
        sentence = "Reports are taken at {}:{} (HL7).".format(*rooms.hl7.address)
        found.append(CheckView(name="hl7", ok=True, sentence=sentence))
    free = await asyncio.to_thread(lambda: shutil.disk_usage(rooms.folder).free)
    found.append(_disk(free, rooms.config.dicom.min_free_bytes))
    broken = await Health(rooms).database()
    sentence = (
        "The database takes no write. Look at its disk and rights."
        if broken
        else "The database takes writes."
    )
    found.append(CheckView(name="database", ok=not broken, sentence=sentence))
    return found


async def _certificates(rooms: Rooms) -> list[CheckView]:
    """Those of DICOM over TLS: once one has ended no scanner gets in any more, or no image into the PACS."""
    config, now = rooms.config, rooms.clock.now()
    files = {
        "dicom.tls_cert": config.dicom.tls_cert,
        "pacs.tls_cert": config.pacs.tls_cert if config.pacs else "",
        "source.tls_cert": config.source.tls_cert if config.source else "",
        "worklist.tls_cert": config.worklist.tls_cert if config.worklist else "",
        **{f"destinations.{to.name}.tls_cert": to.tls_cert for to in config.destinations},
    }
    return [await asyncio.to_thread(_certificate, key, path, now) for key, path in files.items() if path]


def _certificate(key: str, path: str, now: int) -> CheckView:
    try:
        days = (ends_at(key, path) - now) // 86400
    except GatewayError as why:
        return CheckView(name="certificate", ok=False, sentence=why.sentence)
    how = f"is good for {days} days" if days >= 0 else "has ended"
    next_step = "" if days >= RENEW else " Have a new one made, and restart."
    return CheckView(
        name="certificate", ok=days >= RENEW, sentence=f"The certificate of {key} {how}.{next_step}"
    )


def _disk(free: int, floor: int) -> CheckView:
    room = f"{free / 2**30:.1f} GB are free"
    if free < floor:
        sentence = f"{room}: too few, and images are refused. Make room; it goes on by itself."
    elif free < 2 * floor:
        sentence = f"{room}: nearly too few. Make room before images are refused."
    else:
        sentence = f"{room}."
    return CheckView(name="disk", ok=free >= 2 * floor, sentence=sentence)


async def _sites(rooms: Rooms) -> list[CheckView]:
    """Paired sites that receive, and can be offered nothing now: asked once more."""
    now = rooms.clock.now()
    receivers = [p for p in await rooms.pins.all() if "receive" in p.roles]
    silent = [p for p in receivers if p.prekey_exp <= now][:_ASKED]
    keys = await asyncio.gather(*(_has_key(rooms, p, now) for p in silent))
    silent = [p for p, has in zip(silent, keys, strict=True) if not has]
    if not silent:
        return [
            CheckView(name="sites", ok=True, sentence=f"Paired sites that can receive now: {len(receivers)}.")
        ]

    def work(con: Con) -> list[str]:
        return [absence(con, p.site) for p in silent]

    return [CheckView(name="sites", ok=False, sentence=s) for s in await rooms.db.run(work)]


async def _has_key(rooms: Rooms, peer: Peer, now: int) -> bool:
    with contextlib.suppress(GatewayError):
        found = await rooms.pins.prekey_of(peer.site, now)
        return found is not None and found[1].exp > now
    return False


async def _transfers(rooms: Rooms) -> list[CheckView]:
    """Transfers that stand still for a reason that somebody must see to; and what others must still learn."""
    facts = facts_of(rooms)

    def work(con: Con) -> list[CheckView]:
        found = []
        for table, states, judge in (
            ("sends", OPEN_SENDER, of_send),
            ("receives", OPEN_RECEIVER, of_receive),
        ):
            sql = (
                f"SELECT * FROM {table} WHERE state IN ({quoted(states)}) ORDER BY created_at LIMIT {_SHOWN}"
            )
            for row in rows(con, sql):
                standing = judge(con, row, facts)
                if standing.wrong:
                    sentence = f"{bytes(row['tid']).hex()}: {standing.sentence}"
                    found.append(CheckView(name="transfer", ok=False, sentence=sentence))
        return [*found, *_outbox(con, facts.now), *_alarms(con, facts.now)]

    found = await rooms.db.run(work)
    return found or [CheckView(name="transfers", ok=True, sentence="No transfer stands still.")]


def _alarms(con: Con, now: int) -> list[CheckView]:
    """What concerns the gateway and no transfer of it: strangers, and sites that do what no hospital does."""
    found = rows(con, "SELECT sentence FROM alarms WHERE tid IS NULL AND at>? ORDER BY at", (now - RECENT,))
    return [CheckView(name="alarm", ok=False, sentence=r["sentence"]) for r in found]


def _outbox(con: Con, now: int) -> list[CheckView]:
    """Messages that nobody confirms: to the sites, and to the relay."""
    late = rows(
        con,
        "SELECT p.name, count(*) AS n FROM outbox o LEFT JOIN peers p ON hex(p.site)=upper(o.target)"
        " WHERE o.kind='queue' AND o.created_at<? GROUP BY o.target LIMIT 20",
        (now - OVERDUE,),
    )
    found = [
        f"{r['name'] or 'A site that is not paired any more'} has not confirmed {r['n']} messages for"
        f" {OVERDUE // 60} minutes and more. Call it: its gateway must run." for r in late
    ]  # fmt: skip
    stuck = value(con, "SELECT count(*) FROM outbox WHERE kind<>'queue' AND created_at<?", (now - OVERDUE,))
    if stuck:
        found.append(
            f"{stuck} messages have waited for the relay for {OVERDUE // 60} minutes and more. They are repeated;"
            " call the relay's operator if the relay answers otherwise."
        )
    return [CheckView(name="outbox", ok=False, sentence=s) for s in found]
