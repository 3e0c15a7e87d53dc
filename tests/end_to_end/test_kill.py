"""kill -9 at random moments: whatever a client was told stays so, and nothing else is.

CARDSWITCH_TEST_KILLS sets how often; CARDSWITCH_TEST_SEED, when.
"""

import json
import os
import random
import signal
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.end_to_end.harness import (
    EXPIRY,
    Daemon,
    events,
    import_accounts,
    import_cards,
    pan_of,
    run_switch,
    verify,
    wait_until,
)
from tests.end_to_end.recording import Recorder

KILLS = int(os.environ.get("CARDSWITCH_TEST_KILLS", "200"))
SEED = int(os.environ.get("CARDSWITCH_TEST_SEED", "1"))
SECONDS_PER_KILL_MAX = 10

ACCOUNTS = 8
BALANCE = 10**12
# The last one soon has no more, so that declines are kept as well.
BALANCE_POOR = 200_000
ASKED_AGAIN = 200
# The moments of a kill: while it starts, under load, and while it stops.
START_SECONDS, LOAD_SECONDS, STOP_SECONDS = 0.3, 0.08, 0.05
KILLED_AT_START, KILLED_AT_STOP, FOLLOWER_KILLED = 0.15, 0.15, 0.2
# A machine that stands still for a while shall not take approvals back.
PATIENT = ("--set", "link.answer_deadline_ms=60000")


def make_recorder(daemon: Daemon, seed: int) -> Recorder:
    pans = [pan_of(index) for index in range(ACCOUNTS)]
    balances = [*[BALANCE] * (ACCOUNTS - 1), BALANCE_POOR]
    import_accounts(
        daemon.data, [(f"A{i}", "EUR", sum_, 0) for i, sum_ in enumerate(balances)]
    )
    import_cards(
        daemon.data, [(pan, f"A{i}", EXPIRY, "active") for i, pan in enumerate(pans)]
    )
    return Recorder(pans, balances, seed)


def kill_follower(daemon: Daemon) -> None:
    for pid in daemon.followers():
        os.kill(pid, signal.SIGKILL)


def kill_follower_and_wait_for_the_next(daemon: Daemon) -> None:
    wait_until(daemon.followers, "a follower")
    gone = set(daemon.followers())
    kill_follower(daemon)
    wait_until(lambda: set(daemon.followers()) - gone, "a new follower")


def check_journal_and_events(daemon: Daemon, recorder: Recorder) -> None:
    """After a clean stop: the journal adds up, and every entry of it was published
    once, those of an account in order; what was published adds up as well."""
    verdict = verify(daemon.data)
    assert verdict["ok"], verdict["problems"]
    written = dump(daemon.data)
    # Openings and cards, and one for each purchase, however often it was asked.
    assert len(written) == 2 * ACCOUNTS + len(recorder.purchases) == verdict["entries"]
    published: defaultdict[str, list[int]] = defaultdict(list)
    sums: defaultdict[str, int] = defaultdict(int)
    for event in events(daemon.data):
        shard, _, sequence = event["id"].partition("-")
        published[shard].append(int(sequence))
        sums[event["account"]] += event.get("balance_change", 0)
        sums[event["account"]] -= event.get("held_change", 0)
    for shard, sequences in published.items():
        assert sequences == list(range(1, len(sequences) + 1)), f"shard {shard}"
    ids = {f"{shard}-{n}" for shard, numbers in published.items() for n in numbers}
    assert ids == written
    for index, used in enumerate(recorder.approved):
        assert sums[f"A{index}"] == recorder.balances[index] - used


def dump(data: Path) -> set[str]:
    """The ids of all entries of the journal."""
    done = run_switch("journal", "dump", data, "--json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    ids = {json.loads(line)["id"] for line in lines}
    assert len(ids) == len(lines)
    return ids


def wait_until_gone(daemon: Daemon, pids: set[int]) -> None:
    wait_until(lambda: not pids & set(daemon.followers()), "followers of before to end")


@pytest.mark.timeout(120 + SECONDS_PER_KILL_MAX * KILLS)
def test_what_was_answered_survives_every_kill(tmp_path):
    draw = random.Random(SEED)
    start_seconds = []
    # Kills that broke off an exchange under way, and those that came between the
    # commit of an approval and its answer.
    met_load = met_commit = 0
    with Daemon(tmp_path, *PATIENT) as daemon:
        recorder = make_recorder(daemon, SEED)
        for _ in range(KILLS):
            gone = daemon.followers()
            started_at = time.monotonic()
            daemon.spawn()
            if draw.random() < KILLED_AT_START:
                time.sleep(draw.uniform(0, START_SECONDS))
                daemon.kill()
                continue
            daemon.wait_ready()
            start_seconds.append(time.monotonic() - started_at)
            met_commit += recorder.check_bounds(daemon) > 0
            recorder.ask_again(daemon, ASKED_AGAIN)
            recorder.check_exactly(daemon)
            answered_count = len(recorder.answers)
            recorder.start_load(daemon)
            if draw.random() < FOLLOWER_KILLED:
                kill_follower(daemon)
            time.sleep(draw.uniform(0, LOAD_SECONDS))
            if draw.random() < KILLED_AT_STOP:
                daemon.send_signal(signal.SIGTERM)
                time.sleep(draw.uniform(0, STOP_SECONDS))
            daemon.kill()
            recorder.join()
            if recorder.unknown and len(recorder.answers) > answered_count:
                met_load += 1
            # A follower ends with its parent; the one of the round before has.
            wait_until_gone(daemon, set(gone))
        daemon.start()
        recorder.check_bounds(daemon)
        recorder.ask_again(daemon, len(recorder.answers))
        recorder.check_exactly(daemon)
        assert daemon.metrics()['switch_faults_total{link="main"}'] == 0
        assert daemon.stop() == 0
        check_journal_and_events(daemon, recorder)
        wait_until(lambda: not daemon.processes(), "all processes to end")
    assert met_load, "no kill broke off an exchange: there was no load"
    assert met_commit, "no kill came between a commit and its answers"
    declined = [a for a in recorder.answers.values() if a.response_code == "51"]
    assert declined, "no decline was kept: the balances are too high"
    print(
        f"{KILLS} kills, {met_load} of them under load and {met_commit} between a "
        f"commit and its answers; {len(recorder.purchases)} purchases; ready within "
        f"{1000 * sum(start_seconds) / len(start_seconds):.0f} ms in the mean, "
        f"{1000 * max(start_seconds):.0f} ms at most"
    )


def test_a_killed_follower_is_started_again_and_misses_nothing(tmp_path):
    with Daemon(tmp_path, *PATIENT) as daemon:
        recorder = make_recorder(daemon, SEED)
        daemon.start()
        for _ in range(3):
            recorder.start_load(daemon)
            kill_follower_and_wait_for_the_next(daemon)
            recorder.end_load()
            # Trading did not notice.
            assert not recorder.unknown
        assert daemon.metrics()["switch_follower_restarts_total"] == 3
        recorder.check_exactly(daemon)
        assert daemon.stop() == 0
        check_journal_and_events(daemon, recorder)


def test_a_follower_ends_when_its_parent_is_gone(tmp_path):
    with Daemon(tmp_path) as daemon:
        daemon.start()
        wait_until(daemon.followers, "a follower")
        daemon.kill()
        wait_until(lambda: not daemon.processes(), "the follower to end")
