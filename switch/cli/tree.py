"""A message as a tree: for a terminal, for a pipe, and for a program.

Card data is masked by its kind; what the spec can look into is opened up.
"""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from rich.tree import Tree

    import iso8583
    from iso8583.describe import Shown


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
    from iso8583.describe import shown

    nodes = [Node("  H", name, value) for name, value in (message.header or {}).items()]
    for field in shown(message, unmasked=unmasked):
        nodes.append(_node(field._replace(key=f"{field.key:>3}")))
    return nodes


def _node(one: "Shown") -> Node:
    from iso8583.describe import printable

    nodes = [_node(part) for part in one.parts or ()]
    if one.fault:
        nodes.append(Node("!", "", one.fault))
    return Node(one.key, one.name, printable(one.value), tuple(nodes))


def _lines(nodes: "list[Node] | tuple[Node, ...]", indent: int) -> Iterator[str]:
    for node in nodes:
        yield " " * indent + node.text
        yield from _lines(node.nodes, indent + 5)


def _grow(tree: "Tree", nodes: "list[Node] | tuple[Node, ...]") -> None:
    from rich.text import Text

    for node in nodes:
        head, colon, value = node.text.partition(": ")
        _grow(tree.add(Text.assemble((head + colon, "cyan"), value)), node.nodes)
