"""The staff pages in a real browser: a gateway in memory behind the real server, and people in front of it.

A person fails their test if a page threw, broke the content security policy, or called any other host.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from importlib.util import find_spec
from typing import Any

import pytest
from msgspec.structs import replace
from playwright.async_api import Browser, Page, expect

from clients.gateway.console.server import serve
from clients.gateway.views import NoteView, RungView, SeriesProgress, TransferView
from tests.fake_archive import match
from tests.fake_engine import PASSWORD, FakeEngine, blank, hospital
from transfer.links import make_scan

SCREEN = {"width": 1280, "height": 720}
"""What the oldest screen in an emergency department shows."""
EXPECTED = ("Failed to load resource",)
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Desk:
    """One hospital's pages."""

    def __init__(self, engine: FakeEngine, url: str, browser: Browser) -> None:
        self.engine = engine
        self.url = url
        self._browser = browser
        self.faults: list[str] = []
        self.weights: dict[str, int] = {}

    async def person(self, user: str = "", **context: Any) -> Page:
        """A browser of one's own, signed in as `user`."""
        opened = await self._browser.new_context(**{"viewport": SCREEN, "locale": "en-US", **context})
        page = await opened.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda m: self._hear(m.type, m.text))
        page.on("request", lambda r: self._watch(r.url))
        if user:
            await self.sign_in(page, user)
        return page

    async def at(self, view: TransferView, path: str = "", user: str = "desk1", **context: Any) -> Page:
        """Somebody looks at this transfer, or at the page `path` below its own."""
        page = await self.person(user, **context)
        await page.goto(f"{self.url}/transfers/{view.tid}{path}")
        return page

    async def sign_in(self, page: Page, user: str) -> None:
        """By keyboard, as at a desk."""
        await page.goto(self.url + "/sign-in")
        await expect(page.get_by_label("Name")).to_be_focused()
        await page.keyboard.type(user)
        await page.keyboard.press("Tab")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await page.wait_for_url(re.compile(r"/(desk|inbox|audit)$"))

    async def sent(self, **values: Any) -> TransferView:
        """A transfer of the newest study to the trauma center."""
        study = (await self.engine.studies())[0]
        peer = next(p.site for p in self.engine.all_peers.values() if p.reachable)
        view = await self.engine.send(study.id, peer, "transfer", "desk1")
        return self.engine.change(view.tid, **values)

    def incoming(self, **values: Any) -> TransferView:
        """A transfer from another hospital."""
        view = blank(**{"tid": os.urandom(16).hex(), "role": "receive", "peer": "County Hospital", **values})
        self.engine.all_transfers[view.tid] = view
        self.engine.signal.set()
        return view

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(known in text for known in EXPECTED):
            self.faults.append(text)

    def _watch(self, url: str) -> None:
        if not url.startswith(self.url + "/"):
            self.faults.append(f"a request left the gateway: {url}")


@asynccontextmanager
async def desk(browser: Browser) -> AsyncIterator[Desk]:
    """The pages of `hospital()`, and nobody in front of them yet."""
    engine = hospital()
    server = await serve(engine, "127.0.0.1", 0)
    made = Desk(engine, server.url, browser)
    contexts = set(browser.contexts)
    try:
        yield made
    finally:
        for context in set(browser.contexts) - contexts:
            await context.close()
        await server.stop()
    assert not made.faults


async def live(page: Page) -> None:
    """Waits until the page follows the gateway."""
    await expect(page.locator("#live")).to_have_attribute("data-live-state", "on")


