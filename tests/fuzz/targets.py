"""What is fuzzed: functions of bytes that return whatever the bytes are.

Each has its own claims on top. A claim that does not hold is an AssertionError; a
fault of the native code is the sanitizers' to tell.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

import msgspec

import iso8583
from switch.link._framing import FRAMING_NAMES, FrameReader, Framing
from switch.link.errors import FramingError
from tests.fuzz.source import Source
from tests.unit.iso8583 import inside_specs

CODECS: Final = [
    iso8583.Codec(iso8583.load_spec(name)) for name in iso8583.spec_names()
]
# Field 60 of each has another container inside.
CONTAINERS: Final = [
    inside_specs.codec_of(inside, content)
    for inside, content in (
        (inside_specs.CHIP, "b"),
        (inside_specs.SUBELEMENTS, "ans"),
        (inside_specs.NUMBERED, "b"),
        (inside_specs.POSITIONS, "ans"),
        (inside_specs.DATASETS, "b"),
    )
]
GROUPED: Final = iso8583.Codec(
    msgspec.structs.replace(CONTAINERS[0].spec, groups={"tags": (60,)})
)
TPDU_SIZE: Final = 5


def read_everything(message: iso8583.Message) -> None:
    """All the ways to read, of which none may fail but with DecodeError."""
    iso8583.describe(message)
    for read in (
        message.validate,
        message.to_dict,
        lambda: message.to_dict(inside=True),
        lambda: message.header,
    ):
        with suppress(iso8583.DecodeError):
            read()
    for path in paths(message.parts(), ""):
        with suppress(iso8583.DecodeError):
            assert message.get(path, None) is not None
            assert path in message


def paths(parts: list[iso8583.Part], before: str) -> Iterator[str]:
    for part in parts:
        yield before + part.key
        yield from paths(part.parts or [], f"{before}{part.key}.")


def decode(data: bytes) -> None:
    """A message encodes to the bytes it came as; what was read of a broken one is a
    message too. Written from its fields it reads the same."""
    source = Source(data)
    codec = source.pick(CODECS)
    frame = source.rest()
    message: iso8583.Message | None
    try:
        message = codec.decode(frame)
        assert codec.encode(message) == frame
    except iso8583.DecodeError as error:
        message = walked_before(error, codec, len(frame))
        if message is None:
            return
    read_everything(message)
    with suppress(iso8583.DecodeError):
        assert codec.message(message.to_dict()) == message


def walked_before(
    fault: iso8583.DecodeError, codec: iso8583.Codec, size: int
) -> iso8583.Message | None:
    assert 0 <= fault.offset <= size
    if fault.message is not None:
        assert fault.field not in fault.message
        assert codec.decode(bytes(fault.message)) == fault.message
    return fault.message


def inside(data: bytes) -> None:
    """Any data of a field with something inside is read, and after it was changed it
    is still the data of a message."""
    source = Source(data)
    codec = source.pick([*CODECS, *CONTAINERS])
    fields = codec.spec.fields
    number = source.pick(sorted(key for key in fields if fields[key].inside))
    change, value = source.byte(), source.some(32).hex()
    version = codec.spec.version_digits[0]
    try:
        message = codec.message({"mti": f"{version}200", number: source.rest()})
    except iso8583.EncodeError:
        return
    read_everything(message)
    known = list(paths(message.parts(), ""))
    path = known[change % len(known)]
    with suppress(iso8583.Error, KeyError):
        if change & 1:
            message[path] = value
        else:
            del message[path]
    assert codec.decode(bytes(message)) == message
    with suppress(iso8583.Error):
        written = codec.message(message.to_dict(inside=True))
        # The header says how long it is, and bytes between elements are not written.
        assert all(
            written.to_dict(inside=True)[key] == value
            for key, value in message.to_dict(inside=True).items()
            if key != "header"
        )


def any_value(source: Source) -> Any:
    kind = source.number(7)
    if kind < 3:
        return source.some().decode("latin-1")
    if kind < 5:
        return source.some(40).hex()
    if kind == 5:
        return source.some()
    if kind == 6:
        keys = ["1", "2", "9F26", "70", "01", "rest", "tcc"]
        return {source.pick(keys): any_value(source) for _ in range(source.number(3))}
    return source.pick([None, 1, "", "0" * 65_535, "ü", b"\xff" * 999])


def any_key(source: Source) -> Any:
    number = source.number(255)
    if number <= 194:
        return number
    if number < 225:
        return str(source.number(194))
    return source.pick(["55.9F26", "60.1", (60, "9F26"), "tags.9F26", "tags", "x", -1])


def outcome_of(codec: iso8583.Codec, fields: Mapping[Any, Any]) -> bytes | str:
    """The frame, or why there is none."""
    try:
        return codec.encode(fields)
    except iso8583.EncodeError as error:
        return str(error)


def encode(data: bytes) -> None:
    """Any dict is written or refused, and whatever else holds the same alike; what is
    written is read as one message."""
    source = Source(data)
    codec = source.pick([*CODECS, *CONTAINERS, GROUPED])
    fields: dict[Any, Any] = {"mti": source.pick(["0100", "1200", "0800", "2100"])}
    if source.byte() & 1:
        fields["header"] = any_value(source)
    while not source.is_empty:
        fields[any_key(source)] = any_value(source)
    frame = outcome_of(codec, fields)
    # Only a dict is written in one pass.
    assert outcome_of(codec, MappingProxyType(fields)) == frame
    if isinstance(frame, str):
        return
    message = codec.decode(frame)
    assert codec.encode(message) == frame
    with suppress(iso8583.DecodeError):
        assert codec.message(message.to_dict()) == message


PROPERTIES: Final[dict[str, list[Any]]] = {
    "data_enc": ["ascii", "b", "cp500", "utf-8", "latin-1", "cp037", "nosuch", None],
    "len_enc": ["ascii", "b", "bcd", "cp500", "utf-16", 1],
    "len_type": [0, 1, 2, 3, 4, 6, -1, "2"],
    "max_len": [0, 1, 2, 6, 19, 99, 255, 999, 65_535, 70_000, -1, None],
    "len_count": ["bytes", "nibbles", ""],
    "left_pad": ["", "0", "F", "G"],
    "right_pad": ["", "0", "F"],
}


def documents(data: bytes) -> None:
    """The functions of pyiso8583's interface read and write by any spec, or refuse;
    what they wrote they read as the same document, and an edited spec counts."""
    source = Source(data)
    shipped = source.pick([iso8583.specs.default, iso8583.specs.default_ascii])
    spec = {key: dict(properties) for key, properties in shipped.items()}
    for _ in range(source.number(7)):
        key = source.pick(["h", "t", "p", "1", *map(str, range(2, 129))])
        name = source.pick(list(PROPERTIES))
        spec[key][name] = source.pick(PROPERTIES[name])
        with suppress(iso8583.Error, TypeError, ValueError):
            iso8583.decode(b"0200\0\0\0\0\0\0\0\0", spec)
    frame = source.rest()
    try:
        document, _ = iso8583.decode(frame, spec)
    # A spec may have no field for a bit, as it has none above 128.
    except (iso8583.Error, LookupError, TypeError, ValueError, AttributeError):
        return
    with suppress(iso8583.Error):
        written, _ = iso8583.encode(document, spec)
        assert iso8583.decode(written, spec)[0] == document


def frames(data: bytes) -> None:
    """A stream is cut alike in one piece and in many, and no frame is longer than it
    may be. What is behind a TPDU is a message or not."""
    source = Source(data)
    framing = Framing(source.pick(FRAMING_NAMES), inclusive=bool(source.byte() & 1))
    step = source.number(15) + 1
    stream = source.rest()
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    whole, cut = FrameReader(framing), FrameReader(framing)
    found = [fed(whole, [stream]), fed(cut, pieces)]
    assert found[0] == found[1]
    assert whole.heartbeats == cut.heartbeats
    assert whole.offset == cut.offset
    for body in found[0][0]:
        assert 0 < len(body) <= framing.size_max
        with suppress(iso8583.DecodeError):
            CODECS[0].decode(body[TPDU_SIZE:])


def fed(reader: FrameReader, pieces: list[bytes]) -> tuple[list[bytes], str | None]:
    """The bodies, and why it ended."""
    bodies: list[bytes] = []
    try:
        for piece in pieces:
            bodies += reader.feed(piece)
    except FramingError as error:
        return bodies + error.frames, str(error)
    return bodies, None


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    function.__name__: function
    for function in (decode, inside, encode, documents, frames)
}
