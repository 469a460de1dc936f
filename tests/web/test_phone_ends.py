"""Pages for what goes wrong: each has a name, a page of its own and a next step, and nothing is spent or sent."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from playwright.async_api import Route, expect

from relay.service import Running
from tests.web.conftest import MakeHospital, MakePhone
from tests.web.phone_kit import enter, shows, wrong_pin
from transfer.ids import Digest, Tid

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


def flip(text: str) -> str:
    """Another canonical base64url text of the same length."""
    return ("B" if text[0] == "A" else "A") + text[1:]


async def test_wrong_pin_then_locked(hospital: MakeHospital, phone: MakePhone) -> None:
    """The tries left are told as hearsay, down to the page that only staff can end."""
    h = await hospital()
    h.left = 3
    page = await phone(h.link)
    await enter(page, wrong_pin(h.pin))
    await shows(page, "wrong")
    await expect(
        page.get_by_text("We were told that it is not right. You have 2 tries left.")
    ).to_be_visible()
    await expect(page.locator("#code")).to_be_focused()
    await enter(page, wrong_pin(h.pin))
    await expect(page.get_by_text("You have 1 try left.")).to_be_visible()
    await enter(page, wrong_pin(h.pin))
    await shows(page, "locked")
    assert "Ask the staff for a new code" in await page.inner_text("main")
    assert h.proofs == 3


async def test_the_right_pin_after_a_wrong_one(hospital: MakeHospital, phone: MakePhone) -> None:
    """No new scan is needed."""
    h = await hospital()
    page = await phone(h.link)
    await enter(page, wrong_pin(h.pin))
    await shows(page, "wrong")
    await enter(page, h.pin)
    await shows(page, "ask")


async def test_a_short_pin_costs_nothing(hospital: MakeHospital, phone: MakePhone) -> None:
    """It never leaves the phone; letters and spaces of a paste fall away, other scripts' digits count."""
    h = await hospital()
    page = await phone(h.link)
    await enter(page, "12345")
    await expect(page.get_by_text("The PIN has 6 numbers.")).to_be_visible()
    await expect(page.locator("#code")).to_be_focused()
    arabic = "".join(chr(0x660 + int(d)) for d in h.pin[:3])
    await page.locator("#code").fill(f"PIN: {arabic}-{h.pin[3:]} ")
    await expect(page.get_by_text("The PIN has 6 numbers.")).to_be_hidden()
    await page.keyboard.press("Enter")
    await shows(page, "ask")
    assert h.starts == 1


@pytest.mark.parametrize(
    ("state", "name", "words"),
    [
        ("EXPIRED", "expired", "The time is over"),
        ("REVOKED", "ended", "We were told: The hospital stopped it."),
        ("DENIED", "ended", "We were told: Nothing was sent."),
        ("REOPENED", "ended", "We were told: There is a newer code."),
        ("RELEASED", "ended", "We were told: The scans are on their way."),
        ("SOMETHING", "ended", "We were told: It has ended."),
    ],
)
async def test_a_late_scan(
    state: str, name: str, words: str, hospital: MakeHospital, phone: MakePhone
) -> None:
    """A tombstone at the mailbox: no PIN is asked for."""
    h = await hospital()
    await h.end(state)
    page = await phone(h.link)
    await shows(page, name)
    assert words in await page.inner_text("main")
    assert "staff" in await page.inner_text("main")


async def test_the_end_while_the_question_stands(hospital: MakeHospital, phone: MakePhone) -> None:
    """The staff stopped it: the answer meets a closed mailbox and the page says what happened."""
    h = await hospital()
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    await h.end("REVOKED")
    await page.get_by_role("button", name="Yes").click()
    await shows(page, "ended")
    assert "The hospital stopped it." in await page.inner_text("main")


@pytest.mark.parametrize(("why", "name"), [("expired", "expired"), ("kid-unknown", "refused")])
async def test_an_answer_that_s_refuses(
    why: str, name: str, hospital: MakeHospital, phone: MakePhone
) -> None:
    """S has the last word."""
    h = await hospital()
    h.refuse = why
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    await page.get_by_role("button", name="Yes").click()
    await shows(page, name)
    assert "Ask the staff for a new code" in await page.inner_text("main")


