"""Lost and slow networks, a hospital that is down, and what must never cross the wire or stay on the phone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Page, Route, expect

from relay.service import Running
from tests.web.conftest import MakeHospital, MakePhone
from tests.web.phone_kit import enter, shows, wrong_pin
from transfer.encoding import b64
from transfer.messages import Grant

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]
KIB = 1024


async def test_the_network_is_lost_and_comes_back(hospital: MakeHospital, phone: MakePhone) -> None:
    """The page goes on by itself: nothing was spent, nobody types the PIN again."""
    h = await hospital()
    page = await phone(h.link)
    await page.context.set_offline(True)
    await enter(page, h.pin)
    await shows(page, "lost")
    await expect(page.get_by_role("status")).to_have_text(
        "No network. This page goes on by itself when it is back."
    )
    await page.context.set_offline(False)
    await shows(page, "ask")
    assert h.proofs == 1


async def test_try_now(hospital: MakeHospital, phone: MakePhone) -> None:
    """A phone that does not notice its network: calls fail, and the button tries at once."""
    h = await hospital()
    page = await phone(h.link)
    await page.route("**/m/**", lambda route: route.abort())
    await enter(page, h.pin)
    await shows(page, "lost")
    await page.unroute("**/m/**")
    await page.get_by_role("button", name="Try now").click()
    await shows(page, "ask")


async def test_an_answer_given_without_network(hospital: MakeHospital, phone: MakePhone) -> None:
    """It waits on the phone and goes when it can, once."""
    h = await hospital()
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    await page.context.set_offline(True)
    await page.get_by_role("button", name="Yes").click()
    await shows(page, "lost")
    await page.context.set_offline(False)
    await shows(page, "released")
    assert h.wishes.qsize() == 1


async def test_the_receipt_without_network(hospital: MakeHospital, phone: MakePhone) -> None:
    """It stays on the screen, says so, and moves on when the network is back."""
    h = await hospital()
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    await page.get_by_role("button", name="Yes").click()
    await shows(page, "released")
    await page.context.set_offline(True)
    await expect(page.get_by_role("main").get_by_text("No network.")).to_be_visible()
    await shows(page, "released")
    await h.tell("COMPLETE")
    await page.context.set_offline(False)
    await shows(page, "complete")


async def test_the_relay_is_ill(hospital: MakeHospital, phone: MakePhone) -> None:
    """500, 429 and 507 are waited out, at the relay's own pace."""
    h = await hospital()
    page = await phone(h.link)
    ills = iter([500, 429, 507])

    async def ill(route: Route) -> None:
        status = next(ills, 0)
        if status:
            await route.fulfill(status=status, headers={"Retry-After": "1"}, body="{}")
        else:
            await route.continue_()

    await page.route("**/m/*/*/1", ill)
    await enter(page, h.pin)
    await shows(page, "ask")


async def test_the_hospital_is_down_when_the_pin_is_typed(hospital: MakeHospital, phone: MakePhone) -> None:
    """ "Waiting for the hospital", and the question as soon as it is up: the same run, no PIN again."""
    h = await hospital()
    h.silent = {2}
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "slow")
    await h.speak()
    await shows(page, "ask")
    assert h.starts == 1


async def no_messages(page: Page, slot: int) -> None:
    """The relay has nothing in this slot, and says so at once (a long poll without its wait)."""

    async def nothing(route: Route) -> None:
        await asyncio.sleep(0.05)
        await route.fulfill(status=204)

    await page.route(f"**/m/*/*/{slot}?*", nothing)


async def test_the_hospital_forgot_the_run(hospital: MakeHospital, phone: MakePhone) -> None:
    """No m2 for twenty seconds: the phone begins a new run by itself (protocol s. 10, S, m1)."""
    h = await hospital()
    page = await phone(h.link)
    await page.clock.install()
    await no_messages(page, 2)
    await enter(page, h.pin)
    await shows(page, "wait")
    while h.starts < 2:
        await page.clock.fast_forward(5_000)
    await page.unroute_all(behavior="wait")
    await shows(page, "ask")
    assert h.proofs == 1


