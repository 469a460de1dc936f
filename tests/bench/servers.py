"""A relay as an operator starts it, and an nginx that takes and gives files, each with its own folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from relay.enroll import enroll
from tests.bench.calls import Call, Caller, written
from tests.dicom_kit import free_port
from tests.relay_client import hello
from transfer.ids import Cid
from transfer.requests import HEADER, make_request
from transfer.sites import Identity

NO_NGINX = "nginx is not installed"
PACK = os.urandom(2**20 + 40)
"""Ciphertext of a bucket of 1 MiB."""
_RATES = "".join(
    f"[rates.{name}]\nper_second = 1e6\nburst = 1000000\n" for name in ("site", "address", "mailbox")
)
"""One caller stands for many here."""
_NGINX = """
daemon off; worker_processes 2; pid {base}/nginx.pid; error_log {base}/nginx.log;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {base}/temp; client_max_body_size 8m; client_body_buffer_size 64k;
  proxy_temp_path {base}/t1; fastcgi_temp_path {base}/t2; uwsgi_temp_path {base}/t3; scgi_temp_path {base}/t4;
  server {{
    listen 127.0.0.1:{port}; root {base}/files;
    location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
  }}
}}
"""


class Relay:
    """A relay, and a site that it knows, whose calls are signed before the clock starts."""

    def __init__(self, url: str, data: Path, process: subprocess.Popen[bytes]) -> None:
        self.url, self.process = url, process
        self._identity = Identity(os.urandom(32))
        card = self._identity.card(
            name="Bench", place="", relay=url, page="", roles=["send", "receive"], now=int(time.time())
        )
        enroll(data, card)
        self._mailbox = os.urandom(16).hex()
        body = hello(self._identity.site, int(time.time()) + 3600)
        caller = Caller(url)
        assert caller.call(self.signed("PUT", f"/m/{self._mailbox}/0", body)) < 300
        caller.close()

    def signed(self, method: str, path: str, body: bytes = b"") -> Call:
        """A site's call (protocol s. 12)."""
        value = make_request(
            self._identity.key, aud=self.url, method=method, path=path, body=body, now=int(time.time()),
            jti=os.urandom(16),
        )  # fmt: skip
        return written(method, path, body, **{HEADER: value})

    def put(self, cid: Cid, n: int) -> Call:
        """A pack goes there."""
        return self.signed("PUT", f"/v1/packs/{cid.hex()}/{n}?kind=D", PACK)

    def get(self, cid: Cid, n: int) -> Call:
        """And back."""
        return self.signed("GET", f"/v1/packs/{cid.hex()}/{n}")

    def delete(self, cid: Cid) -> Call:
        """Once it was delivered."""
        return self.signed("DELETE", f"/v1/packs/{cid.hex()}")

    def small(self) -> Call:
        """What a phone asks first: m0 of its mailbox."""
        return written("GET", f"/m/{self._mailbox}/0")


@contextlib.contextmanager
def relay(base: Path) -> Iterator[Relay]:
    """A relay below `base`."""
    base.mkdir(parents=True)
    config = base / "relay.toml"
    config.write_text(f"access_log = false\n{_RATES}")
    argv = [
        "-m",
        "relay",
        "run",
        "--listen",
        "127.0.0.1:0",
        "--data",
        str(base / "data"),
        "--config",
        str(config),
    ]
    with (base / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *argv, "--json"], stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        ready = msgspec.json.decode(process.stdout.readline())
        yield Relay(ready["url"], base / "data", process)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def nginx(base: Path) -> Iterator[str]:
    """nginx with WebDAV PUT to files below `base`, which it does not force to disk; its URL."""
    (base / "files").mkdir(parents=True)
    if os.getuid() == 0:  # its workers are another user then
        for folder in (base, base / "files", *base.parents[:2]):
            folder.chmod(0o777)
    (base / "files" / "small").write_bytes(bytes(200))
    port = free_port()
    config = base / "nginx.conf"
    config.write_text(_NGINX.format(base=base, port=port))
    process = subprocess.Popen(
        [shutil.which("nginx") or "nginx", "-p", str(base), "-c", str(config)], stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                caller = Caller(url)
                caller.call(written("GET", "/small"))
                caller.close()
                break
            if time.monotonic() > until or process.poll() is not None:
                raise SystemExit("nginx does not start")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()
