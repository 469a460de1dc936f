"""`clients.gateway.config` and `config_text`: what a hospital may write, what is refused; what is written is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.gateway.config import (
    Config,
    load_config,
    parse_config,
    split_address,
)
from clients.gateway.config_text import render_config
from clients.gateway.errors import ConfigError
from clients.gateway.networks import networks_of

LEAST = '[site]\nname = "Valley ED"\n[relay]\nurl = "https://relay.example"\n'


def parse(text: str) -> Config:
    return parse_config(LEAST + text)


def refused(text: str, *words: str) -> None:
    """`text` is a `ConfigError` whose sentence has these words, so that a person finds the line."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert caught.value.code == "config"
    for word in words:
        assert word in caught.value.sentence


def test_the_least_file_gets_safe_defaults() -> None:
    config = parse("")
    assert config.site.roles == ("send", "receive")
    assert config.pages.listen.startswith("127.0.0.1:")
    assert config.dicom.listen.startswith("127.0.0.1:")
    assert config.dicom.allow_aets == ()
    assert config.pacs is None


def test_what_init_writes_has_the_defaults_that_the_code_has() -> None:
    """The commented values of a new file are those of an empty one: a reader of the file is told the truth."""
    assert parse_config(render_config(name="Valley ED", relay="https://relay.example")) == parse("")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[dicom]\naett = 'X'\n", "aett"),
        ("[policy]\nquiet_seconds = '60'\n", "policy.quiet_seconds"),
        ("[policy]\nquiet_seconds = 0\n", "policy.quiet_seconds"),
        ("[policy]\noffer_seconds = 86401\n", "policy.offer_seconds"),
        ("[policy]\nquiet_seconds = 1.5\n", "policy.quiet_seconds"),
        ("[extra]\n", "extra"),
        ("[pacs]\naet = 'PACS'\n", "address"),
        ("[pacs]\naet = 'PACS'\naddress = '10.0.0.1:104'\nassociations = 5\n", "pacs.associations"),
        ("[pacs]\naet = 'PACS'\naddress = '10.0.0.1:0'\n", "pacs.address"),
        ("[pacs]\naet = 'PACS'\naddress = '10.0.0.1:70000'\n", "70000"),
        ("[dicom]\nlisten = 'nowhere'\n", "dicom.listen"),
        ("[identity]\npolicy = 'guess'\n", "identity.policy"),
        ("[hl7]\nlisten = '127.0.0.1:2575'\nallow = ['gateway.example']\n", "hl7.allow"),
        ("[hl7]\nlisten = '127.0.0.1:99999'\n", "99999"),
        ("[hl7]\nadt = '10.1.2.3:0'\n", "hl7.adt"),
        ("[hl7]\nfacility = 'Läke'\n", "hl7.facility"),
        ("[hl7]\nwait_seconds = 1\n", "hl7.wait_seconds"),
        ("[identity]\nwait_seconds = -1\n", "identity.wait_seconds"),
        ("[identity]\nissuer = 'A\\\\B'\n", "identity.issuer"),
        ("[identity]\nissuer = '湖畔'\n", "identity.issuer"),
        ("[worklist]\naet = 'RIS'\n", "address"),
        ("[worklist]\naet = 'RIS'\naddress = 'ris:0'\n", "worklist.address"),
        ("[worklist]\naet = 'RIS'\naddress = 'ris:104'\ntls_name = 'ris'\n", "worklist.tls_cert"),
        ("[dicom]\nallow_aets = ['GOOD', 'NOT\\\\GOOD']\n", "dicom.allow_aets"),
        ("[pages]\nkey = 'key.pem'\n", "pages.key"),
        ("[dicom\n", "gateway.toml"),
    ],
)
def test_a_wrong_value_is_named(text: str, word: str) -> None:
    refused(LEAST + text, word)


@pytest.mark.parametrize("section", ["[dicom]\n", "[pacs]\naet = 'PACS'\naddress = 'pacs:104'\n"])
def test_tls_is_whole_or_not_at_all(section: str) -> None:
    keys = ["tls_cert", "tls_key", "tls_ca"]
    text = LEAST + section
    parse_config(text + "".join(f"{key} = 'file.pem'\n" for key in keys))
    for key in keys:
        others = [other for other in keys if other != key]
        refused(
            text + "".join(f"{other} = 'file.pem'\n" for other in others), f"{section[1:6].rstrip(']')}.{key}"
        )
        refused(text + f"{key} = 'file.pem'\n", *others)


