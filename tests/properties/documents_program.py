"""A program written for pyiso8583, run under it and under this package alike.

    documents_program.py SEED COUNT [SHOWN]
    documents_program.py ask

It makes specs and edits them between calls, documents and messages that fit them or do
not, and breaks both. Of COUNT calls it prints a line each, a checksum of all that came
of it: documents, errors with everything they hold, what became of the arguments. With
SHOWN that call is shown in full, and nothing else.

With `ask` it does what each line of standard input asks, {"spec": ..., "decode": hex}
or {"spec": ..., "encode": document}, and answers with a line.

Only the standard library and `iso8583` are imported, and of that what pyiso8583 has.
"""

import io
import json
import pickle
import random
import sys
import types
import zlib
from collections import OrderedDict
from typing import Any

import iso8583
from iso8583 import specs

ENCODINGS = [
    *("ascii", "ascii", "ascii", "b", "b", "b", "cp500", "cp037", "latin-1", "cp1252"),
    *("utf-8", "ASCII", "us-ascii", "koi8-r", "cp1140", "utf-16", "cp932", "utf-7"),
    *(
        "nosuch",
        "rot13",
        "hex",
        "",
        "idna",
        "mac-roman",
        "mac-farsi",
        "cp437",
        "utf-8-sig",
    ),
]
PREFIX_ENCODINGS = [*ENCODINGS, "bcd", "bcd", "bcd"]
PADS = ["0", "0", "F", "f", "", "0X", "G", "é"]
UNITS = ["nibbles", "nibbles", "nibbles", "bytes", "Nibbles", ""]
ODD = [None, True, 2.0, "2", 1 << 40, -1, b"b", (), float("nan")]
NAMES = ["data_enc", "len_enc", "len_type", "max_len", "len_count"]
NAMES += ["left_pad", "right_pad", "desc", "note", "more"]
TEXT = "0123456789ABCDEFabcdef =^$*ghXYZ"
BEYOND = "éÜ€ж中²٣\x00\n"
WIRE = b"0123456789 +-_\xf0\xf1\x00\x01\x10\x40\x80\xff"


class Text(str):
    """As good as a str."""

    __slots__ = ()


class Number(int):
    """As good as an int."""


class Owner:
    """Has a field's properties as attributes."""

    def __init__(self, field: Any) -> None:
        for name in field:
            setattr(self, name, field[name])


OWNERS: dict[str, Owner] = {}


def picked(values, draw):
    return values[int(draw.random() * len(values))]


# ---- specs


def property_value(name: str, draw: random.Random) -> Any:
    if draw.random() < 0.02:
        return picked(ODD, draw)
    value: Any
    match name:
        case "data_enc":
            value = picked(ENCODINGS if draw.random() < 0.5 else ENCODINGS[:8], draw)
        case "len_enc":
            value = picked(PREFIX_ENCODINGS, draw)
        case "len_type":
            value = picked((0, 0, 1, 2, 2, 3, 4, 6), draw)
        case "max_len":
            value = picked((0, 1, 2, 3, 4, 6, 8, 12, 19, 40, 99, 255, 999, 70000), draw)
        case "len_count":
            value = picked(UNITS, draw)
        case "left_pad" | "right_pad":
            value = picked(PADS, draw)
        case _:
            value = "what it is"
    if draw.random() < 0.02:
        return Text(value) if isinstance(value, str) else Number(value)
    return value


def field_spec(draw: random.Random) -> dict[str, Any]:
    names = ["data_enc", "len_enc", "len_type", "max_len", "desc"]
    if draw.random() < 0.4:
        names.append("len_count")
        names += draw.sample(["left_pad", "right_pad"], picked((0, 1, 1, 2), draw))
    if draw.random() < 0.1:
        draw.shuffle(names)
    return {name: property_value(name, draw) for name in names}


def any_key(draw: random.Random) -> str:
    if draw.random() < 0.05:
        return str(picked("htp1", draw))
    return str(draw.randint(1, picked((64, 64, 128, 192), draw)))


def copy_of(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: dict(spec[key]) for key in spec}


def new_spec(draw: random.Random) -> dict[str, Any]:
    spec = copy_of(picked((specs.default, specs.default_ascii), draw))
    for number in range(129, 193):
        if draw.random() < 0.7:
            spec[str(number)] = field_spec(draw)
    for _ in range(picked((0, 0, 10, 60), draw)):
        spec[any_key(draw)] = field_spec(draw)
    mend(spec, draw)
    return spec


def mend(spec: dict[str, Any], draw: random.Random) -> None:
    """Parts that every message has, and a few fields, are made to work again."""
    for key in ("t", "p", "1"):
        spec[key] = dict(specs.default[key], data_enc=picked(ENCODINGS[:8], draw))
    spec["h"] = dict(specs.default["h"], max_len=picked((0, 0, 0, 2, 5), draw))
    for key in draw.sample(sorted(specs.default), 20):
        if key not in ("h", "t", "p", "1"):
            spec[key] = dict(specs.default[key], data_enc=picked(ENCODINGS[:8], draw))


