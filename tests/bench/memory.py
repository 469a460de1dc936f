"""Each process's peak memory (`VmHWM`, proc(5)) after a study, and after one that is eight times as large: the
same, if nothing grows with the study. Each is delivered to its end by parties that were just started; of the smaller
study the highest of several peaks counts.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from msgspec.structs import replace

from tests.bench.journey import deliver, offered, parties
from tests.bench.studies import long_study
from tests.bench.table import ROUNDS, Row, at_most, emit, shrunk

_INSTANCES = 200
"""105 MB: enough to fill every buffer on the way."""
_FACTOR = 8
_NAMES = {
    "scp_child": "SCP child", "scu_child": "SCU child", "clients.gateway.dicom.pacs": "PACS", "relay": "relay",
    "gateway": "gateway",
}  # fmt: skip
"""What each process is called, by a word of its command line; the first that is there."""


def peaks(base: Path) -> dict[str, float]:
    """Peak resident memory in MB of every process whose command line, or whose parent's, has the parties' folder."""
    found: dict[str, float] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        words, facts = process(pid)
        above = process(facts.get("PPid", ""))[0]
        side = _side(base, words) or _side(base, above)
        name = next((name for word, name in _NAMES.items() if any(w.endswith(word) for w in words)), "")
        if side and name and "VmHWM" in facts:
            key = (
                f"{name} of the {side}" if side in ("sender", "receiver") or name.endswith("child") else name
            )
            found[key] = max(found.get(key, 0.0), int(facts["VmHWM"].split()[0]) / 1024)
    return found


def _side(base: Path, words: list[str]) -> str:
    """Whose process it is, by the folder that it was given."""
    for word in words:
        if word.startswith(f"{base}{os.sep}"):
            return Path(word).relative_to(base).parts[0]
    return ""


def process(pid: str) -> tuple[list[str], dict[str, str]]:
    """Its command line, and what proc(5) says of it; nothing of one that is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return [], {}
    facts = dict(text.split(":", 1) for text in status.splitlines() if ":" in text)
    return words, {name: value.strip() for name, value in facts.items()}


async def after(study: Path) -> dict[str, float]:
    """Peaks once it was delivered, offered and approved as soon as that was possible."""
    async with parties() as demo:
        await deliver(demo, await offered(demo, study))
        return peaks(demo.base)


async def _run() -> None:
    count = shrunk(_INSTANCES, 12)
    small: dict[str, float] = {}
    for number in range(ROUNDS):  # how much is in flight at once varies; the most of it is what a peak is
        for name, peak in (await after(long_study(count, f"once{number}"))).items():
            small[name] = max(peak, small.get(name, 0.0))
    large = await after(long_study(_FACTOR * count, "eight"))
    for name in sorted(large):
        before = small.get(name)
        row = Row(
            what=f"peak memory, {_FACTOR} x the study: {name}", unit="MB", values=[large[name]], better="less"
        )
        note = f"1 x {before:.0f} MB" if before else "absent with 1 x"
        emit(replace(row, gate=at_most(200 if name == "relay" else 400), note=note))
        grown = [large[name] / before] if before else []
        row = Row(what=f"its growth from 1 x to {_FACTOR} x: {name}", values=grown, better="less")
        emit(replace(row, gate=at_most(1.1)))


def main() -> None:
    """Emits two rows for each process."""
    asyncio.run(_run())
