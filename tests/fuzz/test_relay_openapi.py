"""schemathesis drives a relay process from docs/spec/relay-openapi.yaml: calls that fit the document, and calls that
just do not.

No call ends in a 5xx but for a full disk; each status, content type and body is one that the document has for that
route. `tests/integration/test_relay_fuzz.py` goes further where HTTP itself is broken; this one is another reader
of the document, who knows nothing of our code.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from relay.enroll import enroll
from tests.relay_client import Site
from tests.relay_process import RelayProcess
from transfer.requests import HEADER

ROOT = Path(__file__).resolve().parents[2]
SOAK = os.environ.get("SOAK") == "1"
EXAMPLES = 3_000 if SOAK else 3
MODES = ["positive", "negative"]
RATES = "\n".join(
    f"[rates.{name}]\nper_second = 1e6\nburst = 1000000"
    for name in ("site", "address", "mailbox", "stranger")
)


@pytest.fixture(scope="module")
def schemathesis() -> Any:
    """The library: no part of what every machine needs here, until it is pinned."""
    try:
        import schemathesis as library
    except ImportError:
        if os.environ.get("CI") == "true" and "schemathesis==" in (ROOT / "requirements-dev.txt").read_text():
            raise
        pytest.skip("schemathesis is not installed here (pip install schemathesis)")
    return library


class Relay:
    """A relay process, and a site that it knows."""

    def __init__(self, runner: asyncio.Runner, folder: Path) -> None:
        import requests

        (folder / "relay.toml").write_text(RATES)
        start = RelayProcess.start(folder / "data", "--config", str(folder / "relay.toml"))
        self._runner, self._process = runner, runner.run(start)
        self.url = self._process.url
        self.session = requests.Session()
        self.site = Site(None, self.url)  # type: ignore[arg-type]  # requests makes the calls
        enroll(folder / "data", self.site.card())

    def call(self, case: Any, *, signed: bool) -> Any:
        """The answer to a case as it goes over the wire, signed over exactly that."""
        import requests

        made = requests.Request(**_known(case.as_transport_kwargs(base_url=self.url)))
        request = self.session.prepare_request(made)
        body = request.body or b""
        if not isinstance(body, bytes):
            body = body.encode() if isinstance(body, str) else b"".join(body)
        request.body = body
        if signed and request.method in ("GET", "PUT", "POST", "DELETE"):
            try:
                request.headers[HEADER] = self.site.sign(request.method, request.path_url, body)
            except ValueError:  # a path so long that nobody can sign for it
                request.headers[HEADER] = "a.b.c"
        return self.session.send(request, timeout=60, allow_redirects=False)

    def stop(self) -> None:
        self.session.close()
        self._runner.run(self._process.stop())


def _known(arguments: dict[str, Any]) -> dict[str, Any]:
    names = ("method", "url", "headers", "files", "data", "params", "auth", "cookies", "json")
    return {name: value for name, value in arguments.items() if name in names}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, schemathesis: Any) -> Iterator[Relay]:
    with asyncio.Runner() as runner:
        made = Relay(runner, tmp_path_factory.mktemp("relay"))
        yield made
        made.stop()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.timeout(7200 if SOAK else 180)
@pytest.mark.filterwarnings("ignore")
def test_the_relay_is_what_its_document_says(schemathesis: Any, relay: Relay, mode: str) -> None:
    from schemathesis.specs.openapi import checks

    document = schemathesis.openapi.from_path(ROOT / "docs" / "spec" / "relay-openapi.yaml")
    own = [
        schemathesis.checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
        checks.response_schema_conformance,
    ]  # fmt: skip
    seen: Counter[tuple[str, int]] = Counter()

    def drive(operation: Any) -> None:
        @settings(
            max_examples=EXAMPLES, database=None, deadline=None, derandomize=os.environ.get("CI") == "true",
            suppress_health_check=list(HealthCheck), phases=[Phase.generate], report_multiple_bugs=False,
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
        def one(case: Any) -> None:
            if isinstance(case.query, dict) and "wait" in case.query:
                case.query["wait"] = min(case.query["wait"], 0) if isinstance(case.query["wait"], int) else 0
            answer = relay.call(case, signed="security" in operation.definition.raw)
            seen[operation.label, answer.status_code] += 1
            case.validate_response(answer, checks=own)
            if answer.status_code >= 400 and answer.headers.get("Content-Type", "").startswith(
                "application/json"
            ):
                assert set(answer.json()) == {"error", "sentence", "next", "now"}

        one()

    operations = [found.ok() for found in document.get_all_operations()]
    if mode == "negative":  # where a call has no parts, none can be wrong
        operations = [o for o in operations if o.body or [*o.path_parameters, *o.query, *o.headers]]
    for operation in operations:
        drive(operation)
    assert len(operations) > 15
    assert {label for label, _ in seen} == {operation.label for operation in operations}
    assert any(status < 300 for _, status in seen)
    assert any(status >= 400 for _, status in seen)
