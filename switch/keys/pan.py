"""Hashing and sealing of PANs under one master key.

    pan hash     BLAKE2b-128, keyed (RFC 7693), of the ASCII digits
    sealed PAN   AES-256-GCM (NIST SP 800-38D); layout:

        offset  size  what
        0       1     version, 1
        1       12    nonce, random
        13      10    the digits, two a byte, filled up with f to 20, encrypted
        23      16    tag; the PAN's hash is authenticated along with it

Rule 1: each use has a key of its own, derived from the master key, so that no use
        tells anything about another.
Rule 2: the size says nothing about the PAN, and a sealed PAN cannot be moved to
        another card: its hash would not fit.
Rule 3: with random nonces a key may seal 2³² times (SP 800-38D 8.3): a card a second
        for 136 years.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from switch.keys._pan_hash import PanHash
from switch.keys.port import (
    PAN_DIGITS_MAX,
    PAN_DIGITS_MIN,
    SEALED_PAN_SIZE,
    KeysError,
)

MASTER_KEY_SIZE = 32
_VERSION = b"\x01"
_NONCE_SIZE = 12
_PACKED_DIGITS = 20
_SEAL_MANY_CHUNK = 4096

assert PAN_DIGITS_MAX < _PACKED_DIGITS
assert 1 + _NONCE_SIZE + _PACKED_DIGITS // 2 + 16 == SEALED_PAN_SIZE


def derive(master: bytes, use: bytes, size: int) -> bytes:
    return hashlib.blake2b(key=master, person=use, digest_size=size).digest()


class MasterKeys:
    """See `switch.keys.port.PanKeys`."""

    __slots__ = ("_cipher", "fingerprint", "pan_hash")

    def __init__(self, master: bytes) -> None:
        if len(master) != MASTER_KEY_SIZE:
            raise KeysError(
                f"master key: expected {MASTER_KEY_SIZE} bytes, got {len(master)}"
            )
        self.fingerprint = derive(master, b"fingerprint", 8).hex()
        self.pan_hash = PanHash(derive(master, b"pan hash", 32))
        self._cipher = AESGCM(derive(master, b"pan seal", 32))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.fingerprint}>"

    def seal(self, pan: bytes) -> bytes:
        return self.seal_many([pan])[0][1]

    def seal_many(self, pans: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
        encrypt, pan_hash, pack = self._cipher.encrypt, self.pan_hash, _pack
        sealed: list[tuple[bytes, bytes]] = []
        nonces = b""
        offset = 0
        for pan in pans:
            if offset == len(nonces):
                nonces, offset = os.urandom(_NONCE_SIZE * _SEAL_MANY_CHUNK), 0
            nonce = nonces[offset : offset + _NONCE_SIZE]
            offset += _NONCE_SIZE
            packed = pack(pan)
            hashed = pan_hash(pan)
            text = _VERSION + nonce + encrypt(nonce, packed, hashed)
            sealed.append((hashed, text))
        return sealed

    def unseal(self, sealed: bytes, pan_hash: bytes) -> bytes:
        if len(sealed) != SEALED_PAN_SIZE or sealed[:1] != _VERSION:
            raise KeysError(
                f"sealed PAN: expected {SEALED_PAN_SIZE} bytes of version "
                f"{_VERSION[0]}, got {len(sealed)} of version {sealed[:1].hex()}"
            )
        nonce, text = sealed[1 : 1 + _NONCE_SIZE], sealed[1 + _NONCE_SIZE :]
        try:
            packed = self._cipher.decrypt(nonce, text, pan_hash)
        except InvalidTag:
            raise KeysError(
                f"sealed PAN does not open: expected one sealed by key "
                f"{self.fingerprint} for pan hash {pan_hash.hex()}, got another or a "
                "changed one"
            ) from None
        pan = packed.hex().rstrip("f").encode()
        assert self.pan_hash(pan) == pan_hash
        return pan


def _pack(pan: bytes) -> bytes:
    # isdigit() of bytes: ASCII only. The value stays out of the error text.
    if not (PAN_DIGITS_MIN <= len(pan) <= PAN_DIGITS_MAX and pan.isdigit()):
        kind = "digits" if pan.isdigit() else "characters, not all of them digits"
        raise KeysError(
            f"PAN: expected {PAN_DIGITS_MIN} to {PAN_DIGITS_MAX} digits, got "
            f"{len(pan)} {kind}"
        )
    return bytes.fromhex(pan.ljust(_PACKED_DIGITS, b"f").decode())
