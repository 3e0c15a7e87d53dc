"""What a customer is told of the use of a card."""

import json
from datetime import datetime
from math import inf

import jsonschema_rs
import msgspec
import pytest

from switch.publish.events import Event, events_of
from switch.publish.push import KINDS, Ages, Push, is_pushed, push_of
from switch.publish.schemas import PUSHES, path_of
from tests.unit.small_bank import full_journal

ALWAYS = (
    *("id", "account", "card_token", "last_four", "amount", "currency"),
    *("merchant", "approved", "at"),
)


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> list[Event]:
    """At least one of every kind."""
    _, journal = full_journal(tmp_path_factory.mktemp("journal"))
    found = [event for commit in journal.read(0) for event in events_of(commit)]
    journal.close()
    return found


@pytest.fixture(scope="module")
def pushed(events) -> list[Event]:
    return [event for event in events if is_pushed(event)]


def test_it_is_sent_of_what_customers_did_and_of_nothing_else(events, pushed):
    assert {event.kind for event in pushed} <= set(KINDS)
    assert {"held", "posted", "declined"} <= {event.kind for event in pushed}
    for event in events:
        if event.kind in ("held", "posted") or (
            event.kind == "declined" and event.account
        ):
            assert is_pushed(event)
        if event.kind.startswith("advised") and event.original_id is not None:
            assert not is_pushed(event)
        if event.kind in ("reversed", "hold_expired", "card_issued", "adjusted"):
            assert not is_pushed(event)


def test_the_card_is_not_ours_then_nobody_is_told(pushed):
    event = msgspec.structs.replace(pushed[0], kind="declined", account=None)
    assert not is_pushed(event)


def test_what_is_sent_is_what_the_schema_says(pushed):
    validator = jsonschema_rs.validator_for(json.loads(path_of(PUSHES).read_bytes()))
    for event in pushed:
        for stale in (False, True):
            value = json.loads(msgspec.json.encode(push_of(event, stale=stale)))
            validator.validate(value)
            validator.validate({**value, "added_later": 1})
            assert set(ALWAYS) <= set(value)
            assert value.get("stale", False) == stale
            said = msgspec.to_builtins(event)
            assert all(value[name] == said[name] for name in ALWAYS if name in said)
            for name in ALWAYS:
                without = {k: v for k, v in value.items() if k != name}
                assert not validator.is_valid(without)


def test_a_withdrawal_says_what_it_takes_back(events):
    (event,) = [event for event in events if event.kind == "withdrawn"][:1]
    push = push_of(event)
    assert not push.approved
    assert push.original_id == event.original_id is not None


@pytest.mark.parametrize(
    ("policy", "sent", "stale", "dropped"),
    [("send", True, False, 0), ("mark", True, True, 0), ("drop", False, False, 1)],
)
def test_what_is_too_old_is_sent_marked_or_dropped(
    pushed, policy, sent, stale, dropped
):
    at = datetime.fromisoformat(pushed[0].at).timestamp()
    now = at + 30.0
    counts = {"stale": 0, "dropped": 0}
    ages = Ages(30.0, policy, counts, clock=lambda: now)
    fresh = ages.push_of(pushed[0])
    assert fresh is not None
    assert not fresh.stale
    assert counts == {"stale": 0, "dropped": 0}
    now = at + 30.5
    old = ages.push_of(pushed[0])
    assert counts == {"stale": 1, "dropped": dropped}
    assert (old is not None) == sent
    assert isinstance(old, Push) == sent
    assert old is None or old.stale == stale


def test_a_clock_that_was_set_back_makes_nothing_old(pushed):
    at = datetime.fromisoformat(pushed[0].at).timestamp()
    counts = {"stale": 0, "dropped": 0}
    ages = Ages(30.0, "drop", counts, clock=lambda: at - 9999)
    assert ages.push_of(pushed[0]) is not None


@pytest.mark.parametrize(
    ("wrong_by", "at_least", "at_most", "is_sent"),
    [
        # The wall clock was set forward after it was decided, or the switch does not
        # follow it: it is a second old all the same.
        (7200.0, 0.5, 1.0, True),
        # It was set back, and hides that it waited.
        (-7200.0, 60.0, 61.0, False),
        # Nothing contradicts it.
        (20.0, 0.0, inf, True),
        (40.0, 0.0, inf, False),
    ],
)
def test_a_clock_that_is_wrong_makes_nothing_old_or_new(
    pushed, wrong_by, at_least, at_most, is_sent
):
    at = datetime.fromisoformat(pushed[0].at).timestamp()
    asked = []

    def released(commit: int) -> tuple[float, float]:
        asked.append(commit)
        return at_least, at_most

    counts = {"stale": 0, "dropped": 0}
    ages = Ages(30.0, "drop", counts, released, clock=lambda: at + wrong_by)
    assert (ages.push_of(pushed[0]) is not None) == is_sent
    assert counts == {"stale": int(not is_sent), "dropped": int(not is_sent)}
    assert asked == [pushed[0].commit]
