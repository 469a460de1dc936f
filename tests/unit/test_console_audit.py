from __future__ import annotations

import csv
import io

from clients.gateway.console.pages.audit import SHOWN
from tests.console_kit import house


async def test_the_log_is_read_a_page_at_a_time_to_its_first_line() -> None:
    async with house() as built:
        for i in range(SHOWN + 20):
            await built.engine.record("gateway", "probe", f"{i:032x}")
        person = await built.person("privacy")
        page = await person.open("/audit")
        older = next(link for link in page.links if link.startswith("/audit?before="))
        page = await person.open(older)
        assert f"{0:032x}" in page.text
        assert not [link for link in page.links if "before=" in link and link != older]
        for odd in ("x", "-1", "9" * 40, "٣", ""):
            await person.open("/audit", params={"before": odd})
            assert person.status == 200


async def test_the_export_is_csv_that_no_spreadsheet_runs() -> None:
    async with house() as built:
        await built.engine.record("gateway", "probe", "aa", '=HYPERLINK("http://evil")')
        await built.engine.record("@x", "+probe", "-aa", 'two, "words"\nand a line')
        for i in range(2100):
            await built.engine.record("gateway", "probe", str(i))
        person = await built.person("privacy")
        answer = await person.client.get("/audit/export")
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert "attachment" in answer.headers["Content-Disposition"]
        rows = list(csv.reader(io.StringIO(await answer.text())))
        assert rows[0] == ["number", "time", "who", "what", "about", "detail"]
        assert [int(r[0]) for r in rows[1:]] == list(range(len(rows) - 1, 0, -1))
        assert rows[1][3] == "page:export-audit"
        assert rows[-1][5] == '\'=HYPERLINK("http://evil")'
        assert rows[-2][2:] == ["'@x", "'+probe", "'-aa", 'two, "words"\nand a line']


async def test_reading_the_log_is_in_the_log() -> None:
    async with house() as built:
        await (await built.person("privacy")).open("/audit")
        assert (built.engine.lines[-1].actor, built.engine.lines[-1].action) == ("privacy", "page:view-audit")
