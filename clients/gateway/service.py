"""`gateway run`: the rooms, the staff pages and the control socket in one process, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

from clients.gateway.config import split_address
from clients.gateway.console import server
from clients.gateway.control_server import ControlServer
from clients.gateway.engine import GatewayEngine
from clients.gateway.log import note
from clients.gateway.observe import server as observe
from clients.gateway.rooms import Rooms


async def run(
    folder: Path, ready: Callable[[dict[str, str]], None], told: Callable[[], None] = lambda: None
) -> None:
    """Until SIGTERM or SIGINT; `ready` is told the addresses once everything listens, `told` is called when the end
    begins. What is in hand is finished or left as a crash would leave it; a DICOM child gets five seconds for an image.
    """
    warnings.filterwarnings("ignore", module="pydicom")  # what it thinks of other people's character sets
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(note)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as ends:
        rooms = Rooms(folder)
        await rooms.open()
        ends.push_async_callback(rooms.close)
        engine = GatewayEngine(rooms)
        control = ControlServer(engine, folder)
        await control.start()
        ends.push_async_callback(control.stop)
        pages = rooms.config.pages
        host, port = split_address(pages.listen)
        desk = await server.serve(engine, host, port, pages.cert, pages.key)
        ends.push_async_callback(desk.stop)
        watched = await observe.serve(rooms)
        ends.push_async_callback(watched.stop)
        assert rooms.scp_address is not None
        ready(
            {
                "pages": desk.url,
                "dicom": f"{rooms.config.dicom.aet}@{rooms.scp_address[0]}:{rooms.scp_address[1]}",
                "relay": rooms.config.relay.url,
                "site": rooms.identity.site.text,
                **({"hl7": "{}:{}".format(*rooms.hl7.address)} if rooms.hl7.address else {}),
                **({"metrics": watched.url} if watched.url else {}),
            }
        )
        await stop.wait()
        told()
