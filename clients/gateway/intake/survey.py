"""What a folder holds, by its headers alone: enough to offer a study before its pixels are read (ADR 0016).

A survey is made only where nothing is left to decide: a folder of ordinary DICOM files of one study and one
patient, each instance once, and beside them nothing but what lies on any disc (a viewer, a DICOMDIR). Each header
is judged as it will be when its file is adopted, by `clients.gateway.dicom.header`. Everything else gets no
survey and is taken in whole before anybody is asked: there the words of a refusal depend on every byte. That
includes a ZIP, whose entries say only at their end whether they are damaged.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec.structs import replace

from clients.gateway.dicom.header import InstanceHeader, parse_header
from clients.gateway.errors import IntakeError
from clients.gateway.intake.found import Found, Limits
from clients.gateway.intake.paths import walk
from clients.gateway.views import HARMLESS

_STUDY = ("issuer", "sex", "accession", "study_date", "study_time", "study_description")
"""What one image may say of its study and another not. Who the patient is must be the same in all of them."""


class Planned(msgspec.Struct, frozen=True):
    """One image that is to come."""

    name: str
    """Below the folder; opens it again."""
    size: int
    """Bytes of the file."""
    sop_uid: str
    series: str
    number: int
    index: int


class Survey(msgspec.Struct, frozen=True):
    """One study in one folder."""

    study: InstanceHeader
    """What its images say of the study, together."""
    series: list[InstanceHeader]
    """The first image of each series, scouts first, then as the walk met them."""
    files: list[Planned]
    """Every image, in the order of its series and of its number there: first of all what a reader wants to see."""
    skipped: list[tuple[str, str]]
    """Label and code of what lies beside them."""

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


def survey(path: Path, limits: Limits = Limits()) -> Survey | None:  # noqa: B008 (frozen)
    """The one study in the folder `path`; None where only taking all in tells what is to be done with it.

    Raises `IntakeError` where there is nothing to walk.
    """
    if not os.path.isdir(path):  # False too where nobody may look
        return None
    found = _Found()
    for item in walk(path, limits):
        if not isinstance(item, Found):
            if item.code not in HARMLESS:
                return None
            found.skipped.append((item.label, item.code))
        elif (header := _header(item)) is None or not found.fits(item, header):
            return None
    return found.survey() if len(found.files) > 1 else None


class _Found:
    """What the walk has met so far."""

    def __init__(self) -> None:
        self.study: InstanceHeader | None = None
        self.series: dict[str, InstanceHeader] = {}
        self.files: list[Planned] = []
        self.skipped: list[tuple[str, str]] = []
        self._uids: set[str] = set()

    def fits(self, item: Found, h: InstanceHeader) -> bool:
        """Adds an image; False where it is of another study or patient, or there already."""
        study = self.study
        if study is None:
            study = h
        elif (study.study_uid, _patient(study)) != (h.study_uid, _patient(h)) or h.sop_uid in self._uids:
            return False
        missing = {name: getattr(h, name) for name in _STUDY if not getattr(study, name) and getattr(h, name)}
        self.study = replace(study, **missing) if missing else study
        first = self.series.setdefault(h.series_uid, h)
        if h.scout and not first.scout:
            self.series[h.series_uid] = replace(first, scout=True)
        self._uids.add(h.sop_uid)
        self.files.append(
            Planned(item.name, item.size, h.sop_uid, h.series_uid, h.instance_number, item.index)
        )
        return True

    def survey(self) -> Survey:
        assert self.study is not None
        series = sorted(self.series.values(), key=lambda h: not h.scout)  # stable: else as they were met
        place = {h.series_uid: i for i, h in enumerate(series)}
        files = sorted(self.files, key=lambda f: (place[f.series], f.number, f.index))
        return Survey(self.study, series, files, self.skipped)


def _patient(h: InstanceHeader) -> tuple[str, str, str]:
    return h.patient_id, h.birth_date, h.patient_name


def _header(item: Found) -> InstanceHeader | None:
    """The header of an ordinary DICOM file (PS3.10 7.1), read where it lies."""
    if item.head[128:132] != b"DICM":
        return None
    fd = item.stream.fileno()
    try:
        return parse_header(lambda at, n: os.pread(fd, n, at), item.size)
    except (IntakeError, OSError):
        return None
