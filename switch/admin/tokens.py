"""Bearer tokens in a file: who may do what.

    {"version": 1, "tokens": [{"name", "role", "salt", "hash", "added_at"}, …]}

Rule 1: a token is 256 random bits, shown once and kept as a salted hash. Nothing that
        is tried against so many bits is helped by a slow hash.
Rule 2: the file is read by its owner alone; any wider mode is refused.
Rule 3: a change takes effect at the next request: whoever asks looks whether the file
        is another one by now. It is replaced as a whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from switch.files import replace_private

Role = Literal["viewer", "operator", "admin"]
# Each may do what those before it may.
ROLES: tuple[Role, ...] = get_args(Role)

TOKENS_MAX = 100
PREFIX = "switch_"
_SECRET_SIZE = 32
_SALT_SIZE = 16
_FILE_BYTES_MAX = 1 << 20
_GROUP_AND_OTHERS = 0o077

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._@-]{0,31}\Z")]


class TokensError(Exception):
    """A file of tokens that cannot be used, or not be changed like this."""


class Token(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    role: Role
    salt: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    added_at: str


class _Content(Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    tokens: list[Token]


class Caller(Struct, frozen=True):
    """Who asks, as its token says."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


class TokenFile:
    """Nobody may anything when there is no file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._seen: tuple[int, ...] | None = None
        self._tokens: tuple[Token, ...] = ()

    def tokens(self) -> tuple[Token, ...]:
        """Raises TokensError."""
        try:
            status = self.path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
            if seen != self._seen:
                self._tokens = self._read()
                self._seen = seen
        except FileNotFoundError:
            self._seen, self._tokens = None, ()
        except OSError as error:
            raise TokensError(
                f"tokens file {self.path} cannot be read: {error.strerror}"
            ) from error
        return self._tokens

    def find(self, token: str) -> Caller | None:
        """Whose token it is. Takes as long for a wrong one as for a right one."""
        found = None
        for known in self.tokens():
            if hmac.compare_digest(_hash(token, known.salt), known.hash):
                found = Caller(known.name, known.role)
        return found

    def add(self, name: str, role: Role) -> str:
        """The new token, which nobody can show again."""
        token = PREFIX + secrets.token_urlsafe(_SECRET_SIZE)
        salt = secrets.token_hex(_SALT_SIZE)
        added_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            msgspec.convert(name, Name)
        except msgspec.ValidationError:
            raise TokensError(
                "name: expected 1 to 32 of a-z, 0-9, '.', '_', '@' and '-', the first "
                f"a letter or digit, got {len(name)} characters, some of them others"
            ) from None
        with self._changing() as tokens:
            if any(known.name == name for known in tokens):
                raise TokensError(f"name: expected a new one, got {name}: revoke it")
            if len(tokens) >= TOKENS_MAX:
                raise TokensError(f"expected at most {TOKENS_MAX} tokens")
            tokens.append(Token(name, role, salt, _hash(token, salt), added_at))
        return token

    def revoke(self, name: str) -> None:
        with self._changing() as tokens:
            kept = [known for known in tokens if known.name != name]
            if len(kept) == len(tokens):
                raise TokensError("name: expected one of a token, got another")
            tokens[:] = kept

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """One at a time; nothing is written if the body raises."""
        try:
            directory = os.open(
                self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            )
        except OSError as error:
            raise TokensError(
                f"directory {self.path.parent} cannot be used: {error.strerror}"
            ) from error
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            tokens = list(self.tokens())
            yield tokens
            data = msgspec.json.format(msgspec.json.encode(_Content(1, tokens)))
            replace_private(self.path, data + b"\n")
        except OSError as error:
            raise TokensError(
                f"tokens file {self.path} cannot be written: {error.strerror}"
            ) from error
        finally:
            os.close(directory)

    def _read(self) -> tuple[Token, ...]:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            data = os.read(descriptor, _FILE_BYTES_MAX)
        finally:
            os.close(descriptor)
        if mode & _GROUP_AND_OTHERS:
            raise TokensError(
                f"tokens file {self.path} is open to others: expected mode 0600, got "
                f"{mode:04o}"
            )
        try:
            return tuple(msgspec.json.decode(data, type=_Content).tokens)
        except msgspec.MsgspecError as error:
            raise TokensError(
                f"tokens file {self.path}: expected what `switch tokens` writes: "
                f"{error}"
            ) from None


def _hash(token: str, salt: str) -> str:
    return hashlib.blake2b(
        token.encode("utf-8", "replace"), salt=bytes.fromhex(salt), digest_size=32
    ).hexdigest()
