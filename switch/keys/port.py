"""The keys port: what may be done with a card number (PAN).

Rule 1: a PAN is looked up by its keyed hash and kept only sealed. Neither can be had
        without the master key: the hash is keyed because there are too few PANs to
        hide them behind a plain one.
Rule 2: no error text, repr or log of anything here shows a PAN or a key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from switch.keys._pan_hash import PanHash

PAN_HASH_SIZE = 16
# version 1, nonce 12, packed PAN 10, tag 16: the same for every PAN
SEALED_PAN_SIZE = 39
# -- ISO/IEC 7812-1: at most 19 digits, of which 8 are the issuer's at the longest.
PAN_DIGITS_MIN = 8
PAN_DIGITS_MAX = 19


class KeysError(Exception):
    """A key that is missing, unsafe or wrong; something sealed that does not open."""


class PanKeys(Protocol):
    @property
    def fingerprint(self) -> str:
        """Names the master key without telling it."""

    @property
    def pan_hash(self) -> PanHash:
        """ASCII digits → 16 bytes. Pass digits only: it does not look."""

    def seal(self, pan: bytes) -> bytes:
        """ASCII digits → SEALED_PAN_SIZE bytes, different each time."""

    def unseal(self, sealed: bytes, pan_hash: bytes) -> bytes:
        """The PAN, if `sealed` was made from the PAN with this hash by this key."""

    def seal_many(self, pans: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
        """(pan_hash, sealed) of each."""
