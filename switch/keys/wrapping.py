"""Keys that wrap the master key, in a file of their own, oldest first, one a line:

    switch-wrapping-key-1 <64 hexadecimal digits> <8 hexadecimal digits>

The last group is the CRC-32 of the 32 key bytes. Wrapping is AES-256 key wrap
(RFC 3394), which a wrong key does not open.

Rule 1: the newest one wraps, any of them unwraps: whatever step of a rotation is done
        last, a start finds the key that it needs.
"""

from __future__ import annotations

import os
import re
import secrets
import zlib
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)

from switch.files import replace_private
from switch.keys import private_file
from switch.keys.pan import derive
from switch.keys.port import KeysError

KEYS_MAX = 16
_KEY_SIZE = 32
_FILE_BYTES_MAX = 4096
_LINE = re.compile(rb"switch-wrapping-key-1 ([0-9a-f]{64}) ([0-9a-f]{8})\s*")
_WHAT = "wrapping key file"

assert KEYS_MAX * 100 < _FILE_BYTES_MAX


class WrappingKey:
    """`fingerprint` names it without telling it."""

    __slots__ = ("_key", "fingerprint")

    def __init__(self, key: bytes) -> None:
        self.fingerprint = derive(key, b"wrap fingerprint", 8).hex()
        self._key = derive(key, b"wrap", 32)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.fingerprint}>"

    def wrap(self, master: bytes) -> bytes:
        return aes_key_wrap(self._key, master)

    def unwrap(self, wrapped: bytes) -> bytes:
        try:
            return aes_key_unwrap(self._key, wrapped)
        except InvalidUnwrap:
            raise KeysError(
                f"wrapped key does not open: expected one that key {self.fingerprint} "
                "wrapped, got another or a changed one"
            ) from None


def load(path: str | os.PathLike[str]) -> Sequence[WrappingKey]:
    """One or more, oldest first."""
    file = Path(path).absolute()
    keys: list[WrappingKey] = []
    for line in private_file.read(file, _WHAT, _FILE_BYTES_MAX).splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            # What is in it may be most of a key: its size is all that is told.
            raise KeysError(
                f"{_WHAT} {file}: expected lines 'switch-wrapping-key-1 <64 "
                "hexadecimal digits> <8 hexadecimal digits>', got one of "
                f"{len(line)} other bytes"
            )
        key = bytes.fromhex(match[1].decode())
        if zlib.crc32(key) != int(match[2], 16):
            raise KeysError(
                f"{_WHAT} {file}: expected the checksum of key {len(keys) + 1}, got "
                "another: the key was not copied whole"
            )
        keys.append(WrappingKey(key))
    if not 1 <= len(keys) <= KEYS_MAX:
        raise KeysError(
            f"{_WHAT} {file}: expected 1 to {KEYS_MAX} keys, got {len(keys)}"
        )
    return keys


def add(path: str | os.PathLike[str]) -> WrappingKey:
    """A new random key, the newest of the file; durable on return."""
    file = Path(path).absolute()
    key = secrets.token_bytes(_KEY_SIZE)
    line = f"switch-wrapping-key-1 {key.hex()} {zlib.crc32(key):08x}\n"
    with private_file.changing(file):
        before = b""
        if file.exists():
            if len(load(file)) == KEYS_MAX:
                raise KeysError(f"{_WHAT} {file}: expected room for a key, got none")
            before = private_file.read(file, _WHAT, _FILE_BYTES_MAX).rstrip() + b"\n"
        replace_private(file, before + line.encode())
    return load(file)[-1]
