"""`clients.gateway.store.backup`, `clients.gateway.restore`: an older state gives nobody anything, and every transfer
still has one end.
"""

from __future__ import annotations

import asyncio
import io
import os
import sqlite3
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest

from clients.gateway.errors import ConfigError
from clients.gateway.folder import read_identity
from clients.gateway.restore import Restored, restore
from clients.gateway.store import audit
from clients.gateway.store.backup import DATABASE, KEY, LABEL, MEMBERS, SETTINGS, Label, backup, unpack
from clients.gateway.store.database import Database
from clients.gateway.store.vault import Vault
from tests.gateway_kit import Handset, House, carry, houses
from tests.secrets_kit import COLUMNS, found, query
from transfer import jws, tries
from transfer.ids import Cid, Tid
from transfer.manifest import ChainWriter
from transfer.messages import Receipt, Release, open_message, peek, sign_message


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    async with houses(tmp_path) as (s, r):
        yield s, r


def keep(house: House) -> Path:
    """A backup of a gateway that is at work."""
    file = house.folder.parent / f"{house.folder.name}.tar"
    backup(house.folder, file, now=house.clock.at)
    return file


@asynccontextmanager
async def restored(house: House, file: Path) -> AsyncIterator[House]:
    """The gateway of a backup, open; the old one is told of nothing any more."""
    folder = house.folder.parent / f"{house.folder.name}-restored"
    await restore(file, folder, clock=house.clock)
    new = House(folder, house.clock)
    new.name = house.name
    await new.open()
    try:
        yield new
    finally:
        await new.close()


async def state(house: House, tid: Tid) -> tuple[str, str]:
    table = "sends" if await house.rows("SELECT 1 FROM sends WHERE tid=?", tid) else "receives"
    row = await house.one(f"SELECT state, why FROM {table} WHERE tid=?", tid)
    return row["state"], row["why"]


async def approve(s: House, tid: Tid) -> None:
    phone = await Handset.scan(s, tid)
    await phone.ask()
    assert (await phone.decide()).refused == ""


async def seal_to_the_end(s: House, tid: Tid) -> str:
    """S has written the last record; its text."""
    row = await s.send(tid)
    text = ChainWriter(Cid(row["cid"]), s.identity.key).record([], [], [], total=1)
    await s.execute("UPDATE spools SET ended=1 WHERE cid=?", row["cid"])
    await s.execute("INSERT INTO packs (cid, n, kind, size, hash) VALUES (?,0,'M',1,x'00')", row["cid"])
    await s.execute("INSERT INTO records (cid, i, n, hash) VALUES (?,0,0,?)", row["cid"], jws.digest(text))
    return text


async def deliver(r: House, tid: Tid, record: str) -> None:
    """R has stored the one image that the record names."""
    cid = (await r.receive(tid))["cid"]
    await r.execute("INSERT INTO in_records (cid, i, n, compact) VALUES (?,0,0,?)", cid, record)
    await r.execute("UPDATE receives SET total=1 WHERE tid=?", tid)
    await r.execute(
        "INSERT INTO ledger (destination, sop_uid, tid, no, series, hash, state, at) VALUES ('P','1',?,0,0,x'00',"
        "'stored',1)",
        tid,
    )
    await r.inbox.finish(tid, "delivered")


# What is in it


async def test_it_opens_no_study_and_lets_nobody_in(pair: tuple[House, House]) -> None:
    """Not even with the site key beside it: neither a secret nor its sealed form is in the file."""
    s, r = pair
    waiting = await s.offer_to(r)
    await (await Handset.scan(s, waiting)).ask()
    between = s.vault.seal("door", b"a try is spent and not compared")
    await s.execute("UPDATE tries SET door_sealed=? WHERE tid=?", between, waiting)
    opened = await s.offer_to(r, await s.a_study(StudyInstanceUID="2.25.99"))
    await approve(s, opened)
    await carry(s, r)
    assert await state(r, opened) == ("OPENED", "")
    await s.execute("INSERT INTO sessions (token, data, expires_at) VALUES ('0123456789abcdef',x'00',9)")
    needles: dict[str, bytes] = {"session": b"0123456789abcdef"}
    for house in pair:
        for at, (sealed,) in enumerate(query(house.folder, "SELECT pair_sealed FROM prekeys")):
            needles[f"{house.name} pre-key {at}"] = bytes(sealed)
        for tid in (waiting, opened):
            for purpose, sql in COLUMNS.items():
                for at, (sealed,) in enumerate(query(house.folder, sql, [tid])):
                    if sealed is not None:
                        name = f"{house.name} {purpose} {tid.hex()} {at}"
                        needles[name] = bytes(sealed)
                        plain = house.vault.open(purpose, bytes(sealed))
                        if purpose != "pin":
                            needles[f"{name} plain"] = plain
    assert len(needles) > 12
    files = [keep(s), keep(r)]
    assert found(needles, *files) == set()
    identity = query(s.folder, "SELECT v FROM own WHERE k='identity'")[0][0]
    assert found({"identity": bytes(identity)}, *files) == {"identity"}, "the search finds what is there"
    assert found({"study": b"2.25.99"}, files[0]) == set(), "images are not in it, nor what they said"


