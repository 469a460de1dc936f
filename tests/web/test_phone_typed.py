"""What is typed at the phone's doors, what a link's fragment and a relay's first answer say, in Chromium: mutants of
good ones, judged as the Python side judges them. (`tests/fuzz/typed.py` has the same for Python alone.)
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import pytest

from relay.service import Running
from tests.fuzz.mutator import Mutator
from tests.transfer_kit import Q
from tests.web.conftest import MakePhone
from tests.web.phone_kit import shows
from transfer.encoding import b64, unb64
from transfer.errors import HeaderError, PeerError
from transfer.ids import SiteId, Tid
from transfer.links import heard, spoken
from transfer.mailbox import Hello, Tombstone, read_body
from transfer.messages import encode

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]
SEED = 1 if os.environ.get("CI") == "true" else int.from_bytes(os.urandom(4), "big")
MANY = 300
ARABIC = str.maketrans("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹", "01234567890123456789")
CODE, NUMBER = spoken("57257257"), "0057257"
SILENT = "globalThis.asked = []; globalThis.fetch = (url) => (asked.push(url), new Promise(() => {}));"
"""The relay never answers, and what it was asked is kept."""
TYPE = """(texts) => texts.map(([field, text]) => {
  const [number, code] = ['number', 'code'].map((id) => document.getElementById(id));
  number.value = code.value = '';
  const input = field === 'number' ? number : code;
  input.value = text;
  input.dispatchEvent(new Event('input'));
  document.querySelector('form').requestSubmit();
  const shown = (name) => !document.querySelector(`[data-if=${name}]`).hidden;
  return [document.body.dataset.page, input.value, shown('noNumber'), shown('short'), shown('typo')];
})"""


def mutants(*samples: str) -> list[str]:
    """Good ones first, then neighbours of them; no half characters, which no bridge to a browser carries."""
    source = Mutator([sample.encode() for sample in samples], SEED)
    return [*samples, *(source.one().decode("utf-8", "replace")[:2000] for _ in range(MANY))]


def is_code(digits: str) -> bool:
    """As Python hears it."""
    try:
        heard(digits)
    except HeaderError:
        return False
    return True


async def test_a_code_and_a_number_of_the_telephone(phone: MakePhone, relay: Running) -> None:
    """The page keeps the digits and nothing else, knows a slip where Python does, and calls nobody but numbers."""
    page = await phone(f"{relay.url}/v", before=SILENT)
    codes = mutants(CODE, "٥٧٢٥٧٢٥٧٠", f"{CODE[:3]} {CODE[3:6]}-{CODE[6:]}")
    numbers = mutants(NUMBER, "۰۰۵۷۲۵۷", "00 57-257")
    texts = [["code", code] for code in codes] + [["number", number] for number in numbers]
    calls: set[str] = set()
    for (field, text), (shown, digits, no_number, short, typo) in zip(
        texts, await page.evaluate(TYPE, texts), strict=True
    ):
        assert shown == "voice", text
        assert digits == "".join(c for c in text.translate(ARABIC) if c in "0123456789"), text
        if field == "code":
            assert (no_number, short) == (True, len(digits) != 9), text
            assert typo == (len(digits) == 9 and not is_code(digits)), text
        else:
            assert no_number == (len(digits) != 7), text
            calls |= set() if no_number else {f"/m/{digits}/0"}
    assert set(await page.evaluate("asked")) == calls, "a number that nobody typed was called"


HEAR = """async (bodies) => {
  const { actions } = await import('/a/app.js');
  let body = '';
  globalThis.fetch = async () => ({ status: 200, text: async () => body });
  const pages = [];
  for (const [i, said] of bodies.entries()) {
    body = said;
    actions.anew();
    const number = document.getElementById('number');
    number.value = String(i).padStart(7, '0');
    number.dispatchEvent(new Event('input'));
    await new Promise((done) => setTimeout(done)); // behind every step of the page, which waits for nothing else
    pages.push(document.body.dataset.page);
  }
  return pages;
}"""


async def test_what_a_relay_says_of_a_number(phone: MakePhone, relay: Running) -> None:
    """m0 and tombstones, mutated: every one is taken or has a page, and no exception is left over (`phone` looks)."""
    page = await phone(f"{relay.url}/v")
    await shows(page, "voice")
    hello = Hello(v=1, tid=Tid(bytes(16)), s=SiteId(bytes(32)), exp=2_000_000_000)
    said = [hello, *(Tombstone(v=1, ended=state) for state in ("EXPIRED", "REOPENED", "__proto__"))]
    bodies = mutants(*(encode(body).decode() for body in said))[:200]
    for body, shown in zip(bodies, await page.evaluate(HEAR, bodies), strict=True):
        assert shown in {"voice", "ended", "later", "untrusted"}, body
        with suppress(PeerError):
            assert shown == ("voice" if read_body(body.encode(), Hello).exp else "ended"), body
        with suppress(PeerError):
            read_body(body.encode(), Tombstone)
            assert shown == "ended", body


async def test_the_secret_of_a_link(phone: MakePhone, relay: Running) -> None:
    """One text for one secret: what is not canonical is taken by neither side."""
    page = await phone(f"{relay.url}/s")
    texts = mutants(b64(Q), b64(Q)[:-1] + "B", b64(Q) + "==", b64(bytes(range(240, 256))))
    found = await page.evaluate(
        """async (texts) => {
          const { unb64, hex, Untrusted } = await import('/a/app.js');
          return texts.map((text) => {
            try {
              return hex(unb64(text, 16));
            } catch (why) {
              return why instanceof Untrusted ? null : String(why);
            }
          });
        }""",
        texts,
    )
    assert found == [secret(text) for text in texts]


def secret(text: str) -> Any:
    """As Python reads it; None: refused."""
    try:
        return unb64(text, 16).hex()
    except HeaderError:
        return None