def edit(spec: dict[str, Any], draw: random.Random) -> None:
    """One of the ways in which programs change a spec in place."""
    key = any_key(draw)
    field = spec.get(key)
    way = draw.randrange(15)
    if way == 0 or not isinstance(field, dict):
        spec[key] = field_spec(draw)
    elif way == 1:
        spec.pop(key, None)
    elif way == 2:
        field.pop(picked(NAMES, draw), None)
    elif way == 3:
        other = field_spec(draw)
        field.clear()
        field.update(other)
    elif way == 4:
        spec[key] = spec.get(any_key(draw), field)
    elif way == 5:
        spec[key] = OrderedDict(field)
    elif way == 6:
        spec[key] = types.MappingProxyType(dict(field))
    elif way == 7:
        spec[key] = dict(specs.default.get(key, field))
    elif way == 8 and field:
        field.popitem()
    elif way == 9:
        # Of the same value and order, but not the same objects.
        for name, value in list(field.items()):
            field[name] = "".join(list(value)) if isinstance(value, str) else value
    elif way == 10:
        # A dictionary that is an object's own, and is changed through it.
        owner = Owner(field)
        spec[key] = vars(owner)
        OWNERS[key] = owner
    elif way == 11 and key in OWNERS:
        name = picked(NAMES, draw)
        setattr(OWNERS[key], name, property_value(name, draw))
    else:
        name = picked(NAMES, draw)
        field[name] = property_value(name, draw)


# ---- documents and messages


def number_or(value: Any, otherwise: int) -> int:
    fits = isinstance(value, int) and 0 <= value <= 2000
    return int(value) if fits else otherwise


def field_text(field: Any, draw: random.Random, is_sound: bool) -> Any:
    """Text that fits the field, or else some of the time."""
    if not hasattr(field, "get"):
        field = {}
    length = number_or(field.get("max_len"), 4)
    if field.get("len_type") != 0:
        length = min(length, draw.randrange(24))
    chance = 0.5 if is_sound else draw.random()
    if chance < 0.1:
        length = max(length + picked((-2, -1, 1, 2), draw), 0)
    letters = TEXT[:22]
    if field.get("data_enc") == "b":
        letters = TEXT[:16]
        if field.get("len_count") != "nibbles":
            length *= 2
    text = "".join([picked(letters, draw) for _ in range(length)])
    if chance > 0.8:
        place = draw.randint(0, length)
        if chance > 0.96:
            return picked((None, 5, b"12", Text(text), text.encode(), ["1"]), draw)
        some = picked(BEYOND, draw) if chance > 0.9 else picked(TEXT, draw)
        text = text[:place] + some + text[place + 1 :]
    return text


def new_document(spec: dict[str, Any], draw: random.Random) -> dict[Any, Any]:
    keys = [str(draw.randint(2, 64)) for _ in range(draw.randrange(8))]
    if draw.random() < 0.4:
        highest = picked((128, 128, 192), draw)
        keys += [str(draw.randint(2, highest)) for _ in range(draw.randrange(4))]
    is_sound = draw.random() < 0.7
    document: dict[Any, Any] = {"t": "".join(draw.choices("0123456789", k=4))}
    if draw.random() < 0.98:
        document["h"] = field_text(spec.get("h"), draw, is_sound)
    for key in keys:
        if key in spec or not is_sound:
            document[key] = field_text(spec.get(key), draw, is_sound)
    if is_sound and draw.random() < 0.1:
        document[picked(("1", "65", "p", "bm", ""), draw)] = picked(("", "C0"), draw)
    if not is_sound and draw.random() < 0.2:
        odd = ("1", "65", "p", "bm", "", "02", "0", "193", "²", "٣", 2, b"2", None)
        document[picked(odd, draw)] = picked(("", "1234", "C0", None), draw)
    if not is_sound and draw.random() < 0.1:
        document["t"] = picked(
            ("", "020", "02000", "02G0", "é123", None, b"0200"), draw
        )
    if not is_sound and draw.random() < 0.05:
        del document["t"]
    if draw.random() < 0.1:
        items = list(document.items())
        draw.shuffle(items)
        document = dict(items)
    return document


def broken(data: bytes, draw: random.Random) -> bytes:
    """The message with a few bytes changed, lost or added."""
    frame = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        place = draw.randint(0, len(frame))
        match draw.randrange(6):
            case 0:
                del frame[place:]
            case 1:
                frame[place:place] = draw.randbytes(draw.randint(1, 3))
            case 2:
                frame[place : place + draw.randint(0, 3)] = b""
            case 3 if place < len(frame):
                frame[place] ^= 1 << draw.randrange(8)
            case _:
                frame[place : place + 1] = bytes([picked(WIRE, draw)])
    return bytes(frame)