async def a_full_day(made: Desk) -> dict[str, str]:
    """Every kind of page with something on it: name -> address."""
    engine, now = made.engine, made.engine.clock.now()
    ended = {
        "ended_at": now - 60, "decided_at": now - 900, "decided_by": "proxy: A. TEST (parent)",
        "released_at": now - 899, "link": "", "pin": "", "total": 575, "bytes": 140_000_000, "moved": 140_000_000,
        "proof": "store", "receipt_code": "7QK4M2PX", "joined_at": now - 950, "check": "0932",
    }  # fmt: skip
    going: dict[str, Any] = {"bytes": 140_000_000, "moved": 60_000_000, "speed": 2.3e6, "instances": 402}
    series = [
        SeriesProgress(label="CT 2 · Head 5 mm", have=63, want=63, closed=True),
        SeriesProgress(label="CT 3 · C-spine 1 mm bone", have=40, want=0, closed=False),
    ]
    opened = {
        "patient_name": "DOE, JANE",
        "birth_date": "1984-03-12",
        "what": "CT, 2026-11-24",
        "series": series,
    }
    alarm = ["The clocks of the two sites differ by 4 minutes. Set the clock of this server."]
    note = NoteView(
        at=now - 890, by="desk1", text="minor; interpreter: עברית; basis: has custody, showed the paper"
    )
    late = {
        "decided_by": "proxy: נועה לוי (guardian)", "decided_name": "נועה לוי", "decided_rel": "guardian",
        "stop_asked": now - 20, "alarms": ["Somebody asked to stop sharing after the end. What is stored stays there."],
    }  # fmt: skip
    rungs = [
        RungView(name=name, at=now + 97 if name == "override" else now - 60, open=name != "override")
        for name in ("patient", "proxy", "voice", "attest", "override")
    ]
    word = {
        "vouched_by": "dr-hale",
        "vouched_why": "unconscious, nobody with them",
        "vouched_at": now,
        "word": "x",
    }
    by_staff = {
        "rung": "override", "decided_by": "emergency override: dr-lee", "decided_why": "helicopter leaves now",
    }  # fmt: skip
    no = {"refused_at": now - 500, "again": "bleeding, cannot decide any more", "check": ""}
    sending: dict[str, dict[str, Any]] = {
        "offered": {**going, "rungs": rungs, **word},
        "joined": {
            **going,
            "check": "4821",
            "joined_at": now - 9,
            "tries_left": 4,
            "stalled": True,
            "alarms": alarm,
        },
        "preparing": {"state": "PREPARING", "link": "", "pin": ""},
        "locked": {**going, "locked": True, "tries_left": 0},
        "again": {**going, **no, "rungs": [RungView(name="override", at=now, open=True)]},
        "by staff": {**ended, **by_staff, "ended_at": 0, "state": "RELEASED"},
        "released": {**going, **ended, "ended_at": 0, "state": "RELEASED", "moved": 100_000_000, "proof": ""},
        "complete": {**ended, "state": "COMPLETE", "stored": 575, **late, "notes": [note]},
        "partial": {**ended, "state": "PARTIAL", "stored": 572, "gaps": 3, "why": "no-receipt"},
        "denied": {
            "state": "DENIED",
            "link": "",
            "pin": "",
            "ended_at": now,
            "decided_at": now,
            "decided_by": "patient",
            "follows": "override",
        },
        "expired": {"state": "EXPIRED", "link": "", "pin": "", "ended_at": now},
    }
    engine.archived = [match(here=0), match("1.2.4", patient_name="ROE, RICK", instances=-1)]
    pulls = {
        "pull-coming": (await engine.pull("1.2.3", "desk1")).id,
        "pull-incomplete": (await engine.pull("1.2.4", "desk1")).id,
    }
    engine.change_pull(pulls["pull-coming"], here=120, completed=120, remaining=568)
    engine.change_pull(
        pulls["pull-incomplete"], state="INCOMPLETE", ended_at=now, wanted=688, here=677, missing=11, failed=11,
        sentence="11 images missing: PACS says 688, here 677. Get the study again.", misses=["1.2.840.113619.2.1"],
        notes=["The PACS also sent 1 image of another study. They are at the desk as what they are."],
    )  # fmt: skip
    receiving: dict[str, dict[str, Any]] = {
        "seen": {"state": "SEEN", **going, "expires_at": now + 6000, "created_at": now},
        "opened": {
            **going,
            **ended,
            **by_staff,
            **opened,
            "ended_at": 0,
            "state": "OPENED",
            "stored": 103,
            "stalled": True,
        },
        "received": {**ended, **opened, "state": "COMPLETE", "stored": 575, **late},
        "received-in-part": {**ended, **opened, "state": "PARTIAL", "stored": 570, "gaps": 5, "why": "pacs"},
    }
    places = {name: f"/transfers/{(await made.sent(**values)).tid}" for name, values in sending.items()}
    places |= {name: f"/transfers/{made.incoming(**values).tid}" for name, values in receiving.items()}
    more = {
        **ended,
        "kind": "add",
        "state": "COMPLETE",
        "contents": "7 images, 1 report",
        "stored": 8,
        "total": 8,
    }
    living = await made.sent(**{**ended, "state": "COMPLETE", "stored": 575, "add_until": now + 7200})
    added = await made.sent(**{**more, "before": living.tid})
    engine.change(living.tid, additions=[added.tid])
    first = made.incoming(**{**ended, **opened, "state": "COMPLETE", "stored": 575})
    new = made.incoming(**{**more, **opened, "before": first.tid, "changed_reports": 1, "series": series[:1]})
    made.incoming(
        **{**more, **opened, "before": first.tid, "state": "OPENED", "ended_at": 0, "contents": "2 images"}
    )
    engine.change(first.tid, additions=[new.tid])
    places |= {
        name: f"/transfers/{view.tid}" for name, view in (("living", living), ("added", added), ("more", new))
    }
    asked = made.incoming(**{**going, **ended, **opened, "ended_at": 0, "state": "OPENED", "why": "identity"})
    engine.ask_who(asked.tid)
    filed = made.incoming(**{**ended, **opened, "state": "COMPLETE", "stored": 575})
    engine.ask_who(
        filed.tid,
        state="filed",
        how="prefix",
        filed_id="COUNTY2K7Q-4711",
        others=2,
        sentence="Filed under our number COUNTY2K7Q-4711.",
    )
    places |= {"asked": f"/transfers/{asked.tid}", "filed": f"/transfers/{filed.tid}"}
    places |= {f"{name} identity": f"{places[name]}/identity" for name in ("asked", "filed")}
    places |= {name: f"/pulls/{ident}" for name, ident in pulls.items()} | {"archive": "/archive"}
    last = (await engine.studies())[-1]
    engine.put_study(
        replace(
            last,
            prepared="Lakeside Trauma Center",
            prepared_by="rule 1",
            missing=11,
            open=False,
            completeness="11 missing: PACS says 586, here 575",
        )
    )
    places["prepared"] = f"/studies/{last.id}"
    places["notice"] = places["by staff"] + "/notice"
    places["divert"] = places["offered"] + "/divert"
    places["stop asked"] = places["partial"] + "/stop-asked"
    places["stop"], places["scan"] = places["offered"] + "/stop", places["offered"] + "/scan?why=scan-damaged"
    for door in ("voice", "scan"):
        view = await engine.door((await made.sent()).tid, door, make_scan(b"q" * 16), "desk1")
        places[f"door {door}"] = f"/transfers/{view.tid}"
    places["study"] = f"/studies/{(await engine.studies())[0].id}"
    places |= {
        p: f"/{p}" for p in ("poster", "desk", "sent", "inbox", "sites", "audit", "status", "nothing-here")
    }
    return places


async def axe(page: Page) -> list[str]:
    """What axe-core finds wrong with the page: "rule: element". Skipped where axe-core is not installed."""
    if find_spec("axe_playwright_python") is None:
        reason = "axe-playwright-python, which brings axe-core, is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    await page.evaluate((resources.files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
    options = json.dumps({"runOnly": {"type": "tag", "values": AXE_TAGS}})
    found = await page.evaluate(f"axe.run(document, {options})")
    assert found["passes"], "axe-core ran"
    return [f"{v['id']}: {n['html'][:120]}" for v in found["violations"] for n in v["nodes"]]
