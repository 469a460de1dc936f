"""What the page says: plain words for a school grade of six at most, a next step on every page, every word in
every language, and none of the words that belong to the staff.

English is measured by Flesch-Kincaid (Kincaid et al. 1975), Spanish by Crawford's formula for primary grades
(Crawford 1984); syllables are counted as groups of vowels.
"""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page

from clients.gateway.sending.offering import CONSENT_TEXT
from relay.service import Running
from tests.web.conftest import MakePhone
from tests.web.phone_kit import CONSENT_TEXT as OURS
from tests.web.phone_kit import shows
from tests.web.test_phone_looks import SHOW, pages

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]
VALUES = {
    "to": "Lakeside", "from": "Valley", "call": "Ward 3", "notel": "Ward 3", "what": "CT of head", "person": "J. D.",
    "why": "Care", "time": "2 hours", "check": "0417", "code": "7K3Q", "alt": "Hill", "add": "2 hours", "at": "14:03",
    "extra": "yes", "ends": "14:03", "left": "4", "many": "yes", "yes": "yes", "how": "All scans have arrived.",
    "stop": "yes", "asked": "yes", "late": "yes", "offline": "yes", "before": "yes", "declined": "10:02",
    "declined.patient": "yes", "declined.proxy": "yes", "long": "yes", "going": "yes", "told": "yes", "unheard": "yes",
    "done": "yes", "noname": "yes", "norel": "yes",
}  # fmt: skip
NEVER = {
    "en-US": "authori consent token dicom encrypt cipher phi uid relay server protocol session key certificate",
    "es-MX": "autoriz consent token dicom encript cifra servidor protocolo sesión clave certificado relé",
}
STAFF = {"en-US": "staff", "es-MX": "personal"}
ERRORS = {
    "wrong", "stuck", "partial", "denied", "revoked", "used", "refused", "again", "foreign", "unknown", "expired",
    "ended", "locked", "untrusted", "old", "unsafe", "later",
}  # fmt: skip
"""Pages on which the person needs the staff for the next step."""


async def texts(page: Page) -> dict[str, list[str]]:
    """The sentences of every page, with all that is folded away."""
    found = {}
    for name in await pages(page):
        await page.evaluate(SHOW, [name, VALUES])
        await page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        text = await page.inner_text("main")
        found[name] = [s for s in re.split(r"[.?!:\n]+", text) if re.search(r"\w{2}", s)]
    return found


def grade(sentences: list[str], locale: str) -> float:
    """The school grade for which these sentences are written."""
    words = re.findall(r"[^\W\d_]+", " ".join(sentences).lower())
    syllables = sum(syllables_en(w) if locale == "en-US" else syllables_es(w) for w in words)
    if locale == "en-US":
        return 0.39 * len(words) / len(sentences) + 11.8 * syllables / len(words) - 15.59
    return -0.205 * (100 * len(sentences) / len(words)) + 0.049 * (100 * syllables / len(words)) - 3.407


def syllables_en(word: str) -> int:
    """Groups of vowels, without a silent e."""
    bare = re.sub(r"(?:(?<=[^aeiouyl])(?:e|es|ed)|(?<=[aeiouy]l)e)$", "", word)
    return max(1, len(re.findall(r"[aeiouy]+", bare)))


def syllables_es(word: str) -> int:
    """Groups of vowels; two strong ones, or an accented weak one, stand apart."""
    return max(1, len(re.findall(r"[iuü]?[aeoáéó][iuy]?|[íú]|[iuü]+", re.sub(r"qu|gu(?=[ei])", "k", word))))


@pytest.mark.parametrize("locale", ["en-US", "es-MX"])
async def test_a_child_of_twelve_can_read_it(locale: str, phone: MakePhone, relay: Running) -> None:
    """Grade six at most, page by page."""
    page = await phone(f"{relay.url}/s", locale=locale)
    await shows(page, "again")
    grades = {name: round(grade(s, locale), 1) for name, s in (await texts(page)).items()}
    assert len(grades) > 25
    assert {name: g for name, g in grades.items() if g > 6} == {}


@pytest.mark.parametrize("locale", ["en-US", "es-MX"])
async def test_no_word_of_the_trade(locale: str, phone: MakePhone, relay: Running) -> None:
    """And each page that ends something says who helps."""
    page = await phone(f"{relay.url}/s", locale=locale)
    await shows(page, "again")
    for name, sentences in (await texts(page)).items():
        words = re.findall(r"\w+", " ".join(sentences).lower())
        assert not [w for w in words for never in NEVER[locale].split() if w.startswith(never)], name
        assert name not in ERRORS or STAFF[locale] in words, name


async def test_every_language_has_every_word(phone: MakePhone, relay: Running) -> None:
    """The same keys, and the same names in braces."""
    page = await phone(f"{relay.url}/s")
    english, spanish = await page.evaluate(
        "async () => [{ ...(await import('/a/app.js')).words }, (await import('/a/es.js')).default]"
    )
    assert set(english) == set(spanish)
    names = re.compile(r"\{(\w+)\}")
    for key, sentence in english.items():
        assert set(names.findall(sentence)) == set(names.findall(spanish[key])), key
        assert sentence or key == "terms"


async def test_the_page_has_the_wording_that_offers_name(phone: MakePhone, relay: Running) -> None:
    """`ct` of an offer is the id of what the person read, so both must mean the same text."""
    page = await phone(f"{relay.url}/s")
    texts = await page.evaluate("async () => (await import('/a/answer.js')).TEXTS")
    assert CONSENT_TEXT in texts
    assert OURS in texts
