"""HL7 as it comes in at the MLLP port: blocks, reports, acknowledgements. The interface engine is inside, and passes on
what others wrote.
"""

from __future__ import annotations

import asyncio
import base64
from functools import cache

from clients.gateway.errors import GatewayError
from clients.gateway.hl7 import message, mllp
from tests.fuzz.harness import Harness

_MSH = "MSH|^~\\&|RIS|VALLEY|TRAUMATX|LAKESIDE|20261124120000||ORU^R01^ORU_R01|77|P|2.5.1||||||{}\r"
_PID = "PID|||4711^^^VALLEY~99^^^NATION||MÜLLER^ANN||19700101|F\r"
_OBR = "OBR|1||A77|CTH^CT HEAD|||202611241155|||||||||||A77|||||||F\r"


@cache
def _messages() -> list[bytes]:
    """Blocks of MLLP: reports as text and as a PDF, in several character sets; identities; an acknowledgement."""
    text = "OBX|1|FT|||No fracture.\\.br\\Small bleed\\T\\oedema.\r" + "OBX|2|TX|||Second line\r"
    pdf = "OBX|1|ED|PDF||^application^pdf^Base64^" + base64.b64encode(b"%PDF-1.4 " * 20).decode() + "\r"
    said = [
        (_MSH.format(name) + _PID + _OBR + body + "ZDS|2.25.1^X^Application^DICOM\r").encode(charset)
        for name, charset, body in (
            ("8859/1", "latin-1", text),
            ("UNICODE UTF-8", "utf-8", pdf),
            ("", "latin-1", text),
        )
    ]
    person = message.Person(
        id="4711", issuer="VALLEY", family="DOE", given="JANE", birth_date="19700101", sex="F"
    )
    ends = message.Ends(sender_site="VALLEY", receiver="ADT")
    said.append(message.merge(person, message.Person(id="X-1"), ends, "1", "20261124120000").encode())
    said.append(message.update(person, ends, "2", "20261124120000").encode())
    said.append(message.acknowledge(said[0], "AA", "", "20261124120000"))
    return [mllp.START + block + mllp.END for block in said]


def _hl7(data: bytes) -> None:
    """What comes in at the port: blocks, each with an answer that can be read and one line in each of its segments."""
    for block in asyncio.run(_blocks(data)):
        answer = message.acknowledge(block, "AE", "no", "20261124120000")
        assert message.control_of(answer)[0] == "AE"
        assert len(answer) < 8 * len(block) + 2000
        message.control_of(block)
        report = message.report_of(block)
        assert report.text.strip() or report.pdf.startswith(b"%PDF-")
        assert len(report.text) <= message.MAX_TEXT
        assert len(report.pdf) <= message.MAX_PDF


async def _blocks(data: bytes) -> list[bytes]:
    reader = asyncio.StreamReader(limit=mllp.MAX_BLOCK)
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while block := await mllp.read_block(reader):
        found.append(block)
    return found


HARNESSES = [
    Harness(name="hl7", run=_hl7, samples=_messages, family=(GatewayError,), share=0.08, seconds=5.0),
]