async def test_only_its_owner_reads_it_and_nothing_else_stays(pair: tuple[House, House]) -> None:
    s, _ = pair
    before = {p.name for p in s.folder.parent.iterdir()}
    file = keep(s)
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == [LABEL, *MEMBERS]
    assert {(m.uid, m.uname, m.mode) for m in members} == {(0, "", 0o600)}
    assert {p.name for p in s.folder.parent.iterdir()} == before | {file.name}
    with pytest.raises(ConfigError, match="there already"):
        keep(s)
    with pytest.raises(ConfigError, match="no gateway"):
        backup(s.folder / "incoming", s.folder.parent / "x.tar", now=1)
    assert not (s.folder.parent / "x.tar").exists()


async def test_beside_a_gateway_that_writes(pair: tuple[House, House], tmp_path: Path) -> None:
    """Each copy is one committed state: lines that belong to one transaction are all in it or none."""
    s, _ = pair
    stop = False

    async def write() -> None:
        while not stop:
            await s.db.run(lambda con: [audit.record(con, "x", "test", "", str(i), 1) for i in range(3)])

    writing = asyncio.create_task(write())
    for n in range(4):
        await asyncio.to_thread(backup, s.folder, tmp_path / f"{n}.tar", now=1)
        await restore(tmp_path / f"{n}.tar", tmp_path / f"{n}", clock=s.clock)
        with closing(sqlite3.connect(tmp_path / f"{n}" / DATABASE)) as con:
            assert con.execute("SELECT count(*)%3 FROM audit WHERE action='test'").fetchone() == (0,)
            con.row_factory = sqlite3.Row
            assert audit.verify(con) == 0, "the chain goes on over the restore"
    stop = True
    await writing


async def test_the_database_of_a_backup_is_no_gateways_database(
    pair: tuple[House, House], tmp_path: Path
) -> None:
    """Copied by hand it does not run: the rules of a restore would be passed by."""
    s, _ = pair
    work = tmp_path / "by-hand"
    work.mkdir()
    unpack(keep(s), work)
    db = Database(work / DATABASE)
    await db.open()
    with pytest.raises(ConfigError, match="gateway restore"):
        await db.run(lambda con: read_identity(con, Vault.load(work)))
    await db.close()


# What goes on


async def test_who_it_is_stays_and_new_transfers_work(pair: tuple[House, House]) -> None:
    s, r = pair
    async with restored(s, keep(s)) as s2, restored(r, keep(r)) as r2:
        assert (s2.site, r2.site) == (s.site, r.site)
        assert await s2.actions("gateway.restore") == []
        assert (await s2.actions())[-1] == "gateway.restore"
        tid = await s2.offer_to(r2)
        await approve(s2, tid)
        await carry(s2, r2)
        assert await state(r2, tid) == ("OPENED", "")


async def test_no_try_is_gained(pair: tuple[House, House]) -> None:
    """Whoever has the QR and guesses: a restore ends the offer, so what was spent since is not forgotten."""
    s, r = pair
    tid = await s.offer_to(r)
    await carry(s, r)
    file = keep(s)
    for _ in range(tries.MAX - 1):
        guess = await Handset.scan(s, tid, wrong=True)
        await guess.start()
        await guess.prove()
    right = await Handset.scan(s, tid)
    async with restored(s, file) as s2:
        assert await state(s2, tid) == ("REVOKED", "restored")
        for phone in (right, Handset(s2, tid, right.q, right.pin)):
            phone.house = s2
            await phone.post(1, b'{"v":1}')
        row = await s2.send(tid)
        assert (row["q_sealed"], row["pin_sealed"]) == (None, None)
        (end,) = await s2.rows("SELECT * FROM outbox WHERE kind='mailbox'")
        assert msgspec.json.decode(end["body"])["ended"] == "REVOKED"
        await carry(s2, r)
    assert await state(r, tid) == ("REVOKED", "")


