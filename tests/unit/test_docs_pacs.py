"""What docs/operate/pacs.md says to type is taken as it stands there."""

from __future__ import annotations

import json
import re

from clients.gateway.config import Config, parse_config
from tests.dicom_kit import ROOT

PAGE = (ROOT / "docs" / "operate" / "pacs.md").read_text("utf-8")
HEAD = '[site]\nname = "Lakeside"\n[relay]\nurl = "https://relay.example"\n'


def blocks() -> list[str]:
    """The indented blocks of the page."""
    found = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", PAGE, flags=re.MULTILINE)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE).strip() for block in found]


def test_the_settings_of_the_gateway() -> None:
    (text,) = [block for block in blocks() if block.startswith("[dicom]")]
    config = parse_config(HEAD + text)
    assert isinstance(config, Config)
    assert config.pacs is not None
    assert config.source is not None
    assert config.pacs.aet in config.dicom.allow_aets, "its reports and C-MOVE would be refused"
    assert parse_config(HEAD + text.replace("# allow_addresses", "allow_addresses")).dicom.allow_addresses


def test_the_lines_of_orthanc() -> None:
    texts = [block for block in blocks() if block.startswith('"Dicom')]
    settings = [json.loads("{" + text.rstrip(",") + "}") for text in texts]
    assert [len(each) for each in settings] == [6, 4]
    modality = settings[0]["DicomModalities"]["gateway"]
    assert (modality["AET"], modality["Port"]) == ("TRAUMATX", 11112)
    assert {key for key in modality if key.startswith("Allow")} == {
        "AllowEcho", "AllowStore", "AllowFind", "AllowMove", "AllowGet", "AllowStorageCommitment",
    }  # fmt: skip
