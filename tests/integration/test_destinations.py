"""Several destinations, from gateway.toml to the images: a study whose series go to two PACS by rule."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from clients.commands.parties import Party
from tests.dicom_kit import save
from tests.gateway_kit import an_instance
from tests.world import World, hashes

MR = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, set[str], set[str]]:
    """A folder of one study, and the UIDs of its CT and of its MR images."""
    folder = tmp_path / "study"
    folder.mkdir()
    uids: dict[str, set[str]] = {"CT": set(), "MR": set()}
    for n in range(1, 6):
        more = {"SOPClassUID": MR, "Modality": "MR", "SeriesInstanceUID": "2.25.13"} if n > 3 else {}
        ds = an_instance(InstanceNumber=n, **more)
        save(ds, folder / f"{n}.dcm")
        uids["MR" if n > 3 else "CT"].add(str(ds.SOPInstanceUID))
    return folder, uids["CT"], uids["MR"]


async def test_each_series_is_where_its_rule_says(
    tmp_path: Path, study: tuple[Path, set[str], set[str]]
) -> None:
    folder, ct, mr = study
    world = World(tmp_path / "world")
    (tmp_path / "neuro").mkdir()
    neuro = Party(
        "PACS", tmp_path / "neuro.log", sys.executable, "-m", "clients.gateway.dicom.pacs", "--dir",
        str(tmp_path / "neuro"), "--port", "0", "--aet", "NEURO",
    )  # fmt: skip
    async with contextlib.AsyncExitStack() as ends:
        ends.push_async_callback(neuro.stop)
        port = (await neuro.start())["port"]
        await world.open()
        ends.push_async_callback(world.close)
        await world.receiver.close()
        with (world.receiver.folder / "gateway.toml").open("a") as file:
            file.write(
                f'\n[[destinations]]\nname = "neuro"\naet = "NEURO"\naddress = "127.0.0.1:{port}"\n'
                '[[routes]]\nmodality = ["MR"]\nto = ["neuro"]\n'
                '[[routes]]\nsender = ["Valley ED"]\nto = ["pacs", "neuro"]\n'
            )
        await world.receiver.open()
        view = await world.offer(folder)
        await world.answer(view)
        end = await world.sender.until(view.tid, "COMPLETE", "PARTIAL")
        assert (end.state, end.stored, end.gaps) == ("COMPLETE", 5, 0)
    assert set(hashes(world.pacs_folder)) == ct
    assert set(hashes(tmp_path / "neuro")) == ct | mr