async def test_no_channel_counter_is_used_twice(pair: tuple[House, House]) -> None:
    """A phone that asked before the backup gets nothing more sealed: its numbers may have been used since."""
    s, r = pair
    tid = await s.offer_to(r)
    phone = await Handset.scan(s, tid)
    await phone.ask()
    async with restored(s, keep(s)) as s2:
        phone.house = s2
        await phone.post(5, b'{"v":1,"box":"AAAA"}')
        assert await phone.answers(6) == []
        assert await s2.value("SELECT count(*) FROM tries WHERE channel_sealed IS NOT NULL") == 0


async def test_a_release_that_was_sealed_to_its_end_ends_with_its_receipt(pair: tuple[House, House]) -> None:
    """Also where the first receipt was acknowledged before the disk was lost: the release asks for it again."""
    s, r = pair
    tid = await s.offer_to(r)
    record = await seal_to_the_end(s, tid)
    await approve(s, tid)
    await carry(s, r)
    file = keep(s)
    await deliver(r, tid, record)
    await carry(s, r)
    assert await state(s, tid) == ("COMPLETE", "")
    assert await r.letters() == [], "nothing waits at R any more"
    async with restored(s, file) as s2:
        assert (await state(s2, tid))[0] == "RELEASED"
        assert await s2.value("SELECT count(*) FROM spools WHERE k_sealed IS NOT NULL") == 0
        assert await s2.value("SELECT count(*) FROM packs WHERE uploaded=0") == 0
        await carry(s2, r)
        assert await state(s2, tid) == ("COMPLETE", "")
    assert await state(r, tid) == ("COMPLETE", "")


async def test_a_release_whose_study_is_not_all_sealed_is_stopped(pair: tuple[House, House]) -> None:
    s, r = pair
    tid = await s.offer_to(r)
    await approve(s, tid)
    await carry(s, r)
    async with restored(s, keep(s)) as s2:
        assert await state(s2, tid) == ("REVOKED", "restored")
        await carry(s2, r)
    assert await state(r, tid) == ("REVOKED", "")


async def test_what_went_on_after_the_backup_is_told(pair: tuple[House, House]) -> None:
    """S does not remember its release, so the receipt proves nothing to it; R hears an end and staff hear of it."""
    s, r = pair
    tid = await s.offer_to(r)
    record = await seal_to_the_end(s, tid)
    file = keep(s)
    await approve(s, tid)
    for letter in await s.letters():
        await r.hear(letter, s)
    await deliver(r, tid, record)
    async with restored(s, file) as s2:
        await carry(r, s2)
        assert await state(s2, tid) == ("REVOKED", "restored")
        (sentence,) = await s2.rows("SELECT sentence FROM alarms WHERE code='restored'")
        assert "stored every image" in sentence[0]
        assert await r.letters() == []
    assert await state(r, tid) == ("COMPLETE", "")


async def test_what_was_opened_since_is_not_opened_again(pair: tuple[House, House]) -> None:
    """Not with the same release, and not with another of the same transfer, whatever a sender or a relay brings."""
    s, r = pair
    tid = await s.offer_to(r)
    await carry(s, r)
    file = keep(r)
    await approve(s, tid)
    first = await s.send(tid)
    await carry(s, r)
    assert await state(r, tid) == ("OPENED", "")
    other = sign_message(
        msgspec.structs.replace(peek(Release, first["release"]), iat=s.clock.at + 1), s.identity.key
    )
    async with restored(r, file) as r2:
        assert await state(r2, tid) == ("DECLINED", "restored")
        for text in (first["offer"], first["release"], other):
            await r2.hear(text, s)
        assert await state(r2, tid) == ("DECLINED", "restored")
        assert await r2.value("SELECT count(*) FROM receives WHERE k_sealed IS NOT NULL") == 0
        assert await r2.rows("SELECT 1 FROM used") == []
        await carry(r2, s)
    assert await state(s, tid) == ("PARTIAL", "kid-unknown")


async def test_an_offer_from_after_the_backup_is_declined(pair: tuple[House, House]) -> None:
    """It was made for a key that the restored gateway does not have: the next offer is for a new one."""
    s, r = pair
    file = keep(r)
    tid = await s.offer_to(r)
    async with restored(r, file) as r2:
        await carry(s, r2)
        assert await r2.rows("SELECT 1 FROM receives") == []
        assert await state(s, tid) == ("OFFERED", "kid-unknown")
        again = await s.offer_to(r2, await s.a_study(StudyInstanceUID="2.25.98"))
        await approve(s, again)
        await carry(s, r2)
        assert await state(r2, again) == ("OPENED", "")


