"""`clients.gateway.hl7.message`: what goes out is read as it was meant, what comes in is bounded and named."""

from __future__ import annotations

import base64

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.gateway.hl7 import message
from clients.gateway.hl7.message import (
    Ends,
    Hl7Error,
    Person,
    acknowledge,
    control_of,
    merge,
    read,
    report_of,
    update,
)

AT = "20261124120000"
ENDS = Ends(sender_site="LAKESIDE", receiver="HIS", receiver_site="LAKESIDE")
PDF = b"%PDF-1.4 nothing"


def oru(*obx: str, charset: str = "UNICODE UTF-8", **fields: str) -> bytes:
    values = {
        "placer": "P1",
        "filler": "A4711",
        "accession": "A4711X",
        "status": "F",
        "name": "DOE^JANE",
        **fields,
    }
    lines = [
        f"MSH|^~\\&|RIS|VALLEY|TRAUMATX|VALLEY|{AT}||ORU^R01^ORU_R01|M1|P|2.5.1||||||{charset}",
        f"PID|||4711^^^VALLEY~99^^^OTHER||{values['name']}||19700101|F",
        f"OBR|1|{values['placer']}|{values['filler']}|CTHEAD^CT head|||{AT}|||||||||||{values['accession']}"
        f"|||||||{values['status']}",
        *obx,
        "ZDS|1.2.3^RIS^Application^DICOM",
    ]
    return "\r".join(lines).encode(message._CHARSETS[charset]) + b"\r"


def test_a_report_as_text() -> None:
    found = report_of(
        oru("OBX|1|TX|||No bleeding.", "OBX|2|FT|||Fracture \\T\\ swelling 5 \\F\\ 6.", status="C")
    )
    assert found.text == "No bleeding.\nFracture & swelling 5 | 6."
    assert found.patient == Person(
        id="4711", issuer="VALLEY", family="DOE", given="JANE", birth_date="19700101", sex="F"
    )
    assert found.accessions == ("A4711X", "A4711", "P1")
    assert (found.study_uid, found.title, found.status, found.control_id) == ("1.2.3", "CT head", "C", "M1")


def test_a_report_as_pdf() -> None:
    found = report_of(oru(f"OBX|1|ED|||RIS^AP^PDF^Base64^{base64.b64encode(PDF).decode()}"))
    assert (found.pdf, found.text) == (PDF, "")


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("UNICODE UTF-8", "山田^太郎"),
        ("8859/1", "Müller^Ann"),
        ("8859/2", "Łoś^Ann"),
        ("GB 18030-2000", "王^小东"),
        ("", "Müller^Ann"),
    ],
)
def test_character_sets(charset: str, name: str) -> None:
    patient = report_of(oru("OBX|1|TX|||x", charset=charset, name=name)).patient
    assert f"{patient.family}^{patient.given}" == name


@pytest.mark.parametrize(
    ("block", "code"),
    [
        (b"", "hl7"), (b"MSH", "hl7"), (b"MSH|^~\\&|", "hl7-kind"), (b"\0" * 100, "hl7"), (b"PID|||1\r", "hl7"),
        (oru("OBX|1|TX|||x").replace(b"ORU", b"ADT"), "hl7-kind"),
        (oru(), "hl7-empty"),
        (oru("OBX|1|TX|||  "), "hl7-empty"),
        (oru("OBX|1|ED|||RIS^AP^PDF^Base64^AAAA"), "hl7-document"),
        (oru("OBX|1|ED|||RIS^AP^PDF^Hex^25504446"), "hl7-document"),
        (oru("OBX|1|ED|||RIS^AP^PDF^Base64^!!"), "hl7-document"),
        (oru("OBX|1|TX|||" + "x" * (2**20 + 1)), "hl7-size"),
        (oru("OBX|1|TX|||x").replace(b"UNICODE UTF-8", b"KLINGON"), "hl7"),
        (oru("OBX|1|TX|||x").replace(b"x", b"\xff"), "hl7"),
        (oru(*["OBX|1|TX|||x"] * 10_001), "hl7"),
    ],
)  # fmt: skip
def test_what_is_no_report(block: bytes, code: str) -> None:
    with pytest.raises(Hl7Error) as caught:
        report_of(block)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("obx", "text"),
    [
        ("OBX|1|TX|||one~two~three", "one\ntwo\nthree"),
        ("OBX|1|FT|||one\\.br\\two\\.sp2\\three\\.in+4\\", "one\ntwo\n\nthree"),
        ("OBX|1|TX|||swelling & fracture ^ of C2", "swelling & fracture ^ of C2"),
        ("OBX|1|TX|||C:\\temp\\x 50\\% and \\H\\this\\N\\", "C:\\temp\\x 50\\% and this"),
        ("OBX|1|FT|||5 \\XC2B5\\m", "5 µm"),
        ("OBX|1|FT|||x\\.sp999999999\\y", "x\\.sp999999999\\y"),
        ("OBX|1|FT|||x\\.sp999\\y", "x" + "\n" * 40 + "y"),
        ("OBX|1|FT|||x\\.spbad\\y\\\\z", "x\\.spbad\\y\\\\z"),
        ("OBX|1|NM|||7.5", "7.5"), ("OBX|1|SN|||<^5", "< 5"), ("OBX|1|CWE|||S02^Fracture^ICD10", "Fracture"),
    ],
)  # fmt: skip
def test_nothing_of_a_text_is_lost(obx: str, text: str) -> None:
    """Repetitions, separators that nobody escaped, sequences that nobody knows; and no gigabyte for one of them."""
    assert report_of(oru(obx)).text == text