async def test_the_hospital_does_not_answer_at_all(hospital: MakeHospital, phone: MakePhone) -> None:
    """After m3 a new run could cost a try, so only one is begun unasked; then the person says when."""
    h = await hospital()
    page = await phone(h.link)
    await page.clock.install()
    await no_messages(page, 4)
    await enter(page, h.pin)
    while await page.get_attribute("body", "data-page") != "stuck":
        await page.clock.fast_forward(5_000)
    assert h.starts == 2
    await page.unroute_all(behavior="wait")
    await page.get_by_role("button", name="Try again").click()
    await shows(page, "ask")
    assert h.starts == 3


async def test_the_hospital_is_down_after_the_answer(hospital: MakeHospital, phone: MakePhone) -> None:
    """ "Sent. Waiting for the hospital": it is the relay that keeps the answer now."""
    h = await hospital()
    h.silent = {6}
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    await page.get_by_role("button", name="Yes").click()
    await shows(page, "sent")
    await h.speak()
    await shows(page, "released")


async def test_a_refresh_forgets_and_spends_nothing(hospital: MakeHospital, phone: MakePhone) -> None:
    """Then the code is scanned again and the question is the same."""
    h = await hospital()
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    await page.reload()
    await shows(page, "again")
    await page.goto("about:blank")
    await page.goto(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    assert (h.left, h.proofs) == (5, 2)


async def test_a_tab_that_is_lost_after_the_answer(hospital: MakeHospital, phone: MakePhone) -> None:
    """Loaded again while a name is typed: nothing was sent. Loaded again, or left and come back to, while the answer
    waits for S: it is not lost, and a second scan says what was decided.
    """
    h = await hospital()
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    await page.get_by_text("someone else").click()
    await page.get_by_role("button", name="Yes").click()
    await shows(page, "who")
    await page.reload()
    await shows(page, "again")
    assert h.wishes.empty()
    h.silent = {6}
    await page.goto(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    await page.get_by_role("button", name="Yes").click()
    await shows(page, "sent")
    await page.reload()
    await shows(page, "again")
    await page.goto(h.link)
    await enter(page, h.pin)
    await shows(page, "used")
    assert "The answer was yes, " in await page.inner_text("main")
    assert h.wishes.qsize() == 1


async def test_another_code_in_the_same_tab(hospital: MakeHospital, phone: MakePhone) -> None:
    """Only the fragment changes then, and no browser loads the page for that: the page does."""
    first, second = await hospital(), await hospital(to="Hill Hospital")
    page = await phone(first.link)
    await enter(page, first.pin)
    await shows(page, "ask")
    await page.evaluate("link => { location.href = link; }", second.link)
    await shows(page, "pin")
    await enter(page, second.pin)
    await expect(page.get_by_role("heading")).to_have_text("Send these scans to Hill Hospital?")


async def test_the_secret_stays_in_the_page(hospital: MakeHospital, phone: MakePhone) -> None:
    """q and the PIN: in no request, no header, no storage, no history, nowhere in the document."""
    h = await hospital()
    sent: list[str] = []
    page = await phone()
    page.on("request", lambda r: sent.append(f"{r.url} {json.dumps(r.headers)} {r.post_data or ''}"))
    await page.goto(h.link)
    await shows(page, "pin")
    assert page.url == f"{h.url}/s"
    await enter(page, wrong_pin(h.pin))
    await shows(page, "wrong")
    await enter(page, h.pin)
    await shows(page, "ask")
    await page.get_by_role("button", name="Yes").click()
    await h.wishes.get()
    await shows(page, "released")
    q = b64(h.q)
    wire = "\n".join(line for line in sent if "#" not in line.split(" ", 1)[0])
    assert wire.count("/m/") > 8
    for secret in (q, h.q.hex(), h.pin):
        assert secret not in wire
    kept = await page.evaluate(
        """async () => JSON.stringify([
          { ...localStorage }, { ...sessionStorage }, document.cookie, await indexedDB.databases(),
          await caches.keys(), history.state, history.length, location.href, document.documentElement.outerHTML,
          Object.keys(window).map((k) => { try { return String(window[k]); } catch { return ''; } }),
        ])"""
    )
    assert kept.startswith('[{},{},"",[],[],null,')
    for secret in (q, h.q.hex(), h.pin):
        assert secret not in kept


async def test_the_keys_cannot_be_taken_out(hospital: MakeHospital, phone: MakePhone, relay: Running) -> None:
    """vP's and the point's private halves: WebCrypto itself refuses to export them."""
    page = await phone(f"{relay.url}/s")
    refused = await page.evaluate(
        """async () => {
          const { freshKeys } = await import('/a/app.js');
          const { scalar, signer } = await freshKeys();
          const tries = [scalar, signer].flatMap((key) => ['pkcs8', 'jwk'].map((f) => crypto.subtle.exportKey(f, key)));
          return (await Promise.allSettled(tries)).map((t) => t.status);
        }"""
    )
    assert refused == ["rejected"] * 4


@pytest.mark.parametrize(("locale", "requests", "all_of_it"), [("en-US", 3, 23), ("es-MX", 4, 26)])
async def test_weight(
    locale: str, requests: int, all_of_it: int, hospital: MakeHospital, phone: MakePhone
) -> None:
    """Until m1 leaves: three requests (a language other than English is one more) and at most 20 KiB."""
    h = await hospital()
    page = await phone(locale=locale)
    parts = []
    page.on(
        "response", lambda r: parts.append(r) if "/m/" not in r.url and r.url.startswith("http") else None
    )
    before: list[int] = []
    page.on("request", lambda r: before.append(len(parts)) if r.url.endswith("/1") else None)
    await page.goto(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    assert before == [requests]
    sizes = [await part.request.sizes() for part in parts[: before[0]]]
    assert sum(size["responseBodySize"] for size in sizes) <= 20 * KIB
    assert {await part.header_value("content-encoding") for part in parts} == {"gzip"}
    total = [await part.request.sizes() for part in parts]
    assert sum(size["responseBodySize"] for size in total) <= all_of_it * KIB


async def test_the_grant_is_the_page_that_signed_it(hospital: MakeHospital, phone: MakePhone) -> None:
    """Another run has another key: what one phone signed is no grant of another."""
    h = await hospital()
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    await page.get_by_role("button", name="No").click()
    assert isinstance(await h.wishes.get(), Grant)
    assert len({door.vp for door in h.runs.values()}) == len(h.runs)


async def test_a_page_that_the_hospital_serves_itself(hospital: MakeHospital, phone: MakePhone) -> None:
    """On another origin, with one `<meta>` that names the relay: the mailbox answers it by CORS."""
    h = await hospital()
    folder = Path(__file__).parents[2] / "clients" / "phone"
    meta = f'<meta name="tt1-relay" content="{h.url}">'

    async def page_file(request: web.Request) -> web.Response:
        return web.Response(
            text=(folder / "index.html").read_text().replace("<title>", f"{meta}<title>"),
            content_type="text/html",
        )

    app = web.Application()
    app.router.add_get("/phone/s", page_file)
    app.router.add_static("/phone/a", folder)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        own = web.TCPSite(runner, "127.0.0.1", 0)
        await own.start()
        port = runner.addresses[0][1]
        page = await phone(h.link.replace(h.url, f"http://127.0.0.1:{port}/phone"), faulty=True)
        await enter(page, h.pin)
        await shows(page, "ask")
        await page.get_by_role("button", name="Yes").click()
        await shows(page, "released")
    finally:
        await runner.cleanup()
