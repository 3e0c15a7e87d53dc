"""As whom a node asks Cassandra and etcd, and how it knows them: passwords and
certificates, read from files.

Rule 1: what was read is shown nowhere: not in an error, and not as a value's text.
Rule 2: a file that cannot be used is an error that names its setting.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Protocol

from msgspec import Struct

PASSWORD_SIZE_MAX = 1024


class AccessError(Exception):
    """A file that cannot be used. `path` is its setting."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")


class Files(Protocol):
    """`switch.cluster.settings.EtcdSettings`, or those of Cassandra."""

    @property
    def user(self) -> str: ...
    @property
    def password_file(self) -> str: ...
    @property
    def ca(self) -> str: ...
    @property
    def cert(self) -> str: ...
    @property
    def key(self) -> str: ...


class Access(Struct, frozen=True):
    """Without `ca` there is no TLS; without `cert` we show none."""

    user: str | None
    password: str | None
    ca: bytes | None
    cert: bytes | None
    key: bytes | None

    def __repr__(self) -> str:
        return f"Access(user={self.user!r}, with TLS: {self.ca is not None})"


def read(section: str, files: Files) -> Access:
    """`section` is where the settings are, for errors. Raises AccessError."""
    password = None
    if files.user:
        password = _password(f"{section}.password_file", files.password_file)
    if not files.ca:
        return Access(files.user or None, password, None, None, None)
    _check(section, files)
    return Access(
        files.user or None,
        password,
        Path(files.ca).read_bytes(),
        Path(files.cert).read_bytes() if files.cert else None,
        Path(files.key).read_bytes() if files.key else None,
    )


def _password(path: str, file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            text = opened.read(PASSWORD_SIZE_MAX + 2).decode("utf-8").rstrip("\r\n")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AccessError(path, f"{file}: {reason}") from None
    except UnicodeDecodeError:
        raise AccessError(path, f"{file}: expected UTF-8, got other bytes") from None
    if not text or len(text) > PASSWORD_SIZE_MAX or "\n" in text:
        raise AccessError(
            path,
            f"{file}: expected one line of 1 to {PASSWORD_SIZE_MAX} characters, got "
            "something else",
        )
    return text


def _check(section: str, files: Files) -> None:
    """Whether OpenSSL can use them: clients say less about it."""
    try:
        context = ssl.create_default_context(cafile=files.ca)
    except OSError as error:  # what ssl raises is one
        raise _unusable(f"{section}.ca", files.ca, error) from None
    if files.cert:
        try:
            # With a word of our own it does not ask for one at the terminal.
            context.load_cert_chain(files.cert, files.key, password="")
        except OSError as error:
            given = f"{files.cert} and {files.key}"
            raise _unusable(f"{section}.cert", given, error) from None


def _unusable(path: str, files: str, error: OSError) -> AccessError:
    reason = (error.strerror or str(error)).lower()
    return AccessError(path, f"expected PEM that can be used, got {files}: {reason}")
