"""A request that is not answered by its deadline leaves no hold behind."""

import pytest

from switch.ledger import Limits
from tests.unit.link.in_memory import NOW, Switch, fields, original

DEADLINE_MS = 5_000


def test_an_approval_that_is_durable_in_time_leaves():
    switch = Switch()
    line = switch.connect()
    line.send(fields(stan=1))
    switch.turn()
    switch.now = NOW + DEADLINE_MS
    switch.make_durable()
    assert line.codes == ["00"]
    assert switch.account().held == 1_000
    assert switch.group.withdrawn == 0


@pytest.mark.parametrize("mti", ["0100", "0200"])
def test_one_that_is_late_is_taken_back_and_declined(mti):
    switch = Switch()
    before = switch.account()
    line = switch.connect()
    line.send(fields(mti, stan=1))
    switch.turn()
    switch.now = NOW + DEADLINE_MS + 1
    switch.make_durable()
    # The decline is justified by an entry that is not durable yet.
    assert line.replies == []
    switch.settle()
    (reply,) = line.replies
    assert (reply.mti, reply[11], reply[39]) == (f"{mti[:2]}10", "000001", "91")
    assert 38 not in reply
    assert switch.account() == before
    assert [entry.name for _, entry in switch.entries()][1:] == ["withdrawn"]
    assert switch.counters.replies_late == switch.group.withdrawn == 1
    assert switch.counters.outstanding == line.connection.outstanding == 0
    (repeat,) = switch.ask(line, fields(f"{mti[:3]}1", stan=1))
    assert (repeat[39], 38 in repeat) == ("91", False)
    assert switch.account() == before


def test_what_came_later_into_the_same_commit_is_answered_as_decided():
    switch = Switch()
    line, other = switch.connect(), switch.connect()
    line.send(fields(stan=1))
    switch.turn()
    # These gather while the first commit takes its time.
    line.send(fields(stan=2))
    switch.now = NOW + DEADLINE_MS
    other.send(fields(stan=3, card="other"))
    line.send(fields(stan=4), fields(stan=5, card="lost"))
    switch.make_durable()
    switch.turn()
    switch.now = NOW + DEADLINE_MS + 2
    switch.settle()
    assert [(r[11], r[39]) for r in line.replies] == [
        ("000001", "00"),
        ("000004", "00"),
        ("000005", "41"),
        ("000002", "91"),
    ]
    assert other.codes == ["00"]
    assert switch.account().held == 2_000
    assert switch.counters.replies_sent == 5


def test_a_repeat_that_waits_behind_it_is_declined_with_it():
    switch = Switch()
    line, other = switch.connect(), switch.connect()
    line.send(fields(stan=1))
    switch.turn()
    switch.now = NOW + DEADLINE_MS + 1
    # Decided while the approval still stood.
    other.send(fields("0101", stan=1))
    switch.settle()
    assert line.codes == ["91"]
    assert other.codes == ["91"]
    assert switch.account().held == 0


def test_advices_and_reversals_are_answered_however_late():
    switch = Switch()
    line = switch.connect()
    switch.ask(line, fields(stan=1))
    line.send(
        fields("0120", stan=2, changes={39: "00"}),
        fields("0400", stan=3, changes={90: original("0100", 1)}),
    )
    switch.turn()
    switch.now = NOW + 10 * DEADLINE_MS
    switch.settle()
    assert line.codes == ["00", "00", "00"]
    assert switch.account().held == 1_000
    assert switch.group.withdrawn == 0


def test_a_reversal_that_came_meanwhile_leaves_nothing_to_take_back():
    switch = Switch()
    before = switch.account()
    line = switch.connect()
    line.send(fields(stan=1))
    switch.turn()
    line.send(fields("0400", stan=2, changes={90: original("0100", 1)}))
    switch.now = NOW + DEADLINE_MS + 1
    switch.settle()
    assert sorted(line.codes) == ["00", "91"]
    assert switch.account() == before


def test_a_connection_that_ends_still_gets_its_decline():
    switch = Switch()
    line = switch.connect()
    line.send(fields(stan=1))
    switch.turn()
    line.connection.finish("drain", "the switch is stopping")
    switch.now = NOW + DEADLINE_MS + 1
    switch.make_durable()
    assert not line.transport.is_closed
    switch.settle()
    assert line.codes == ["91"]
    assert line.transport.is_closed


def test_a_peer_that_is_gone_costs_nothing():
    switch = Switch()
    line = switch.connect()
    line.send(fields(stan=1))
    switch.turn()
    line.transport.lose(None)
    switch.turn()
    switch.now = NOW + DEADLINE_MS + 1
    switch.settle()
    assert switch.account().held == 0
    assert switch.counters.replies_dropped == 1


# -- links with deadlines of their own


@pytest.mark.parametrize("strict_first", [True, False])
def test_each_link_has_its_own_deadline(strict_first):
    switch = Switch()
    if strict_first:
        strict, patient = switch.connect_by_another_link(1_000), switch.connect()
    else:
        patient, strict = switch.connect(), switch.connect_by_another_link(1_000)
    patient.send(fields(stan=1))
    strict.send(fields(stan=2, card="other"))
    switch.turn()
    switch.now = NOW + 1_001
    switch.settle()
    assert (patient.codes, strict.codes) == (["00"], ["91"])
    assert switch.account("main").held == 1_000
    assert switch.account("other").held == 0
    assert switch.group.withdrawn == 1


def test_the_link_with_the_longer_one_is_held_to_it_too():
    switch = Switch()
    patient, strict = switch.connect(), switch.connect_by_another_link(1_000)
    patient.send(fields(stan=1))
    strict.send(fields(stan=2, card="other"))
    switch.turn()
    switch.now = NOW + DEADLINE_MS + 1
    switch.settle()
    assert (patient.codes, strict.codes) == (["91"], ["91"])


def test_a_repeat_by_a_stricter_link_does_not_shorten_it():
    """Who asked first has been promised an answer by a deadline; and both get one."""
    switch = Switch()
    patient, strict = switch.connect(), switch.connect_by_another_link(1_000)
    patient.send(fields(stan=1))
    strict.send(fields("0101", stan=1))
    switch.turn()
    switch.now = NOW + 1_001
    switch.settle()
    assert (patient.codes, strict.codes) == (["00"], ["00"])
    assert patient.replies[0][38] == strict.replies[0][38]


@pytest.mark.parametrize("step_ms", [-3_600_000, 3_600_000])
def test_a_wall_clock_that_is_set_makes_nothing_late_and_nothing_early(step_ms):
    switch = Switch()
    line = switch.connect()
    line.send(fields(stan=1))
    switch.turn()
    switch.set_clock(NOW + step_ms)
    switch.settle()
    assert line.codes == ["00"]
    line.send(fields(stan=2))
    switch.turn()
    switch.now = switch.now + DEADLINE_MS + 1
    switch.set_clock(NOW)
    switch.settle()
    assert line.codes == ["00", "91"]
    assert switch.account().held == 1_000


def test_what_cannot_be_taken_back_is_not_declined():
    """Its record was forgotten for room: the money stays, so the approval leaves."""
    switch = Switch(limits=Limits(transactions_max=4))
    line = switch.connect()
    line.send(*(fields("0200", stan, amount=100) for stan in range(1, 6)))
    switch.turn()
    switch.now = NOW + DEADLINE_MS + 1
    switch.settle()
    assert sorted(line.codes) == ["00", "00", "91", "91", "91"]
    assert switch.account().balance == 10_000 - 200
