"""The publisher that needs nothing else: files of JSON lines, one line an event.

    events/events-00000001.jsonl    full: never written again
    events/events-00000002.jsonl    the newest: grows at its end, by whole lines

Rule 1: the last whole line of the newest file is the position. There is no second
        place that could disagree with it.
Rule 2: lines are synced in chunks of at most CHUNK_BYTES_MAX before anything is said
        about them, so that a power loss can spoil no more than the last chunk; at
        opening so much of the end is read, and cut where it is not what was written.
Rule 3: one process writes, which the lock on the directory makes sure of.
"""

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from switch.files import sync_directory
from switch.publish.events import Event, Position, position_of
from switch.publish.port import PublishDamaged, PublishError

CHUNK_BYTES_MAX = 32 * 1024 * 1024
# Encoded while they are still in the processor's cache.
EVENTS_AT_ONCE = 256
# Everything of an event has a bound; this is above their sum.
LINE_BYTES_MAX = 8 * 1024
_NAME = re.compile(r"events-([0-9]{8,})\.jsonl")
_FILE_MODE = 0o640
_DIRECTORY_MODE = 0o750


class _Line(msgspec.Struct):
    """What of a line says where the publisher is."""

    id: str
    commit: int


def file_name(number: int) -> str:
    return f"events-{number:08d}.jsonl"


def event_files(directory: Path) -> list[Path]:
    """The files of a directory, oldest first."""
    found = []
    for path in directory.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is not None:
            found.append((int(match[1]), path))
    return [path for _, path in sorted(found)]


class JsonLinesPublisher:
    """See `switch.publish.port.Publisher`. Takes up where the files end."""

    def __init__(
        self, directory: str | os.PathLike[str], *, file_bytes_max: int
    ) -> None:
        self.directory = Path(directory)
        self.file_bytes_max = file_bytes_max
        self.directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        self._encoder = msgspec.json.Encoder()
        self._position = Position()
        self._descriptor = -1
        self._number = 0
        self._size = 0
        self._lock = _locked(self.directory)
        try:
            self._resume()
        except BaseException:
            self.close()
            raise

    @property
    def position(self) -> Position:
        return self._position

    def publish(self, events: Iterable[Event]) -> None:
        last: Event | None = None
        lines: list[bytes] = []
        coming = iter(events)
        while some := list(islice(coming, EVENTS_AT_ONCE)):
            lines.append(self._encoder.encode_lines(some))
            last = some[-1]
        if last is None:
            return
        for chunk in _chunks(b"".join(lines)):
            rest = chunk
            while rest:
                head = self._fitting(rest)
                self._append(head)
                rest = rest[len(head) :]
        self._position = position_of(last)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # -- writing

    def _fitting(self, data: memoryview) -> memoryview:
        """The lines that the newest file has room for; a new file if it has none."""
        room = self.file_bytes_max - self._size
        if len(data) <= room:
            return data
        end = bytes(data[: max(room, 0)]).rfind(b"\n") + 1
        if end == 0 and self._size > 0:
            self._open_next()
            return self._fitting(data)
        if end == 0:  # a single line is longer than a file may be
            end = bytes(data[:LINE_BYTES_MAX]).find(b"\n") + 1
        return data[:end]

    def _append(self, data: memoryview) -> None:
        # Written at the end as we know it, not as the file has it: what a failed
        # write left behind is written over.
        offset = self._size
        try:
            while data:
                written = os.pwrite(self._descriptor, data, offset)
                offset += written
                data = data[written:]
            os.fdatasync(self._descriptor)
        except OSError:
            # Best effort: whoever reads along should not see half a line.
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size = offset

    def _open_next(self) -> None:
        self._open(self._number + 1)

    def _open(self, number: int) -> None:
        path = self.directory / file_name(number)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, _FILE_MODE)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._number = number
        self._size = os.fstat(descriptor).st_size
        sync_directory(self.directory)

    # -- opening

    def _resume(self) -> None:
        files = event_files(self.directory)
        if not files:
            self._open(1)
            return
        newest = files[-1]
        match = _NAME.fullmatch(newest.name)
        assert match is not None
        self._open(int(match[1]))
        end = _sound_end(newest)
        if end.offset != self._size:
            os.ftruncate(self._descriptor, end.offset)
            os.fsync(self._descriptor)
            self._size = end.offset
        for path in reversed(files[:-1]):
            if end.position is not None:
                break
            end = _sound_end(path)
            if end.offset != path.stat().st_size:
                raise PublishDamaged(
                    "expected whole events, got something else in "
                    f"{path} at byte {end.offset}"
                )
        self._position = end.position or Position()


def newest_event(directory: Path) -> tuple[Position, bytes, str] | None:
    """Of the files of a publisher that may be at work: its position, the line that
    says so, which is durable, and the name of the file that would come next."""
    files = event_files(directory) if directory.is_dir() else []
    for path in reversed(files):
        end = _sound_end(path)
        if end.position is not None:
            with path.open("rb") as file:
                os.fdatasync(file.fileno())
            match = _NAME.fullmatch(files[-1].name)
            assert match is not None
            return end.position, end.line, file_name(int(match[1]) + 1)
    return None


class _End(NamedTuple):
    """Where the last whole line of a file ends, what it says, and the line."""

    offset: int
    position: Position | None
    line: bytes


def _sound_end(path: Path) -> _End:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(size - CHUNK_BYTES_MAX - 2 * LINE_BYTES_MAX, 0)
        file.seek(start)
        data = file.read()
    offset = 0
    if start:
        # begins within a line
        offset = data.find(b"\n") + 1
        if offset == 0 or offset > LINE_BYTES_MAX:
            raise PublishDamaged(
                f"expected lines of at most {LINE_BYTES_MAX} bytes, "
                f"got {min(offset, 1) or 'none'} in {path} after byte {start}"
            )
    position: Position | None = None
    last = b""
    decoder = msgspec.json.Decoder(_Line)
    for line in _whole_lines(data, offset):
        found = _decoded(decoder, line)
        if found is None:
            break
        position, last = found, line
        offset += len(line) + 1
    if position is None and start:
        raise PublishDamaged(
            f"expected an event in the last {len(data)} bytes, got none in {path}"
        )
    return _End(start + offset, position, last)


def _whole_lines(data: bytes, offset: int) -> Iterator[bytes]:
    while (end := data.find(b"\n", offset)) >= 0:
        yield data[offset:end]
        offset = end + 1


def _decoded(decoder: "msgspec.json.Decoder[_Line]", line: bytes) -> Position | None:
    try:
        found = decoder.decode(line)
        shard, sequence = found.id.split("-")
        return Position(found.commit, int(shard), int(sequence))
    except (msgspec.DecodeError, ValueError):
        return None


def _chunks(data: bytes) -> Iterator[memoryview]:
    """Whole lines, at most CHUNK_BYTES_MAX together."""
    view = memoryview(data)
    start = 0
    while len(data) - start > CHUNK_BYTES_MAX:
        end = data.rfind(b"\n", start, start + CHUNK_BYTES_MAX) + 1
        assert end > start, "a line longer than LINE_BYTES_MAX"
        yield view[start:end]
        start = end
    yield view[start:]


def _locked(directory: Path) -> int:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise PublishError(
            f"expected to be the only writer, got another process in {directory}"
        ) from None
    return descriptor