# ---- what comes of a call


def items_of(document: Any) -> Any:
    """With its order, which == does not see, and the types of what it holds."""
    if isinstance(document, dict):
        return [(key, items_of(value)) for key, value in document.items()]
    return document


def told(error: Exception) -> Any:
    kind = type(error).__name__
    if isinstance(error, iso8583.DecodeError):
        documents = items_of(error.doc_dec), items_of(error.doc_enc)
        own: Any = error.msg, error.s, error.pos, error.field
    elif isinstance(error, iso8583.EncodeError):
        documents = items_of(error.doc_dec), items_of(error.doc_enc)
        own = error.msg, error.field
    elif isinstance(error, TypeError | UnboundLocalError | AttributeError):
        # Of specs and values of types that were never meant to work it is alike that
        # they are refused, and not by which operation.
        return "TypeError"
    else:
        return kind, str(error)
    return kind, isinstance(error, ValueError), str(error), error.args, own, documents


def outcome(function: Any, *arguments: Any) -> Any:
    try:
        result = function(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, both raise it
        what = told(error)
        if what != "TypeError" and len(str(error)) % 8 == 0:
            what = what, told(pickle.loads(pickle.dumps(error)))
        return what
    return [(type(part).__name__, items_of(part)) for part in result]


def printed(part: Any, spec: Any, *widths: int) -> Any:
    stream = io.StringIO()
    try:
        iso8583.pp(part, spec, widths[0], stream, widths[1])
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        return type(error).__name__
    return stream.getvalue()


class Program:
    def __init__(self, seed: int, shown: int = -1) -> None:
        self.draw = random.Random(seed)
        self.specs = [new_spec(self.draw) for _ in range(3)]
        self.calls = 0
        self.shown = shown

    def note(self, what: str, result: Any, *context: Any) -> None:
        if self.shown == -1:
            line = f"{zlib.crc32(repr(result).encode('utf-8', 'replace')):08x}\n"
            sys.stdout.write(line)
        elif self.shown == self.calls:
            sys.stdout.write(f"{what} {context}\n\n{result}\n")
        self.calls += 1

    def change_specs(self) -> None:
        draw = self.draw
        place = draw.randrange(len(self.specs))
        match draw.randrange(59):
            case 0:
                self.specs[place] = new_spec(draw)
            case 1:
                # Another object, perhaps at the same address.
                self.specs[place] = copy_of(self.specs[place])
            case 2:
                self.specs[place] = dict(self.specs[place])
            case 3 | 4 | 5:
                mend(self.specs[place], draw)
            case _ if draw.random() < 0.4:
                edit(self.specs[place], draw)

    def step(self) -> None:
        draw = self.draw
        self.change_specs()
        spec: Any = picked(self.specs, draw)
        document = new_document(spec, draw)
        given: Any = spec
        if draw.random() < 0.01:
            given = picked((types.MappingProxyType, OrderedDict), draw)(spec)
        result = outcome(iso8583.encode, document, given)
        self.note("encode", (result, items_of(document)), document, spec)
        if not isinstance(result, list):
            return
        data = bytes(result[0][1])
        self.note("decode", outcome(iso8583.decode, data, given), data, spec)
        if draw.random() < 0.02:
            width, line_width = draw.randrange(40), draw.randrange(3, 100)
            encoded = {key: dict(value) for key, value in result[1][1]}
            for part in (document, encoded):
                shown = [
                    printed(part, by, width, line_width)
                    for by in (spec, with_descriptions(spec))
                ]
                self.note("pp", shown, part, spec)
        for _ in range(4):
            other = broken(data, draw)
            if draw.random() < 0.1:
                edit(spec, draw)
            kind = bytearray if draw.random() < 0.1 else bytes
            self.note(
                "decode", outcome(iso8583.decode, kind(other), given), other, spec
            )


def with_descriptions(spec: Any) -> Any:
    """The spec with a description in every field."""
    return {
        key: {**field, "max_len": 1, "desc": f"field {key}"}
        for key, field in spec.items()
    }


def answer(question: Any) -> Any:
    if "decode" in question:
        data = bytes.fromhex(question["decode"])
        return outcome(iso8583.decode, data, question["spec"])
    document = question["encode"]
    result = outcome(iso8583.encode, document, question["spec"])
    return result, items_of(document)


def main() -> None:
    if sys.argv[1] == "ask":
        for line in sys.stdin:
            sys.stdout.write(repr(answer(json.loads(line))) + "\n")
            sys.stdout.flush()
        return
    seed, count, *shown = map(int, sys.argv[1:])
    program = Program(seed, *shown)
    while program.calls < count:
        program.step()


if __name__ == "__main__":
    main()