@pytest.mark.parametrize("name", ["pacs.example", "PACS1", "10.0.0.1", "fe80::1"])
def test_the_name_of_a_pacs(name: str) -> None:
    text = LEAST + f"[pacs]\naet = 'PACS'\naddress = 'pacs:104'\ntls_name = '{name}'\n"
    refused(text, "pacs.tls_cert", "pacs.tls_key", "pacs.tls_ca")
    config = parse_config(text + "tls_cert = 'a'\ntls_key = 'b'\ntls_ca = 'c'\n")
    assert config.pacs is not None
    assert config.pacs.tls_name == name
    for bad in (".example", "two words", "x" * 254):
        refused(text.replace(name, bad), "pacs.tls_name")


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[site]\nname = "X"\n',
        '[site]\nname = ""\n[relay]\nurl = "https://r.example"\n',
        '[site]\nname = "X"\n[relay]\nurl = "ftp://r.example"\n',
        '[site]\nname = "X"\n[relay]\nurl = "https://r.example/path"\n',
        '[site]\nname = "X"\n[relay]\nurl = "https://["\n',
        '[site]\nname = "X"\n[relay]\nurl = "https://:443"\n',
        '[site]\nname = "X"\n[relay]\nurl = "https://r.example:70000"\n',
        '[site]\nname = "X"\npage = "https://[x]"\n[relay]\nurl = "https://r.example"\n',
        '[site]\nname = "X"\n[relay]\nurl = "https://user:word@r.example"\n',
        '[site]\nname = "X"\n[relay]\nurl = "https://r.example?x"\n',
        '[site]\nname = "X"\nroles = []\n[relay]\nurl = "https://r.example"\n',
        '[site]\nname = "X"\nroles = ["own"]\n[relay]\nurl = "https://r.example"\n',
        '[site]\nname = "X"\npage = "r.example"\n[relay]\nurl = "https://r.example"\n',
        '[site]\nname = "X"\npage = "https://r.example/"\n[relay]\nurl = "https://r.example"\n',
        f'[site]\nname = "{"x" * 81}"\n[relay]\nurl = "https://r.example"\n',
    ],
)
def test_what_would_make_an_unreadable_card_or_link_is_refused(text: str) -> None:
    refused(text)


@pytest.mark.parametrize("aet", ["A", "ANY-SCP", "A B", "A" * 16, "a@b", "~!#"])
def test_ae_titles(aet: str) -> None:
    config = parse_config(
        render_config(name="X", relay="https://r.example", aet=aet, allow_aets=(aet,), pacs=f"{aet}@pacs:104")
    )
    assert config.dicom.aet == aet
    assert config.dicom.allow_aets == (aet,)
    assert config.pacs is not None
    assert (config.pacs.aet, config.pacs.address) == (aet, "pacs:104")


@pytest.mark.parametrize("aet", ["", " ", " A", "A ", "A" * 17, "A\\B", "A\nB", "Ä", "A\x7f"])
def test_no_ae_titles(aet: str) -> None:
    with pytest.raises(ConfigError):
        render_config(name="X", relay="https://r.example", aet=aet)
    with pytest.raises(ConfigError):
        render_config(name="X", relay="https://r.example", pacs=f"{aet}@pacs:104")


@pytest.mark.parametrize(
    "pacs", ["PACS", "PACS@", "@pacs:104", "PACS@pacs", "PACS@pacs:0", "PACS@pacs:99999"]
)
def test_a_pacs_that_cannot_be_reached_is_refused(pacs: str) -> None:
    with pytest.raises(ConfigError):
        render_config(name="X", relay="https://r.example", pacs=pacs)


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:8480", "[::]:8480", "10.1.2.3:8480", "gateway.example:8480", "127.0.0.1.example:8480"]
)
def test_pages_leave_this_machine_only_with_a_certificate(listen: str) -> None:
    with pytest.raises(ConfigError, match="certificate"):
        render_config(name="X", relay="https://r.example", http=listen)
    config = parse_config(
        render_config(name="X", relay="https://r.example", http=listen, http_cert="c.pem", http_key="k.pem")
    )
    assert config.pages.listen == listen


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:8480", "localhost:8480", ":8480"])
def test_pages_on_this_machine_need_none(listen: str) -> None:
    config = parse_config(render_config(name="X", relay="https://r.example", http=listen))
    assert split_address(config.pages.listen)[0] in ("127.0.0.1", "::1", "localhost")


