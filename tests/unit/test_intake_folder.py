from __future__ import annotations

import os
import socket
from pathlib import Path

from clients.gateway.intake.folder import Item, one_file, tree
from clients.gateway.intake.found import Entry, Limits


def seen(items: object) -> list[tuple[str, object]]:
    """Label and content, or label and code."""
    out: list[tuple[str, object]] = []
    for item in items:  # type: ignore[attr-defined]
        out.append((item.label, item.stream.read()) if isinstance(item, Entry) else item)
    return out


def test_a_tree_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "c/d/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert seen(tree(tmp_path, Limits())) == [
        ("a", b"a"),
        ("b/1", b"b/1"),
        ("b/2", b"b/2"),
        ("c/d/e", b"c/d/e"),
    ]


def test_links_are_not_followed_wherever_they_lead(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    disc = tmp_path / "disc"
    disc.mkdir()
    (disc / "file").write_text("inside")
    (disc / "out").symlink_to(secret / "key")
    (disc / "outdir").symlink_to(secret)
    (disc / "loop").symlink_to(disc)
    (disc / "gone").symlink_to("nowhere")
    assert seen(tree(disc, Limits())) == [
        ("file", b"inside"),
        ("gone", "import-link"),
        ("loop", "import-link"),
        ("out", "import-link"),
        ("outdir", "import-link"),
    ]


def test_a_link_slipped_in_after_the_listing_is_not_followed(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).write_text("inside")
    (tmp_path / "3").mkdir()
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / "key").write_text("secret")
    walk = tree(tmp_path, Limits())
    next(walk)
    (tmp_path / "2").unlink()
    (tmp_path / "2").symlink_to(outside / "key")
    (tmp_path / "3").rmdir()
    (tmp_path / "3").symlink_to(outside)
    assert seen(walk) == [("2", "import-unreadable"), ("3/", "import-unreadable")]


def test_pipes_and_sockets_do_not_hold_it_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert seen(tree(tmp_path, Limits())) == [
            ("pipe", "import-not-file"),
            ("socket", "import-unreadable"),
        ]


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(101))
    (tmp_path / "fits").write_bytes(bytes(100))
    limits = Limits(file_bytes=100)
    assert seen(tree(tmp_path, limits)) == [("big", "import-too-big"), ("fits", bytes(100))]
    assert seen(one_file(tmp_path / "big", limits)) == [("big", "import-too-big")]


def test_too_many_and_too_deep(tmp_path: Path) -> None:
    for i in range(6):
        (tmp_path / f"{i}").touch()
    names = seen(tree(tmp_path, Limits(entries=4)))
    assert names[-1] == (".", "import-too-much")
    assert len(names) == 5
    deep = tmp_path / "deep"
    inner = deep.joinpath(*"abcd")
    inner.mkdir(parents=True)
    (inner / "file").touch()
    assert seen(tree(deep, Limits(depth=4))) == [("a/b/c/d/file", b"")]
    assert seen(tree(deep, Limits(depth=3))) == [("a/b/c/d/", "import-too-deep")]


def test_one_file_is_open_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("x")
    (tmp_path / "2").write_text("y")
    walk = tree(tmp_path, Limits())
    first: Item = next(walk)
    assert isinstance(first, Entry)
    next(walk)
    assert first.stream.closed
    walk.close()  # type: ignore[attr-defined]
