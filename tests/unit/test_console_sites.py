from __future__ import annotations

from tests.console_kit import house
from transfer.ids import SiteId
from transfer.sites import fingerprint


async def test_every_paired_site_is_shown_with_its_fingerprint_beside_our_own() -> None:
    async with house() as built:
        person = await built.person("admin")
        text = (await person.open("/sites")).text
        assert fingerprint(SiteId.parse(built.engine.site)) in text
        for peer in built.engine.all_peers.values():
            assert peer.name in text
            assert peer.fingerprint in text
        assert "No key now" in text
        built.engine.all_peers.clear()
        assert "No site is paired yet" in (await person.open("/sites")).text
