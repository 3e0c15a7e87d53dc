"""Events as consumers read them: bytes that never change for the same entry."""

from pathlib import Path

import msgspec
import pytest

from switch.journal.memory import MemoryJournal
from switch.ledger import KIND_NAMES, CardIssued, approval_code
from switch.publish.events import (
    Event,
    Position,
    events_of,
    position_of,
)
from tests.unit.small_bank import (
    PANS,
    SHARD_COUNT,
    SPARE_PAN,
    SmallBank,
    ask_everything,
    commits_of,
    opened_bank,
)

# A line per entry of the commit below, one of each kind at least. They were read and
# found right once; consumers lean on every byte, so a change here is theirs to know.
VECTORS = (Path(__file__).parent / "events.jsonl").read_text().splitlines()


def published(bank: SmallBank) -> list[str]:
    """The lines of one commit, with all that the bank has gathered."""
    (commit,) = commits_of(bank, MemoryJournal(len(bank.states)))
    return [msgspec.json.encode(event).decode() for event in events_of(commit)]


def bank_with_everything() -> SmallBank:
    bank = opened_bank()
    ask_everything(bank)
    return bank


@pytest.mark.parametrize("kind", KIND_NAMES.values())
def test_every_kind_is_published_as_it_always_was(kind):
    expected = [line for line in VECTORS if f'"kind":"{kind}"' in line]
    assert expected
    lines = published(bank_with_everything())
    assert [line for line in lines if f'"kind":"{kind}"' in line] == expected


def test_the_order_is_that_of_the_journal():
    assert published(bank_with_everything()) == VECTORS


def test_the_same_entry_gives_the_same_bytes_again():
    bank = bank_with_everything()
    (commit,) = commits_of(bank, MemoryJournal(SHARD_COUNT))
    first, again = (
        [msgspec.json.encode(event) for event in events_of(commit)] for _ in range(2)
    )
    assert first == again


def test_an_id_is_the_place_of_the_entry():
    bank = bank_with_everything()
    (commit,) = commits_of(bank, MemoryJournal(SHARD_COUNT))
    places = [(shard, entry.sequence) for shard, entry in bank.entries]
    events = list(events_of(commit))
    assert sorted(event.id for event in events) == sorted(
        f"{shard}-{sequence}" for shard, sequence in places
    )
    assert len({event.id for event in events}) == len(places)
    assert {position_of(event) for event in events} == {
        Position(1, shard, sequence) for shard, sequence in places
    }


def test_neither_a_pan_nor_a_sealed_one_is_in_an_event():
    bank = bank_with_everything()
    text = "\n".join(published(bank))
    cards = [entry for _, entry in bank.entries if isinstance(entry, CardIssued)]
    assert cards
    for card in cards:
        assert card.pan_hash.hex() in text
        assert card.sealed_pan.hex() not in text
        assert card.sealed_pan[13:23].hex() not in text
        # not as text either, whatever it is escaped to
        assert card.sealed_pan.decode("latin-1") not in text
    for pan in PANS[:3]:
        assert pan not in text
        assert pan[-4:] in text
        assert pan[4:] not in text


@pytest.mark.parametrize("shard", [0, 3, 1023])
@pytest.mark.parametrize("earlier", [0, 40, 2_000])
def test_the_approval_code_is_what_was_answered(shard, earlier):
    """Field 38 of the reply and the event come from two pieces of code."""
    bank = opened_bank(1024)
    name = f"account-{_account_in(bank, shard)}"
    bank.open_account(name, balance=10**9)
    bank.issue_card(SPARE_PAN, name)
    for _ in range(earlier):
        bank.ask(amount=1, account=name, pan=SPARE_PAN)
    answers = [
        bank.ask(kind, amount=amount, account=name, pan=SPARE_PAN)
        for kind, amount in ((1, 5), (2, 5), (1, 10**10), (3, 5), (4, 5))
    ]
    (commit,) = commits_of(bank, MemoryJournal(1024))
    events = [event for event in events_of(commit) if event.account == name][-5:]
    codes = [answer.approval_code for answer in answers]
    assert [event.approval_code for event in events] == codes
    assert [code is None for code in codes] == [False, False, True, True, True]


def _account_in(bank: SmallBank, shard: int) -> int:
    return next(
        number
        for number in range(100_000)
        if bank.shard(f"account-{number}").shard == shard
    )


@pytest.mark.parametrize(
    ("shard", "sequence", "code"),
    [
        (0, 1, "0000SG"),
        (1023, 1, "0001KV"),
        (0, 2_125_763, "ZZZZ7K"),
        (0, 2_125_764, "000000"),
    ],
)
def test_approval_codes_of_known_places(shard, sequence, code):
    """36⁶ places differ; behind them the codes begin again."""
    assert approval_code(shard, sequence) == code


def test_what_a_kind_does_not_say_is_left_out_but_for_the_first_ten():
    first_ten = Event.__struct_fields__[:10]
    for line in VECTORS:
        fields = msgspec.json.decode(line)
        assert tuple(fields)[:10] == first_ten
        assert all(value is not None for value in list(fields.values())[10:])


def test_every_field_of_an_event_is_in_some_vector():
    """Else a vector is missing."""
    used = {name for line in VECTORS for name in msgspec.json.decode(line)}
    assert used == set(Event.__struct_fields__)


def test_a_year_that_ends_and_a_millisecond_with_zeros():
    bank = opened_bank()
    new_year = 1_767_225_600_007
    for now in (new_year - 8, new_year):
        bank.ask(amount=1, now=now)
    (commit,) = commits_of(bank, MemoryJournal(SHARD_COUNT))
    at = [event.at for event in events_of(commit)]
    assert "2025-12-31T23:59:59.999Z" in at
    assert "2026-01-01T00:00:00.007Z" in at


def test_money_in_events_adds_up_to_the_accounts():
    bank = bank_with_everything()
    (commit,) = commits_of(bank, MemoryJournal(SHARD_COUNT))
    events = list(events_of(commit))
    for state in bank.states:
        for account in state.accounts():
            own = [event for event in events if event.account == account.account]
            assert sum(event.balance_change for event in own) == account.balance
            assert sum(event.held_change for event in own) == account.held


def test_an_original_is_named_by_its_id():
    bank = bank_with_everything()
    (commit,) = commits_of(bank, MemoryJournal(SHARD_COUNT))
    by_id = {event.id: event for event in events_of(commit)}
    named = [event for event in by_id.values() if event.original_id]
    assert {event.kind for event in named} == {
        "advised_posting",
        "reversed",
        "hold_expired",
        "withdrawn",
    }
    for event in named:
        assert event.original_id is not None
        original = by_id[event.original_id]
        assert original.stan == event.original_stan
        assert original.held_change > 0 or original.balance_change
        assert original.account == event.account


def test_transactions_of_every_kind_are_in_the_bank():
    """The vectors stand for the ledger as it is: a new kind needs a new vector."""
    kinds = {entry.name for _, entry in bank_with_everything().entries}
    assert kinds == set(KIND_NAMES.values())
