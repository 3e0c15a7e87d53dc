"""Files of other programs' specs, told apart by what is in them, and read safely.

Rule 1: XML is jPOS's; JSON or YAML whose fields have types is moov's; whatever else is
        this package's own JSON.
Rule 2: a file that could be read in two ways is refused: keys that come twice, and in
        YAML whatever stands for something elsewhere (anchors, aliases).
Rule 3: how deep a file may nest is a named limit, not the interpreter's.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import Any, Final

import msgspec

from iso8583.errors import SpecError
from iso8583.foreign import Faults
from iso8583.moov import is_moov, read_moov
from iso8583.spec import FieldSpec, Spec

__all__ = ["read_foreign", "read_own"]

# Containers within containers, each of a few levels of the file.
NESTING_MAX: Final = 64

# White space and the mark of UTF-8.
_BEFORE: Final = b" \t\r\n\xef\xbb\xbf"
_YAML: Final = re.compile(rb"^[\"']?fields[\"']?[ \t]*:", re.MULTILINE)
# Strings whole, so that what is in them does not count; the last may have no end.
_BRACKETS: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|([\[{])|([\]}])', re.DOTALL)


def read_foreign(name: str, content: bytes, left_out: list[str] | None) -> Spec | None:
    """The spec of another program's file, or None: it is one of ours, or nothing.

    Raises SpecError.
    """
    stem, faults = PurePath(name).stem, Faults(left_out)
    bare = content.lstrip(_BEFORE)
    if bare.startswith(b"<"):
        # Those who have specs of their own only need no XML.
        from iso8583.jpos import read_jpos

        return read_jpos(stem, content, faults)
    document: Any = None
    if bare.startswith((b"{", b"[")):
        document = _from_json(content)
    elif _YAML.search(content):
        document = _from_yaml(content)
        if not is_moov(document):
            raise SpecError("expected YAML of moov's: fields with a type")
    return read_moov(stem, document, faults) if is_moov(document) else None


def read_own(content: bytes) -> Spec:
    """This package's JSON. Raises SpecError, which names the field."""
    try:
        return msgspec.json.decode(content, type=Spec)
    except msgspec.ValidationError as error:
        for key, raw in _fields(content).items():
            try:
                msgspec.json.decode(raw, type=FieldSpec)
            except msgspec.ValidationError as fault:
                raise SpecError(f"field {key[:20]}: {fault}") from None
        raise SpecError(str(error)) from None


class _Outline(msgspec.Struct):
    fields: dict[str, msgspec.Raw]


def _fields(content: bytes) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(content, type=_Outline).fields
    except msgspec.ValidationError:
        return {}


def _from_json(content: bytes) -> Any:
    """None where it is not JSON."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    depth = 0
    for bracket in _BRACKETS.finditer(text):
        depth += bool(bracket[1]) - bool(bracket[2])
        if depth > NESTING_MAX:
            raise SpecError(f"expected brackets at most {NESTING_MAX} deep")
    try:
        return json.loads(text, object_pairs_hook=_once)
    except SpecError:
        raise
    except ValueError:
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise SpecError(f"expected each key once, got {key[:20]!r} again")
        found[key] = value
    return found


def _from_yaml(content: bytes) -> Any:
    """All scalars as text: moov's ids may begin with a zero, which YAML drops."""
    try:
        import yaml
    except ImportError:
        raise SpecError("expected PyYAML: install cardswitch[yaml]") from None
    # What is open, from the outside in; around it all, the documents.
    open_ones: list[list[Any]] = [[]]
    try:
        for event in yaml.parse(content, Loader=yaml.BaseLoader):
            if getattr(event, "anchor", None) is not None:
                raise SpecError("expected YAML without anchors and aliases")
            if isinstance(event, yaml.CollectionStartEvent):
                open_ones.append([])
            elif isinstance(event, yaml.ScalarEvent):
                open_ones[-1].append(event.value)
            elif isinstance(event, yaml.CollectionEndEvent):
                items: Any = open_ones.pop()
                if isinstance(event, yaml.MappingEndEvent):
                    items = _once(_pairs(items))
                open_ones[-1].append(items)
            if len(open_ones) > NESTING_MAX:
                raise SpecError(f"expected YAML at most {NESTING_MAX} deep")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "characters that it may not have"
        raise SpecError(f"expected YAML{line}: {problem}") from None
    (documents,) = open_ones
    if len(documents) != 1:
        raise SpecError(f"expected one YAML document, got {len(documents)}")
    return documents[0]


def _pairs(items: list[Any]) -> list[tuple[str, Any]]:
    keys = items[::2]
    if not all(isinstance(key, str) for key in keys):
        raise SpecError("expected keys that are text")
    return list(zip(keys, items[1::2], strict=True))
