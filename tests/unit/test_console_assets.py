from __future__ import annotations

import gzip

from clients.gateway.console.assets import Assets
from tests.console_kit import house


async def test_files_are_served_with_a_type_a_hash_and_a_long_life() -> None:
    assets = Assets()
    async with house() as built:
        person = await built.person()
        for name, kind in {
            "console.css": "text/css",
            "live.js": "text/javascript",
            "mark.svg": "image/svg+xml",
        }.items():
            answer = await person.client.get(assets.address(name))
            assert answer.status == 200
            assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
            assert "immutable" in answer.headers["Cache-Control"]
            assert (await person.client.get(f"/static/{name}?v=old")).headers["Cache-Control"] == "no-cache"


async def test_they_are_compressed_only_for_those_who_ask() -> None:
    async with house() as built:
        person = await built.person()
        plain = await person.client.get("/static/console.css", headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers
        packed = await person.client.get(
            "/static/console.css", headers={"Accept-Encoding": "gzip"}, auto_decompress=False
        )
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await packed.read()) == await plain.read()


async def test_nothing_else_of_the_package_is_served() -> None:
    async with house() as built:
        person = await built.person()
        for name in ("app.py", "..%2fapp.py", "%2e%2e/app.py", "base.html", ""):
            assert (await person.client.get(f"/static/{name}")).status == 404