async def test_the_time_runs_out_on_the_screen(hospital: MakeHospital, phone: MakePhone) -> None:
    """By S's `now` and the time that passed here; the phone's own clock may say anything."""
    h = await hospital()
    page = await phone(h.link, before="Date.now = () => 0;")
    await page.clock.install()
    await enter(page, h.pin)
    await shows(page, "ask")
    await page.clock.fast_forward("02:00:00")
    await shows(page, "expired")


async def test_an_offer_that_is_over(hospital: MakeHospital, phone: MakePhone) -> None:
    """m4 itself says so where S has not yet closed it."""
    h = await hospital()
    h.exp = h.now = h.now - 10
    page = await phone(h.link)
    h.offer = h.sign(iat=h.now - 100, exp=h.now)
    await enter(page, h.pin)
    await shows(page, "expired")


@pytest.mark.parametrize(
    ("tail", "name"),
    [
        ("s", "again"), ("s#", "again"), ("s#1.abc", "foreign"), ("s#2.AAAAAAAAAAAAAAAAAAAAAA", "foreign"),
        ("s#1.AAAAAAAAAAAAAAAAAAAAAB", "foreign"), ("s#1.AAAAAAAAAAAAAAAAAAAAAA.", "foreign"),
        ("s#%00<script>", "foreign"),
    ],
)  # fmt: skip
async def test_links_that_are_none(tail: str, name: str, phone: MakePhone, relay: Running) -> None:
    """Garbled, of another version, not canonical, of a door that comes later."""
    page = await phone(f"{relay.url}/{tail}")
    await shows(page, name)
    assert "#" not in page.url


async def test_a_code_that_nobody_knows(phone: MakePhone, relay: Running) -> None:
    """A well-formed link without a mailbox."""
    page = await phone(f"{relay.url}/s#1.{secrets.token_urlsafe(16)[:21]}A")
    await shows(page, "unknown")


async def test_a_code_that_the_relay_does_not_know_yet(hospital: MakeHospital, phone: MakePhone) -> None:
    """Whoever scans at once is not told that the code is too old."""
    h = await hospital()
    page = await phone()
    looks = 0

    async def early(route: Route) -> None:
        nonlocal looks
        looks += 1
        await (route.fulfill(status=404, json={}) if looks < 3 else route.continue_())

    await page.route("**/m/*/0", early)
    await page.goto(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    assert looks == 3


async def test_another_version_of_m0(hospital: MakeHospital, phone: MakePhone, relay: Running) -> None:
    """ "Not available, ask the staff" (protocol s. 3, m0)."""
    h = await hospital()
    page = await phone()
    await page.route("**/m/*/0", lambda route: route.fulfill(json={"v": 2, "tid": "?", "s": "?", "exp": 1}))
    await page.goto(h.link)
    await shows(page, "later")


Body = dict[str, Any]
CHANGED: dict[str, tuple[int, Any]] = {
    "another Tb": (4, lambda b: b | {"Tb": flip(b["Tb"])}),
    "another box": (4, lambda b: b | {"box": flip(b["box"])}),
    "a short box": (4, lambda b: b | {"box": "AAAA"}),
    "one field more": (4, lambda b: b | {"more": 1}),
    "one field less": (4, lambda b: {k: v for k, v in b.items() if k != "box"}),
    "another version": (4, lambda b: b | {"v": 2}),
    "a refusal of another kind": (4, lambda b: {"v": 1, "error": "no", "left": 3}),
    "tries beyond measure": (4, lambda b: {"v": 1, "error": "wrong", "left": 1000}),
    "not base64url": (4, lambda b: b | {"Tb": "!" + b["Tb"][1:]}),
    "S's point is zero": (2, lambda b: b | {"Yb": "A" * 43}),
    "S's point is of low order": (2, lambda b: b | {"Yb": "AQ" + "A" * 41}),
    "no point at all": (2, lambda b: {"v": 1}),
}


@pytest.mark.parametrize("how", CHANGED)
async def test_a_changed_body(how: str, hospital: MakeHospital, phone: MakePhone) -> None:
    """A relay that changes what it carries gets "this page cannot be trusted", and no answer of the person."""
    h = await hospital()
    slot, change = CHANGED[how]
    h.change[slot] = change
    page = await phone(h.link)
    posts: list[str] = []
    page.on("request", lambda r: posts.append(r.url[-2:]) if r.method == "POST" else None)
    await enter(page, h.pin)
    await shows(page, "untrusted")
    await expect(page.get_by_text("Nothing was sent.")).to_be_visible()
    assert "/5" not in posts
    assert h.starts <= 2


async def test_another_offer_than_m2_named(hospital: MakeHospital, phone: MakePhone) -> None:
    """hO is in S's confirmation: a changed one makes another key, so the PIN looks wrong at S. A try, no more."""
    h = await hospital()
    h.change[2] = lambda b: b | {"hO": flip(b["hO"])}
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "wrong")


