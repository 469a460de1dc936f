"""A person at the staff pages without scripts: follows links, reads forms out of the page, sends them.

`Person` works on a real server (aiohttp's, on a port of its own) through real HTTP with its own cookies, and knows
of a page no more than its HTML says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from clients.gateway.console.app import build
from tests.fake_engine import PASSWORD, FakeEngine, hospital

START = 1_800_000_000


class HandClock:
    """A clock that a test turns."""

    def __init__(self, now: int = START) -> None:
        self.time = now

    def now(self) -> int:
        return self.time


class Form:
    """A form as the page has it: where it goes, and its fields with their values."""

    def __init__(self, action: str) -> None:
        self.action = action
        self.fields: dict[str, str] = {}
        self.boxes: dict[str, str] = {}
        """Those that nobody has ticked: a browser does not send them."""

    @property
    def ticked(self) -> dict[str, str]:
        """Its fields once a person has ticked every box."""
        return {**self.fields, **self.boxes}


class Reader(HTMLParser):
    """Reads forms, links and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.current: dict[str, str] = {}
        """By address: what `aria-current` says of a link."""
        self.words: list[str] = []
        self._select = ""
        self._inline = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._inline = tag == "bdi"
        if tag == "form":
            self.forms.append(Form(values["action"]))
        elif tag == "a":
            self.links.append(values.get("href", ""))
            if "aria-current" in values:
                self.current[self.links[-1]] = values["aria-current"]
        elif tag == "input" and self.forms and "name" in values:
            if values.get("type") == "checkbox" and "checked" not in values:
                self.forms[-1].boxes[values["name"]] = values.get("value", "")
            elif values.get("type") != "radio" or "checked" in values:
                self.forms[-1].fields[values["name"]] = values.get("value", "")
        elif tag == "select":
            self._select = values["name"]
        elif tag == "option" and self._select:
            self.forms[-1].fields.setdefault(self._select, values["value"])

    def handle_endtag(self, tag: str) -> None:
        self._inline = tag == "bdi"
        if tag == "select":
            self._select = ""

    def handle_data(self, data: str) -> None:
        if self._inline and self.words:
            self.words[-1] += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        """All words of the page, with single spaces."""
        return " ".join(" ".join(self.words).split())

    def form(self, action: str) -> Form:
        """The form that goes to `action`."""
        return next(f for f in self.forms if f.action == action)


class Person:
    """One browser without scripts."""

    def __init__(self, client: TestClient[web.Request, web.Application]) -> None:
        self.client = client
        self.page = Reader("")
        self.answer: ClientResponse | None = None

    @property
    def status(self) -> int:
        assert self.answer is not None
        return self.answer.status

    @property
    def path(self) -> str:
        assert self.answer is not None
        return self.answer.url.path_qs

    async def open(self, path: str, **options: Any) -> Reader:
        """Opens an address and follows where it leads."""
        return await self._read(await self.client.get(path, **options))

    async def send(self, action: str, **fields: str) -> Reader:
        """Fills in and sends the form of this page that goes to `action`."""
        form = self.page.form(action)
        return await self.post(action, {**form.fields, **fields})

    async def post(self, path: str, fields: dict[str, str], **options: Any) -> Reader:
        """Posts fields to an address and follows where it leads."""
        return await self._read(await self.client.post(path, data=fields, **options))

    async def sign_in(self, name: str, password: str = PASSWORD) -> Reader:
        """Signs in from the sign-in page."""
        await self.open("/sign-in")
        return await self.send("/sign-in", name=name, password=password)

    async def _read(self, answer: ClientResponse) -> Reader:
        self.answer = answer
        self.page = Reader(await answer.text())
        return self.page


class House:
    """A gateway's pages on a port, and people in front of them."""

    def __init__(self, engine: FakeEngine, clock: HandClock, server: TestServer) -> None:
        self.engine = engine
        self.clock = clock
        self.server = server
        self._clients: list[TestClient[web.Request, web.Application]] = []

    async def person(self, name: str = "") -> Person:
        """Somebody with a browser of their own; signed in if `name` is given."""
        client: TestClient[web.Request, web.Application] = TestClient(self.server)
        await client.start_server()
        self._clients.append(client)
        person = Person(client)
        if name:
            await person.sign_in(name)
        return person

    async def close(self) -> None:
        for client in self._clients:
            await client.session.close()


@asynccontextmanager
async def house(*, secure: bool = False) -> AsyncIterator[House]:
    """The staff pages of `hospital()`, with a clock to turn."""
    clock = HandClock()
    engine = hospital(clock)
    server: TestServer = TestServer(build(engine, secure=secure, clock=clock))
    await server.start_server()
    built = House(engine, clock, server)
    try:
        yield built
    finally:
        await built.close()
        await server.close()
