"""Why an address cannot be listened on, in words."""

from __future__ import annotations

import errno
from typing import Final

# The part that says that another one would do.
IN_USE: Final = "already in use by another process"


def why_not_listening(address: str, error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):  # of a host name that cannot be one
        return f"{address}: cannot be listened on: {error}"
    if error.errno == errno.EADDRINUSE:
        return f"{address}: {IN_USE}; give a free address"
    return f"{address}: cannot be listened on: {(error.strerror or str(error)).lower()}"
