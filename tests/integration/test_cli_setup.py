"""What an administrator types: a site is made, enrolled, paired, checked and run, over TLS with a CA of one's own; and
what each of these says when it cannot be done.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import shutil
import signal
import socket
import stat
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from clients.commands.parties import call, tool
from clients.gateway.config import parse_config
from tests.programs import RECEIVER, Gateway, Program, Programs, Running, command, running, write_study

pytestmark = pytest.mark.asyncio(loop_scope="module")
DEAD = "http://127.0.0.1:1"
"""A relay that is not there."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everybody(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Programs]:
    async with running(tmp_path_factory.mktemp("setup")) as programs:
        yield programs


@pytest_asyncio.fixture(loop_scope="module")
async def world(everybody: Programs) -> Programs:
    await everybody.heal()
    return everybody


async def init(folder: Path, *argv: str, name: str = "Hill Hospital") -> str:
    """A new gateway; its folder as the commands take it."""
    done = await command("gateway", "init", str(folder), "--name", name, "--relay", DEAD, *argv, "--json")
    assert done.code == 0, done
    assert done.value["folder"] == str(folder)
    return str(folder)


# gateway init, card; relay enroll


async def test_init_writes_a_commented_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    argv = (
        "--ca-file", "ca.pem", "--aet", "HILL", "--dicom", "0.0.0.0:11113", "--allow-aet", "CT1", "--allow-aet", "CT2",
        "--http", "127.0.0.1:8481", "--pacs", "ARCHIVE@10.0.0.1:104",
    )  # fmt: skip
    folder = Path(await init(tmp_path / "hill", *argv, name='Hill "West" \\ Hospital'))
    text = (folder / "gateway.toml").read_text()
    assert text.count("#") > 10
    config = parse_config(text)
    assert (config.site.name, config.relay.url, config.relay.ca_file) == (
        'Hill "West" \\ Hospital',
        DEAD,
        "ca.pem",
    )
    assert (config.dicom.aet, config.dicom.listen, config.dicom.allow_aets) == (
        "HILL", "0.0.0.0:11113", ("CT1", "CT2"),
    )  # fmt: skip
    assert config.pacs is not None
    assert (config.pacs.aet, config.pacs.address) == ("ARCHIVE", "10.0.0.1:104")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("site.key", "gateway.db"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    again = await command("gateway", "init", str(folder), "--name", "Other", "--relay", DEAD, "--json")
    assert (again.code, again.value["code"]) == (1, "config")
    assert (folder / "gateway.toml").read_text() == text


@pytest.mark.parametrize(
    "argv",
    [
        ("--relay", "relay.example"), ("--relay", "https://relay.example/path"), ("--pacs", "127.0.0.1:104"),
        ("--pacs", "PACS@nowhere"), ("--dicom", "11112"), ("--aet", "SEVENTEEN LETTERS"), ("--aet", ""),
        ("--http", "0.0.0.0:8480"), ("--name", ""), ("--name", "x" * 200), ("--allow-aet", "A\\B"),
    ],
)  # fmt: skip
async def test_init_refuses_what_cannot_be_used_and_makes_nothing(
    tmp_path: Path, argv: tuple[str, ...]
) -> None:
    given = ["--name", "Hill", "--relay", DEAD, *argv]  # the last one counts
    done = await command("gateway", "init", str(tmp_path / "hill"), *given, "--json")
    assert (done.code, done.value["event"], done.value["code"]) == (1, "failed", "config")
    assert done.value["sentence"].endswith(".")
    assert not (tmp_path / "hill").exists()


async def test_card_and_enroll(tmp_path: Path) -> None:
    folder = await init(tmp_path / "hill")
    shown = await command("gateway", "card", folder, "--json")
    text = await command("gateway", "card", folder)
    drawn = await command("gateway", "card", folder, "--qr")
    assert text.out.startswith("eyJ")
    assert "\N{FULL BLOCK}" in drawn.out
    (tmp_path / "hill.card").write_text(text.out)
    for card in (str(tmp_path / "hill.card"), text.out.strip()):
        done = await command("relay", "enroll", str(tmp_path / "relay"), card, "--json")
        assert done.code == 0
        assert done.value["name"] == "Hill Hospital"
        assert done.value["fingerprint"] == shown.value["fingerprint"]
    for card in (
        "eyJub25zZW5zZQ",
        str(tmp_path / "nothing.card"),
        text.out.strip()[:-5] + "AAAAA",
        "\N{SNOWMAN}",
    ):
        done = await command("relay", "enroll", str(tmp_path / "relay"), card, "--json")
        assert (done.code, done.value["event"], done.value["code"]) == (1, "failed", "config")


# gateway pin


async def test_pin_asks_and_takes_a_no(world: Programs, tmp_path: Path) -> None:
    other = await init(tmp_path / "hill")
    card = await call("gateway", "card", other)
    (tmp_path / "hill.card").write_text(card["card"] + "\n")
    argv = ("gateway", "pin", str(world.sender.folder), str(tmp_path / "hill.card"))
    for answer in ("n\n", "\n", "", "what\nn\n"):
        done = await command(*argv, "--json", stdin=answer)
        assert (done.code, done.value["code"]) == (1, "fingerprint")
        assert card["fingerprint"] in done.err
        assert "Hill Hospital" in done.err
    wrong = await command(*argv, "--fingerprint", card["fingerprint"][:-1] + "x", "--json")
    assert (wrong.code, wrong.value["code"]) == (1, "fingerprint")
    assert [p.name for p in await world.sender.engine.peers()] == [RECEIVER]
    done = await command(*argv, stdin="y\n")
    assert done.code == 0
    assert done.out == (
        f"Paired with Hill Hospital. Its card names another relay than this site's ({DEAD}): unless both are the"
        " same, nothing will arrive.\n"
    )
    assert {p.name for p in await world.sender.engine.peers()} == {RECEIVER, "Hill Hospital"}
    spaced = await command(*argv, "--fingerprint", card["fingerprint"].replace(" ", ""), "--json")
    assert (spaced.code, spaced.value["fingerprint"]) == (0, card["fingerprint"])
    actions = [a for a in await world.sender.engine.audit() if a.action == "peer.pin"]
    assert actions[0].actor.startswith("os:")


async def test_pin_refuses_what_is_no_card(world: Programs, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff" * 100)
    (tmp_path / "large").write_bytes(b"A" * 10**6)
    good = world.cards["receiver"]["card"]
    cards = {
        str(tmp_path / "nothing"): "config", str(tmp_path / "binary"): "config", str(tmp_path): "config",
        str(tmp_path / "large"): "size", "eyJ": "header", good[:-4] + "AAAA": "signature",
    }  # fmt: skip
    for card, code in cards.items():
        done = await command("gateway", "pin", str(world.sender.folder), card, "--fingerprint", "x", "--json")
        assert (done.code, done.value["event"]) == (1, "failed")
        assert done.value["code"] == code


# gateway echo


async def checks(world: Programs) -> tuple[int, dict[str, tuple[bool, str]]]:
    """Exit code of `gateway echo` at the receiver, and what it says by name."""
    done = await command("gateway", "echo", str(world.receiver.folder), "--json")
    return done.code, {c["name"]: (c["ok"], c["sentence"]) for c in done.value}


async def test_echo_when_all_is_well(world: Programs) -> None:
    code, found = await checks(world)
    assert code == 0, found
    assert list(found) == ["relay", "clock", "pacs", "dicom", "disk", "database", "sites", "transfers"]
    assert all(ok for ok, _ in found.values())
    shown = await command("gateway", "echo", str(world.receiver.folder))
    assert shown.out.count("ok  ") == len(found)


async def test_echo_says_what_is_wrong(world: Programs) -> None:
    await world.relay.kill()
    code, found = await checks(world)
    assert code == 1
    assert found["relay"] == (
        False,
        "The relay cannot be reached. The gateway keeps trying; check the network if this stays.",
    )
    assert found["pacs"][0]
    await world.relay.start()
    await world.pacs.kill()
    code, found = await checks(world)
    assert (code, found["relay"][0], found["pacs"][0]) == (1, True, False)
    assert "PACS" in found["pacs"][1]
    await world.pacs.start()
    await world.receiver.restart(clock=700)
    code, found = await checks(world)
    assert (code, found["relay"][0], found["clock"][0]) == (1, True, False)
    assert "Set the clock" in found["clock"][1]


async def test_echo_of_a_site_that_the_relay_does_not_know(world: Programs, tmp_path: Path) -> None:
    relay = f"http://127.0.0.1:{world.up.port}"
    folder = await init(
        tmp_path / "hill", "--relay", relay, "--dicom", "127.0.0.1:0", "--http", "127.0.0.1:0"
    )
    done = await command("gateway", "echo", folder)
    assert done.code == 1
    assert (
        "FAIL relay: The relay does not know this site. Ask its operator to enroll this site's card."
        in done.out
    )


# user add


async def test_user_add(world: Programs) -> None:
    folder = str(world.sender.folder)
    for role in ("clerk", "privacy-officer"):
        done = await command(
            "user", "add", folder, "maria", "--role", role, "--json", stdin="four unrelated words\n"
        )
        assert (done.code, done.value) == (0, {"name": "maria", "role": role})
    users = {u.name: u.role for u in await world.sender.engine.users()}
    assert users["maria"] == "privacy-officer"
    for password in ("short\n", "\n", "", "password1234\n"):
        done = await command("user", "add", folder, "eve", "--role", "clerk", "--json", stdin=password)
        assert (done.code, done.value["code"]) == (1, "password")
    for argv in (("eve", "--role", "chief"), ("  ", "--role", "clerk"), ("eve",)):
        done = await command("user", "add", folder, *argv, stdin="four unrelated words\n")
        assert (done.code, done.out) == (2, "")
    assert users == {u.name: u.role for u in await world.sender.engine.users()}


async def test_user_remove(world: Programs) -> None:
    folder = str(world.sender.folder)
    await command("user", "add", folder, "ann", "--role", "clerk", stdin="four unrelated words\n")
    done = await command("user", "remove", folder, " ann ", "--json")
    assert (done.code, done.value) == (0, {"name": "ann"})
    assert {u.name: u.disabled for u in await world.sender.engine.users()}["ann"]
    again = await command("user", "remove", folder, "ann", "--json")
    assert (again.code, again.value["code"]) == (1, "absent")


# gateway allow, gateway unpin


async def test_unpin(tmp_path: Path) -> None:
    """By a gateway that does not run; the other site is a stranger from then on."""
    folder = await init(tmp_path / "hill", "--dicom", "127.0.0.1:0", "--http", "127.0.0.1:0")
    other = await init(tmp_path / "valley", "--dicom", "127.0.0.1:0", "--http", "127.0.0.1:0", name="Valley")
    card = (await command("gateway", "card", other, "--json")).value
    pinned = await command("gateway", "pin", folder, card["card"], "--fingerprint", card["fingerprint"])
    assert pinned.code == 0
    allowed = await command("gateway", "allow", folder, "Valley", "--attest", "--json")
    assert (allowed.code, allowed.value["allow"]) == (0, ["attest"])
    done = await command("gateway", "unpin", folder, "Valley", "--json")
    assert (done.code, done.value["fingerprint"]) == (0, card["fingerprint"])
    again = await command("gateway", "unpin", folder, "Valley", "--json")
    assert (again.code, again.value["code"]) == (1, "absent")


# gateway run, relay run


async def test_no_command_makes_a_gateway_by_accident(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nothing"):
        for argv in (
            ("gateway", "run"), ("gateway", "card"), ("gateway", "echo"), ("status",), ("cancel", "0" * 32),
            ("send", "--latest", "--to", "x"), ("user", "add", "maria", "--role", "clerk"),
        ):  # fmt: skip
            n = 2 if argv[0] in ("gateway", "user") else 1
            done = await command(*argv[:n], str(folder), *argv[n:], "--json", stdin="four unrelated words\n")
            assert (done.code, done.value["code"]) == (1, "config"), argv
            assert "gateway init" in done.value["sentence"]
    assert not list((tmp_path / "empty").iterdir())
    assert not (tmp_path / "nothing").exists()


async def test_run_twice_and_on_taken_ports(world: Programs, tmp_path: Path) -> None:
    second = await command("gateway", "run", str(world.sender.folder), "--json")
    assert (second.code, second.value["code"]) == (1, "busy")
    taken = f"127.0.0.1:{world.sender.dicom_port}"
    folder = await init(tmp_path / "one", "--dicom", taken, "--http", "127.0.0.1:0")
    done = await command("gateway", "run", folder, "--json")
    assert (done.code, done.value["code"]) == (1, "dicom-port")
    pages = world.sender.ready["pages"].removeprefix("http://")
    folder = await init(tmp_path / "two", "--dicom", "127.0.0.1:0", "--http", pages)
    done = await command("gateway", "run", folder, "--json")
    assert (done.code, done.value["code"]) == (1, "config")
    with socket.create_connection(("127.0.0.1", world.sender.dicom_port)):
        pass  # the one that runs is not disturbed


async def test_run_refuses_a_file_that_it_cannot_read(tmp_path: Path) -> None:
    folder = Path(await init(tmp_path / "hill", "--dicom", "127.0.0.1:0", "--http", "127.0.0.1:0"))
    good = (folder / "gateway.toml").read_text()
    no_ca = good.replace('# ca_file = ""', 'ca_file = "/nowhere.pem"').replace(DEAD, "https://127.0.0.1:1")
    for bad, word in (
        (good + "surprise = 1\n", "surprise"), (good.replace("quiet_seconds = 60", "quiet_seconds = 'x'"), "quiet_s"),
        ("not toml [", "gateway.toml"), (no_ca, "ca_file"),
    ):  # fmt: skip
        (folder / "gateway.toml").write_text(bad)
        done = await command("gateway", "run", str(folder), "--json")
        assert (done.code, done.value["code"]) == (1, "config")
        assert word in done.value["sentence"]
    (folder / "gateway.toml").write_text(good)
    (folder / "gateway.db").write_bytes(b"this is no database" * 100)
    done = await command("gateway", "run", str(folder), "--json")
    assert (done.code, done.value["event"]) == (1, "failed")
    (folder / "site.key").write_bytes(b"short")
    done = await command("gateway", "run", str(folder), "--json")
    assert (done.code, done.value["code"]) == (1, "config")
    assert "site.key" in done.value["sentence"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_polite_end(world: Programs, signum: int) -> None:
    for site in (world.sender, world.receiver):
        assert site.process is not None
        await site.engine.close()
        site.process.send_signal(signum)
    for site in (world.sender, world.receiver):
        assert site.process is not None
        assert await site.process.wait() == 0
        assert not (site.folder / "control.sock").exists()
        assert "Traceback" not in site.log.read_text()
        await site.start()


async def test_the_relay_says_what_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text("surprise = 1\n")
    for argv in (
        ("--config", str(config)), ("--config", str(tmp_path / "nothing.toml")), ("--listen", "here"),
        ("--listen", "203.0.113.1:1"), ("--tls-cert", "cert.pem"), ("--data", "/dev/null/relay"),
        ("--tls-cert", str(config), "--tls-key", str(config)),
    ):  # fmt: skip
        where = () if "--data" in argv else ("--data", str(tmp_path / "relay"))
        listen = () if "--listen" in argv else ("--listen", "127.0.0.1:0")
        done = await command("relay", "run", *where, *listen, *argv, "--json")
        assert (done.code, done.value["event"], done.value["code"]) == (1, "failed", "config"), argv


async def test_the_installed_command_is_this_one() -> None:
    script = shutil.which("trauma-transfer", path=str(Path(sys.executable).parent))
    assert script is not None
    one = await asyncio.create_subprocess_exec(script, "--version", stdout=asyncio.subprocess.PIPE)
    assert (await one.communicate())[0].decode() == (await command("--version")).out
    assert (
        tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
        in (await command("--version")).out
    )


# TLS


def certificate_authority(folder: Path) -> None:
    """A CA of a hospital's own, and a certificate of it for 127.0.0.1: ca.pem, cert.pem, key.pem."""
    now = datetime.datetime.now(datetime.UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "relay")}
    names = {name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} of a test")]) for name in keys}

    def made(name: str, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
        builder = (
            x509.CertificateBuilder().subject_name(names[name]).issuer_name(names["ca"])
            .public_key(keys[name].public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
        )  # fmt: skip
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(keys["ca"], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca = made("ca", (x509.BasicConstraints(ca=True, path_length=0), True))
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    (folder / "ca.pem").write_bytes(ca)
    (folder / "cert.pem").write_bytes(made("relay", (here, False)) + ca)
    (folder / "key.pem").write_bytes(
        keys["relay"].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


async def test_a_relay_with_a_ca_of_ones_own(tmp_path: Path) -> None:
    certificate_authority(tmp_path)
    async with AsyncExitStack() as ends:
        await over_tls(tmp_path, ends)


async def over_tls(base: Path, ends: AsyncExitStack) -> None:
    """A whole transfer; and those who do not know the CA are told so."""

    async def start(program: Program) -> None:
        ends.push_async_callback(program.stop)
        await program.start()

    ca, data = str(base / "ca.pem"), str(base / "relay")
    tls = ("--tls-cert", str(base / "cert.pem"), "--tls-key", str(base / "key.pem"))
    argv = ("relay", "run", "--listen", "127.0.0.1:0", "--data", data, *tls, "--json")
    relay = Program("relay", base / "relay.log", *tool(*argv))
    module = (sys.executable, "-m", "clients.gateway.dicom.pacs")
    pacs = Program("PACS", base / "pacs.log", *module, "--dir", str(base / "pacs"))
    await asyncio.gather(start(relay), start(pacs))
    url = relay.ready["url"]
    assert url.startswith("https://127.0.0.1:")
    common = ("--dicom", "127.0.0.1:0", "--http", "127.0.0.1:0", "--relay", url)
    echo = await command("gateway", "echo", await init(base / "stranger", *common))
    assert echo.code == 1
    assert "certificate is not trusted" in echo.out
    sites = {name: Gateway(base / name) for name in ("sender", "receiver")}
    await init(base / "sender", *common, "--ca-file", ca)
    pacs_at = f"PACS@127.0.0.1:{pacs.ready['port']}"
    await init(base / "receiver", *common, "--ca-file", ca, "--pacs", pacs_at, name=RECEIVER)
    cards = {name: await call("gateway", "card", str(site.folder)) for name, site in sites.items()}
    for name, site in sites.items():
        await call("relay", "enroll", data, cards[name]["card"])
        await start(site)
    await sites["sender"].engine.pin_peer(cards["receiver"]["card"], "test")
    await sites["receiver"].engine.pin_peer(cards["sender"]["card"], "test")
    sent = write_study(base / "study")
    path = str(base / "study")
    send = Running("send", base / "send.log", "send", str(base / "sender"), "--path", path, "--to", RECEIVER)
    await start(send)
    offer = await send.event("offered")
    assert offer["link"].startswith(f"{url}/s#1.")
    phone = ("phone", offer["link"], "--pin", offer["pin"], "--approve", "--json")
    bare = await command(*phone)
    assert (bare.code, bare.lines[-1]["code"]) == (1, "certificate")
    assert (await command(*phone, "--ca-file", ca)).code == 0
    assert await send.end() == 0
    assert send.events[-1]["stored"] == len(sent)
