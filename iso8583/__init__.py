"""ISO 8583 messages: bytes to fields and back.

codec = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
message = codec.decode(data)
message.mti, message[11], 2 in message
message["55.9F26"], message["48.61.1"]
message[39] = "00"
data = codec.encode(message)

Programs written for pyiso8583 find its interface here too: `decode`, `encode`, `pp`,
and `specs` (docs/codec-pyiso8583.md).
"""

from iso8583 import specs
from iso8583._codec import Codec, Message, ReplyTemplate
from iso8583._documents import decode, encode
from iso8583.describe import Shown, describe, masked, shown
from iso8583.dialect import Dialect, load_dialect
from iso8583.errors import DecodeError, EncodeError, Error, SpecError
from iso8583.header import HeaderPart, HeaderSpec
from iso8583.inside import (
    BerTlv,
    Inside,
    NestedBitmap,
    Part,
    Positional,
    Tagged,
    emv_tags,
)
from iso8583.mti import MessageType, message_type, response_mti
from iso8583.spec import FieldSpec, Spec, load_spec, save_spec, spec_names
from iso8583.tools import pp

__all__ = [
    "BerTlv",
    "Codec",
    "DecodeError",
    "Dialect",
    "EncodeError",
    "Error",
    "FieldSpec",
    "HeaderPart",
    "HeaderSpec",
    "Inside",
    "Message",
    "MessageType",
    "NestedBitmap",
    "Part",
    "Positional",
    "ReplyTemplate",
    "Shown",
    "Spec",
    "SpecError",
    "Tagged",
    "decode",
    "describe",
    "emv_tags",
    "encode",
    "load_dialect",
    "load_spec",
    "masked",
    "message_type",
    "pp",
    "response_mti",
    "save_spec",
    "shown",
    "spec_names",
    "specs",
]
