import io
from typing import Any

import pytest
from rich.console import Console

from switch.cli.demo_view import Addresses, LiveView, PlainView, Tally, answer_text
from switch.replay.scheme import Exchange

ADDRESSES = Addresses(
    switch="127.0.0.1:8583",
    wire="iso87-ascii, binary2",
    http="http://127.0.0.1:8580",
    events="data/events",
    cards="cards.csv",
)
BALANCE = {"balance": -123456, "held": 1000, "available": 5, "currency": "EUR"}


def exchange(**chosen):
    fields: dict[str, Any] = {
        "at": 0.0,
        "mti": "0100",
        "what": "authorisation",
        "account": "DEMO00007",
        "pan": "************0015",
        "amount": "12.34 EUR",
        "response_code": "00",
        "approval_code": "00007K",
        "elapsed_ms": 1.5,
    }
    return Exchange(**(fields | chosen))


@pytest.fixture
def tally():
    tally = Tally()
    tally.add(exchange())
    tally.add(exchange(response_code="51", approval_code="", account="DEMO00008"))
    tally.add(exchange(response_code="", account=""))
    tally.add(exchange(mti="0101", what="repeat", same_answer=True))
    return tally


def test_the_tally_counts(tally):
    assert (tally.asked, tally.answered) == (4, 3)
    assert tally.codes == {"00": 2, "51": 1}
    assert (tally.repeats_same, tally.repeats_other) == (1, 0)
    assert tally.quantile_ms(0.5) == pytest.approx(1.5, rel=0.01)
    assert tally.touched(1) == ["DEMO00007"]
    assert tally.touched(5) == ["DEMO00007", "DEMO00008"]


def test_the_oldest_account_makes_room(tally):
    for account in ("A", "B", "A", "C"):
        tally.set_account(account, BALANCE, 2)
    assert [*tally.accounts] == ["A", "C"]


def test_plain_lines(tally, capsys):
    view = PlainView()
    view.open(ADDRESSES, tally)
    view.show(exchange())
    view.show(exchange(response_code=""))
    view.tick()
    view.close()
    shown = capsys.readouterr().out
    assert "http://127.0.0.1:8580/api/accounts/DEMO00001" in shown
    assert "0100 authorisation ************0015 12.34 EUR → 00 approved" in shown
    assert "→ no answer" in shown


def test_the_live_table(tally):
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=120, height=50)
    tally.set_account("DEMO00007", BALANCE, 5)
    view = LiveView(console)
    view.open(ADDRESSES, tally)
    view.tick()
    view.close()
    shown = drawn.getvalue()
    for part in ("…0015", "51 insufficient funds", "-1,234.56 EUR", "p99"):
        assert part in shown


def test_a_repeat_says_whether_the_answer_was_the_same():
    assert "(the same)" in answer_text(exchange(same_answer=True))
    assert "(NOT THE SAME)" in answer_text(exchange(same_answer=False))
