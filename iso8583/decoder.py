"""A module of pyiso8583's, for programs that import from it by name."""

from iso8583._documents import decode
from iso8583.errors import DecodeError

__all__ = ["DecodeError", "decode"]
