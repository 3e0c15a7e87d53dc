"""A wall clock that somebody sets while the switch runs: no hold ends and no approval
is late by it, and one step in an hour is followed, as time services make them."""

import datetime
import sys
import time

import pytest

from tests.end_to_end.harness import (
    Client,
    Daemon,
    events,
    make_bank,
    request,
    wait_until,
)
from tests.end_to_end.trading import BALANCE, trading

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
HOLD_MINUTES = 30
# Far more than any machine stalls, and less than the steps.
DEADLINE_MS = 10 * MINUTE_MS
STEP_MS = 50 * MINUTE_MS


class Clocked(Daemon):
    @property
    def file(self):
        return self.folder / "clock"

    @property
    def program(self):
        return (sys.executable, "-m", "tests.end_to_end.clocked", str(self.file))

    def set_clock(self, ms):
        written = self.folder / "clock.new"
        written.write_text(str(ms))
        written.replace(self.file)


@pytest.fixture
def daemon(tmp_path):
    options = (
        *("--set", f"ledger.hold_lifetime_s={HOLD_MINUTES * 60}"),
        *("--set", f"link.answer_deadline_ms={DEADLINE_MS}"),
    )
    with Clocked(tmp_path, *options) as daemon:
        daemon.set_clock(0)
        daemon.pans = make_bank(daemon.data, 2, BALANCE)
        daemon.start()
        yield daemon
        assert daemon.metrics_of("switch_faults_total") == 0
        assert daemon.metrics_of("switch_approvals_withdrawn_total") == 0
        assert daemon.stop() == 0


def wait_for_records(daemon, event, count):
    wait_until(lambda: len(daemon.log_records(event)) == count, f"{count} of {event}")


def test_a_clock_that_is_set_ends_no_hold_and_makes_nothing_late(daemon):
    said = "the clock was set by more than an hour: not followed"
    with trading(daemon, 0) as trader, Client(daemon.port) as client:
        answer = client.ask(request("0100", 1, daemon.pans[1], 100))
        assert answer[39] == "00"
        for count, step in enumerate((3 * HOUR_MS, -3 * HOUR_MS), start=1):
            daemon.set_clock(step)
            wait_for_records(daemon, said, count)
            trader.wait_for(100)
            assert client.ask(request("0101", 1, daemon.pans[1], 100)) == answer
            assert daemon.figures("A1")[1] == 100
            daemon.set_clock(0)
            trader.wait_for(100)
        # This much is followed, either way; the ledger's own time does not go back.
        daemon.set_clock(-STEP_MS)
        trader.wait_for(100)
        assert daemon.figures("A1")[1] == 100
        daemon.set_clock(0)
        trader.wait_for(100)
        daemon.set_clock(STEP_MS)
        wait_until(lambda: daemon.figures("A1")[1] == 0, "the hold to end in its time")
    wait_until(
        lambda: any(event["kind"] == "hold_expired" for event in events(daemon.data)),
        "it to be published",
    )
    latest = time.time() + STEP_MS / 1000 + 1
    times = [
        datetime.datetime.fromisoformat(event["at"]).timestamp()
        for event in events(daemon.data)
    ]
    assert max(times) < latest
    assert times == sorted(times)
