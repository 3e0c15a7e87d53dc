"""Logs of jPOS (Q2): messages as XML, which the codec makes bytes of again.

A log is no XML document: elements one behind the other, text of other loggers between
them, its beginning and end cut off by rotation. So each message is cut out by its tags
and read by itself; a damaged one is counted and left out.

Field values are filled up to their length, as jPOS does when it packs them. What a log
does not show in clear (`[WIPED]`, `999999______0014`) is left out of its message, and
so is a field that was logged in its parts.
"""

import datetime
import re
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import msgspec
from defusedxml.common import DefusedXmlException

import iso8583
from switch.replay.captures.chunks import CaptureFormat, Chunk, ReadOptions, Shape
from switch.replay.errors import CaptureError

# a message has some 30 lines; one that does not end is not kept in memory
MESSAGE_SIZE_MAX: Final = 1 << 20
LINE_SIZE_MAX: Final = 1 << 18
# connections told apart: after so many, those of before count as new ones
CONNECTIONS_MAX: Final = 16_384
# so far a log is looked through for which side it is of
LOOKED_THROUGH_MAX: Final = 1000

BITMAP: Final = 1
UNPADDED: Final = ("b", "x+n", "z")

NOTE_DAMAGED: Final = "messages of the log that cannot be read, left out"
NOTE_HIDDEN: Final = "fields that the log does not show in clear, left out"
NOTE_PARTS: Final = "fields that the log shows in parts, left out"

_LOG: Final = re.compile(r"<log\b[^>]*>")
_ATTRIBUTE: Final = re.compile(r"""\b(realm|at)\s*=\s*["']([^"']*)["']""")
_TAG: Final = re.compile(r"<(/?)isomsg\b([^>]*?)(/?)>")
_OUTGOING: Final = re.compile(r"<send\b")
_INCOMING: Final = re.compile(r"<receive\b")
_DIRECTION: Final = re.compile(r"""direction\s*=\s*["'](\w+)["']""")
_HIDDEN: Final = re.compile(r"\[WIPED\]|\d_+\d|^_+$|^\*+$")
_OLD_TIME: Final = re.compile(
    r"\w{3} (\w{3}) +(\d+) (\d+):(\d+):(\d+) (?:\S+ )?(\d{4})\.(\d{1,3})"
)
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov"),
    "Dec",
)


class LoggedMessage(msgspec.Struct, frozen=True, kw_only=True):
    line: int
    xml: str
    is_incoming: bool
    realm: str
    time_s: float | None

    def __repr__(self) -> str:
        return f"LoggedMessage(line={self.line}, {len(self.xml)} characters)"


def read(
    file: BinaryIO, name: str, options: ReadOptions, notes: Counter[str]
) -> Iterator[Chunk]:
    codec = options.codec
    if codec is None:
        raise CaptureError(f"{name}: expected a specification to encode the log with")
    incoming_is_to_switch = _side(file)
    file.seek(0)
    connections: dict[str, int] = {}
    count = 0
    for logged in messages(file, notes):
        fields = _fields(logged.xml, codec, notes)
        if fields is None:
            notes[NOTE_DAMAGED] += 1
            continue
        try:
            body = codec.encode(fields)
        except iso8583.EncodeError as error:
            # the error's text has lengths, and no content
            notes[f"messages left out: {error}"] += 1
            continue
        to_switch = None
        if incoming_is_to_switch is not None:
            to_switch = logged.is_incoming == incoming_is_to_switch
        if logged.realm not in connections:
            if len(connections) == CONNECTIONS_MAX:
                connections.clear()
            connections[logged.realm] = count
            count += 1
        connection = connections[logged.realm]
        place = f"line {logged.line}"
        yield Chunk(place, body, logged.time_s, to_switch, connection)


def messages(file: BinaryIO, notes: Counter[str]) -> Iterator[LoggedMessage]:
    """The messages of a log, as XML of their own."""
    scanner = _Scanner()
    number = 0
    while line := file.readline(LINE_SIZE_MAX):
        number += 1
        yield from scanner.add(number, line.decode("utf-8", "replace"), notes)
    if scanner.depth:
        notes[NOTE_DAMAGED] += 1


