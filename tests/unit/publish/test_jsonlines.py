"""The files of events: nothing lost and nothing twice, whatever happened to the end."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from switch.publish import jsonlines
from switch.publish.events import Event, Position, position_of
from switch.publish.jsonlines import JsonLinesPublisher, event_files, file_name
from switch.publish.port import PublishDamaged, PublishError


def event(number: int) -> Event:
    """Events whose lines have all the same size, two of them in each commit."""
    name, commit = f"3-{number}", (number + 1) // 2
    return Event(
        name,
        "held",
        "main".ljust(16 - len(f"{name}{commit}"), "-"),
        *(100, "GBP", True, "00", f"{number:06d}", None),
        "2025-11-24T16:00:00.123Z",
        commit,
    )


def events(first: int, last: int) -> list[Event]:
    return [event(number) for number in range(first, last + 1)]


def line(number: int) -> bytes:
    return msgspec.json.encode(event(number)) + b"\n"


LINE_SIZE = len(line(1))


def text_of(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in event_files(directory))


def whole(first: int, last: int) -> bytes:
    return b"".join(line(number) for number in range(first, last + 1))


def opened(directory: Path, file_bytes_max: int = 64 << 20) -> JsonLinesPublisher:
    return JsonLinesPublisher(directory, file_bytes_max=file_bytes_max)


def publish(directory: Path, first: int, last: int, **settings: int) -> None:
    publisher = opened(directory, **settings)
    publisher.publish(events(first, last))
    publisher.close()


def go_on(directory: Path, last: int, **settings: int) -> Position:
    """As the follower does after a restart: from where the publisher says it is."""
    publisher = opened(directory, **settings)
    found = publisher.position
    publisher.publish(events(found.sequence + 1, last))
    publisher.close()
    return found


def test_an_empty_directory_is_at_the_beginning(tmp_path):
    publisher = opened(tmp_path / "deep" / "events")
    assert publisher.position == Position()
    publisher.publish([])
    assert publisher.position == Position()
    publisher.close()
    assert (tmp_path / "deep" / "events").stat().st_mode & 0o007 == 0
    assert go_on(tmp_path / "deep" / "events", 3) == Position()
    assert text_of(tmp_path / "deep" / "events") == whole(1, 3)


def test_the_position_follows_and_is_kept(tmp_path):
    publisher = opened(tmp_path)
    for number in range(1, 6):
        publisher.publish([event(number)])
        assert publisher.position == position_of(event(number))
    publisher.close()
    assert go_on(tmp_path, 7) == position_of(event(5))
    assert text_of(tmp_path) == whole(1, 7)


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_files_rotate_at_whole_lines(tmp_path, batch):
    publisher = opened(tmp_path, file_bytes_max=LINE_SIZE * 4 + 10)
    for first in range(1, 21, batch):
        publisher.publish(events(first, min(first + batch - 1, 20)))
    publisher.close()
    files = event_files(tmp_path)
    assert [path.name for path in files] == [file_name(n) for n in range(1, 6)]
    assert text_of(tmp_path) == whole(1, 20)
    assert all(path.stat().st_size <= LINE_SIZE * 4 + 10 for path in files)
    assert all(path.read_bytes().endswith(b"\n") for path in files)
    assert go_on(tmp_path, 22) == position_of(event(20))
    assert text_of(tmp_path) == whole(1, 22)


def test_a_file_that_is_exactly_full(tmp_path):
    publish(tmp_path, 1, 2, file_bytes_max=LINE_SIZE * 2)
    assert go_on(tmp_path, 4, file_bytes_max=LINE_SIZE * 2) == position_of(event(2))
    assert len(event_files(tmp_path)) == 2
    assert text_of(tmp_path) == whole(1, 4)


def test_a_line_longer_than_a_file_may_be_has_one_of_its_own(tmp_path):
    publish(tmp_path, 1, 3, file_bytes_max=10)
    assert [path.read_bytes() for path in event_files(tmp_path)] == [
        line(number) for number in (1, 2, 3)
    ]
    assert go_on(tmp_path, 5, file_bytes_max=10) == position_of(event(3))
    assert text_of(tmp_path) == whole(1, 5)


def test_files_are_found_in_the_order_of_their_numbers(tmp_path):
    for number in (100_000_000, 99_999_999, 3):
        (tmp_path / file_name(number)).write_bytes(line(number % 100 + 1))
    (tmp_path / "events-00000001.jsonl.gz").write_bytes(b"another's")
    publisher = opened(tmp_path)
    assert publisher.position == position_of(event(1))
    publisher.close()


def test_who_reads_along_sees_no_torn_end_once_it_is_opened(tmp_path):
    publish(tmp_path, 1, 4)
    (path,) = event_files(tmp_path)
    for end in (b"\0" * LINE_SIZE * 3, line(5)[:-1], b"\n", b"{}\n" + line(5)):
        path.write_bytes(whole(1, 4) + end)
        opened(tmp_path).close()
        assert path.read_bytes() == whole(1, 4)


def test_a_torn_end_is_cut_at_every_byte(tmp_path):
    publish(tmp_path, 1, 4)
    (path,) = event_files(tmp_path)
    for cut in range(LINE_SIZE * 2 + 1):
        path.write_bytes(whole(1, 4)[: LINE_SIZE * 4 - cut])
        assert go_on(tmp_path, 6) == position_of(event(4 - -(-cut // LINE_SIZE)))
        assert path.read_bytes() == whole(1, 6)


@pytest.mark.parametrize("size", [1, 40, LINE_SIZE * 3])
def test_what_was_not_synced_may_be_zeros(tmp_path, size):
    """After a power loss a file can have its size, and nothing in some of its
    sectors: here anywhere in lines 2 to 4. All before the first hole stays."""
    publish(tmp_path, 1, 4)
    (path,) = event_files(tmp_path)
    for start in range(LINE_SIZE, LINE_SIZE * 4):
        data = bytearray(whole(1, 4))
        data[start : start + size] = bytes(min(size, len(data) - start))
        path.write_bytes(data)
        assert go_on(tmp_path, 6) == position_of(event(start // LINE_SIZE))
        assert path.read_bytes() == whole(1, 6)


def test_a_flipped_bit_never_hides_what_lies_before_it(tmp_path):
    """One that leaves JSON is not found here: that is not what a power loss does.
    The sink finds a position that is not in the journal."""
    publish(tmp_path, 1, 4)
    (path,) = event_files(tmp_path)
    sound = path.read_bytes()
    for index in range(LINE_SIZE * 2, LINE_SIZE * 4):
        for bit in (0, 3, 7):
            data = bytearray(sound)
            data[index] ^= 1 << bit
            path.write_bytes(data)
            publisher = opened(tmp_path)
            publisher.close()
            assert path.read_bytes().startswith(whole(1, index // LINE_SIZE))
            assert path.read_bytes() == bytes(data[: path.stat().st_size])


def test_a_file_that_was_only_just_begun(tmp_path):
    """The crash came between making the next file and its first line."""
    publish(tmp_path, 1, 2, file_bytes_max=LINE_SIZE * 2)
    (tmp_path / file_name(2)).touch()
    (tmp_path / file_name(3)).write_bytes(line(3)[:20])
    assert go_on(tmp_path, 3, file_bytes_max=LINE_SIZE * 2) == position_of(event(2))
    assert (tmp_path / file_name(3)).read_bytes() == line(3)
    assert text_of(tmp_path) == whole(1, 3)


def test_an_older_file_that_is_not_whole_is_damage(tmp_path):
    """It was synced before the next one began: no crash does that."""
    publish(tmp_path, 1, 2, file_bytes_max=LINE_SIZE * 2)
    os.truncate(tmp_path / file_name(1), LINE_SIZE * 2 - 1)
    (tmp_path / file_name(2)).touch()
    with pytest.raises(PublishDamaged, match=r"events-00000001\.jsonl at byte"):
        opened(tmp_path)
    assert (tmp_path / file_name(1)).stat().st_size == LINE_SIZE * 2 - 1


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(jsonlines, "CHUNK_BYTES_MAX", LINE_SIZE * 2 + 5)
    monkeypatch.setattr(jsonlines, "LINE_BYTES_MAX", LINE_SIZE + 5)


def test_only_the_end_of_a_long_file_is_read(tmp_path, small_chunks):
    publish(tmp_path, 1, 50)
    (path,) = event_files(tmp_path)
    data = bytearray(path.read_bytes())
    data[: LINE_SIZE * 40] = b"#" * (LINE_SIZE * 40)
    path.write_bytes(data)
    os.truncate(path, len(data) - 1)
    assert go_on(tmp_path, 52) == position_of(event(49))
    assert path.read_bytes()[LINE_SIZE * 40 :] == whole(41, 52)


def test_the_last_chunk_of_a_long_file_may_be_torn_anywhere(tmp_path, small_chunks):
    publish(tmp_path, 1, 20)
    (path,) = event_files(tmp_path)
    for cut in range(LINE_SIZE * 2 + 6):
        path.write_bytes(whole(1, 20)[: LINE_SIZE * 20 - cut] + b"\0" * cut)
        assert go_on(tmp_path, 22) == position_of(event(20 - -(-cut // LINE_SIZE)))
        assert path.read_bytes() == whole(1, 22)


def test_a_long_file_without_an_event_at_its_end_is_damage(tmp_path, small_chunks):
    publish(tmp_path, 1, 20)
    (path,) = event_files(tmp_path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: LINE_SIZE * 10] + b"\n" * LINE_SIZE * 10)
    with pytest.raises(PublishDamaged, match="expected an event in the last"):
        opened(tmp_path)
    path.write_bytes(b"#" * size)
    with pytest.raises(PublishDamaged, match="expected lines of at most"):
        opened(tmp_path)
    assert path.read_bytes() == b"#" * size


def test_chunks_are_synced_one_after_the_other(tmp_path, small_chunks, monkeypatch):
    """Not more than a chunk is written that is not synced yet."""
    written: list[int] = [0]
    sync = os.fdatasync
    write = os.pwrite

    def count(descriptor: int, data: bytes, offset: int) -> int:
        written[-1] += len(data)
        return write(descriptor, data, offset)

    def synced(descriptor: int) -> None:
        sync(descriptor)
        written.append(0)

    monkeypatch.setattr(os, "pwrite", count)
    monkeypatch.setattr(os, "fdatasync", synced)
    publish(tmp_path, 1, 7)
    assert written == [LINE_SIZE * 2, LINE_SIZE * 2, LINE_SIZE * 2, LINE_SIZE, 0]


def test_a_second_writer_is_refused(tmp_path):
    publisher = opened(tmp_path)
    publisher.publish(events(1, 1))
    with pytest.raises(PublishError, match="expected to be the only writer"):
        opened(tmp_path)
    publisher.publish(events(2, 2))
    publisher.close()
    publisher.close()
    assert go_on(tmp_path, 3) == position_of(event(2))


def test_an_opening_that_fails_leaves_no_lock(tmp_path):
    (tmp_path / file_name(1)).write_bytes(b"#" * 10)
    (tmp_path / file_name(2)).touch()
    for _ in range(2):
        with pytest.raises(PublishDamaged):
            opened(tmp_path)
    (tmp_path / file_name(1)).unlink()
    opened(tmp_path).close()


# --- disks that fail


class FailingDisk:
    """Fails in the n-th call of the kind, once; a write may be done in part."""

    def __init__(self, monkeypatch, name: str, at: int, part: int = 0) -> None:
        self.calls = 0
        self._real = getattr(os, name)
        self._at = at
        self._part = part
        monkeypatch.setattr(os, name, self)

    def __call__(self, descriptor: int, *arguments):
        self.calls += 1
        if self.calls == self._at and self._part:
            data, offset = arguments
            return self._real(descriptor, data[: self._part], offset)
        if self.calls == self._at + bool(self._part):
            raise OSError(28, "No space left on device")
        return self._real(descriptor, *arguments)


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("part", [0, 1, LINE_SIZE, LINE_SIZE + 7])
@pytest.mark.parametrize("name", ["pwrite", "fdatasync"])
def test_a_full_disk_loses_nothing_and_doubles_nothing(
    tmp_path, monkeypatch, at, part, name
):
    """`publish` raises; the follower opens a new publisher and goes on."""
    if name == "fdatasync":
        part = 0
    publish(tmp_path, 1, 3)
    publisher = opened(tmp_path, file_bytes_max=LINE_SIZE * 5)
    with monkeypatch.context() as patch:
        disk = FailingDisk(patch, name, at, part)
        with pytest.raises(OSError, match="No space left"):
            publisher.publish(events(4, 16))
        assert disk.calls == at + bool(part)
        # who reads along sees whole lines only
        assert text_of(tmp_path).endswith(b"\n")
    publisher.close()
    go_on(tmp_path, 20, file_bytes_max=LINE_SIZE * 5)
    assert text_of(tmp_path) == whole(1, 20)


def test_a_full_disk_that_cannot_even_truncate(tmp_path, monkeypatch):
    publish(tmp_path, 1, 2)
    publisher = opened(tmp_path)
    with monkeypatch.context() as patch:
        FailingDisk(patch, "pwrite", 1, LINE_SIZE + 9)
        FailingDisk(patch, "ftruncate", 1)
        with pytest.raises(OSError, match="No space left"):
            publisher.publish(events(3, 6))
    publisher.close()
    assert text_of(tmp_path) == whole(1, 3) + line(4)[:9]
    assert go_on(tmp_path, 6) == position_of(event(3))
    assert text_of(tmp_path) == whole(1, 6)


def test_the_same_publisher_writes_over_what_failed(tmp_path, monkeypatch):
    publisher = opened(tmp_path)
    publisher.publish(events(1, 2))
    with monkeypatch.context() as patch:
        FailingDisk(patch, "pwrite", 1, 30)
        FailingDisk(patch, "ftruncate", 1)
        with pytest.raises(OSError, match="No space left"):
            publisher.publish(events(3, 3))
    assert publisher.position == position_of(event(2))
    publisher.publish(events(3, 4))
    publisher.close()
    assert text_of(tmp_path) == whole(1, 4)


def test_no_room_for_the_next_file(tmp_path, monkeypatch):
    publisher = opened(tmp_path, file_bytes_max=LINE_SIZE * 2)
    publisher.publish(events(1, 2))
    (tmp_path / file_name(2)).mkdir()
    with pytest.raises(OSError, match="directory"):
        publisher.publish(events(3, 3))
    publisher.close()
    (tmp_path / file_name(2)).rmdir()
    assert go_on(tmp_path, 4, file_bytes_max=LINE_SIZE * 2) == position_of(event(2))
    assert text_of(tmp_path) == whole(1, 4)


_LIMITED = """
import resource, sys
from pathlib import Path
from switch.publish.jsonlines import JsonLinesPublisher
from tests.unit.publish.test_jsonlines import LINE_SIZE, events
resource.setrlimit(resource.RLIMIT_FSIZE, (LINE_SIZE * 3 + 11,) * 2)
publisher = JsonLinesPublisher(sys.argv[1], file_bytes_max=1 << 20)
publisher.publish(events(1, 2))
try:
    publisher.publish(events(3, 5))
except OSError as error:
    print(error.strerror)
"""


def test_the_kernel_itself_refuses(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        check=True,
    )
    assert done.stdout == "File too large\n"
    # what was whole before the limit came had been cut off again
    assert text_of(tmp_path) == whole(1, 2)
    assert go_on(tmp_path, 5) == position_of(event(2))
    assert text_of(tmp_path) == whole(1, 5)