async def test_what_was_being_delivered_ends_and_no_receipt_is_contradicted(
    pair: tuple[House, House],
) -> None:
    s, r = pair
    tid = await s.offer_to(r)
    record = await seal_to_the_end(s, tid)
    await approve(s, tid)
    await carry(s, r)
    file = keep(r)
    await deliver(r, tid, record)
    await carry(r, s)
    before = (await s.send(tid))["receipt"]
    async with restored(r, file) as r2:
        assert await state(r2, tid) == ("PARTIAL", "restored")
        await carry(r2, s)
        assert await r2.letters() == []
    assert await state(s, tid) == ("COMPLETE", "")
    assert (await s.send(tid))["receipt"] == before
    assert open_message(Receipt, before, r.site).state == "COMPLETE"


# What is refused


def rewritten(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A backup with other members."""
    with tarfile.open(source) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    change(members)
    with tarfile.open(target, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target


def _other_version(members: dict[str, bytes]) -> None:
    label = msgspec.json.decode(members[LABEL], type=Label)
    members[LABEL] = msgspec.json.encode(msgspec.structs.replace(label, v=2))


def _no_mark(members: dict[str, bytes]) -> None:
    label = msgspec.json.decode(members[LABEL], type=Label)
    members[LABEL] = msgspec.json.encode(
        msgspec.structs.replace(label, hashes={**label.hashes, KEY: "0" * 64})
    )


BROKEN: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "no label": (lambda m: m.pop(LABEL) and None, "no whole backup"),
    "no database": (lambda m: m.pop(DATABASE) and None, "no whole backup"),
    "another label": (lambda m: m.update({LABEL: b'{"v":1}'}), "no whole backup"),
    "a changed database": (lambda m: m.update({DATABASE: m[DATABASE][:-1] + b"x"}), "changed or damaged"),
    "another key": (_no_mark, "changed or damaged"),
    "a later version": (_other_version, "later version"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_damaged_backup_makes_no_gateway(
    pair: tuple[House, House], tmp_path: Path, case: str
) -> None:
    change, sentence = BROKEN[case]
    file = rewritten(keep(pair[0]), tmp_path / "broken.tar", change)
    with pytest.raises(ConfigError, match=sentence):
        await restore(file, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


async def test_a_cut_or_foreign_file_makes_no_gateway(pair: tuple[House, House], tmp_path: Path) -> None:
    whole = keep(pair[0]).read_bytes()
    for data in (b"", b"x" * 5000, whole[:100], whole[:2000], whole[: len(whole) // 2]):
        (tmp_path / "cut.tar").write_bytes(data)
        with pytest.raises(ConfigError, match=r"no whole backup|changed or damaged"):
            await restore(tmp_path / "cut.tar", tmp_path / "new")
    with pytest.raises(ConfigError, match="cannot be read"):
        await restore(tmp_path / "none.tar", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


async def test_a_link_in_it_is_followed_nowhere(pair: tuple[House, House], tmp_path: Path) -> None:
    """Members are read by their names; what is no plain file is none, and other names are never looked at."""
    source = keep(pair[0])
    with tarfile.open(source) as old, tarfile.open(tmp_path / "evil.tar", "w") as tar:
        for member in old:
            if member.name == SETTINGS:
                link = tarfile.TarInfo(SETTINGS)
                link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
                tar.addfile(link)
            else:
                tar.addfile(member, old.extractfile(member))
        tar.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(ConfigError, match="no whole backup"):
        await restore(tmp_path / "evil.tar", tmp_path / "new")
    assert not (tmp_path / "outside").exists()


async def test_only_into_an_empty_folder(pair: tuple[House, House], tmp_path: Path) -> None:
    s, _ = pair
    file = keep(s)
    before = {p: p.stat().st_mtime_ns for p in s.folder.iterdir()}
    with pytest.raises(ConfigError, match="not empty"):
        await restore(file, s.folder)
    assert {p: p.stat().st_mtime_ns for p in s.folder.iterdir()} == before
    found_ = await restore(file, tmp_path / "new")
    assert isinstance(found_, Restored)
    assert found_.peers == ["Lakeside Trauma Center"]
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "new").iterdir()} == dict.fromkeys(
        MEMBERS, 0o600
    )


async def test_the_site_key_may_be_kept_apart(pair: tuple[House, House], tmp_path: Path) -> None:
    s, _ = pair
    file = tmp_path / "without.tar"
    backup(s.folder, file, now=1, with_key=False)
    assert found({"site key": s.vault.key}, file) == set()
    with pytest.raises(ConfigError, match="--key"):
        await restore(file, tmp_path / "new")
    (tmp_path / "other.key").write_bytes(os.urandom(32))
    with pytest.raises(ConfigError, match="does not fit"):
        await restore(file, tmp_path / "new", tmp_path / "other.key")
    assert list((tmp_path / "new").iterdir()) == []
    assert (await restore(file, tmp_path / "new", s.folder / KEY)).site == s.site.text
