"""What can go wrong, and where.

    Error (ValueError)
    ├── SpecError       the spec is not one that messages can be read or written by
    ├── EncodeError     our side: a value does not fit its field
    └── DecodeError     their side: the bytes are not a message of this spec

No text or attribute quotes a field's content, so that errors can be logged; only
a partial message holds any, and its repr does not show it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, overload

if TYPE_CHECKING:
    from iso8583._codec import Message

__all__ = ["DecodeError", "EncodeError", "Error", "SpecError"]

# What tells which of the two ways an error is made: nothing else has as many.
ENCODE_ARGUMENTS_OF_PYISO8583: Final = 4
DECODE_ARGUMENTS_OF_PYISO8583: Final = 6


def _place(field: int | str | None) -> str:
    match field:
        case str():
            # A path, but a part of the message header.
            return f"field {field}" if field[:1].isdigit() else field
        case None:
            return "message"
        case 0:
            return "MTI"
        case 1:
            return "bitmap"
        case _:
            return f"field {field}"


class Error(ValueError):
    """Whatever this package raises about specs and messages."""


class SpecError(Error):
    """A spec that is not valid, or that is not there."""


class EncodeError(Error):
    """A value that does not fit its field.

    `field` is 0 for the MTI, None for the message as a whole, and for the message
    header a text that names the part: "header destination". `offset` counts characters
    of the value, and is None where none of them alone is to blame.

    As pyiso8583's: `msg` is the fault, `doc_dec` the document that was to be encoded,
    `doc_enc` what was done of it, `field` the key of the field.
    """

    field: int | str | None
    offset: int | None
    expected: str
    got: str
    msg: str
    doc_dec: Any
    doc_enc: Any

    @overload
    def __init__(
        self,
        field: int | str | None,
        expected: str,
        got: str,
        offset: int | None = None,
    ) -> None: ...
    @overload
    def __init__(self, msg: str, doc_dec: Any, doc_enc: Any, field: str) -> None: ...
    def __init__(self, *args: Any, **named: Any) -> None:
        theirs = len(args) + len(named) == ENCODE_ARGUMENTS_OF_PYISO8583
        # As many as ours with an offset, where theirs has the key of a field.
        if "offset" in named or not all(isinstance(one, str) for one in args[3:]):
            theirs = False
        (self._of_document if theirs else self._of_message)(*args, **named)

    def _of_message(
        self,
        field: int | str | None,
        expected: str,
        got: str,
        offset: int | None = None,
    ) -> None:
        place = _place(field)
        if offset is not None:
            place = f"{place} at offset {offset}"
        super().__init__(f"{place}: expected {expected}, got {got}")
        self.field = field
        self.offset = offset
        self.expected = expected
        self.got = got

    def _of_document(self, msg: str, doc_dec: Any, doc_enc: Any, field: str) -> None:
        super().__init__(f"{msg}: field {field}")
        self.msg = msg
        self.doc_dec = doc_dec
        self.doc_enc = doc_enc
        self.field = field

    def __reduce__(self) -> tuple[type[EncodeError], tuple[object, ...]]:
        if hasattr(self, "msg"):
            return type(self), (self.msg, self.doc_dec, self.doc_enc, self.field)
        return type(self), (self.field, self.expected, self.got, self.offset)


class DecodeError(Error):
    """Bytes that are not a message of the spec.

    `field` is 0 for the MTI, 1 for the bitmaps, None for what belongs to no field,
    and for the message header a text that names the part: "header total_length".
    `offset` counts bytes from the start of the data. `message` has the fields before
    the fault, or is None when not even MTI and bitmap could be read.

    As pyiso8583's: `msg` is the fault, `s` the data, `doc_dec` and `doc_enc` what was
    read of it, `pos` where the fault is, `field` the key of the field.
    """

    field: int | str | None
    offset: int
    expected: str
    got: str
    message: Message | None
    msg: str
    s: bytes | bytearray
    doc_dec: Any
    doc_enc: Any
    pos: int

    @overload
    def __init__(
        self,
        field: int | str | None,
        offset: int,
        expected: str,
        got: str,
        message: Message | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        msg: str,
        s: bytes | bytearray,
        doc_dec: Any,
        doc_enc: Any,
        pos: int,
        field: str,
    ) -> None: ...
    def __init__(self, *args: Any, **named: Any) -> None:
        theirs = len(args) + len(named) == DECODE_ARGUMENTS_OF_PYISO8583
        (self._of_document if theirs else self._of_message)(*args, **named)

    def _of_message(
        self,
        field: int | str | None,
        offset: int,
        expected: str,
        got: str,
        message: Message | None = None,
    ) -> None:
        super().__init__(
            f"{_place(field)} at offset {offset}: expected {expected}, got {got}"
        )
        self.field = field
        self.offset = offset
        self.expected = expected
        self.got = got
        self.message = message

    def _of_document(
        self,
        msg: str,
        s: bytes | bytearray,
        doc_dec: Any,
        doc_enc: Any,
        pos: int,
        field: str,
    ) -> None:
        super().__init__(f"{msg}: field {field} pos {pos}")
        self.msg = msg
        self.s = s
        self.doc_dec = doc_dec
        self.doc_enc = doc_enc
        self.pos = pos
        self.field = field

    def __reduce__(self) -> tuple[type[DecodeError], tuple[object, ...]]:
        if hasattr(self, "msg"):
            return type(self), (
                self.msg,
                self.s,
                self.doc_dec,
                self.doc_enc,
                self.pos,
                self.field,
            )
        return type(self), (
            self.field,
            self.offset,
            self.expected,
            self.got,
            self.message,
        )
