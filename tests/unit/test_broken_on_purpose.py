"""Each invariant of docs/design.md broken on purpose, where Python can break it: the
test that the design names for it must fail then. What is native is broken by hand, when
it or its tests change.

A test is run as pytest runs it, fixtures and all, in a session of its own. It must fail
while it runs: an error before or after that shows nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from switch import embedded
from switch.follower.consumer import Consumer
from switch.journal import connection
from switch.journal.sqlite import SqliteJournal
from switch.ledger import Limits, restore
from switch.link import links
from switch.observe import log
from switch.publish import jsonlines
from switch.publisher.forwarder import Forwarder
from switch.shard import recovery
from switch.shard.committer import Committer
from tests.simulation.embedded import connect_synchronous
from tests.style.test_docs import invariants

ROOT = Path(__file__).parents[2]
FIRST_BALANCE = 56  # in a dump of a state: its offset behind the header


def set_to(owner: object, name: str, value: object) -> Callable[..., None]:
    """A break that replaces one attribute."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(owner, name, value, raising=False)

    return apply


def tells_too_early(patch: pytest.MonkeyPatch) -> None:
    submit = Committer.submit

    def other(self: Any, at: int, records: Any) -> None:
        self._call(self._committed, self._journal.head + 1)
        submit(self, at, records)

    patch.setattr(Committer, "submit", other)


def restores_another_balance(patch: pytest.MonkeyPatch) -> None:
    def other(data: bytes, limits: Limits) -> Any:
        wrong = bytearray(data)
        wrong[FIRST_BALANCE] ^= 1
        return restore(bytes(wrong), limits)

    patch.setattr(recovery, "restore", other)


def reads_on(patch: pytest.MonkeyPatch) -> None:
    step = Consumer.step
    patch.setattr(
        Consumer, "step", lambda self, head, **more: step(self, head + 1, **more)
    )


def keeps_torn_lines(patch: pytest.MonkeyPatch) -> None:
    sound_end = jsonlines._sound_end
    patch.setattr(
        jsonlines,
        "_sound_end",
        lambda path: (path.stat().st_size, sound_end(path)[1]),
    )


def forwards_what_is_not_released(patch: pytest.MonkeyPatch) -> None:
    begin = Forwarder.__init__

    def other(self: Any, plan: Any, journal: Any, *rest: Any) -> None:
        begin(self, plan, journal, *rest)
        self._head = lambda: journal.head

    patch.setattr(Forwarder, "__init__", other)


async def acknowledges_nothing(*_: object) -> None:
    pass


class Break(NamedTuple):
    invariant: int
    what: str
    apply: Callable[[pytest.MonkeyPatch], None]
    test: str


WHOLE = "tests/simulation/test_whole.py::test_the_switch_and_a_model_agree"
BREAKS = [
    Break(
        1,
        "commits are not synced",
        set_to(connection, "connect", connect_synchronous("OFF")),
        "tests/simulation/test_embedded_power_loss.py"
        "::test_the_switch_loses_nothing_that_it_answered",
    ),
    Break(
        1,
        "a commit is told of before it is written",
        tells_too_early,
        "tests/unit/shard/test_committer.py"
        "::test_after_a_failure_nothing_more_is_written_or_told",
    ),
    Break(
        2,
        "a restart forgets what was answered",
        set_to(embedded, "make_limits", lambda *_: Limits(duplicate_window_ms=1)),
        WHOLE,
    ),
    Break(4, "a snapshot has another balance", restores_another_balance, WHOLE),
    Break(
        5,
        "the directory is not locked",
        set_to(fcntl, "flock", lambda *_: None),
        "tests/unit/ownership/test_ownership.py"
        "::test_a_second_process_is_told_who_holds_it",
    ),
    Break(
        6,
        "a journal goes on after an unknown outcome",
        set_to(SqliteJournal, "_stop", lambda self, cause: None),
        "tests/unit/journal/test_faults.py"
        "::TestFailingDisk::test_the_outcome_is_unknown_and_it_stops",
    ),
    Break(
        7,
        "what is not released is published",
        reads_on,
        "tests/unit/follower/test_consumer.py"
        "::test_nothing_beyond_the_released_head_is_taken",
    ),
    Break(
        7,
        "half a line is gone on behind",
        keeps_torn_lines,
        "tests/unit/publish/test_jsonlines.py::test_a_torn_end_is_cut_at_every_byte",
    ),
    Break(
        7,
        "what is not released is sent to an engine",
        forwards_what_is_not_released,
        "tests/unit/publisher/test_forwarder.py"
        "::test_all_that_is_released_goes_out_in_order_and_nothing_else",
    ),
    Break(
        7,
        "an engine counts as having what it never got",
        set_to(Forwarder, "_send", acknowledges_nothing),
        "tests/unit/publisher/test_forwarder.py"
        "::test_an_engine_that_fails_anywhere_misses_nothing_and_keeps_the_order",
    ),
    Break(
        8,
        "the most patient link's deadline counts for all",
        set_to(links, "min", max),
        "tests/unit/link/test_links.py"
        "::test_the_strictest_link_says_when_late_approvals_are_looked_for",
    ),
    Break(
        9,
        "the log masks nothing",
        set_to(log, "mask_digits", str),
        "tests/unit/observe/test_log.py"
        "::test_a_card_number_is_masked_wherever_it_comes_from",
    ),
    Break(
        10,
        "a flood of log lines is written",
        set_to(log.Sampler, "admit", lambda self, name, text: 0),
        "tests/unit/observe/test_log.py::test_a_flood_of_one_event_is_cut_and_counted",
    ),
    Break(
        10,
        "the log of SQLite is never copied",
        set_to(SqliteJournal, "_tend", lambda self: None),
        "tests/unit/journal/test_sqlite.py::test_the_log_stays_short",
    ),
]


class Outcomes:
    """A plugin: what became of each test while it ran, and what failed elsewhere."""

    def __init__(self) -> None:
        self.failed = 0
        self.elsewhere = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.failed += report.failed
        else:
            self.elsewhere += not report.passed


def session(test: str, directory: Path) -> str:
    """What becomes of the test; everything that it says is in a file."""
    outcomes = Outcomes()
    said = os.open(directory / "said", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    options = ["-q", "-x", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    options += ["--basetemp", str(directory / "session"), str(ROOT / test)]
    code = pytest.main(options, plugins=[outcomes])
    if outcomes.elsewhere or code not in (0, 1):
        return "did not run"
    return "fails" if outcomes.failed else "passes"


OUTCOMES = ("passes", "fails", "did not run")


def outcome_of(test: str, directory: Path) -> str:
    """In a copy of this process: a test that fails may leave things open."""
    child = os.fork()
    if child == 0:
        code = len(OUTCOMES)
        try:
            code = OUTCOMES.index(session(test, directory))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return (*OUTCOMES, "went down")[os.waitstatus_to_exitcode(status)]


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.what)
def test_broken_on_purpose_the_test_of_an_invariant_fails(
    broken: Break, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = broken.test.rpartition("::")[2]
    assert f"`{name}`" in invariants()[broken.invariant], "not named in docs/design.md"
    broken.apply(monkeypatch)
    outcome = outcome_of(broken.test, tmp_path)
    assert outcome == "fails", f"{outcome}: {(tmp_path / 'said').read_text()[-3000:]}"


def test_whole_it_passes(tmp_path: Path):
    """Else the above would show nothing."""
    assert outcome_of(BREAKS[-1].test, tmp_path) == "passes"
