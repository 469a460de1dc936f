"""A message's fields as rows of a table, written from its type, as docs/spec/messages.md shows them."""

from __future__ import annotations

from typing import Any

from msgspec import inspect

from tests.transfer_kit import SPEC, assert_generated
from transfer.ids import Fixed

NAMES = {2**40: "2^40", 2**31 - 1: "2^31 - 1", 2**50: "2^50"}


def _range(low: int | None, high: int | None) -> str:
    return f"{low if low is not None else ''}...{NAMES.get(high or 0, high)}"


def describe(kind: inspect.Type) -> str:
    """One type in words."""
    match kind:
        case inspect.CustomType(cls=cls) if issubclass(cls, Fixed):
            return f"b64, {cls.SIZE} bytes"
        case inspect.CustomType():
            return "b64"
        case inspect.LiteralType(values=values):
            return " / ".join(
                "`true`" if v is True else f"`{v}`" if v else '`""`' for v in sorted(values, key=str)
            )
        case inspect.BoolType():
            return "true / false"
        case inspect.IntType(ge=low, le=high):
            return f"integer {_range(low, high)}"
        case inspect.StrType():
            return _text(kind)
        case inspect.ListType(item_type=item):
            most = f", at most {kind.max_length}" if kind.max_length is not None else ""
            least = f", at least {kind.min_length}" if kind.min_length else ""
            return f"list of ({describe(item)}){least}{most}"
        case inspect.UnionType(types=types):
            return " or ".join(describe(t) for t in types if not isinstance(t, inspect.NoneType)) + " or null"
        case inspect.StructType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
        case inspect.Metadata(type=inner):
            return describe(inner)
    raise AssertionError(kind)


def _text(kind: inspect.StrType) -> str:
    if kind.pattern:
        bound = f", at most {kind.max_length}" if kind.max_length else ""
        return f"text `{kind.pattern}`{bound}"
    if kind.max_length is None:
        return "text"
    return f"text, {kind.min_length or 0}...{kind.max_length} characters"


def fields(kind: type[Any]) -> list[tuple[str, str]]:
    """(name on the wire, value) of each field, in order."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    found = []
    for field in info.fields:
        text = "`1`" if field.encode_name == "v" else describe(field.type)
        found.append((field.encode_name, text if field.required else text + ", or absent"))
    return found


def assert_documented(kind: type[Any]) -> None:
    """That docs/spec/messages.md has a block with this type's fields; the meaning of each stays as it was written."""
    page = (SPEC / "messages.md").read_text("utf-8")
    old = page.partition(f"<!-- generated: {kind.__name__} -->\n")[2].partition("<!-- end -->")[0]
    meaning = {row.split("|")[1].strip(" `"): row.rsplit("|", 2)[1].strip() for row in old.splitlines()[2:]}
    lines = ["| field | value | meaning |", "|---|---|---|"]
    for name, value in fields(kind):
        escaped = value.replace("|", "\\|")
        lines.append(f"| `{name}` | {escaped} | {meaning.get(name, '')} |")
    assert_generated("messages.md", kind.__name__, "\n".join(lines) + "\n")
    assert all(meaning.get(name) for name, _ in fields(kind) if name != "v"), "a field without a meaning"
