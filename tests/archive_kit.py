"""An archive that can be queried and does as a test says, and a hospital's desk that fetches from one.

`OddArchive` answers C-FIND, C-MOVE and C-GET over the images that it was given; a test may put its own generator in
place of each answer. Orthanc and dcmqrscp are in `tests.faults.real_pacs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from clients.gateway.dicom.query import STUDY_FIND, STUDY_GET, STUDY_MOVE
from clients.gateway.dicom.scp import INCOMING, Received, ScpConfig, StorageScp
from clients.gateway.dicom.scu import Destination
from clients.gateway.dicom.source import How, Landed, Source
from clients.gateway.dicom.tls import TlsFiles
from clients.gateway.pulled import OPEN, PullView
from clients.gateway.sending.pull_view import pull_view
from clients.gateway.sending.pull_words import Reach
from clients.gateway.sending.pulls import Pulls
from clients.gateway.sending.studies import Arrival
from clients.gateway.store.database import Con, one
from tests.dicom_kit import instance
from tests.gateway_kit import House, StillClock, eventually, running

OWN = "TRAUMATX"
Answers = Iterator[Any]
_LEVELS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


def a_study(count: int = 4, **changes: object) -> list[Dataset]:
    """Images of one study, in two series."""
    study, series = generate_uid(), [generate_uid(), generate_uid()]
    given: dict[str, object] = {
        "AccessionNumber": "A7701", "StudyDate": "20261124", "PatientName": "Müller^Jane", "PatientID": "P1",
        "SpecificCharacterSet": "ISO_IR 100", "StudyDescription": "Trauma",
    }  # fmt: skip
    return [
        with_meta(
            instance(
                StudyInstanceUID=study,
                SeriesInstanceUID=series[n % 2],
                InstanceNumber=n,
                **{**given, **changes},
            )
        )
        for n in range(count)
    ]


class OddArchive:
    """Answers by `images`, save where a test put another manner."""

    def __init__(self, images: list[Dataset]) -> None:
        self.images = images
        self.destinations: dict[str, int] = {}
        self.on_find: Callable[[evt.Event], Answers] | None = None
        self.on_move: Callable[[evt.Event], Answers] | None = None
        self.on_get: Callable[[evt.Event], Answers] | None = None
        self.asked: list[str] = []
        """Levels of the C-FINDs, and "move" and "get", in their order."""

    def find(self, event: evt.Event) -> Answers:
        """One C-FIND."""
        self.asked.append(str(event.identifier.QueryRetrieveLevel))
        yield from (self.on_find or self.listed)(event)

    def listed(self, event: evt.Event) -> Answers:
        """What fits, as an archive should."""
        key = _LEVELS[event.identifier.QueryRetrieveLevel]
        seen = set()
        for image in self.images:
            uid = str(image[key].value)
            if uid not in seen and _fits(event.identifier, image):
                seen.add(uid)
                yield 0xFF00, _answer(event.identifier, image, self.images)

    def move(self, event: evt.Event) -> Answers:
        """One C-MOVE."""
        self.asked.append("move")
        yield from (self.on_move or self.moved)(event)

    def moved(self, event: evt.Event) -> Answers:
        """The study to whom it was asked for."""
        port = self.destinations.get(str(event.move_destination).strip())
        if port is None:
            yield None, None
            return
        yield "127.0.0.1", port
        yield from self.chosen(event)

    def get(self, event: evt.Event) -> Answers:
        """One C-GET."""
        self.asked.append("get")
        yield from (self.on_get or self.chosen)(event)

    def chosen(self, event: evt.Event) -> Answers:
        """How many, and each."""
        found = [i for i in self.images if i.StudyInstanceUID == event.identifier.StudyInstanceUID]
        yield len(found)
        for image in found:
            yield 0xFF00, image


def with_meta(image: Dataset) -> Dataset:
    """An image that pynetdicom can send: it looks for the transfer syntax in its file meta."""
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def _fits(asked: Dataset, image: Dataset) -> bool:
    keys = ("StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber", "PatientID", "StudyDate")
    return all(not asked.get(k) or str(asked.get(k)) == str(image.get(k, "")) for k in keys)


def _answer(asked: Dataset, image: Dataset, images: list[Dataset]) -> Dataset:
    """The keys that were asked for."""
    answer = Dataset()
    answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
    for element in asked:
        if element.keyword in image:
            answer[element.tag] = copy.deepcopy(image[element.tag])
    answer.ModalitiesInStudy = "CT"
    answer.NumberOfStudyRelatedInstances = sum(i.StudyInstanceUID == image.StudyInstanceUID for i in images)
    answer.NumberOfSeriesRelatedInstances = sum(
        i.SeriesInstanceUID == image.SeriesInstanceUID for i in images
    )
    return answer


@contextlib.contextmanager
def odd_archive(
    images: list[Dataset],
    models: tuple[str, ...] = (STUDY_FIND, STUDY_MOVE, STUDY_GET),
    tls: ssl.SSLContext | None = None,
) -> Iterator[tuple[OddArchive, int]]:
    """The archive as AE title PACS, and its port."""
    archive = OddArchive(images)
    ae = AE("PACS")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    ae.requested_contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
    for model in models:
        ae.add_supported_context(model)
    ae.add_supported_context(
        CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian], scu_role=True, scp_role=True
    )
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, ssl_context=tls,
        evt_handlers=[(evt.EVT_C_FIND, archive.find), (evt.EVT_C_MOVE, archive.move), (evt.EVT_C_GET, archive.get)],
    )  # fmt: skip
    assert server is not None
    try:
        yield archive, int(server.server_address[1])
    finally:
        server.shutdown()
        ae.shutdown()


class Desk:
    """A hospital that fetches: its stores, its SCP, and the pulls from one archive."""

    def __init__(self, house: House, scp: StorageScp, pulls: Pulls, source: Source, port: int) -> None:
        self.house, self.scp, self.pulls, self.source, self.port = house, scp, pulls, source, port

    def set_manner(self, how: How, silent: float) -> None:
        """How the next pulls are made, and how patient they are."""
        self.pulls._how, self.pulls._silent = how, silent

    async def view(self, ident: str) -> PullView:
        def work(con: Con) -> PullView:
            row = one(con, "SELECT * FROM pulls WHERE id=?", (ident,))
            assert row is not None
            return pull_view(con, row, self.pulls.now, self.pulls.reach)

        return await self.house.db.run(work)

    async def begin(self, uid: object) -> str:
        return await self.pulls.begin(str(uid), "clerk")

    async def ended(self, ident: str) -> PullView:
        """The pull, once it is over."""

        async def look() -> PullView | None:
            view = await self.view(ident)
            return view if view.state not in OPEN else None

        view: PullView = await eventually(look)
        return view

    async def pull(self, uid: object) -> PullView:
        """A study is fetched; how that ended."""
        return await self.ended(await self.begin(uid))


@contextlib.asynccontextmanager
async def receiving(base: Path) -> AsyncIterator[tuple[House, StorageScp, int]]:
    """A hospital with its SCP and nothing else: its port is what an archive has to know."""
    house = await House(base / "s", StillClock()).make("Valley ED")
    scp = StorageScp(ScpConfig(aet=OWN, port=0, min_free_bytes=0), house.folder)
    _, port = await scp.start()
    try:
        yield house, scp, port
    finally:
        await scp.stop()
        await house.close()


@contextlib.asynccontextmanager
async def fetching(
    given: tuple[House, StorageScp, int],
    archive: int,
    *,
    how: How = "move",
    silent: float = 60.0,
    min_free: int = 0,
    begin: bool = True,
    tls: TlsFiles | None = None,
) -> AsyncIterator[Desk]:
    """Its pulls from the archive at this port."""
    house, scp, port = given
    to = Destination(
        aet="PACS", host="127.0.0.1", port=archive, calling_aet=OWN, connect=20.0, association=30.0, response=60.0,
        tls=tls,
    )  # fmt: skip
    landed = Landed(folder=str(house.folder / INCOMING), min_free_bytes=min_free)
    source = Source(to, landed, received=lambda event: pulls.landed(event))
    pulls = Pulls(
        house.db, house.clock, house.studies, house.changed, source=source, how=how,
        reach=Reach(OWN, f"127.0.0.1, port {port}"), receives=True, silent=silent, settle=0.5,
    )  # fmt: skip

    async def take() -> None:
        async with asyncio.TaskGroup() as group:
            async for event in scp.events():
                if isinstance(event, Received):
                    group.create_task(adopt(event))

    async def adopt(event: Received) -> None:
        arrival = Arrival(house.studies.incoming / event.name, event.calling_aet)
        pulls.arrived(event, await house.studies.adopt(arrival))

    loops = [house.studies.run(), take(), pulls.take()]
    async with running(*loops, *([pulls.run()] if begin else [])):
        try:
            yield Desk(house, scp, pulls, source, port)
        finally:
            await source.stop()
