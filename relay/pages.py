"""The phone page: files that are read once at start and served with strict headers.

They lie in `clients/phone` beside this package and are never imported. What is not in the table made at start
does not exist, so no path of a request ever reaches the file system. Everything is compressed once, at start; scripts
leave out their lines of comment, which are a third of what a phone on a slow network would wait for.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import msgspec
from aiohttp import hdrs, web

import relay
from relay.addresses import Addresses
from relay.errors import AbsentError, ConfigError
from relay.limits import Buckets
from transfer.encoding import b64, sha256

PAGE = "index.html"
DOORS = {"/s": "camera=(self)", "/v": "camera=()", "/p": "camera=()"}
"""The three doors, and what each may do with the camera: only the first scans."""
_TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon",
    ".woff2": "font/woff2", ".webmanifest": "application/manifest+json",
}  # fmt: skip
_COMMENT = re.compile(rb"^[ \t]*(?://[^\n]*|/\*\*(?:(?!\*/).)*\*/[ \t]*)\n", re.MULTILINE | re.DOTALL)
"""Whole lines of comment; what stands in a line with code stays."""
_INDENT = re.compile(rb"^[ \t]+", re.MULTILINE)
"""It means nothing in any of these, as long as no text of a script goes over several lines (tested)."""
_INDENTED = (".html", ".css", ".js")
_MOST_BYTES = 8 * 2**20
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
STRICT = {
    "Content-Security-Policy": CSP,
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Part(msgspec.Struct, frozen=True):
    """One file of the page."""

    body: bytes
    packed: bytes
    kind: str
    etag: str


def phone_folder() -> Path:
    """`clients/phone` of the same installation."""
    return Path(relay.__file__).resolve().parent.parent / "clients" / "phone"


def read_parts(folder: Path) -> dict[str, Part]:
    """Every file of the page by its name relative to `folder`; none if there is no page. `ConfigError`."""
    parts: dict[str, Part] = {}
    room = _MOST_BYTES
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        kind = _TYPES.get(path.suffix)
        if kind is None or not path.is_file():
            continue
        body = path.read_bytes()
        room -= len(body)
        if room < 0:
            raise ConfigError(
                "The folder of the phone page is too large. Name the right folder and start again."
            )
        if path.suffix == ".js":
            body = _COMMENT.sub(b"", body)
        if path.suffix in _INDENTED:
            body = _INDENT.sub(b"", body)
        etag = f'"{b64(sha256(body)[:12])}"'
        parts[path.relative_to(folder).as_posix()] = Part(body, gzip.compress(body, 9, mtime=0), kind, etag)
    return parts


class Pages:
    """The handlers."""

    def __init__(self, parts: dict[str, Part], by_address: Buckets, addresses: Addresses) -> None:
        self._parts, self._by_address, self._addresses = parts, by_address, addresses

    async def page(self, request: web.Request) -> web.Response:
        """`GET /s`, `/v`, `/p`: the page itself, never cached."""
        headers = {
            hdrs.CACHE_CONTROL: "no-store",
            "Permissions-Policy": f"{DOORS[request.path]}, microphone=()",
        }
        return self._answer(request, PAGE, headers)

    async def part(self, request: web.Request) -> web.Response:
        """`GET /a/{file}`: a script, a style, a text. Kept by the browser, but asked about each time."""
        return self._answer(request, request.match_info["file"], {hdrs.CACHE_CONTROL: "no-cache"})

    def _answer(self, request: web.Request, name: str, headers: dict[str, str]) -> web.Response:
        self._by_address.take(self._addresses.of(request))
        part = self._parts.get(name)
        if part is None:
            raise AbsentError
        headers = {**STRICT, **headers, hdrs.CONTENT_TYPE: part.kind, hdrs.VARY: hdrs.ACCEPT_ENCODING}
        if headers[hdrs.CACHE_CONTROL] == "no-cache":
            headers[hdrs.ETAG] = part.etag
            if request.headers.get(hdrs.IF_NONE_MATCH, "") == part.etag:
                return web.Response(status=304, headers=headers)
        if takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")) and len(part.packed) < len(part.body):
            return web.Response(body=part.packed, headers={**headers, hdrs.CONTENT_ENCODING: "gzip"})
        return web.Response(body=part.body, headers=headers)


def takes_gzip(header: str) -> bool:
    """Whether `Accept-Encoding` names gzip with a weight above 0 (RFC 9110 12.5.3)."""
    for item in header[:200].lower().split(","):
        name, _, weight = item.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
