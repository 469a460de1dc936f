"""The worklist search in its child: against DCMTK's wlmscpfs, one that misbehaves, and nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from clients.gateway.dicom.worklist import MOST, Query, Worklist, WorklistError
from clients.gateway.whose import WorklistView
from tests.certificates import Authority
from tests.dicom_kit import free_port, storescp
from tests.worklist_kit import searcher, step, wlmscpfs, worklist

Answers = Iterator[tuple[int, Dataset | None]]


def numbers(found: WorklistView) -> list[str]:
    return sorted(item.patient_id for item in found.items)


@pytest.mark.peer
async def test_dcmtk_finds_by_number_accession_and_name(tmp_path: Path) -> None:
    steps = [
        step("4711", "DOE^JANE"),
        step("4712", "TEST^ALPHA", IssuerOfPatientID="LAKESIDE"),
        step("4713", "TEST^BRAVO", "", PatientSex=""),
        step("4714", "Yamada^Tarou=山田^太郎=やまだ^たろう", SpecificCharacterSet=["", "ISO 2022 IR 87"]),
    ]
    with wlmscpfs(tmp_path, steps) as port:
        search = searcher(port).search
        found = await search(Query(patient_id="4711"))
        (item,) = found.items
        assert (item.patient_id, item.shown_name, item.birth_date, item.sex) == (
            "4711",
            "DOE, JANE",
            "1984-03-12",
            "F",
        )
        assert (item.accession, item.what, item.scheduled) == ("A4711", "CT, Import", "2026-11-24 14:03")
        assert (found.dropped, found.more) == (0, False)
        assert numbers(await search(Query(accession="A4712"))) == ["4712"]
        by_name = await search(Query(name="TEST"))
        assert numbers(by_name) == ["4712", "4713"]
        assert all(item.fits for item in by_name.items)
        (japanese,) = (await search(Query(patient_id="4714"))).items
        assert japanese.name.startswith("Yamada^Tarou=山田^太郎")
        assert (await search(Query(patient_id="4799"))).items == []


@pytest.mark.peer
async def test_what_is_wrong_is_said_in_words(tmp_path: Path) -> None:
    with wlmscpfs(tmp_path / "wl", [step("4711", "DOE^JANE")]) as port:
        await refused(searcher(port, aet="OTHER"), "worklist-called-aet")
    with storescp(tmp_path / "out") as (port, _):
        await refused(searcher(port, aet="PACS"), "worklist-context")
    await refused(searcher(free_port()), "worklist-down")


async def test_a_worklist_behind_tls_and_one_whose_certificate_is_not_ours(tmp_path: Path) -> None:
    ca, other = Authority(tmp_path), Authority(tmp_path, "other")
    asked = list[str]()

    def answer(query: Dataset) -> Answers:
        asked.append(str(query.PatientID))
        yield 0xFF00, step("4711", "DOE^JANE")
        yield 0x0000, None

    with worklist(answer, ca.issue("ris")) as port:
        await refused(searcher(port, tls=other.issue("stranger")), "worklist-tls")
        assert asked == []
        assert numbers(await searcher(port, tls=ca.issue("gate")).search(Query(patient_id="4711"))) == [
            "4711"
        ]


async def refused(search: Worklist, code: str) -> None:
    with pytest.raises(WorklistError) as caught:
        await search.search(Query(patient_id="4711"))
    assert caught.value.code == code
    assert "4711" not in caught.value.sentence


async def test_answers_for_another_patient_are_dropped_and_counted() -> None:
    def answer(asked: Dataset) -> Answers:
        assert asked.PatientID == "4711"
        for number in ("4712", "4711", "47", "4711^^^X", "", "4711\\4712"):
            yield 0xFF00, step(number, "DOE^JANE")
        yield 0x0000, None

    with worklist(answer) as port:
        found = await searcher(port).search(Query(patient_id="4711"))
    assert numbers(found) == ["4711"]
    assert found.dropped == 5


async def test_another_name_than_asked_for_is_shown_as_that() -> None:
    def answer(asked: Dataset) -> Answers:
        assert asked.PatientName == "MEIER*"
        yield 0xFF00, step("1", "MEIER^ANNA")
        yield 0xFF00, step("2", "MAYR^ANNA")
        yield 0x0000, None

    with worklist(answer) as port:
        found = await searcher(port).search(Query(name="MEIER"))
    assert [(item.patient_id, item.fits) for item in found.items] == [("1", True), ("2", False)]


async def test_endless_answers_end() -> None:
    def answer(asked: Dataset) -> Answers:
        for i in range(100_000):
            yield 0xFF00, step(str(i), "TEST^ALPHA")

    with worklist(answer) as port:
        found = await searcher(port).search(Query(name="TEST"))
    assert len(found.items) == MOST
    assert found.more


async def test_no_answer_and_a_failure_are_named() -> None:
    silent = threading.Event()

    def never(asked: Dataset) -> Answers:
        silent.wait(60)
        yield 0x0000, None

    with worklist(never) as port:
        try:
            await refused(searcher(port, response=1.0), "worklist-late")
        finally:
            silent.set()

    def failing(asked: Dataset) -> Answers:
        yield 0xC001, None

    with worklist(failing) as port:
        await refused(searcher(port), "worklist-status")


async def test_nothing_to_ask_and_nobody_to_ask() -> None:
    await refused(Worklist(None), "worklist-none")
    with pytest.raises(WorklistError) as caught:
        await searcher(free_port()).search(Query(name=" D "))
    assert caught.value.code == "worklist-words"
