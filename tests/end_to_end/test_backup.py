"""A backup of a switch at work, and the switch that goes on from it."""

import json

import pytest

from tests.end_to_end.harness import Daemon, events, run_switch, verify, wait_until
from tests.end_to_end.recording import Answer, Recorder
from tests.end_to_end.test_kill import PATIENT, make_recorder

ANSWERS_MIN = 300
BEGINS = "begins from a backup: what was answered after it is not known here"


@pytest.fixture
def daemon(tmp_path):
    (tmp_path / "bank").mkdir()
    with Daemon(tmp_path / "bank", *PATIENT) as daemon:
        yield daemon


@pytest.fixture
def standby(tmp_path):
    """Another machine's: its data directory is the backup."""
    (tmp_path / "standby").mkdir()
    with Daemon(tmp_path / "standby", *PATIENT) as daemon:
        yield daemon


def go_back(recorder: Recorder, answers: dict[int, Answer]) -> None:
    """As if nothing had been told since but that."""
    told, recorder.answers = answers, {}
    recorder.approved = [0] * len(recorder.pans)
    recorder.unknown = set(recorder.purchases)
    for number, answer in told.items():
        recorder.answers[number] = answer
        recorder._add(number, answer)


def test_what_was_answered_before_a_backup_is_in_it(daemon, standby):
    recorder = make_recorder(daemon, 1)
    daemon.start()
    recorder.start_load(daemon)
    wait_until(lambda: len(recorder.answers) >= ANSWERS_MIN, "answers")
    wait_until(lambda: any(events(daemon.data)), "an event")
    with recorder._lock:
        before = dict(recorder.answers)
    made = run_switch(
        "backup", standby.data, "--data", daemon.data, "--with-key", "--json"
    )
    assert made.returncode == 0, made.stderr
    wait_until(lambda: len(recorder.answers) > len(before), "answers after the backup")
    daemon.kill()
    recorder.join()
    wait_until(lambda: not daemon.processes(), "the follower to end")

    verdict = verify(standby.data)
    assert verdict["ok"], verdict["problems"]
    published = [event["id"] for event in events(standby.data)]
    standby.start()
    (record,) = standby.log_records(BEGINS)
    said = json.loads(made.stdout)
    assert record["level"] == "warning"
    assert {name: record[name] for name in ("commit", "taken_at")} == {
        name: said[name] for name in ("commit", "taken_at")
    }
    go_back(recorder, before)
    recorder.check_bounds(standby)
    recorder.ask_again(standby, len(before))
    recorder.check_exactly(standby)
    assert standby.stop() == 0
    assert verify(standby.data)["ok"]
    check_events(daemon, standby, published)
    # From now on it is a directory like any other.
    standby.start()
    assert not standby.log_records(BEGINS)
    assert standby.stop() == 0


def check_events(daemon: Daemon, standby: Daemon, published: list[str]) -> None:
    """It goes on behind the one event that is in the backup, and misses nothing."""
    (position,) = published
    old = {event["id"] for event in events(daemon.data)}
    new = [event["id"] for event in events(standby.data)]
    assert new[0] == position
    behind = new[1:]
    assert len(set(behind)) == len(behind)
    assert position not in behind
    dumped = run_switch("journal", "dump", standby.data, "--json").stdout.splitlines()
    whole = [json.loads(line)["id"] for line in dumped]
    place = whole.index(position)
    assert whole[place + 1 :] == behind
    assert set(whole[:place]) <= old


def test_one_that_cannot_be_made_says_so(daemon):
    make_recorder(daemon, 1)
    done = run_switch("backup", "/proc/nowhere", "--data", daemon.data)
    assert done.returncode == 74
    assert done.stderr.startswith("switch: ")
    done = run_switch("backup", daemon.folder, "--data", daemon.data)
    assert done.returncode == 74
    assert "got one that is there" in done.stderr
