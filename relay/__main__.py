"""The relay's own command line: `run`, `enroll`, `sites`, `dismiss`. `trauma-transfer relay ...` hands over to it."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from relay import enroll as enrolling
from relay.errors import ConfigError, RelayError
from transfer.messages import Card
from transfer.sites import fingerprint


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """The blind relay: it moves sealed studies between hospitals and can read nothing."""


@main.command(
    epilog="Example: trauma-transfer relay run --listen 0.0.0.0:8440 --tls-cert chain.pem --tls-key key.pem"
)
@click.option("--config", "file", type=click.Path(path_type=Path), help="A TOML file; options win over it.")
@click.option("--listen", help="HOST:PORT; port 0 takes a free one.")
@click.option("--data", type=click.Path(path_type=Path), help="The relay's data folder.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain, PEM; else plain HTTP.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key, PEM.")
@click.option("--json", "as_json", is_flag=True, help="The line at start as JSON.")
def run(
    file: Path | None,
    listen: str | None,
    data: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    as_json: bool,
) -> None:
    """Run the relay until it is stopped."""
    from relay import service  # the server: `enroll` does without
    from relay.config import load

    try:
        config = load(
            file, listen=listen, data=data, tls_cert=tls_cert, tls_key=tls_key, json=True if as_json else None
        )
        service.run(config)
    except RelayError as why:
        _fail(why, as_json)


@main.command(epilog="Example: trauma-transfer relay enroll /var/lib/relay valley.card")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("card")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def enroll(folder: Path, card: str, as_json: bool) -> None:
    """Let the site of CARD (a file, or its text) use the relay whose data is in DIR."""
    try:
        enrolled = enrolling.enroll(folder, card if card.startswith("eyJ") else _read(card))
    except RelayError as why:
        _fail(why, as_json)
    else:
        _say(enrolled, f"Enrolled {enrolled.name}.", as_json)


@main.command(epilog="Example: trauma-transfer relay sites /var/lib/relay")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each.")
def sites(folder: Path, as_json: bool) -> None:
    """List the sites that may use the relay whose data is in DIR."""
    try:
        for card in enrolling.enrolled(folder):
            _say(card, f"{card.name} ({card.site.text}).", as_json)
    except RelayError as why:
        _fail(why, as_json)


@main.command(epilog="Example: trauma-transfer relay dismiss /var/lib/relay 'Valley Hospital'")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("site")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def dismiss(folder: Path, site: str, as_json: bool) -> None:
    """Let SITE (its id or name) use the relay no more: its key was stolen, or it has left."""
    try:
        card = enrolling.dismiss(folder, site)
    except RelayError as why:
        _fail(why, as_json)
    else:
        _say(card, f"Dismissed {card.name}.", as_json)


def _say(card: Card, sentence: str, as_json: bool) -> None:
    mark = fingerprint(card.site)
    found = {"site": card.site.text, "name": card.name, "fingerprint": mark}
    click.echo(msgspec.json.encode(found).decode() if as_json else f"{sentence} Fingerprint: {mark}")


def _read(card: str) -> str:
    try:
        return Path(card).read_text("ascii")
    except (OSError, ValueError):
        raise ConfigError(
            "The card cannot be read. Give the file, or the text that begins with eyJ."
        ) from None


def _fail(why: RelayError, as_json: bool) -> None:
    sentence = f"{why.sentence} {why.next}"
    if as_json:
        click.echo(msgspec.json.encode({"event": "failed", "code": why.code, "sentence": sentence}).decode())
    else:
        click.echo(f"{sentence} [{why.code}]", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main(prog_name="trauma-transfer relay")
