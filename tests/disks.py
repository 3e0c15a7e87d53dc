"""Disks that a test has made, of what apsw has to make them from."""

import sys
from typing import Any

import apsw


class Quiet:
    """Of a VFS or a file of one: what SQLite was told is no news; all else is."""

    def excepthook(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: Any
    ) -> bool:
        if not isinstance(error, apsw.Error):
            sys.__excepthook__(kind or BaseException, error or BaseException(), trace)
        return True
