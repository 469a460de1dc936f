"""A coerced instance is as valid as it was: dicom3tools' `dciodvfy`, which knows each IOD of PS3.3 and its modules,
finds no error in it that the file did not have before.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clients.gateway.dicom.coercion import Change, Local, coerce
from clients.gateway.dicom.header import InstanceHeader, read_header
from tests.dicom_kit import instance, save, sendable
from tests.peers import need


def change(**local: str) -> Change:
    return Change(local=Local(**local), system="TRAUMATX", source="Valley ED", at="20261124120000+0000")


CHANGES = {
    "prefix": change(patient_id="VALLEYED4X7A-4711"),
    "match": change(
        patient_id="4711", issuer="LAKESIDE", patient_name="DOE^JANE", birth_date="19700101", sex="F"
    ),
}


def errors(path: Path) -> Counter[str]:
    """What the validator calls an error."""
    said = subprocess.run([need("dciodvfy")["dciodvfy"], path], capture_output=True, timeout=60, check=False)
    lines = said.stderr.decode("latin-1").splitlines()
    return Counter(line for line in lines if line.startswith("Error"))


def worse(path: Path, h: InstanceHeader, folder: Path) -> dict[str, Counter[str]]:
    """For each policy, the errors that a file has only since it was coerced."""
    raw, before, found = path.read_bytes(), errors(path), {}
    for policy, what in CHANGES.items():
        new = folder / f"{policy}.dcm"
        new.write_bytes(raw[: h.data_offset] + b"".join(coerce(raw[h.data_offset :], h.syntax, what)))
        if more := errors(new) - before:
            found[policy] = more
    return found


@pytest.mark.peer
def test_no_real_file_has_an_error_more_than_it_had(tmp_path: Path) -> None:
    need("dciodvfy")
    files = [(path, read_header(path)) for path in sendable()]

    def work(number: int) -> dict[str, Counter[str]]:
        folder = tmp_path / str(number)
        folder.mkdir()
        return worse(*files[number], folder)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, range(len(files))))
    assert len(files) > 90
    bad = {path.name: more for (path, _), more in zip(files, found, strict=True) if more}
    assert not bad


@pytest.mark.peer
def test_the_validator_would_say_so(tmp_path: Path) -> None:
    """A coercion that writes what PS3.5 does not allow is found: else the test above would say nothing."""
    path = save(instance(), tmp_path / "a.dcm")
    h = read_header(path)
    bad = change(patient_id="4711", birth_date="1 Jan 1970")
    raw = path.read_bytes()
    new = tmp_path / "b.dcm"
    new.write_bytes(raw[: h.data_offset] + b"".join(coerce(raw[h.data_offset :], h.syntax, bad)))
    assert any("1 Jan 1970" in line for line in errors(new) - errors(path))
