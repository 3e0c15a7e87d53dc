"""The master key in a file, `pan.key`, or one kept elsewhere; in clear, or wrapped:

    switch-pan-key-1 <64 hexadecimal digits> <8 hexadecimal digits>
    switch-pan-key-2 <80 hexadecimal digits> <8> <16: which key wraps it>

The group of 8 is the CRC-32 of the bytes before it: a key copied wrongly is told from a
wrong key.

Rule 1: wrapping it otherwise does not change the key: whoever runs with it does not
        notice, and all that was hashed or sealed by it stays as it is.
Rule 2: a file is replaced only by what opens to the same key.
"""

from __future__ import annotations

import os
import re
import secrets
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from switch.files import replace_private
from switch.keys import private_file
from switch.keys.pan import MASTER_KEY_SIZE, MasterKeys
from switch.keys.port import KeysError
from switch.keys.wrapping import WrappingKey

_CLEAR = re.compile(rb"switch-pan-key-1 ([0-9a-f]{64}) ([0-9a-f]{8})\s*")
_WRAPPED = re.compile(
    rb"switch-pan-key-2 ([0-9a-f]{80}) ([0-9a-f]{8}) ([0-9a-f]{16})\s*"
)
_FILE_BYTES_MAX = 256


class _Stored(msgspec.Struct, frozen=True):
    """`key` is the master key, or what a wrapping key made of it."""

    key: bytes
    wrapped_by: str | None


def create(
    path: str | os.PathLike[str], wrapping: Sequence[WrappingKey] = ()
) -> MasterKeys:
    """A new random key, durable on return; never in place of an existing file. The
    caller holds the data directory's lock."""
    final = Path(path).absolute()
    if final.exists():
        raise KeysError(f"key file {final} exists: expected to create it")
    master = secrets.token_bytes(MASTER_KEY_SIZE)
    try:
        replace_private(final, _line(master, wrapping[-1] if wrapping else None))
    except OSError as error:
        raise KeysError(
            f"key file {final} cannot be created: {error.strerror}"
        ) from error
    return load(final, wrapping)


def load(
    path: str | os.PathLike[str], wrapping: Sequence[WrappingKey] = ()
) -> MasterKeys:
    file = Path(path).absolute()
    return MasterKeys(_master(file, wrapping))


def wrapped_by(path: str | os.PathLike[str]) -> str | None:
    """The fingerprint of the key that opens the file; None: it is in clear."""
    return _read(Path(path).absolute()).wrapped_by


def rewrap(path: str | os.PathLike[str], wrapping: Sequence[WrappingKey]) -> None:
    """From now on the newest of `wrapping` opens the file, and no other."""
    file = Path(path).absolute()
    newest = wrapping[-1]
    with private_file.changing(file):
        master = _master(file, wrapping)
        line = _line(master, newest)
        assert newest.unwrap(_parsed(line, file).key) == master
        replace_private(file, line)


def _line(master: bytes, wrapping: WrappingKey | None) -> bytes:
    if wrapping is None:
        text = f"switch-pan-key-1 {master.hex()} {zlib.crc32(master):08x}\n"
    else:
        key = wrapping.wrap(master)
        text = (
            f"switch-pan-key-2 {key.hex()} {zlib.crc32(key):08x} "
            f"{wrapping.fingerprint}\n"
        )
    return text.encode()


def _master(file: Path, wrapping: Sequence[WrappingKey]) -> bytes:
    stored = _read(file)
    if stored.wrapped_by is None:
        return stored.key
    for key in wrapping:
        if key.fingerprint == stored.wrapped_by:
            return key.unwrap(stored.key)
    given = ", ".join(key.fingerprint for key in wrapping) or "none"
    raise KeysError(
        f"key file {file} is wrapped: expected key {stored.wrapped_by} in "
        f"keys.wrapping_key_file, got {given}"
    )


def _read(file: Path) -> _Stored:
    return _parsed(private_file.read(file, "key file", _FILE_BYTES_MAX), file)


def _parsed(data: bytes, file: Path) -> _Stored:
    clear, wrapped = _CLEAR.fullmatch(data), _WRAPPED.fullmatch(data)
    match = clear or wrapped
    if match is None:
        # What is in it may be most of a key: its size is all that is told.
        raise KeysError(
            f"key file {file}: expected a line 'switch-pan-key-1 <64 hexadecimal "
            f"digits> <8 hexadecimal digits>' or a wrapped key, got {len(data)} other "
            "bytes"
        )
    key = bytes.fromhex(match[1].decode())
    if zlib.crc32(key) != int(match[2], 16):
        raise KeysError(
            f"key file {file}: expected the checksum of its key, got another: "
            "the key was not copied whole"
        )
    return _Stored(key, None if wrapped is None else wrapped[3].decode())
