"""Which shard a card belongs to."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switch.ledger import AccountOpened, CardIssued, Limits, State, apply
from switch.shard._directory import CardDirectory

NOW = 1_764_000_000_000


def shards(count):
    """Empty shards, with an account each."""
    limits = Limits()
    states = [State(number, limits) for number in range(count)]
    for state in states:
        apply(state, AccountOpened("a", 826, 0, 0, at=NOW, sequence=1))
    return states


def issue(state, pan_hash):
    apply(
        state,
        CardIssued(
            pan_hash, b"", "a", 0, 3012, 0, "0001", at=NOW, sequence=state.sequence + 1
        ),
    )


def hash_of(number):
    return hashlib.blake2b(str(number).encode(), digest_size=16).digest()


def default_shard(pan_hash, count):
    """Where an unknown card is remembered: fixed for ever, like an account's shard."""
    return int.from_bytes(pan_hash[:8], "little") % count


@pytest.mark.parametrize("shard_count", [1, 7, 64])
@pytest.mark.parametrize("card_count", [0, 1, 767, 768, 20_000])
def test_every_card_is_found_in_its_shard(shard_count, card_count):
    states = shards(shard_count)
    expected = {}
    for number in range(card_count):
        expected[hash_of(number)] = shard = number * 31 % shard_count
        issue(states[shard], hash_of(number))
    directory = CardDirectory(states)
    assert directory.count == card_count
    assert {found: directory.shard(found) for found in expected} == expected
    for number in range(card_count, card_count + 100):
        unknown = hash_of(number)
        assert directory.shard(unknown) == default_shard(unknown, shard_count)


# The directory keeps bytes 2 to 7 of a hash; the others decide nothing there.
tags = st.sampled_from([bytes(6), b"\1" + bytes(5), b"\xff" * 6, b"abcdef"])
hashes = st.builds(
    lambda head, tag, tail: head + tag + tail,
    st.binary(min_size=2, max_size=2),
    tags,
    st.binary(min_size=8, max_size=8),
)


@settings(max_examples=200)
@given(st.lists(hashes, unique=True, max_size=30), st.lists(hashes, max_size=10))
def test_cards_of_one_tag_are_told_apart_by_their_whole_hash(issued, asked):
    states = shards(5)
    expected = {}
    for number, pan_hash in enumerate(issued):
        expected[pan_hash] = number % 5
        issue(states[number % 5], pan_hash)
    directory = CardDirectory(states)
    for pan_hash in [*issued, *asked]:
        shard = expected.get(pan_hash, default_shard(pan_hash, 5))
        assert directory.shard(pan_hash) == shard


def test_states_are_the_shards_in_order():
    states = shards(3)
    assert CardDirectory(iter(states)).states == states
    with pytest.raises(ValueError, match="expected shard 0, got shard 1"):
        CardDirectory(states[1:])
    with pytest.raises(ValueError, match="expected 1 to 65535 shards, got 0"):
        CardDirectory([])


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_hash_has_sixteen_bytes(size):
    directory = CardDirectory(shards(1))
    with pytest.raises(ValueError, match=f"expected 16 bytes, got {size}"):
        directory.shard(bytes(size))


@pytest.mark.parametrize("card_count", [0, 766, 767, 768, 5_000])
def test_a_card_that_is_issued_later_is_learnt(card_count):
    states = shards(3)
    directory = CardDirectory(states)
    for number in range(card_count):
        issue(states[number % 3], hash_of(number))
        directory.learn(hash_of(number), number % 3)
    assert directory.count == card_count
    for number in range(card_count):
        assert directory.shard(hash_of(number)) == number % 3
    unknown = hash_of(card_count)
    assert directory.shard(unknown) == default_shard(unknown, 3)
    with pytest.raises(ValueError, match="expected 16 bytes, got 3"):
        directory.learn(b"abc", 0)


def test_it_grows_before_it_is_full():
    """Else looking for a card that is not there would go round for ever."""
    states = shards(1)
    directory = CardDirectory(states)
    for number in range(4_096):
        directory.learn(hash_of(number), 0)
        if number & (number - 1) == 0:
            assert directory.shard(b"\xff" * 16) == 0
    assert directory.count == 4_096