@pytest.mark.parametrize("listen", ["0.0.0.0:2575", "[::]:2575", "10.1.2.3:2575", "gateway.example:2575"])
def test_hl7_leaves_this_machine_only_for_those_who_are_named(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"hl7\.allow"):
        parse(f"[hl7]\nlisten = '{listen}'\n")
    config = parse(f"[hl7]\nlisten = '{listen}'\nallow = ['10.1.2.3', '10.9.0.0/16']\n")
    assert [str(n) for n in networks_of("hl7.allow", config.hl7.allow)] == ["10.1.2.3/32", "10.9.0.0/16"]
    assert parse("[hl7]\nlisten = '127.0.0.1:2575'\n").hl7.allow == ()


def test_addresses() -> None:
    assert split_address("pacs.example:104") == ("pacs.example", 104)
    assert split_address("[fe80::1]:11112") == ("fe80::1", 11112)
    for text in ("pacs", "pacs:", "pacs:65536", "pacs:-1", "pacs:²", "pacs:1.0"):
        with pytest.raises(ConfigError):
            split_address(text)


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=80),
    st.lists(st.text("ABC -~!\"'#@[]", min_size=1, max_size=16).filter(lambda t: t == t.strip()), max_size=4),
)
def test_any_name_comes_back_as_it_was(name: str, aets: list[str]) -> None:
    """Quotes, newlines, comment signs, braces and control characters do not end the line that they are in."""
    config = parse_config(render_config(name=name, relay="https://r.example/", allow_aets=tuple(aets)))
    assert config.site.name == name
    assert config.dicom.allow_aets == tuple(aets)
    assert config.relay.url == "https://r.example"


@pytest.mark.parametrize(
    "name",
    [
        'Say "Ah" Clinic',
        "O'Neil's\\",
        "two\nlines\r\n[pages]",
        "{name}",
        "# none",
        '"""',
        "Zürich 救急 🚑",
        "\x00\x1b\x7f",
    ],
)
def test_hostile_names(name: str) -> None:
    config = parse_config(render_config(name=name, relay="https://r.example", ca_file=name))
    assert config.site.name == config.relay.ca_file == name


def test_a_name_that_is_no_text_is_refused_in_words() -> None:
    """What the shell passes on where the terminal is not UTF-8 (PEP 383)."""
    with pytest.raises(ConfigError, match="UTF-8"):
        render_config(name="Z\udcfcrich", relay="https://r.example")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gateway init"):
        load_config(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="gateway init"):
        load_config(tmp_path / "file")
    (tmp_path / "gateway.toml").write_bytes(LEAST.encode() + b'[pages]\ncert = "\xff"\n')
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(tmp_path)
    (tmp_path / "gateway.toml").unlink()
    (tmp_path / "gateway.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


NEURO = '[[destinations]]\nname = "neuro"\naet = "NEURO"\naddress = "127.0.0.1:105"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (NEURO + '[[routes]]\nto = ["nuero"]', "routes[0].to names 'nuero'"),
        (NEURO + NEURO, "destinations[1].name 'neuro' is given twice"),
        (NEURO.replace('"neuro"', '"pacs"'), "destinations[0].name 'pacs' is given twice"),
        (NEURO.replace(":105", ":0"), "destinations.neuro.address needs the port"),
        (NEURO + 'tls_cert = "x"', "destinations.neuro.tls_key and destinations.neuro.tls_ca"),
        (
            NEURO.replace('"NEURO"', '"PACS"').replace("105", "104"),
            "destinations.neuro is the same PACS as pacs",
        ),
        (NEURO.replace('"neuro"', '"../x"'), "destinations[0].name"),
        ("[[routes]]\nto = []", "routes[0].to"),
        ('[[routes]]\nto = ["pacs"]\nmodalty = ["CT"]', "modalty"),
        ('[[routes]]\nto = ["pacs"]\nmodality = "CT"', "routes[0].modality"),
    ],
)
def test_a_destination_or_rule_that_cannot_be_meant_is_named(text: str, says: str) -> None:
    base = render_config(name="x", relay="https://relay.example", pacs="PACS@127.0.0.1:104")
    with pytest.raises(ConfigError, match=re.escape(says)):
        parse_config(f"{base}\n{text}\n")


def test_destinations_need_a_default() -> None:
    with pytest.raises(ConfigError, match=re.escape("need [pacs]")):
        parse_config(render_config(name="x", relay="https://relay.example") + NEURO)
