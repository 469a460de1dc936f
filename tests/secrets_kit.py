"""What must not be found, in every form in which it might lie in a file; and the secrets of a gateway, read with its
site key.
"""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pydicom

from clients.gateway.store.vault import Vault
from clients.gateway.views import TransferView
from tests.programs import Programs
from transfer.encoding import be32, hkdf

PREAMBLE = bytes(16) + b"DICM"
"""The end of a preamble and its prefix (PS3.10 7.1): the four letters alone turn up in ciphertext by chance."""


def forms(needle: bytes) -> Iterator[bytes]:
    """Raw, as UTF-16, hex, and in the middle of any base64."""
    yield needle
    with contextlib.suppress(UnicodeDecodeError):
        yield needle.decode().encode("utf-16-le")
    yield needle.hex().encode()
    yield needle.hex().upper().encode()
    for lead in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(lead) + needle).rstrip(b"=")
            skip, tail = (0, 2, 3)[lead], 1 if (lead + len(needle)) % 3 else 0
            yield text[skip : len(text) - tail]


def contents(*places: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file at or below these places; one that goes away meanwhile is none."""
    for place in places:
        for file in [place] if place.is_file() else sorted(place.rglob("*")):
            with contextlib.suppress(OSError):
                if file.is_file():
                    yield file, file.read_bytes()


def found(needles: dict[str, bytes], *places: Path) -> set[str]:
    """The names of the needles that are in a file there, in any form."""
    wanted = {name: set(forms(needle)) for name, needle in needles.items()}
    hits = set()
    for _, data in contents(*places):
        hits |= {name for name, shapes in wanted.items() if any(shape in data for shape in shapes)}
    return hits


def found_number(digits: str, *places: Path) -> bool:
    """Whether a number stands by itself in a file there: longer ones contain any six digits by chance."""
    alone = re.compile(rb"(?<![0-9A-Za-z_.-])" + digits.encode() + rb"(?![0-9A-Za-z_-])")
    return any(alone.search(data) for _, data in contents(*places))


class Secrets(msgspec.Struct, frozen=True):
    """One kind of secret of one transfer: as it is, and sealed as it lies in the database."""

    plain: bytes
    sealed: bytes


COLUMNS = {
    "content-key": "SELECT k_sealed FROM spools WHERE cid IN (SELECT cid FROM sends WHERE tid=?1)"
    " UNION ALL SELECT k_sealed FROM receives WHERE tid=?1",
    "q": "SELECT q_sealed FROM sends WHERE tid=?1",
    "pin": "SELECT pin_sealed FROM sends WHERE tid=?1",
    "channel": "SELECT channel_sealed FROM tries WHERE tid=?1",
    "door": "SELECT door_sealed FROM tries WHERE tid=?1",
}
"""By the purpose that each is sealed for."""


def query(folder: Path, sql: str, args: Iterable[object] = ()) -> list[tuple[Any, ...]]:
    """Rows of a gateway's database, from a copy: nobody who works on it is disturbed."""
    with tempfile.TemporaryDirectory() as copy:
        for name in ("gateway.db", "gateway.db-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(folder / name, Path(copy) / name)
        with contextlib.closing(sqlite3.connect(Path(copy) / "gateway.db")) as con:
            return con.execute(sql, tuple(args)).fetchall()


def secrets_of(folder: Path, tid: str) -> dict[str, list[Secrets]]:
    """The secrets of one transfer that this gateway holds now."""
    vault = Vault.load(folder)
    held: dict[str, list[Secrets]] = {}
    for purpose, sql in COLUMNS.items():
        for (sealed,) in query(folder, sql, [bytes.fromhex(tid)]):
            if isinstance(sealed, bytes):
                held.setdefault(purpose, []).append(Secrets(vault.open(purpose, sealed), sealed))
    return held


def erased(secret: Secrets, folder: Path) -> bool:
    """Whether neither it nor its sealed form is in the database, its WAL, or anywhere else in the folder."""
    lies = {"plain": secret.plain, "sealed": secret.sealed}
    if secret.plain.isdigit():
        return not found({"sealed": secret.sealed}, folder) and not found_number(
            secret.plain.decode(), folder
        )
    return not found(lies, folder)


def of_the_study(study: Path) -> dict[str, bytes]:
    """What the images say, by name."""
    needles = {}
    for file in study.iterdir():
        ds = pydicom.dcmread(file, stop_before_pixels=True)
        for keyword in (
            "PatientName", "PatientID", "AccessionNumber", "StudyDescription", "StudyInstanceUID", "PatientBirthDate",
        ):  # fmt: skip
            needles[keyword] = str(ds[keyword].value).encode()
        needles[f"series {ds.SeriesNumber}"] = ds.SeriesInstanceUID.encode()
        needles[f"instance {ds.InstanceNumber}"] = ds.SOPInstanceUID.encode()
    family, _, given = needles["PatientName"].partition(b"^")
    return {**needles, "family name": family, "given name": given}


def of_the_gateways(world: Programs, view: TransferView) -> dict[str, bytes]:
    """Keys of both sites and of this transfer, while it is open; and what follows from them."""
    needles: dict[str, bytes] = {}
    for site in (world.sender, world.receiver):
        vault = Vault.load(site.folder)
        needles[f"{site.name}: site key"] = (site.folder / "site.key").read_bytes()
        ((identity,),) = query(site.folder, "SELECT v FROM own WHERE k='identity'")
        needles[f"{site.name}: identity"] = vault.open("identity", bytes(identity))
        for at, (pair,) in enumerate(query(site.folder, "SELECT pair_sealed FROM prekeys")):
            plain = vault.open("prekey", bytes(pair))
            needles[f"{site.name}: pre-key {at}, ML-KEM"], needles[f"pre-key {at}, X25519"] = (
                plain[:64],
                plain[64:],
            )
        for purpose, held in secrets_of(site.folder, view.tid).items():
            for n, secret in enumerate(held):
                if purpose != "pin":
                    needles[f"{site.name}: {purpose} {n}"] = secret.plain
    key = needles["sender: content-key 0"]
    ((cid,),) = query(world.sender.folder, "SELECT cid FROM sends WHERE tid=?", [bytes.fromhex(view.tid)])
    for kind, n in query(world.sender.folder, "SELECT kind, n FROM packs WHERE cid=?", [cid]):
        needles[f"pack key {n}"] = hkdf(key, bytes(cid), b"tt1/pack" + str(kind).encode() + be32(n))
    needles["gate key"] = hkdf(needles["sender: q 0"], b"", b"tt1/gate")
    return needles
