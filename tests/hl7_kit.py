"""HL7 messages as a RIS sends them, and a foreign peer that speaks MLLP: the `hl7` library's own."""

from __future__ import annotations

import asyncio
import base64
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the library says of its own imports
    from hl7.mllp import open_hl7_connection, start_hl7_server

from clients.gateway.sending.typesetting import Heading, typeset
from tests.gateway_kit import PATIENCE

AT = "20261124120000"


def a_pdf(words: str = "Fracture of the left temporal bone.") -> bytes:
    """A real PDF of one page."""
    return typeset(Heading(title="A report"), words)


def oru(
    *obx: str,
    control: str = "M1",
    accession: str = "A4711",
    number: str = "P1",
    born: str = "19700102",
    status: str = "F",
    uid: str = "",
    at: str = AT,
    processing: str = "P",
) -> bytes:
    """An ORU^R01 for the study of `gateway_kit.an_instance`."""
    lines = [
        f"MSH|^~\\&|RIS|VALLEY|TRAUMATX|VALLEY|{at}||ORU^R01^ORU_R01|{control}|{processing}|2.5.1||||||UNICODE UTF-8",
        f"PID|||99^^^OTHER~{number}^^^VALLEY||NOBODY^ATALL||{born}|F",
        f"OBR|1|PL1|{accession}|CTHEAD^CT head|||{at}|||||||||||||||{at}|||{status}|||||||7&LEE&KIM",
        *(obx or ("OBX|1|TX|||No bleeding.",)),
        *((f"ZDS|{uid}^RIS^Application^DICOM",) if uid else ()),
    ]
    return "\r".join(lines).encode() + b"\r"


def as_document(pdf: bytes) -> str:
    """An OBX that holds a PDF."""
    return f"OBX|1|ED|||RIS^AP^PDF^Base64^{base64.b64encode(pdf).decode()}"


async def deliver(host: str, port: int, *blocks: bytes) -> list[tuple[str, str]]:
    """Sends messages by the library's client over one connection; (MSA-1, MSA-2) of each answer."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await open_hl7_connection(host, port)
        answers = []
        for block in blocks:
            writer.writemessage(block.decode())
            await writer.drain()
            answer = await reader.readmessage()
            answers.append((str(answer["MSA"][0][1]), str(answer["MSA"][0][2])))
        writer.close()
        await writer.wait_closed()
    return answers


class Hospital:
    """An interface engine that is told of patients. `answer` makes MSA-1 of a message; "" answers nothing."""

    def __init__(self, answer: Callable[[int], str]) -> None:
        self.heard: list[str] = []
        self.port = 0
        self._answer = answer
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: object, writer: object) -> None:
        self._writers.append(writer)  # type: ignore[arg-type]
        try:
            while True:
                message = await reader.readmessage()  # type: ignore[attr-defined]
                self.heard.append(str(message))
                if not (code := self._answer(len(self.heard))):
                    break
                writer.writemessage(message.create_ack(code))  # type: ignore[attr-defined]
                await writer.drain()  # type: ignore[attr-defined]
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()  # type: ignore[attr-defined]


@asynccontextmanager
async def a_hospital(answer: Callable[[int], str] = lambda n: "AA", port: int = 0) -> AsyncIterator[Hospital]:
    """A foreign MLLP server."""
    made = Hospital(answer)
    server = await start_hl7_server(made.serve, "127.0.0.1", port)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in made._writers:
            writer.close()
        await server.wait_closed()