FALSE: dict[str, dict[str, Any]] = {
    "the hash of other words": {"sum": Digest(bytes(32))},
    "another transfer": {"tid": Tid(bytes(16))},
    "more destinations than shown": {"alt": "one"},
    "more time than shown": {"add": 3600},
    "another reason than shown": {"why": "consult"},
    "a wording that this page has not": {"ct": "2031-7"},
}


@pytest.mark.parametrize("how", FALSE)
async def test_words_that_do_not_fit_the_offer(how: str, hospital: MakeHospital, phone: MakePhone) -> None:
    """Whoever signed it: what the person reads must be what they would allow."""
    h = await hospital()
    changes = FALSE[how] | ({"alt": [h.identity.site]} if "alt" in FALSE[how] else {})
    h.offer = h.sign(**changes)
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "untrusted")


async def test_a_state_that_cannot_be_opened(hospital: MakeHospital, phone: MakePhone) -> None:
    """After the answer the page no longer says that nothing was sent."""
    h = await hospital()
    h.change[6] = lambda b: b | {"box": flip(b["box"])}
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "ask")
    await page.get_by_role("button", name="Yes").click()
    await shows(page, "untrusted")
    await expect(page.get_by_text("Nothing was sent.")).to_be_hidden()


OLD = {
    "no WebCrypto": "Object.defineProperty(Crypto.prototype, 'subtle', { get: () => undefined });",
    "no deriveBits": "delete SubtleCrypto.prototype.deriveBits;",
    "no X25519": """
        const make = SubtleCrypto.prototype.generateKey;
        SubtleCrypto.prototype.generateKey = function (how, ...rest) {
          const none = how === 'X25519' || how.name === 'X25519';
          return none ? Promise.reject(new DOMException('', 'NotSupportedError')) : make.call(this, how, ...rest);
        };""",
    "no Ed25519": """
        const sign = SubtleCrypto.prototype.sign;
        SubtleCrypto.prototype.sign = function (how, ...rest) {
          const none = how === 'Ed25519' || how.name === 'Ed25519';
          return none ? Promise.reject(new DOMException('', 'NotSupportedError')) : sign.call(this, how, ...rest);
        };""",
}


@pytest.mark.parametrize("what", OLD)
async def test_an_old_browser(what: str, hospital: MakeHospital, phone: MakePhone) -> None:
    """It is tried before the PIN is asked for."""
    h = await hospital()
    page = await phone(h.link, before=OLD[what])
    await shows(page, "old")
    assert "ask the staff" in await page.inner_text("main")
    assert "#" not in page.url


async def test_an_address_without_tls(phone: MakePhone, relay: Running) -> None:
    """Browsers give no WebCrypto there; the page says why."""
    page = await phone(relay.url.replace("127.0.0.1", "relay.test") + "/s", faulty=True)
    await shows(page, "unsafe")


async def test_no_javascript(hospital: MakeHospital, phone: MakePhone) -> None:
    """Plain HTML, in both languages."""
    h = await hospital()
    page = await phone(h.link, java_script_enabled=False)
    text = await page.inner_text("main")
    assert "This page needs JavaScript" in text
    assert "Esta página necesita JavaScript" in text
    assert "show this page to the staff" in text
    assert "One moment" not in text


async def test_the_script_does_not_come(hospital: MakeHospital, phone: MakePhone) -> None:
    """After a while the plain page says what to do; the link is still in the address bar for the next attempt."""
    h = await hospital()
    page = await phone()
    await page.route("**/a/app.js", lambda route: route.abort())
    await page.goto(h.link)
    hint = page.get_by_text("Load this page again.")
    assert not await hint.is_visible()
    await page.evaluate("document.getAnimations().forEach((a) => a.finish())")
    await expect(hint).to_be_visible()
    await page.unroute("**/a/app.js")
    await page.reload()
    await shows(page, "pin")
