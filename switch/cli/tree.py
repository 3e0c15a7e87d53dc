"""A message as a tree: for a terminal, for a pipe, and for a program.

Card data is masked by its kind; chip data is opened up into its tags.
"""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from rich.tree import Tree

    import iso8583
    from switch.replay.chip import ChipData, Tag

CHIP: Final = "chip"


class Node(msgspec.Struct, frozen=True):
    """One line of the tree."""

    label: str
    name: str
    value: str
    nodes: "tuple[Node, ...]" = ()

    @property
    def text(self) -> str:
        head = f"{self.label}  {self.name}" if self.name else self.label
        return f"{head}: {self.value}" if self.value else head


def print_message(
    message: "iso8583.Message", *, unmasked: bool = False, title: str = ""
) -> None:
    nodes = message_nodes(message, unmasked=unmasked)
    head = f"MTI {message.mti}" + (f"  ({title})" if title else "")
    if not sys.stdout.isatty():
        print(head)
        for line in _lines(nodes, 2):
            print(line)
        return
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(head, style="bold"), guide_style="dim")
    _grow(tree, nodes)
    Console(highlight=False).print(tree)


def message_nodes(message: "iso8583.Message", *, unmasked: bool = False) -> list[Node]:
    from iso8583.describe import masked

    fields = message.codec.spec.fields
    nodes = []
    for number, value in masked(message, unmasked=unmasked).items():
        if number == "mti":
            continue
        if not isinstance(number, int):
            parts = message.header or {}
            nodes += [Node("  H", name, part) for name, part in parts.items()]
            continue
        chip = chip_data(message, number)
        tags = [] if chip is None else _tag_nodes(chip.tags, unmasked)
        if chip is not None and chip.fault:
            tags.append(Node("!", "", chip.fault))
        nodes.append(
            Node(f"{number:3}", fields[number].name, _printable(value), tuple(tags))
        )
    return nodes


def message_plain(
    message: "iso8583.Message", *, unmasked: bool = False
) -> dict[str, object]:
    """For JSON."""
    from iso8583.describe import masked

    specified = message.codec.spec.fields
    plain: dict[str, object] = {}
    fields: dict[str, object] = {}
    for number, value in masked(message, unmasked=unmasked).items():
        if not isinstance(number, int):
            plain[number] = message.header if number == "header" else value
            continue
        field: dict[str, object] = {"name": specified[number].name, "value": value}
        chip = chip_data(message, number)
        if chip is not None:
            field["tags"] = _tags_plain(chip.tags, unmasked)
            if chip.fault:
                field["error"] = chip.fault
        fields[str(number)] = field
    return plain | {"fields": fields}


def chip_data(message: "iso8583.Message", number: int) -> "ChipData | None":
    """The tags of a field that holds chip data as bytes."""
    from iso8583.errors import DecodeError
    from switch.replay.chip import read_chip_data

    if message.codec.spec.fields[number].sensitive != CHIP:
        return None
    try:
        return read_chip_data(bytes.fromhex(message[number]))
    except (DecodeError, ValueError):
        return None  # the field itself says what is wrong, or isn't made of bytes


def _tag_nodes(tags: "list[Tag]", unmasked: bool) -> list[Node]:
    return [
        Node(
            tag.tag,
            tag.name,
            "" if tag.tags is not None else tag.shown(unmasked=unmasked),
            tuple(_tag_nodes(tag.tags or [], unmasked)),
        )
        for tag in tags
    ]


def _tags_plain(tags: "list[Tag]", unmasked: bool) -> list[dict[str, object]]:
    return [
        {"tag": tag.tag, "name": tag.name}
        | (
            {"value": tag.shown(unmasked=unmasked)}
            if tag.tags is None
            else {"tags": _tags_plain(tag.tags, unmasked)}
        )
        for tag in tags
    ]


def _lines(nodes: "list[Node] | tuple[Node, ...]", indent: int) -> Iterator[str]:
    for node in nodes:
        yield " " * indent + node.text
        yield from _lines(node.nodes, indent + 5)


def _grow(tree: "Tree", nodes: "list[Node] | tuple[Node, ...]") -> None:
    from rich.text import Text

    for node in nodes:
        head, colon, value = node.text.partition(": ")
        _grow(tree.add(Text.assemble((head + colon, "cyan"), value)), node.nodes)


def _printable(value: str) -> str:
    """What a peer sends does not reach the terminal."""
    if value.isprintable():
        return value
    return value.encode("unicode_escape").decode("ascii")
