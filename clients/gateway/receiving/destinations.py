"""The PACS that this site delivers to: the default of `[pacs]`, and those of `[[destinations]]`.

Each has a child process of its own, so that one that hangs holds up no other. The default's is there from the start;
another's begins with the first image that goes to it. Certificates are looked at before the start for all of them: a
wrong file must not be found out about in the middle of a night.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import get_args

import msgspec

from clients.gateway.config import Config, PacsSection, split_address
from clients.gateway.dicom.commitment import Report
from clients.gateway.dicom.scu import Destination, StoreScu
from clients.gateway.dicom.statuses import Kind as Answer
from clients.gateway.dicom.tls import TlsFiles, client_context, tls_files
from clients.gateway.receiving.routing import DEFAULT, Kind, Rule, Sender, early, route


class Pacs(msgspec.Struct, frozen=True):
    """One destination: its name in gateway.toml, its key in the ledger, and the way to it."""

    name: str
    key: str
    """AET@HOST:PORT: a PACS that moved is another one, and holds nothing of what the old one held."""
    scu: StoreScu
    tls: TlsFiles | None = None
    commit_seconds: float = 60.0
    """How long its report on a storage commitment may take; 0: it is not asked."""


class Destinations:
    """All of them, the default first, and the rules that choose among them."""

    def __init__(self, every: Iterable[Pacs], rules: Iterable[Rule] = ()) -> None:
        self._by_name = {pacs.name: pacs for pacs in every}
        self._by_key = {pacs.key: pacs for pacs in self._by_name.values()}
        self._rules = tuple(rules)
        self.default = self._by_name[DEFAULT]

    def __iter__(self) -> Iterator[Pacs]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def at(self, key: str) -> Pacs | None:
        """The destination that the ledger knows by `key`; None for one that gateway.toml does not name any more."""
        return self._by_key.get(key)

    def of_all(self, sender: Sender) -> tuple[Pacs, ...] | None:
        """Where everything of `sender` goes; None where each series is asked about."""
        names = early(self._rules, sender)
        return None if names is None else tuple(self._by_name[name] for name in names)

    def of_series(self, sender: Sender, kind: Kind) -> tuple[Pacs, ...]:
        """Where a series goes."""
        return tuple(self._by_name[name] for name in route(self._rules, sender, kind))

    @property
    def answers(self) -> Counter[str]:
        """What became of instances at all of them, since the start."""
        total = Counter(dict.fromkeys(get_args(Answer), 0))
        for pacs in self:
            total.update(pacs.scu.answers)
        return total

    async def start(self, *, children: bool = True) -> None:
        """Starts the default's child, or only looks at the certificates. Raises `ConfigError`, `DoorClosedError`."""
        for pacs in self:
            if pacs.tls is not None:
                await asyncio.to_thread(client_context, pacs.tls)
        if children:
            await self.default.scu.start()

    async def restart(self) -> None:
        """Starts the children that have been needed and have ended. Raises `DoorClosedError`."""
        for pacs in self:
            if pacs is self.default or pacs.scu.was_started:
                await pacs.scu.start()

    async def stop(self) -> None:
        """Ends every child, all at once: each may be in the middle of an image."""
        await asyncio.gather(*(pacs.scu.stop() for pacs in self))


def destinations_of(
    config: Config, reported: Callable[[Report], None] = lambda report: None
) -> Destinations | None:
    """What gateway.toml names; None for a site that only sends. `reported` gets the reports of storage commitment."""
    if config.pacs is None:
        return None

    def pacs(name: str, given: PacsSection) -> Pacs:
        host, port = split_address(given.address)
        tls = tls_files(given, given.tls_name)
        to = Destination(aet=given.aet, host=host, port=port, calling_aet=config.dicom.aet, tls=tls)
        scu = StoreScu(to, associations=given.associations, reported=reported)
        seconds = float(given.commit_seconds) if given.commit == "auto" else 0.0
        return Pacs(name, f"{given.aet}@{given.address}", scu, tls, seconds)

    more = [pacs(given.name, given) for given in config.destinations]
    return Destinations([pacs(DEFAULT, config.pacs), *more], config.routes)
