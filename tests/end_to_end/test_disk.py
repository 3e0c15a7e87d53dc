"""A disk under a daemon that fills up or hangs: nothing is answered that is not kept,
operators see why, and it goes on when the disk does."""

import json
import sys
from pathlib import Path

import pytest

from tests.end_to_end.harness import (
    Client,
    Daemon,
    events,
    make_bank,
    network,
    request,
    run_switch,
    verify,
    wait_until,
)

BALANCE = 10**6
DEADLINE_MS, PATIENT_MS = 200, 60_000


class FaultyDisk(Daemon):
    """A daemon on a disk that is full, or hangs, while a file says so."""

    @property
    def program(self) -> list[str]:
        return [sys.executable, "-m", "tests.end_to_end.faulty_disk", str(self.folder)]

    @property
    def full(self) -> Path:
        return self.folder / "full"

    @property
    def hangs(self) -> Path:
        return self.folder / "hangs"

    def readiness(self) -> tuple[int, dict[str, object]]:
        status, body = self.get("/readyz")
        return status, json.loads(body)


# A machine that stands still for a while shall make no approval late.
@pytest.fixture(params=[PATIENT_MS])
def daemon(tmp_path, request):
    options = ("--set", f"link.answer_deadline_ms={request.param}")
    with FaultyDisk(tmp_path, *options) as daemon:
        daemon.pans = make_bank(daemon.data, 1, BALANCE)
        yield daemon


def check_ends_for_the_full_disk(daemon: Daemon) -> None:
    assert daemon.wait() == 74, daemon.log_tail()
    (record,) = daemon.log_records("failed, nothing is answered any more")
    assert record["level"] == "critical"
    assert record["reason"].startswith("JournalFull: disk full, make room: ")
    assert "journal.db" in record["reason"]
    assert "start it again" in record["do"]
    last = daemon.log_tail().splitlines()[-1]
    assert last.startswith("switch: disk full, make room: ")
    wait_until(lambda: not daemon.processes(), "its processes to end")


def test_a_full_disk_ends_it_and_nothing_that_was_answered_is_lost(daemon):
    daemon.start()
    first, second = (request("0100", n, daemon.pans[0], 100 * n) for n in (1, 2))
    with Client(daemon.port) as client:
        approved = client.ask(first)
        assert approved[39] == "00"
        daemon.full.touch()
        client.send(second)
        assert client.receive_body() is None
    check_ends_for_the_full_disk(daemon)

    # Nothing has changed: it answers nobody, and ends again.
    daemon.start()
    with Client(daemon.port) as client:
        client.send(second)
        assert client.receive_body() is None
    check_ends_for_the_full_disk(daemon)

    daemon.full.unlink()
    daemon.start()
    assert daemon.figures("A0") == (BALANCE, 100, BALANCE - 100)
    with Client(daemon.port) as client:
        assert client.ask(first) == approved
        assert client.ask(second)[39] == "00"
    assert daemon.figures("A0") == (BALANCE, 300, BALANCE - 300)
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]


def test_an_import_onto_a_full_disk_says_so_and_leaves_nothing(daemon, tmp_path):
    rows = tmp_path / "more.csv"
    rows.write_text("account,currency,balance,credit_limit\nNEW,EUR,1,0\n")
    before = verify(daemon.data)
    daemon.full.touch()
    done = run_switch(
        *("accounts", "import", rows, "--data", daemon.data),
        program=daemon.program,
    )
    assert done.returncode == 74
    assert done.stderr.startswith("switch: disk full, make room: ")
    assert verify(daemon.data) == before


@pytest.mark.parametrize("daemon", [DEADLINE_MS], indirect=True)
def test_a_disk_that_hangs_makes_it_unready_until_it_goes_on(daemon):
    """What was approved meanwhile is too late, and declined."""
    daemon.start()
    assert daemon.readiness() == (200, {"ready": True, "reasons": []})
    daemon.hangs.touch()
    with Client(daemon.port) as client, Client(daemon.port) as other:
        client.send(request("0100", 1, daemon.pans[0], 100))
        wait_until(lambda: daemon.readiness()[0] == 503, "it to be unready")
        status, said = daemon.readiness()
        assert status == 503
        assert said["ready"] is False
        (reason,) = said["reasons"]
        assert reason.startswith("the journal has been writing for ")
        # It is well, and does what needs no disk.
        assert daemon.get("/healthz")[0] == 200
        assert other.ask(network(2, "301"))[39] == "00"
        metrics = daemon.metrics()
        assert metrics["switch_commit_in_flight_seconds"] > DEADLINE_MS / 1000
        assert metrics['switch_requests_in_flight{link="main"}'] == 1
        daemon.hangs.unlink()
        assert client.receive()[39] == "91"
    wait_until(lambda: daemon.readiness()[0] == 200, "it to be ready again")
    metrics = daemon.metrics()
    assert metrics['switch_approvals_withdrawn_total{link="main"}'] == 1
    assert daemon.figures("A0") == (BALANCE, 0, BALANCE)
    wait_until(
        lambda: daemon.metrics()["switch_commit_in_flight_seconds"] == 0,
        "no commit to be in flight",
    )
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]


def test_events_that_cannot_be_written_hold_nothing_up_and_are_told(daemon):
    in_the_way = daemon.data / "events"
    in_the_way.write_text("")
    daemon.start()
    with Client(daemon.port) as client:
        assert client.ask(request("0100", 1, daemon.pans[0], 100))[39] == "00"
        wait_until(lambda: "follower" in daemon.readiness()[1], "the fault to be told")
        status, said = daemon.readiness()
        assert (status, said["ready"], said["reasons"]) == (200, True, [])
        assert str(said["follower"]).startswith("FileExistsError: ")
        metrics = daemon.metrics()
        assert metrics["switch_follower_up"] == 1
        assert metrics['switch_follower_faulty{sink="events"}'] == 1
        assert metrics['switch_follower_faulty{sink="read_model"}'] == 0
        assert metrics['switch_follower_lag_seconds{sink="events"}'] > 0
        assert metrics['switch_disk_size_bytes{directory="events"}'] > 0
        in_the_way.unlink()
        assert client.ask(request("0100", 2, daemon.pans[0], 100))[39] == "00"
    wait_until(
        lambda: daemon.metrics_of("switch_follower_lag_seconds") == 0,
        "both sinks to have all",
    )
    metrics = daemon.metrics()
    assert metrics["switch_published_head"] == metrics["switch_released_head"]
    assert metrics['switch_follower_lag_commits{sink="events"}'] == 0
    assert "follower" not in daemon.readiness()[1]
    assert daemon.stop() == 0
    assert [event["kind"] for event in events(daemon.data)][-2:] == ["held", "held"]
