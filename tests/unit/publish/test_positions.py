"""Where an engine goes on: kept whole or not at all, by one process at a time."""

import json

import pytest

from switch.publish.events import events_of
from switch.publish.port import PublishDamaged, PublishError
from switch.publish.positions import (
    EnginePosition,
    PositionFiles,
    copy_positions,
    position_paths,
)
from tests.unit.small_bank import full_journal

IDENTITY = bytes(range(16))


@pytest.fixture
def files(tmp_path):
    with PositionFiles(tmp_path / "publish", "kafka", IDENTITY) as files:
        yield files


def position(commit: int, **shards: int) -> EnginePosition:
    numbers = {int(name[1:]): number for name, number in shards.items()}
    return EnginePosition(IDENTITY.hex(), commit, numbers)


def test_without_a_file_it_is_the_beginning(files):
    assert files.load() == position(0)
    assert files.load().entries == 0


def test_what_was_stored_is_there_again(files):
    files.store(position(7, s0=3, s11=5))
    files.store(position(9, s0=4, s11=5))
    assert files.load() == position(9, s0=4, s11=5)
    assert files.load().entries == 9
    assert files.position_path.stat().st_mode & 0o777 == 0o600
    assert files.directory.stat().st_mode & 0o777 == 0o700


def test_no_byte_of_it_can_change_unnoticed(files):
    files.store(position(1234, s0=300, s11=934))
    data = files.position_path.read_bytes()
    for index in range(len(data) - 1):
        for bit in (1, 0x10):
            wrong = bytearray(data)
            wrong[index] ^= bit
            files.position_path.write_bytes(wrong)
            with pytest.raises(PublishDamaged, match="switch publish rewind kafka"):
                files.load()
    for size in range(1, len(data) - 1):
        files.position_path.write_bytes(data[:size])
        with pytest.raises(PublishDamaged):
            files.load()


def test_that_of_another_journal_is_refused(files):
    files.store(position(5))
    files.unlock()
    other = PositionFiles(files.directory, "kafka", bytes(16))
    with pytest.raises(PublishDamaged, match="expected a position in journal 0000"):
        other.load()


def test_two_cannot_publish_to_the_same(files):
    other = PositionFiles(files.directory, "kafka", IDENTITY)
    assert other.is_locked()
    with pytest.raises(PublishError, match="only one to publish to kafka"):
        other.lock()
    PositionFiles(files.directory, "another", IDENTITY).lock()
    files.unlock()
    assert not other.is_locked()
    other.lock()
    other.unlock()


def test_who_holds_it_moves_when_asked(files):
    files.store(position(9, s0=9))
    assert files.obey() is None
    other = PositionFiles(files.directory, "kafka", IDENTITY)
    other.ask_to_move(position(3, s0=3))
    assert other.is_asked_to_move()
    assert other.asked_to_move_to() == 3
    assert files.obey() == position(3, s0=3)
    assert files.load() == position(3, s0=3)
    assert not other.is_asked_to_move()
    assert other.asked_to_move_to() is None
    assert files.obey() is None


def test_a_move_mends_a_damaged_position(files):
    files.directory.mkdir(exist_ok=True)
    files.position_path.write_bytes(b"nonsense\n")
    files.ask_to_move(position(2, s0=2))
    assert files.obey() == position(2, s0=2)
    assert files.load() == position(2, s0=2)


def test_what_is_forgotten_is_as_if_it_had_never_been(files):
    files.store(position(9, s0=9))
    files.ask_to_move(position(3, s0=3))
    files.refused_path.touch()
    files.forget()
    assert files.obey() is None
    assert files.load().commit == 0
    assert position_paths(files.directory) == []
    assert files.refused_path.exists()
    files.forget()


def test_what_was_set_aside_is_kept_with_its_reason(files, tmp_path_factory):
    _, journal = full_journal(tmp_path_factory.mktemp("journal"))
    events = [event for commit in journal.read(0) for event in events_of(commit)][:3]
    journal.close()
    assert files.refused_count() == 0
    files.set_aside([(events[0], "too large")])
    files.set_aside([(events[1], "invalid"), (events[2], "invalid")])
    assert files.refused_count() == 3
    lines = [json.loads(line) for line in files.refused_path.read_text().splitlines()]
    assert [line["event"]["id"] for line in lines] == [event.id for event in events]
    assert [line["reason"] for line in lines] == ["too large", "invalid", "invalid"]
    assert files.refused_path.stat().st_mode & 0o777 == 0o600


def test_a_copy_has_the_sound_positions(files, tmp_path):
    files.store(position(4, s0=4))
    (files.directory / "other.position").write_bytes(b"nonsense\n")
    copy_positions(files.directory, tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["kafka.position"]
    copied = PositionFiles(tmp_path / "copy", "kafka", IDENTITY)
    assert copied.load() == position(4, s0=4)
    copy_positions(tmp_path / "nowhere", tmp_path / "none")
    assert not (tmp_path / "none").exists()
