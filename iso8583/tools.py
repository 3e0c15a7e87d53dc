"""pyiso8583's pretty-printer, which shows everything in clear.

For what may be shown to anybody there is `iso8583.describe`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from iso8583.documents import SpecDict

__all__ = ["pp"]

# The key, in three columns, and ": ".
KEY_COLUMNS: Final = 5
QUOTES_COLUMNS: Final = 2


class Stream(Protocol):
    def write(self, text: str, /) -> object: ...


def pp(
    doc: Mapping[str, str] | Mapping[str, Mapping[str, bytes]],
    spec: SpecDict,
    desc_width: int = 30,
    stream: Stream | None = None,
    line_width: int = 80,
) -> None:
    """Writes a document, either of them, to a stream, a line a field.

    A line has the field's key, its description cut to `desc_width` (0: none), its
    length prefix and its data. Longer lines than `line_width` are continued below.
    """
    desc_width = int(desc_width)
    line_width = int(line_width)
    if stream is None:
        stream = sys.stdout
    keys = []
    if "h" in doc and spec["h"]["max_len"] > 0:
        keys.append("h")
    keys += [key for key in ("t", "p") if key in doc]
    keys += sorted(
        (key for key in doc if isinstance(key, str) and key.isnumeric()), key=int
    )
    for key in keys:
        _write_field(doc[key], key, spec, desc_width, stream, line_width)


def _write_field(
    field: Any,
    key: str,
    spec: SpecDict,
    desc_width: int,
    stream: Stream,
    line_width: int,
) -> None:
    indent = KEY_COLUMNS
    stream.write(f"{key:3s}")
    if desc_width > 0:
        stream.write(f" {spec[key]['desc'][:desc_width]: <{desc_width}}")
        indent += desc_width + 1
    stream.write(": ")
    data = field
    if isinstance(field, dict):
        data = field.get("data", b"")
        prefix = field.get("len", b"")
        if len(prefix) > 0:
            shown = f"{prefix!r} "
            stream.write(shown)
            indent += len(shown)
    lines = [repr(data)]
    if len(lines[0]) + indent > line_width:
        lines = list(_lines(data, line_width - indent)) or lines
    stream.write(("\n" + " " * indent).join(lines) + "\n")


def _lines(data: object, width: int) -> Iterator[str]:
    """The repr cut into pieces, each a literal; nothing for what cannot be cut."""
    if isinstance(data, str) and type(data).__repr__ is str.__repr__:
        # As many characters each, however they are escaped.
        length = max(width - QUOTES_COLUMNS, 1)
        for start in range(0, len(data), length):
            yield repr(data[start : start + length])
    elif isinstance(data, bytes) and type(data).__repr__ is bytes.__repr__:
        # As much as fits, and at least a byte.
        start = 0
        for end in range(1, len(data) + 1):
            if end - start > 1 and len(repr(data[start:end])) > width:
                yield repr(data[start : end - 1])
                start = end - 1
        yield repr(data[start:])
