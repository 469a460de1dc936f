"""The page's handshake and channel against the vectors, in Chromium: the same files that the Python side loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from relay.service import Running
from tests.web.conftest import MakePhone
from transfer.encoding import b64

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]
VECTORS = Path(__file__).parent.parent / "vectors"
DRAFT: dict[str, Any] = json.loads((VECTORS / "cpace_draft21.json").read_text())
DOORS: list[dict[str, Any]] = json.loads((VECTORS / "cpace_door.json").read_text())
INVALID = {name: point for name, point in DRAFT["X25519_points"].items() if name.startswith("Invalid")}

PRELUDE = """
const { generator, multiply, isk, startRun, point, hkdf, hex, unb64, utf8 } = await import('/a/app.js');
const { Channel, checkCode } = await import('/a/answer.js');
const bytes = (h) => Uint8Array.from(h.match(/../g) ?? [], (x) => parseInt(x, 16));
// RFC 8410: a raw scalar as PKCS #8
const scalar = (h) =>
  crypto.subtle.importKey('pkcs8', bytes('302e020100300506032b656e04220420' + h), 'X25519', false, ['deriveBits']);
"""


async def run(page: Page, body: str, arg: Any) -> Any:
    """The value of `body`, an async function's inside that knows the page's modules and `v`."""
    return await page.evaluate(f"async (v) => {{ {PRELUDE} {body} }}", arg)


async def test_draft_21(phone: MakePhone, relay: Running) -> None:
    """Generator, both points, the shared point and the session key of draft 21's X25519 example."""
    v = DRAFT["G_25519"]
    page = await phone(f"{relay.url}/s")
    found = await run(
        page,
        """
        const g = await generator(bytes(v.PRS), bytes(v.CI), bytes(v.sid));
        const Ya = await multiply(await scalar(v.ya), g);
        const Yb = await multiply(await scalar(v.yb), g);
        const K = await multiply(await scalar(v.ya), Yb);
        const ISK_IR = await isk(bytes(v.sid), K, [Ya, bytes(v.ADa), Yb, bytes(v.ADb)]);
        return Object.fromEntries(Object.entries({ g, Ya, Yb, K, ISK_IR }).map(([k, x]) => [k, hex(x).toUpperCase()]));
        """,
        v,
    )
    assert found == {name: v[name] for name in ("g", "Ya", "Yb", "K", "ISK_IR")}


async def test_every_invalid_point_is_refused(phone: MakePhone, relay: Running) -> None:
    """Low order, and all that an honest peer never sends; no value comes out."""
    assert len(INVALID) == 12
    page = await phone(f"{relay.url}/s")
    taken = await run(
        page,
        """
        const out = [];
        for (const [name, point] of Object.entries(v.points)) {
          await multiply(await scalar(v.ya), bytes(point)).then(() => out.push(name), () => {});
        }
        return out;
        """,
        {"points": INVALID, "ya": DRAFT["G_25519"]["ya"]},
    )
    assert taken == []


@pytest.mark.parametrize("v", DOORS, ids=[v["mode"] for v in DOORS])
async def test_door(v: dict[str, Any], phone: MakePhone, relay: Running) -> None:
    """Our labels: mailbox, m1, m3, S's tag, check code, and the boxes of m4 and m5."""
    page = await phone(f"{relay.url}/s")
    found = await run(
        page,
        """
        const keys = { scalar: await scalar(v.ya), signer: null, vP: bytes(v.ADa_phone_key), nP: bytes(v.nP) };
        const run = await startRun(bytes(v.q), v.code, v.m0, Promise.resolve(keys));
        const m3 = await point(run, v.m2);
        const channel = await Channel.derive(run.key, run.sid);
        return {
          mailbox: v.q ? hex(await hkdf(bytes(v.q), '', 'tt1/mailbox', 16)) : null,
          Ya: hex(run.Ya), gate: hex(unb64(run.m1.gate)), isk: hex(run.key),
          Ta: hex(unb64(m3.Ta)), Tb: hex(run.Tb), check_code: await checkCode(run.key, run.sid),
          m4_plain: await channel.open(v.box), m5_box: hex(unb64(await channel.seal(v.m5_grant))),
        };
        """,
        v
        | {
            "m0": {"tid": b64(bytes.fromhex(v["tid"])), "s": b64(bytes.fromhex(v["ci"])[-32:])},
            "m2": {"v": 1, "Yb": b64(bytes.fromhex(v["Yb"])), "hO": b64(bytes.fromhex(v["ADb_hash_offer"]))},
            "box": b64(bytes.fromhex(v["m4_box"])),
        },
    )
    assert found == {name: v[name] for name in found}
