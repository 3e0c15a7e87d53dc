"""What `scripts/cluster` knows of its processes and its place, without any server."""

import os
import signal
import subprocess
import sys

import pytest

from tests.scraping import values_of
from tests.servers.common import ServerError
from tests.servers.local import layout, processes
from tests.servers.local.__main__ import build_parser
from tests.servers.local.commands import down, status
from tests.servers.local.layout import Place, plan_of
from tests.servers.local.processes import Processes, Record
from tests.servers.local.view import spans
from tests.servers.local.watching import figures

STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('ready', flush=True); time.sleep(600)"
)
PLAIN = "import time; print('ready', flush=True); time.sleep(600)"


@pytest.fixture
def started():
    running = []

    def start(program, *words):
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, words)], stdout=subprocess.PIPE
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def arguments(action, directory, *words):
    return build_parser().parse_args([action, "--directory", str(directory), *words])


def test_down_ends_what_a_crash_has_left_and_says_so(tmp_path, started, capsys):
    place = Place(tmp_path)
    place.fresh.mkdir()
    known, unknown = started(PLAIN), started(PLAIN, place.fresh / "node1")
    Processes(place.processes).add("kafka", known.pid, "127.0.0.1:9")
    assert down(arguments("down", tmp_path)) == 0
    said = capsys.readouterr().out
    assert f"kafka (pid {known.pid}) stopped" in said
    assert f"(pid {unknown.pid}) stopped" in said
    assert known.wait() == unknown.wait() == -signal.SIGTERM
    assert not place.fresh.exists()
    assert down(arguments("down", tmp_path)) == 0
    assert capsys.readouterr().out == "nothing was running\n"


def test_down_leaves_what_is_kept_unless_it_is_told(tmp_path, capsys):
    place = Place(tmp_path)
    place.kept.mkdir()
    down(arguments("down", tmp_path))
    assert "--keep` goes on with it" in capsys.readouterr().out
    assert place.kept.exists()
    down(arguments("down", tmp_path, "--remove"))
    assert not place.kept.exists()


def test_a_process_that_has_the_number_of_another_is_left_alone(tmp_path, started):
    process = started(PLAIN)
    Processes(tmp_path).add("etcd1", process.pid)
    (record,) = Processes(tmp_path).all()
    assert record.is_running
    later = Record(record.name, record.pid, record.began + 1)
    assert not later.is_running
    later.signal(signal.SIGKILL)
    assert process.poll() is None


def test_one_that_does_not_hear_is_killed(started, monkeypatch):
    monkeypatch.setattr(processes, "STOP_SECONDS_MAX", 0.2)
    process = started(STUBBORN)
    began = processes._began(process.pid)
    assert began is not None
    record = Record("nsqd", process.pid, began)
    assert processes.end(record) == "killed"
    assert process.wait() == -signal.SIGKILL


def test_status_says_when_nothing_runs(tmp_path, capsys):
    assert status(arguments("status", tmp_path)) == 1
    assert "no cluster runs" in capsys.readouterr().out
    # Of a process that has ended: what it was.
    Processes(Place(tmp_path).processes).add("up", os.getpid())
    file = next(Place(tmp_path).processes.glob("*.json"))
    file.write_text(file.read_text().replace('"began":', '"began":1'))
    assert status(arguments("status", tmp_path)) == 1
    assert "ended" in capsys.readouterr().out


def test_a_plan_is_kept_and_no_other_goes_on_with_its_data(tmp_path):
    plan = plan_of(tmp_path, node_count=2, small=True)
    assert (len(plan.of_cassandra), len(plan.of_nodes), plan.etcd_count) == (1, 2, 1)
    assert plan_of(tmp_path, node_count=2, small=True) == plan
    with pytest.raises(ServerError, match="expected 3 Cassandra and 2 nodes, got data"):
        plan_of(tmp_path, node_count=2, small=False)


def test_an_address_that_is_taken_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(layout, "is_free", lambda address, ports: False)
    monkeypatch.setattr(layout, "free_addresses", lambda count: ["127.9.9.1"] * count)
    assert plan_of(tmp_path, node_count=1, small=True).addresses == ("127.9.9.1",)


def test_rates_are_of_two_looks():
    text = "# HELP x\nswitch_entries_total 30.0\nswitch_cluster_shards 8.0\n"
    values = values_of(text)
    first = figures(values, 0.0, {}, 10.0)
    assert (first.shards, first.entries_a_second) == (8.0, None)
    second = figures(values, 10.0, {"switch_entries_total": 10.0}, 12.0)
    assert second.entries_a_second == 10.0
    again = figures(values, 10.0, {"switch_entries_total": 99.0}, 12.0)
    assert again.entries_a_second == 0.0
    assert not figures({}, 10.0, values, 12.0).is_up


def test_numbers_in_a_row_are_a_span():
    assert spans([]) == "none"
    assert spans([3, 1, 2, 7, 9, 10]) == "1-3 7 9-10"
    assert spans(list(range(0, 99, 2))).endswith("… (50)")
