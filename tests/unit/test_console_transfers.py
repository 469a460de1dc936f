from __future__ import annotations

from clients.gateway.views import SeriesProgress
from tests.console_kit import house
from tests.fake_engine import blank


async def test_the_inbox_tells_sealed_from_opened_and_ended() -> None:
    async with house() as built:
        now = built.clock.time
        series = [SeriesProgress(label="CT 2 · Head 5 mm", have=63, want=120, closed=False)]
        sealed = {"state": "SEEN", "moved": 140_000_000, "bytes": 140_000_000}
        opened = {"state": "OPENED", "patient_name": "TEST, ALPHA", "stored": 63, "decided_by": "patient"}
        ended = {
            "state": "COMPLETE",
            "patient_name": "TEST, BRAVO",
            "stored": 688,
            "total": 688,
            "ended_at": now,
        }
        for view in (
            blank(tid="1" * 32, role="receive", peer="County Hospital", created_at=now, **sealed),
            blank(
                tid="2" * 32, role="receive", peer="River Clinic", created_at=now - 1, series=series, **opened
            ),
            blank(tid="3" * 32, role="receive", peer="Hill Clinic", created_at=now - 2, **ended),
            blank(tid="4" * 32, role="send", peer="Never Shown", created_at=now, state="OFFERED"),
        ):
            built.engine.all_transfers[view.tid] = view
        person = await built.person("dr-lee")
        text = (await person.open("/inbox")).text
        assert "Incoming from County Hospital" in text
        assert "140 MB here, still sealed, waiting for the yes" in text
        assert "63 of ? images at the PACS" in text
        assert "CT 2 · Head 5 mm 63/120" in text
        assert "PACS confirmed 688/688" in text
        assert "Never Shown" not in text
        assert "Filed under our own number of the sender's patient." in text
        assert built.engine.lines[-1].action == "page:view-inbox"
        text = (await person.open("/sent")).text
        assert "Never Shown" in text
        assert "River Clinic" not in text


async def test_empty_lists_say_what_will_come() -> None:
    async with house() as built:
        person = await built.person("dr-lee")
        assert "Nothing is coming" in (await person.open("/inbox")).text
        assert "Nothing was sent yet" in (await person.open("/sent")).text


async def test_the_inbox_shows_what_was_added_with_its_transfer() -> None:
    """7 new images, 1 report: under the parent once it has ended, by itself while it comes."""
    async with house() as built:
        now = built.clock.time
        first, added, late = "1" * 32, "2" * 32, "3" * 32
        addition = {
            "role": "receive",
            "peer": "Hill Clinic",
            "kind": "add",
            "before": first,
            "patient_name": "TEST, BRAVO",
        }
        for view in (
            blank(tid=first, role="receive", peer="Hill Clinic", state="COMPLETE", patient_name="TEST, BRAVO",
                  additions=[added, late], created_at=now - 9),
            blank(tid=added, state="COMPLETE", contents="7 images, 1 report", changed_reports=1, created_at=now,
                  **addition),
            blank(tid=late, state="OPENED", contents="2 images", created_at=now, **addition),
        ):  # fmt: skip
            built.engine.all_transfers[view.tid] = view
        page = await (await built.person("dr-lee")).open("/inbox")
        assert "New in a study that is here : 2 images" in page.text
        assert "+ 7 images, 1 report Complete" in page.text
        assert "a report was changed" in page.text
        assert page.text.count("Hill Clinic") == 2, "one row for the study, and what is on its way"
