"""Makes a file durable piece by piece, so that others' syncs need not wait for it.

A plain `fdatasync` of many scattered pages hands them to the disk all at once, and a
sync of another file stands behind them for as long as they take.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

PIECE_BYTES = 1024 * 1024
# The disk is left alone for so many times as long as the last piece took it.
REST_FACTOR = 2
REST_SECONDS_MAX = 0.02

# linux/fs.h; sync_file_range(2). It writes pages and waits for them, and does not wait
# for the file system's own journal: only the `fdatasync` behind it makes them durable.
_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4

# Absent where there is no Linux: all is left to the `fdatasync` then.
_sync_file_range = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (
        ctypes.c_int,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_uint,
    )


def write_back(path: Path) -> Iterator[float]:
    """Yields how many seconds to rest before the next piece. When it has ended, what
    was in the file as it began is durable.

    Raises:
        OSError: as `fdatasync` does, and then some of it may be lost.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if _sync_file_range is not None:
            size = os.fstat(descriptor).st_size
            for offset in range(0, size, PIECE_BYTES):
                began = time.monotonic()
                _write_piece(descriptor, offset)
                took = time.monotonic() - began
                yield min(REST_FACTOR * took, REST_SECONDS_MAX)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _write_piece(descriptor: int, offset: int) -> None:
    assert _sync_file_range is not None
    flags = _WAIT_BEFORE | _WRITE | _WAIT_AFTER
    if _sync_file_range(descriptor, offset, PIECE_BYTES, flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
