"""The style sheet, the script and the mark of the pages, read once from the installed package.

Their address holds a hash of their content, so a browser may keep them for ever and still gets a new one after an
update. They hold nothing about anybody, and so may be compressed; the pages are not: a page that holds a
secret and repeats what a person typed tells an eavesdropper by its compressed length (the BREACH attack).
"""

from __future__ import annotations

import gzip
import hashlib
from importlib import resources
from typing import Final

import msgspec
from aiohttp import web

from clients.gateway.console.problems import PageAbsentError

TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Asset(msgspec.Struct, frozen=True):
    """One file, plain and compressed."""

    content_type: str
    plain: bytes
    packed: bytes
    version: str


class Assets:
    """All files of `static/`, in memory."""

    def __init__(self) -> None:
        self._files: dict[str, Asset] = {}
        for file in (resources.files("clients.gateway.console") / "static").iterdir():
            kind = TYPES.get("." + file.name.rpartition(".")[2])
            if kind:
                data = file.read_bytes()
                version = hashlib.sha256(data).hexdigest()[:12]
                self._files[file.name] = Asset(kind, data, gzip.compress(data, 9, mtime=0), version)

    def address(self, name: str) -> str:
        """Where a page finds the file."""
        return f"/static/{name}?v={self._files[name].version}"

    async def serve(self, request: web.Request) -> web.Response:
        """`GET /static/{name}`."""
        asset = self._files.get(request.match_info["name"])
        if asset is None:
            raise PageAbsentError
        headers = {"Vary": "Accept-Encoding", "ETag": f'"{asset.version}"'}
        fresh = request.query.get("v") == asset.version
        headers["Cache-Control"] = "public, max-age=31536000, immutable" if fresh else "no-cache"
        body = asset.plain
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = asset.packed, "gzip"
        return web.Response(body=body, content_type=asset.content_type, charset="utf-8", headers=headers)
