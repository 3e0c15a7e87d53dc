import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.keys._pan_hash import PanHash
from switch.keys.memory import TestKeys
from switch.keys.pan import MasterKeys
from switch.keys.port import PAN_HASH_SIZE, SEALED_PAN_SIZE, KeysError, PanKeys

KEYS = TestKeys()
PAN = b"5413330089010434"

pans = st.text("0123456789", min_size=8, max_size=19).map(str.encode)


@given(pans)
def test_what_is_sealed_is_unsealed(pan):
    keys: PanKeys = KEYS
    sealed = keys.seal(pan)
    assert len(sealed) == SEALED_PAN_SIZE
    assert keys.unseal(sealed, keys.pan_hash(pan)) == pan


def test_a_hash_is_keyed_and_stays_the_same():
    key = hashlib.blake2b(key=bytes(32), person=b"pan hash", digest_size=32).digest()
    expected = hashlib.blake2b(PAN, key=key, digest_size=16).digest()
    assert KEYS.pan_hash(PAN) == expected
    assert len(expected) == PAN_HASH_SIZE
    assert TestKeys(1).pan_hash(PAN) != expected
    assert KEYS.pan_hash(PAN[:-1]) != expected


@given(st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=128))
def test_the_hash_is_that_of_hashlib(key, data):
    expected = hashlib.blake2b(data, key=key, digest_size=PAN_HASH_SIZE).digest()
    assert PanHash(key)(data) == expected


def test_a_hash_of_what_is_no_pan_or_by_no_key_is_refused():
    for key in (b"", bytes(65)):
        with pytest.raises(ValueError, match="key: expected 1 to 64 bytes, got"):
            PanHash(key)
    for data in (b"", bytes(129)):
        with pytest.raises(ValueError, match="digits: expected 1 to 128 bytes, got"):
            PanHash(bytes(32))(data)


def test_sealed_twice_looks_different():
    assert KEYS.seal(PAN) != KEYS.seal(PAN)


def test_many_are_sealed_as_one():
    many = [b"54133300%08d" % number for number in range(9_000)]
    sealed = KEYS.seal_many(iter(many))
    assert [KEYS.unseal(text, hashed) for hashed, text in sealed] == many
    assert [hashed for hashed, _ in sealed] == [KEYS.pan_hash(pan) for pan in many]
    assert len({text[1:13] for _, text in sealed}) == len(many)
    assert KEYS.seal_many([]) == []


def test_every_flipped_bit_is_found():
    sealed, pan_hash = KEYS.seal(PAN), KEYS.pan_hash(PAN)
    for index in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[index // 8] ^= 1 << index % 8
        with pytest.raises(KeysError, match="sealed PAN"):
            KEYS.unseal(bytes(flipped), pan_hash)
    for size in range(len(sealed)):
        with pytest.raises(KeysError, match="sealed PAN"):
            KEYS.unseal(sealed[:size], pan_hash)


def test_another_cards_or_another_keys_does_not_open():
    sealed = KEYS.seal(PAN)
    with pytest.raises(KeysError, match="does not open"):
        KEYS.unseal(sealed, KEYS.pan_hash(b"4000000000000002"))
    with pytest.raises(KeysError, match=TestKeys(1).fingerprint):
        TestKeys(1).unseal(sealed, TestKeys(1).pan_hash(PAN))


@pytest.mark.parametrize(
    "wrong",
    [b"", b"1234567", b"12345678901234567890", b"1234567a", b"12345678 ", b"-12345678"],
)
def test_what_is_no_pan_is_refused_and_not_shown(wrong):
    with pytest.raises(KeysError, match="PAN: expected 8 to 19 digits, got") as caught:
        KEYS.seal(wrong)
    assert not wrong or wrong.decode() not in str(caught.value)


def test_nothing_shows_a_key():
    keys = MasterKeys(bytes(range(32)))
    assert keys.fingerprint in repr(keys)
    assert bytes(range(32)).hex() not in repr(keys)
    assert len(keys.fingerprint) == 16
    assert keys.fingerprint != KEYS.fingerprint
    with pytest.raises(KeysError, match="expected 32 bytes, got 31"):
        MasterKeys(bytes(31))