class _Scanner:
    """Lines in, messages out; knows the elements that messages stand in."""

    def __init__(self) -> None:
        self.depth = 0
        self._parts: list[str] = []
        self._size = 0
        self._line = 0
        self._is_incoming = True
        self._log: dict[str, str] = {}

    def add(
        self, number: int, line: str, notes: Counter[str]
    ) -> Iterator[LoggedMessage]:
        if not self.depth:
            self._look_around(line)
        at = 0
        for tag in _TAG.finditer(line):
            closes, attributes, is_empty = tag.groups()
            if not self.depth and not closes:
                at = tag.start()
                self._begin(number, attributes)
            if is_empty:
                continue
            if self.depth or not closes:
                self.depth += -1 if closes else 1
            if closes and not self.depth and self._parts is not None:
                self._parts.append(line[at : tag.end()])
                at = tag.end()
                yield self._message()
        if self.depth:
            self._parts.append(line[at:])
            self._size += len(line)
            if self._size > MESSAGE_SIZE_MAX:
                notes[NOTE_DAMAGED] += 1
                self.depth = 0

    def _look_around(self, line: str) -> None:
        if log := _LOG.search(line):
            self._log = dict(_ATTRIBUTE.findall(log[0]))
        if _OUTGOING.search(line):
            self._is_incoming = False
        elif _INCOMING.search(line):
            self._is_incoming = True

    def _begin(self, number: int, attributes: str) -> None:
        self._line, self._parts, self._size = number, [], 0
        if direction := _DIRECTION.search(attributes):
            self._is_incoming = direction[1] == "incoming"

    def _message(self) -> LoggedMessage:
        return LoggedMessage(
            line=self._line,
            xml="".join(self._parts),
            is_incoming=self._is_incoming,
            realm=self._log.get("realm", ""),
            time_s=parse_time(self._log.get("at", "")),
        )


def parse_time(text: str) -> float | None:
    """Seconds since 1970, as if in UTC: what counts is the time between messages."""
    try:
        if old := _OLD_TIME.fullmatch(text.strip()):
            month, *numbers, milliseconds = old.groups()
            day, hour, minute, second, year = map(int, numbers)
            month_number = _MONTHS.index(month) + 1
            time = datetime.datetime(
                year, month_number, day, hour, minute, second, tzinfo=datetime.UTC
            )
            # jPOS writes 7 ms as `.7`
            return time.timestamp() + int(milliseconds) / 1000
        return (
            datetime.datetime.fromisoformat(text)
            .replace(tzinfo=datetime.UTC)
            .timestamp()
        )
    except ValueError:
        return None


def _side(file: BinaryIO) -> bool | None:
    """Whether the log is of the switch: what is requested comes in. None: not to be
    told, as there is no request but of network management, which both sides send."""
    for count, logged in enumerate(messages(file, Counter())):
        mti = _mti(logged.xml)
        if len(mti) == 4 and mti[1] in "1234" and mti[2] in "024":
            return logged.is_incoming
        if count == LOOKED_THROUGH_MAX:
            break
    return None


def _parse(xml: str) -> Element | None:
    try:
        root: Element = defusedxml.ElementTree.fromstring(xml, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError):
        return None
    return root


def _mti(xml: str) -> str:
    root = _parse(xml)
    if root is None:
        return ""
    values = (each.get("value", "") for each in root if each.get("id") == "0")
    return next(values, "")


def _fields(
    xml: str, codec: iso8583.Codec, notes: Counter[str]
) -> dict[int | str, str] | None:
    root = _parse(xml)
    if root is None:
        return None
    fields: dict[int | str, str] = {}
    for element in root:
        number = element.get("id", "")
        if element.tag == "isomsg":
            notes[NOTE_PARTS] += 1
        elif element.tag == "field" and number.isascii() and number.isdigit():
            value = element.get("value", element.text or "")
            if int(number) == 0:
                fields["mti"] = value
            elif _is_hidden(codec, int(number), value):
                notes[NOTE_HIDDEN] += 1
            elif int(number) != BITMAP:
                fields[int(number)] = _padded(codec, int(number), value)
    return fields if len(fields.get("mti", "")) == 4 else None


def _padded(codec: iso8583.Codec, number: int, value: str) -> str:
    """jPOS logs values as a program sets them, before its packager fills them up."""
    field = codec.spec.fields.get(number)
    if field is None or field.prefix_digits:
        return value
    if field.content == "n":
        return value.rjust(field.length, "0")
    return value if field.content in UNPADDED else value.ljust(field.length)


def _is_hidden(codec: iso8583.Codec, number: int, value: str) -> bool:
    field = codec.spec.fields.get(number)
    is_sensitive = field is not None and field.sensitive is not None
    return value == "[WIPED]" or (is_sensitive and bool(_HIDDEN.search(value)))


def recognise(head: bytes) -> str | None:
    text = head.decode("utf-8", "replace")
    if "<isomsg" in text:
        return "it has <isomsg>"
    return "it begins as a log of jPOS does" if _LOG.match(text.lstrip()) else None


JPOS: Final = CaptureFormat(
    name="jpos", shape=Shape.BODY, recognise=recognise, read=read
)
