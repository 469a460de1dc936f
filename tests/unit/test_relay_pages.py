"""The phone page as the relay serves it."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.errors import ConfigError
from relay.pages import CSP, phone_folder, read_parts, takes_gzip
from tests.relay_client import Bench, relay_at

HTML = b"<!doctype html><title>page</title>" + b" " * 500


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "phone"
    (made / "text").mkdir(parents=True)
    (made / "index.html").write_bytes(HTML)
    (made / "app.js").write_bytes(b"export {}")
    (made / "text" / "es.json").write_bytes(b"{}")
    (made / "__init__.py").write_bytes(b"secret = 1")
    (tmp_path / "outside.js").write_bytes(b"outside")
    return made


@pytest.fixture
async def bench(tmp_path: Path, folder: Path) -> AsyncIterator[Bench]:
    async with relay_at(tmp_path / "data", phone=folder) as made:
        yield made


async def test_three_doors_with_strict_headers(bench: Bench) -> None:
    for door, camera in (("/s", "camera=(self)"), ("/v", "camera=()"), ("/p", "camera=()")):
        answer = await bench.http.call("GET", door, headers={"Accept-Encoding": "identity"})
        assert (answer.status, answer.body) == (200, HTML)
        headers = answer.headers
        assert headers["Content-Security-Policy"] == CSP
        assert "unsafe" not in CSP
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Permissions-Policy"].startswith(camera)
        assert "Content-Encoding" not in headers
        assert "Set-Cookie" not in headers
        assert "ETag" not in headers
        assert "Server" not in headers


async def test_parts_are_compressed_where_that_is_smaller(bench: Bench) -> None:
    bench.http.session._auto_decompress = False
    page = await bench.http.call("GET", "/s", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert page.headers["Content-Encoding"] == "gzip"
    assert page.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(page.body) == HTML
    small = await bench.http.call("GET", "/a/app.js", headers={"Accept-Encoding": "gzip"})
    assert small.body == b"export {}"
    assert small.headers["Content-Type"] == "text/javascript; charset=utf-8"


async def test_parts_are_asked_about_again_and_not_sent_again(bench: Bench) -> None:
    first = await bench.http.call("GET", "/a/text/es.json")
    assert (first.status, first.headers["Cache-Control"]) == (200, "no-cache")
    again = await bench.http.call("GET", "/a/text/es.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


async def test_head(bench: Bench) -> None:
    answer = await bench.http.call("HEAD", "/s")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/a/", "/a/none.js", "/a/__init__.py", "/a/../outside.js", "/a/..%2foutside.js", "/a/%2e%2e/outside.js",
        "/a/text/../../outside.js", "/a//etc/passwd", "/a/%2fetc%2fpasswd", "/a/app.js%00", "/a/text", "/a/.",
        "/", "/index.html",
    ],
)  # fmt: skip
async def test_what_is_not_in_the_table_does_not_exist(bench: Bench, path: str) -> None:
    answer = await bench.http.call("GET", path)
    assert (answer.status, answer.error) == (404, "absent")


async def test_pages_count_by_address(tmp_path: Path, folder: Path) -> None:
    async with relay_at(
        tmp_path / "data", phone=folder, rates={"address": {"per_second": 0.001, "burst": 2}}
    ) as bench:
        seen = [(await bench.http.call("GET", "/s")).status for _ in range(3)]
        assert seen == [200, 200, 429]


async def test_a_relay_without_a_page_is_a_relay(tmp_path: Path) -> None:
    async with relay_at(tmp_path / "data", phone=tmp_path / "none") as bench:
        assert (await bench.http.call("GET", "/s")).error == "absent"
        assert (await bench.http.call("GET", "/healthz")).status == 200


def test_the_page_of_this_installation_is_found() -> None:
    parts = read_parts(phone_folder())
    assert "index.html" in parts
    assert not any(name.endswith(".py") for name in parts)


def test_a_wrong_folder_is_not_read_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.pages._MOST_BYTES", 100)
    with pytest.raises(ConfigError):
        read_parts(folder)


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("gzip", True),
        ("br, GZIP ;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("br", False),
        ("", False),
    ],
)
def test_who_takes_gzip(header: str, takes: bool) -> None:
    assert takes_gzip(header) is takes


def test_lines_of_comment_in_scripts_and_indentation_stay_behind_and_nothing_else(folder: Path) -> None:
    """What stands in a line with code stays, as does a comment in a style or a text."""
    script = (
        b"/**\n * @param {string} s\n */\nexport const f = (s) => /** @type {any} */ (s); // here\n"
        b"  // a line\n  /** one line */\n  /** @type {X} */ (g)();\nconst url = 'https://x';\n/* kept */\n"
    )
    (folder / "app.js").write_bytes(script)
    (folder / "page.css").write_bytes(b"/** a style */\na {\n\tcolor: red;\n}\n")
    parts = read_parts(folder)
    assert parts["app.js"].body == (
        b"export const f = (s) => /** @type {any} */ (s); // here\n/** @type {X} */ (g)();\n"
        b"const url = 'https://x';\n/* kept */\n"
    )
    assert gzip.decompress(parts["app.js"].packed) == parts["app.js"].body
    assert parts["page.css"].body == b"/** a style */\na {\ncolor: red;\n}\n"


def test_no_text_of_a_script_goes_over_several_lines() -> None:
    """Its indentation would be lost."""
    for path in phone_folder().rglob("*.js"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert line.count("`") % 2 == 0, (path.name, line)
