"""How every page looks, in both languages: accessible (axe-core), large, high in contrast, and never sideways.

The pages are shown by the page's own `show`, with longer values than most hospitals have. The gates are those
of the design: docs/spec/phone.md, "Gates".
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
from typing import Any

import pytest
from playwright.async_api import Page

from relay.service import Running
from tests.web.conftest import MakeHospital, MakePhone
from tests.web.phone_kit import enter, shows

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]
LOCALES = ["en-US", "es-MX"]
PARTS = {"pin-form", "voice-form", "receipt", "offline", "anew", "words"}
"""Templates that are no pages of their own."""
VALUES: dict[str, str] = {
    "to": "Saint Elizabeth Regional Trauma and Burn Center of the Lake Counties",
    "from": "Upper Valley Community Hospital and Health Clinic",
    "call": "Emergency department, charge nurse, +1 555 010 0199", "tel": "+15550100199",
    "what": "CT, X-ray of head, neck, chest, belly, pelvis, 2026-11-24", "person": "J. D., born 1980",
    "why": "Care at the new hospital", "time": "1 hour 57 minutes", "check": "0417", "code": "7K3Q-1XYZ",
    "alt": "Hill Hospital or Bay Hospital", "add": "24 hours", "ends": "Nov 25, 2026, 11:58 PM", "extra": "yes",
    "at": "Nov 24, 2026, 11:58 PM", "left": "4", "many": "yes", "last": "yes", "short": "yes", "noname": "yes",
    "norel": "yes", "long": "yes", "going": "yes", "told": "yes", "unheard": "yes",
    "done": "yes", "declined": "10:02", "declined.proxy": "yes",
    "yes": "yes", "no": "yes", "how": "All scans have arrived.",
    "stop": "yes", "asked": "yes", "late": "yes", "offline": "yes", "before": "yes",
    "host": "relay.lakecounties.example/p",
    "noNumber": "yes", "unknown": "yes", "typo": "yes", "anew": "yes",
}  # fmt: skip
SHOW = """async ([name, values]) => {
  const { show } = await import('/a/app.js');
  show(name, values);
}"""
NAMES = "() => Array.from(document.querySelectorAll('template'), (t) => t.id)"
SIDEWAYS = """() => {
  const wide = document.documentElement.clientWidth;
  const over = [...document.querySelectorAll('body *')].filter((el) => {
    if (el.closest('.unseen, svg, option') || !el.getClientRects().length) return false;
    const box = el.getBoundingClientRect();
    return box.left < -0.5 || box.right > wide + 0.5 || el.scrollWidth > el.clientWidth + 1 && el.clientWidth > 0;
  });
  return [document.documentElement.scrollWidth > wide, ...over.map((el) => el.outerHTML.slice(0, 80))];
}"""
SMALL = """() => {
  const out = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = texts.nextNode()); ) {
    const el = node.parentElement;
    if (!node.data.trim() || el.closest('template, noscript, .unseen') || !el.getClientRects().length) continue;
    if (parseFloat(getComputedStyle(el).fontSize) < 18) out.push('text: ' + node.data);
  }
  const targets = [...document.querySelectorAll('button, input:not([type=radio]), select, fieldset label, summary, a')]
    .filter((el) => el.getClientRects().length);
  for (const el of targets) {
    const box = el.getBoundingClientRect();
    const least = el.matches('.primary, main button') ? 56 : 48;
    if (box.height < least - 0.5 || box.width < 48) out.push(`target ${box.width} x ${box.height}: ${el.textContent}`);
    for (const other of targets) {
      const b = other.getBoundingClientRect();
      const across = Math.max(b.left - box.right, box.left - b.right);
      const down = Math.max(b.top - box.bottom, box.top - b.bottom);
      if (other !== el && !el.contains(other) && !other.contains(el) && Math.max(across, down) < 7.5) {
        out.push(`gap ${Math.max(across, down)}: ${el.textContent} | ${other.textContent}`);
      }
    }
  }
  return out;
}"""


async def pages(page: Page) -> list[str]:
    """All pages by name."""
    return [name for name in await page.evaluate(NAMES) if name not in PARTS]


async def opened(phone: MakePhone, relay: Running, **context: Any) -> Page:
    """A page on which any other can be shown."""
    page = await phone(f"{relay.url}/s", **context)
    await shows(page, "again")
    return page


def axe_source() -> str:
    """axe-core, as a package of PyPI ships it."""
    if importlib.util.find_spec("axe_playwright_python") is None:
        reason = "axe-playwright-python is not installed (dev extra)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text()


AXE = """async () => {
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22a', 'wcag22aa', 'best-practice'];
  const found = await axe.run(document, {
    runOnly: { type: 'tag', values: tags },
    rules: { 'color-contrast-enhanced': { enabled: true }, 'target-size': { enabled: true } },
  });
  return found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 90)).join(' | ')}`);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", LOCALES)
async def test_axe_finds_nothing(locale: str, scheme: str, phone: MakePhone, relay: Running) -> None:
    """Every page, language and colour scheme; WCAG 2.2 AA, best practice, and contrast of 7:1."""
    source = axe_source()
    page = await opened(phone, relay, locale=locale, color_scheme=scheme)
    await page.evaluate(source)
    found = {}
    for name in await pages(page):
        await page.evaluate(SHOW, [name, VALUES])
        found[name] = await page.evaluate(AXE)
    assert len(found) > 25
    assert {name: v for name, v in found.items() if v} == {}


async def test_axe_without_javascript(phone: MakePhone, relay: Running) -> None:
    """The page in plain HTML, which axe reads from a page that has scripts."""
    source = axe_source()
    plain = await phone(f"{relay.url}/s", java_script_enabled=False)
    html = await plain.inner_html("noscript")
    page = await opened(phone, relay)
    await page.evaluate("(html) => document.querySelector('main').setHTMLUnsafe(html)", html)
    await page.evaluate(source)
    assert await page.evaluate(AXE) == []


WAYS: dict[str, tuple[dict[str, Any], str]] = {
    "320 px": ({"viewport": {"width": 320, "height": 640}}, ""),
    "400 % zoom of 1280 x 1024": ({"viewport": {"width": 320, "height": 256}}, ""),
    "words longer by half": (
        {"viewport": {"width": 320, "height": 640}},
        """const { words } = await import('/a/app.js');
           for (const key in words) if (key !== 'dir' && key !== 'terms')
             words[key] += ' ' + 'schließlich '.repeat(Math.ceil(words[key].length / 24)).trim();""",
    ),
    "right to left": (
        {"viewport": {"width": 320, "height": 640}},
        "(await import('/a/app.js')).words.dir = 'rtl';",
    ),
    "text spacing (WCAG 1.4.12)": (
        {"viewport": {"width": 320, "height": 640}},
        """const sheet = new CSSStyleSheet();
           sheet.replaceSync(`* { line-height: 1.5 !important; letter-spacing: 0.12em !important;
             word-spacing: 0.16em !important; } p { margin-bottom: 2em !important; }`);
           document.adoptedStyleSheets.push(sheet);""",
    ),
}


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("way", WAYS)
async def test_nothing_goes_sideways(way: str, locale: str, phone: MakePhone, relay: Running) -> None:
    """Whatever the width, zoom, spacing, length or direction: no sideways scroll, nothing cut."""
    context, prepare = WAYS[way]
    page = await opened(phone, relay, locale=locale, **context)
    await page.evaluate(f"async () => {{ {prepare} }}")
    found = {}
    for name in await pages(page):
        await page.evaluate(SHOW, [name, VALUES])
        found[name] = [x for x in await page.evaluate(SIDEWAYS) if x]
    assert {name: v for name, v in found.items() if v} == {}


@pytest.mark.parametrize("locale", LOCALES)
async def test_large_enough(locale: str, phone: MakePhone, relay: Running) -> None:
    """Text of 18 px, targets of 48 (buttons 56), 8 between them."""
    page = await opened(phone, relay, locale=locale)
    found = {}
    for name in await pages(page):
        await page.evaluate(SHOW, [name, VALUES])
        found[name] = await page.evaluate(SMALL)
    assert {name: v for name, v in found.items() if v} == {}


@pytest.mark.parametrize("locale", LOCALES)
async def test_both_answers_are_on_the_screen(locale: str, hospital: MakeHospital, phone: MakePhone) -> None:
    """At 360 x 640 without a scroll: who you are, yes and no; and the question above them."""
    h = await hospital(to=VALUES["to"], from_=VALUES["from"], what=VALUES["what"])
    page = await phone(h.link, locale=locale)
    await enter(page, h.pin)
    await shows(page, "ask")
    seen = await page.evaluate(
        """() => [...document.querySelectorAll('h1, main button, fieldset label')].filter((el) => {
          const box = el.getBoundingClientRect();
          const top = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
          return box.top >= 0 && box.bottom <= innerHeight && el.contains(top);
        }).length"""
    )
    assert seen == 5
    assert await page.evaluate("scrollY") == 0


async def test_nothing_moves_for_those_who_do_not_want_it(phone: MakePhone, relay: Running) -> None:
    """Reduced motion: no animation runs."""
    page = await opened(phone, relay, reduced_motion="reduce")
    for name in await pages(page):
        await page.evaluate(SHOW, [name, VALUES])
        assert await page.evaluate("document.getAnimations().length") == 0
