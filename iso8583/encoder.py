"""A module of pyiso8583's, for programs that import from it by name."""

from iso8583._documents import encode
from iso8583.errors import EncodeError

__all__ = ["EncodeError", "encode"]
