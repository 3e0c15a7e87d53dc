"""How far an engine is: a small file for each, in `publish/` of the data directory.

    publish/kafka.position    one line: a position as JSON, a space, its CRC-32
    publish/kafka.move        one like it: where an operator wants it to go on
    publish/kafka.lock        held by whoever publishes
    publish/kafka.refused     events that were set aside: JSON lines with a reason

Rule 1: a position is written only when everything up to it was acknowledged, or set
        aside, and is durable then; a file is replaced as a whole.
Rule 2: it may be older than what was acknowledged, never newer: at least once.
Rule 3: one process at a time, which the lock makes sure of. Whoever holds it obeys a
        move: makes it the position, then takes it away.
"""

import fcntl
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from switch.files import replace_private, sync_directory
from switch.publish.events import Event
from switch.publish.port import PublishDamaged, PublishError

_DIRECTORY_MODE = 0o700


class EnginePosition(msgspec.Struct, frozen=True):
    """Every entry up to `commit`; the last of each shard that has any. Of the journal
    of that identity."""

    journal: str
    commit: int = 0
    shards: dict[int, int] = {}

    @property
    def entries(self) -> int:
        """How many these are: a shard's are numbered from 1."""
        return sum(self.shards.values())


class _RefusedLine(msgspec.Struct):
    reason: str
    event: Event


class PositionFiles:
    """The files of one engine. `locked` before anything is written."""

    def __init__(self, directory: Path, engine: str, journal_identity: bytes) -> None:
        self.directory = directory
        self.engine = engine
        self._identity = journal_identity.hex()
        self._lock = -1

    @property
    def position_path(self) -> Path:
        return self.directory / f"{self.engine}.position"

    @property
    def move_path(self) -> Path:
        return self.directory / f"{self.engine}.move"

    @property
    def refused_path(self) -> Path:
        return self.directory / f"{self.engine}.refused"

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(self, *_: object) -> None:
        self.unlock()

    def lock(self) -> None:
        """Raises PublishError when another process has it."""
        if self._lock >= 0:
            return
        self.directory.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
        path = self.directory / f"{self.engine}.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise PublishError(
                f"expected to be the only one to publish to {self.engine}, got another "
                f"process in {self.directory}"
            ) from None
        self._lock = descriptor

    def unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def is_locked(self) -> bool:
        """Whether somebody else publishes."""
        if not self.position_path.with_suffix(".lock").exists():
            return False
        try:
            with self:
                return False
        except PublishError:
            return True

    def load(self) -> EnginePosition:
        found = self._read(self.position_path)
        return EnginePosition(self._identity) if found is None else found

    def store(self, position: EnginePosition) -> None:
        """Durable on return."""
        assert self._lock >= 0
        assert position.journal == self._identity
        replace_private(self.position_path, _encode(position))

    # -- moves

    def ask_to_move(self, position: EnginePosition) -> None:
        """For whoever publishes, now or later."""
        self.directory.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
        replace_private(self.move_path, _encode(position))

    def is_asked_to_move(self) -> bool:
        return self.move_path.exists()

    def asked_to_move_to(self) -> int | None:
        with suppress(FileNotFoundError):
            position = _decode(self.move_path.read_bytes())
            return None if position is None else position.commit
        return None

    def obey(self) -> EnginePosition | None:
        """Moves if that was asked for; where to."""
        if not self.is_asked_to_move():
            return None
        position = self._read(self.move_path)
        if position is not None:
            self.store(position)
        self.move_path.unlink()
        sync_directory(self.directory)
        return position

    def forget(self) -> None:
        """The move first: it would make another position."""
        assert self._lock >= 0
        self.move_path.unlink(missing_ok=True)
        self.position_path.unlink(missing_ok=True)
        sync_directory(self.directory)

    # -- what was set aside

    def set_aside(self, refused: list[tuple[Event, str]]) -> None:
        """Durable on return. Of an event that is published again, once more."""
        assert self._lock >= 0
        lines = [_RefusedLine(reason, event) for event, reason in refused]
        data = msgspec.json.Encoder().encode_lines(lines)
        is_new = not self.refused_path.exists()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.refused_path, flags, 0o600)
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_directory(self.directory)

    def refused_count(self) -> int:
        try:
            return self.refused_path.read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    def _read(self, path: Path) -> EnginePosition | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        position = _decode(data)
        if position is None:
            raise PublishDamaged(
                f"expected a position and its checksum, got something else in {path}; "
                f"`switch publish rewind {self.engine}` makes another"
            )
        if position.journal != self._identity:
            raise PublishDamaged(
                f"expected a position in journal {self._identity}, got one in journal "
                f"{position.journal} in {path}"
            )
        return position


def position_paths(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.position")) if directory.is_dir() else []


def copy_positions(source: Path, target: Path) -> None:
    """The same positions in another directory; what is damaged is not copied."""
    for path in position_paths(source):
        data = path.read_bytes()
        if _decode(data) is not None:
            target.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
            replace_private(target / path.name, data)


def _encode(position: EnginePosition) -> bytes:
    text = msgspec.json.encode(position)
    return b"%s %08x\n" % (text, zlib.crc32(text))


def _decode(data: bytes) -> EnginePosition | None:
    text, _, checksum = data.rstrip(b"\n").rpartition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        return msgspec.json.decode(text, type=EnginePosition)
    except msgspec.DecodeError:
        return None
