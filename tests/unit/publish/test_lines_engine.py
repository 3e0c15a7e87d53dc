"""Event files as an engine."""

from __future__ import annotations

import asyncio
import json

import pytest

from switch.publish.events import events_of
from switch.publish.jsonlines import JsonLinesPublisher, event_files
from switch.publish.lines_engine import LinesEngine
from switch.publish.port import PublishError
from tests.unit.small_bank import full_journal


@pytest.fixture
def commits(tmp_path):
    (tmp_path / "data").mkdir()
    _, journal = full_journal(tmp_path / "data")
    yield list(journal.read(0))
    journal.close()


def ids_in(directory):
    lines = b"".join(path.read_bytes() for path in event_files(directory)).splitlines()
    return [json.loads(line)["id"] for line in lines]


def test_each_batch_is_in_the_files_and_the_next_engine_goes_on(commits, tmp_path):
    async def main():
        for commit in commits:
            engine = LinesEngine(tmp_path / "events", file_bytes_max=4096)
            await engine.open()
            assert await engine.send([commit]) == ()
            assert engine.settled == 1
            await engine.close()

    asyncio.run(main())
    wanted = [event.id for commit in commits for event in events_of(commit)]
    assert ids_in(tmp_path / "events") == wanted
    assert len(event_files(tmp_path / "events")) > 1


def test_after_a_batch_that_failed_nothing_more_is_written(
    commits, tmp_path, monkeypatch
):
    def full(*_):
        raise OSError("the disk is full")

    async def main():
        engine = LinesEngine(tmp_path / "events", file_bytes_max=1 << 20)
        await engine.open()
        monkeypatch.setattr(JsonLinesPublisher, "publish", full)
        with pytest.raises(OSError, match="full"):
            await engine.send(commits)
        monkeypatch.undo()
        with pytest.raises(PublishError, match="one that failed"):
            await engine.send(commits)
        assert engine.settled == 0
        await engine.close()

    asyncio.run(main())
    assert ids_in(tmp_path / "events") == []


def test_a_directory_has_one_writer(tmp_path):
    async def main():
        one = LinesEngine(tmp_path / "events", file_bytes_max=1 << 20)
        other = LinesEngine(tmp_path / "events", file_bytes_max=1 << 20)
        await one.open()
        with pytest.raises(PublishError, match="only writer"):
            await other.open()
        await other.close()
        await one.close()
        await other.open()
        await other.close()

    asyncio.run(main())
