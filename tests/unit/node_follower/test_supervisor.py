"""What a node says of its read model, whatever becomes of the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from switch.cluster.settings import CassandraSettings
from switch.companion import supervisor
from switch.node_follower.process import Settings, Status
from switch.node_follower.supervisor import NodeFollowerProcess
from switch.observe.metrics import METRICS
from tests.unit.follower.running import until_it_is_so

# Says once that it is complete, and when; ends when its input does.
TALKING = """
import sys, time
line = b'{"entries": 5, "complete_at": %f, "fault": null}\\n' % time.monotonic()
sys.stdout.buffer.write(line)
sys.stdout.flush()
sys.stdin.buffer.readline()
"""
ENDING = "pass"


def process(tmp_path):
    return NodeFollowerProcess(Settings(str(tmp_path), CassandraSettings(), 4))


@pytest.fixture(autouse=True)
def quick_restarts(monkeypatch):
    monkeypatch.setattr(supervisor, "RESTART_SECONDS_MIN", 0.01)
    monkeypatch.setattr(supervisor, "RESTART_SECONDS_MAX", 0.02)


def spawning(monkeypatch, program):
    def spawn(name, settings):
        assert name == "node_follower"
        return subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    monkeypatch.setattr(supervisor, "_spawn", spawn)


def told(follower):
    samples = list(follower.samples())
    assert all(sample.name in METRICS for sample in samples)
    return {(sample.name, *sample.labels): sample.value for sample in samples}


def test_it_says_how_long_ago_the_rows_were_complete(tmp_path, monkeypatch):
    spawning(monkeypatch, TALKING)

    async def test():
        follower = process(tmp_path)
        began_at = time.monotonic()
        follower.start()
        await until_it_is_so(lambda: follower.status.entries == 5)
        assert follower.fault is None
        figures = told(follower)
        age = figures.pop(("follower_lag_seconds", "read_model"))
        assert 0 <= age <= time.monotonic() - began_at
        assert figures == {
            ("follower_up",): 1,
            ("follower_restarts",): 0,
            ("follower_faulty", "read_model"): 0,
        }
        # One that has just begun knows nothing: what was known stays.
        follower.heard(Status())
        later = told(follower)[("follower_lag_seconds", "read_model")]
        assert age <= later <= time.monotonic() - began_at
        await follower.stop(drain_seconds=0.0)
        assert not follower.is_running

    asyncio.run(test())


def test_what_it_cannot_do_is_said(tmp_path, monkeypatch):
    spawning(monkeypatch, TALKING)

    async def test():
        follower = process(tmp_path)
        assert follower.fault == "the node_follower is not running"
        follower.start()
        await until_it_is_so(lambda: follower.status.entries == 5)
        follower.status = Status(fault="Cassandra is away")
        assert follower.fault == "Cassandra is away"
        assert told(follower)[("follower_faulty", "read_model")] == 1
        await follower.stop(drain_seconds=0.0)

    asyncio.run(test())


def test_one_that_ends_is_started_again(tmp_path, monkeypatch):
    spawning(monkeypatch, ENDING)

    async def test():
        follower = process(tmp_path)
        follower.start()
        await until_it_is_so(lambda: follower.restarts > 2)
        assert told(follower)[("follower_restarts",)] > 2
        await follower.stop(drain_seconds=0.0)

    asyncio.run(test())
