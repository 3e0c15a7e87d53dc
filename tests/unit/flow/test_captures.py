"""Each captured frame, alone, at each time that its table names."""

import datetime

import pytest

from switch.ledger.currencies import NUMBERS
from tests.captures import CAPTURES
from tests.unit.link.in_memory import NOW, Switch, opening

STATUSES = ("active", "restricted", "lost", "stolen", "closed")
CASES = [
    pytest.param(
        capture, index, case, id=f"{capture.spec}-{index + 1}-{case.clock or 'now'}"
    )
    for capture in CAPTURES.values()
    for index, frame in enumerate(capture.frames)
    for case in frame.cases
]


def milliseconds(clock: datetime.datetime | None) -> int:
    return NOW if clock is None else int(clock.timestamp() * 1000)


@pytest.mark.parametrize(("capture", "index", "case"), CASES)
def test_a_captured_frame_is_answered_as_its_table_says(capture, index, case):
    frame, body = capture.frames[index], capture.bodies()[index]
    accounts = {
        name: (NUMBERS[currency], balance, credit_limit)
        for name, currency, balance, credit_limit in frame.accounts
    }
    cards = [
        (pan, account, int(expiry), STATUSES.index(status))
        for pan, account, expiry, status in frame.cards
    ]
    now = milliseconds(case.clock)
    switch = Switch(
        capture.spec,
        framing=capture.framing,
        entries=opening(4, accounts, cards, now),
        now=now,
    )
    line = switch.connect()
    line.receive(switch.framing.encode(body))
    switch.settle()
    (reply,) = line.replies
    frame.check(case, switch.codec.decode(body), reply)
    for name, (_, balance, _) in accounts.items():
        account = switch.account(name)
        assert (account.balance, account.held) == (balance, case.held)
