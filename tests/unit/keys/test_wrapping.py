"""The keys that wrap the master key: a rotation loses nothing, wherever it ends."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from switch.keys import private_file, sealed_file, wrapping
from switch.keys.port import KeysError
from switch.keys.wrapping import WrappingKey

PAN = b"5413330089010434"


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    return tmp_path / "pan.key", tmp_path / "wrapping.keys"


def test_a_wrapped_key_is_the_same_key(files):
    file, keys_file = files
    keys = sealed_file.create(file)
    key = wrapping.add(keys_file)
    assert keys_file.stat().st_mode & 0o777 == 0o600
    assert sealed_file.wrapped_by(file) is None
    master = file.read_text().split()[1]
    sealed_file.rewrap(file, wrapping.load(keys_file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert sealed_file.wrapped_by(file) == key.fingerprint
    assert master not in file.read_text()
    again = sealed_file.load(file, wrapping.load(keys_file))
    assert again.fingerprint == keys.fingerprint
    assert again.unseal(keys.seal(PAN), keys.pan_hash(PAN)) == PAN


def test_the_newest_wraps_and_the_others_do_not_open_it_any_more(files):
    file, keys_file = files
    first = wrapping.add(keys_file)
    keys = sealed_file.create(file, wrapping.load(keys_file))
    assert sealed_file.wrapped_by(file) == first.fingerprint
    second = wrapping.add(keys_file)
    old, new = wrapping.load(keys_file)
    assert (old.fingerprint, new.fingerprint) == (first.fingerprint, second.fingerprint)
    # Between the two steps of a rotation.
    assert sealed_file.load(file, [old, new]).fingerprint == keys.fingerprint
    sealed_file.rewrap(file, [old, new])
    for given in ([old, new], [new]):
        assert sealed_file.load(file, given).fingerprint == keys.fingerprint
    for given in ([old], []):
        with pytest.raises(KeysError, match=f"expected key {second.fingerprint}"):
            sealed_file.load(file, given)


def test_a_key_in_clear_opens_with_wrapping_keys_given(files):
    """A start between the change of the configuration and the first rotation."""
    file, keys_file = files
    keys = sealed_file.create(file)
    wrapping.add(keys_file)
    again = sealed_file.load(file, wrapping.load(keys_file))
    assert again.fingerprint == keys.fingerprint


class Killed(BaseException):
    pass


CALLS = [(os, "write"), (os, "fsync"), (Path, "rename"), (Path, "unlink")]


@pytest.mark.parametrize("skip", range(6))
def test_whoever_is_killed_when_leaves_a_key_that_opens(files, monkeypatch, skip):
    file, keys_file = files
    wrapping.add(keys_file)
    keys = sealed_file.create(file, wrapping.load(keys_file))
    wrapping.add(keys_file)
    given = wrapping.load(keys_file)
    left = skip

    def dying(call):
        def run(*arguments, **named):
            nonlocal left
            left -= 1
            if left < 0:
                if call is os.write:
                    call(arguments[0], arguments[1][:50])
                raise Killed
            return call(*arguments, **named)

        return run

    with monkeypatch.context() as patched:
        for place, name in CALLS:
            patched.setattr(place, name, dying(getattr(place, name)))
        try:
            sealed_file.rewrap(file, given)
        except Killed:
            assert skip < 5
        else:
            assert skip == 5, "another number of steps: test all of them"
    assert sealed_file.load(file, given).fingerprint == keys.fingerprint
    sealed_file.rewrap(file, given)
    assert sealed_file.load(file, given[1:]).fingerprint == keys.fingerprint
    names = {path.name for path in file.parent.iterdir()}
    assert names == {"pan.key", "wrapping.keys"}


def _full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _short(_descriptor: int, data: bytes) -> int:
    return len(data) - 1


@pytest.mark.parametrize(("call", "does"), [("fsync", _full), ("write", _short)])
def test_a_full_disk_changes_nothing(files, monkeypatch, call, does):
    file, keys_file = files
    sealed_file.create(file)
    wrapping.add(keys_file)
    given = wrapping.load(keys_file)
    before = file.read_bytes(), keys_file.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, call, does)
        with pytest.raises(KeysError, match=r"pan\.key cannot be written: No space"):
            sealed_file.rewrap(file, given)
        with pytest.raises(KeysError, match=r"wrapping\.keys cannot be written"):
            wrapping.add(keys_file)
    assert (file.read_bytes(), keys_file.read_bytes()) == before


def test_every_flipped_bit_of_a_wrapped_key_is_found(files):
    file, keys_file = files
    wrapping.add(keys_file)
    given = wrapping.load(keys_file)
    sealed_file.create(file, given)
    data = file.read_bytes().rstrip()
    for index in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[index // 8] ^= 1 << index % 8
        file.write_bytes(flipped)
        with pytest.raises(KeysError) as caught:
            sealed_file.load(file, given)
        assert data.split()[1][8:].decode() not in str(caught.value)


def test_what_another_key_wrapped_does_not_open():
    one, other = WrappingKey(bytes(32)), WrappingKey(bytes(31) + b"\1")
    with pytest.raises(KeysError, match=f"that key {other.fingerprint} wrapped"):
        other.unwrap(one.wrap(bytes(32)))


def test_nothing_shows_a_wrapping_key(files):
    _, keys_file = files
    key = wrapping.add(keys_file)
    assert repr(key) == f"<WrappingKey {key.fingerprint}>"
    assert key.fingerprint not in keys_file.read_text()


def test_a_file_that_is_no_file_of_wrapping_keys_is_refused_and_not_shown(files):
    file, keys_file = files
    for _ in range(2):
        wrapping.add(keys_file)
    text = keys_file.read_text()
    key = text.split()[1]
    other = ("0" if key[0] != "0" else "1") + key[1:]
    sealed_file.create(file)
    for wrong, said in (
        ("", "expected 1 to 16 keys, got 0"),
        (text.replace(key, key[1:]), "one of 94 other bytes"),
        (text.replace(key, other), "checksum of key 1, got another"),
        (text + "\n", "one of 0 other bytes"),
        (file.read_text(), "one of 90 other bytes"),
    ):
        keys_file.write_text(wrong)
        with pytest.raises(KeysError, match=said) as caught:
            wrapping.load(keys_file)
        assert key[1:] not in str(caught.value)
    keys_file.chmod(0o640)
    with pytest.raises(KeysError, match="expected mode 0600, got 0640"):
        wrapping.load(keys_file)
    with pytest.raises(KeysError, match="cannot be used: No such file"):
        wrapping.add(keys_file.parent / "none" / "keys")


def test_a_file_has_room_for_so_many_keys(files):
    _, keys_file = files
    for _ in range(wrapping.KEYS_MAX):
        wrapping.add(keys_file)
    assert len(wrapping.load(keys_file)) == wrapping.KEYS_MAX
    with pytest.raises(KeysError, match="expected room for a key"):
        wrapping.add(keys_file)


def test_one_changes_a_file_at_a_time(files):
    """Whoever comes second waits for the directory, which the first one has locked."""
    file, _ = files
    descriptor = os.open(file.parent, os.O_RDONLY)
    with private_file.changing(file), pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
