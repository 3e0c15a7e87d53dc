"""The master key in a file, `pan.key`, or one kept elsewhere:

    switch-pan-key-1 <64 hexadecimal digits> <8 hexadecimal digits>

The last group is the CRC-32 of the 32 key bytes: a key copied wrongly is told from a
wrong key. The file is read by its owner alone; any wider mode is refused.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import zlib
from pathlib import Path

from switch.files import write_secret
from switch.keys.pan import MASTER_KEY_SIZE, MasterKeys
from switch.keys.port import KeysError

_LINE = re.compile(rb"switch-pan-key-1 ([0-9a-f]{64}) ([0-9a-f]{8})\s*")
_FILE_BYTES_MAX = 256
_GROUP_AND_OTHERS = 0o077


def create(path: str | os.PathLike[str]) -> MasterKeys:
    """A new random key, durable on return; never in place of an existing file. The
    caller holds the data directory's lock."""
    final = Path(path).absolute()
    if final.exists():
        raise KeysError(f"key file {final} exists: expected to create it")
    master = secrets.token_bytes(MASTER_KEY_SIZE)
    line = f"switch-pan-key-1 {master.hex()} {zlib.crc32(master):08x}\n"
    try:
        write_secret(final, line.encode())
    except OSError as error:
        raise KeysError(
            f"key file {final} cannot be created: {error.strerror}"
        ) from error
    return load(final)


def load(path: str | os.PathLike[str]) -> MasterKeys:
    file = Path(path).absolute()
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KeysError(f"key file {file} cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        data = b""
        if stat.S_ISREG(status.st_mode):
            data = os.read(descriptor, _FILE_BYTES_MAX)
    finally:
        os.close(descriptor)
    mode = stat.S_IMODE(status.st_mode)
    if mode & _GROUP_AND_OTHERS:
        raise KeysError(
            f"key file {file} is open to others: expected mode 0600, got {mode:04o}"
        )
    match = _LINE.fullmatch(data)
    if match is None:
        # What is in it may be most of a key: its size is all that is told.
        raise KeysError(
            f"key file {file}: expected a line 'switch-pan-key-1 <64 hexadecimal "
            f"digits> <8 hexadecimal digits>', got {len(data)} other bytes"
        )
    master = bytes.fromhex(match[1].decode())
    if zlib.crc32(master) != int(match[2], 16):
        raise KeysError(
            f"key file {file}: expected the checksum of its key, got another: "
            "the key was not copied whole"
        )
    return MasterKeys(master)
