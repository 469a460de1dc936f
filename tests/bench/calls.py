"""An HTTP client that costs as little as one in Python can: blocking sockets, requests that were written down
before the clock starts, answers that are read into one buffer and forgotten. The same one calls the relay and
nginx, so what it costs is in both figures.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

_TIMEOUT = 60.0
_BUFFER = 2**20


class Call(tuple[bytes, bytes]):
    """A request, written down: its head and its body."""

    __slots__ = ()


def written(method: str, path: str, body: bytes = b"", **headers: str) -> Call:
    """A request to anyone. Names of headers are as given, with hyphens for underscores."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return Call(("\r\n".join([*lines, "", ""]).encode(), body))


class Caller:
    """One connection that is kept."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._socket = socket.create_connection((parts.hostname, parts.port or 80), _TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(_BUFFER)

    def call(self, request: Call) -> int:
        """Sends it, reads the whole answer, returns its status. Raises `OSError`."""
        head, body = request
        self._socket.sendall(head + body if len(body) < 2**14 else head)
        if len(body) >= 2**14:
            self._socket.sendall(body)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            data = self._socket.recv(2**16)
            if not data:
                raise ConnectionResetError
            answer += data
        left = _length(answer[:end]) - (len(answer) - end - 4)
        while left > 0:
            left -= self._socket.recv_into(self._buffer, min(left, _BUFFER)) or left
        return int(answer[9:12])

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()


def _length(head: bytes) -> int:
    for text in head.split(b"\r\n"):
        name, _, value = text.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def all_of(url: str, calls: list[Call], connections: int) -> float:
    """Seconds for all calls over so many connections at once. Raises `SystemExit` if one is refused."""
    share = [calls[i::connections] for i in range(connections)]
    return together([lambda mine=mine: _each(url, mine) for mine in share])  # type: ignore[misc]


def _each(url: str, calls: Iterable[Call]) -> None:
    caller = Caller(url)
    try:
        for request in calls:
            status = caller.call(request)
            if status >= 300:
                raise SystemExit(f"a call of the bench was answered {status}")
    finally:
        caller.close()


def together(works: list[Callable[[], None]]) -> float:
    """Seconds until all have ended, each in a thread of its own. Raises what one of them raised."""
    wrong = list[BaseException]()

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as why:
            wrong.append(why)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]
    return time.monotonic() - start


class Probe:
    """A small request every few milliseconds while something else goes on."""

    def __init__(self, url: str, make: Callable[[], Call], pause: float = 0.005) -> None:
        self._url, self._make, self._pause = url, make, pause
        self._end = threading.Event()
        self.seconds: list[float] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *why: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        caller = Caller(self._url)
        while not self._end.wait(self._pause):
            request = self._make()
            start = time.monotonic()
            if caller.call(request) >= 300:
                break  # a refusal is quick: no figure of ours
            self.seconds.append(time.monotonic() - start)
        caller.close()

    def percentile(self, part: float) -> float:
        """Milliseconds that this part of the requests took at most."""
        if not self.seconds:
            raise SystemExit("the small requests of the bench were refused")
        found = sorted(self.seconds)
        return 1e3 * found[min(len(found) - 1, int(part * len(found)))]
