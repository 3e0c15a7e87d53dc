"""ISO 8583 messages: bytes to fields and back.

codec = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
message = codec.decode(data)
message.mti, message[11], 2 in message
message[39] = "00"
data = codec.encode(message)
"""

from iso8583._codec import Codec, Message, ReplyTemplate
from iso8583.describe import describe, masked
from iso8583.dialect import Dialect, load_dialect
from iso8583.errors import DecodeError, EncodeError, Error, SpecError
from iso8583.header import HeaderPart, HeaderSpec
from iso8583.mti import MessageType, message_type
from iso8583.spec import FieldSpec, Spec, load_spec, spec_names

__all__ = [
    "Codec",
    "DecodeError",
    "Dialect",
    "EncodeError",
    "Error",
    "FieldSpec",
    "HeaderPart",
    "HeaderSpec",
    "Message",
    "MessageType",
    "ReplyTemplate",
    "Spec",
    "SpecError",
    "describe",
    "load_dialect",
    "load_spec",
    "masked",
    "message_type",
    "spec_names",
]