@pytest.mark.parametrize("end", [b"\r", b"\r\n", b"\n"])
def test_segments_end_in_three_ways(end: bytes) -> None:
    found = report_of(oru("OBX|1|TX|||one", "OBX|2|TX|||two").replace(b"\r", end))
    assert (found.text, found.accessions[0], found.numbers) == ("one\ntwo", "A4711X", ("4711", "99"))


@pytest.mark.parametrize("mark", ["~", "^", "&", "|", "\\"])
def test_a_block_of_separators_is_no_message(mark: str) -> None:
    """The library makes an object for each part: of 32 MB that is gigabytes."""
    with pytest.raises(Hl7Error) as caught:
        report_of(oru("OBX|1|TX|||" + mark * 300_000))
    assert caught.value.code == "hl7-size"


def test_two_documents_are_one_too_many() -> None:
    document = f"OBX|1|ED|||RIS^AP^PDF^Base64^{base64.b64encode(PDF).decode()}"
    with pytest.raises(Hl7Error) as caught:
        report_of(oru(document, document))
    assert caught.value.code == "hl7-document"


def test_an_error_is_said_in_a_segment_of_its_own() -> None:
    found = read(acknowledge(oru("OBX|1|TX|||x"), "AE", "No | such ^ study", AT, "204"))
    assert [str(s[0]) for s in found] == ["MSH", "MSA", "ERR"]
    assert str(found["ERR"][0][3]) == "204^^HL70357"
    assert str(found["ERR"][0][4]) == "E"
    assert found.unescape(str(found["ERR"][0][8])) == "No | such ^ study"


NASTY = Person(id="VAL|1^2", issuer="L&L", family="O~DOE\\", given="JA\rNE", birth_date="19700101", sex="F")


def test_a_merge() -> None:
    text = merge(Person(id="4711", issuer="LAKESIDE", family="DOE", given="JANE"), NASTY, ENDS, "C1", AT)
    found = hl7.parse(text)
    assert [str(s[0]) for s in found] == ["MSH", "EVN", "PID", "MRG"]
    assert (str(found["MSH"][0][9]), str(found["MSH"][0][12])) == ("ADT^A40^ADT_A39", "2.5.1")
    assert str(found["PID"][0][3]) == "4711^^^LAKESIDE"
    assert found.unescape(str(found["MRG"][0](1)[0][0])) == "VAL|1^2"
    assert text.count("\r") == 4


def test_an_update() -> None:
    found = hl7.parse(update(NASTY, ENDS, "C1", AT))
    assert [str(s[0]) for s in found] == ["MSH", "EVN", "PID", "PV1"]
    assert found.unescape(str(found["PID"][0](5)[0][0])) == "O~DOE\\"
    assert str(found["PID"][0][7]) == "19700101"


def test_acknowledgements() -> None:
    answer = acknowledge(oru("OBX|1|TX|||x"), "AA", "taken", AT)
    assert control_of(answer) == ("AA", "M1")
    header = read(answer)["MSH"][0]
    assert [str(header[i]) for i in (3, 4, 5, 6, 9)] == ["TRAUMATX", "VALLEY", "RIS", "VALLEY", "ACK^R01"]
    assert control_of(acknowledge(b"rubbish", "AR", "no message", AT)) == ("AR", "")


@given(st.binary(max_size=200))
def test_any_bytes_are_named(data: bytes) -> None:
    for block in (data, b"MSH|^~\\&|" + data, b"MSH" + data):
        for reader in (report_of, control_of):
            try:
                reader(block)
            except Hl7Error:
                pass
        assert acknowledge(block, "AE", "no", AT).startswith(b"MSH|^~\\&|")
