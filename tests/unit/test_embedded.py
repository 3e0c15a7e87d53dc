"""One data directory, opened in the one order that is safe; and left as it was found
when anything of it fails."""

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from switch import embedded
from switch.config import JournalSettings, KeysSettings, LedgerSettings
from switch.embedded import Store, make_limits, open_store
from switch.journal import connection
from switch.journal.errors import (
    JournalDamaged,
    JournalError,
    JournalMismatch,
    JournalReadOnly,
)
from switch.journal.released import Released, lower_bound
from switch.journal.snapshots import SqliteSnapshots
from switch.journal.sqlite import SqliteJournal
from switch.keys import sealed_file, wrapping
from switch.keys.port import KeysError
from switch.ledger import AccountOpened, State, apply, dump
from switch.ownership.port import OwnershipError
from switch.ownership.process import ProcessLock
from tests.unit.import_files import SHARD_COUNT, config_of
from tests.unit.journal.test_faults import a_users_directory
from tests.unit.small_bank import STERLING, record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path):
    return config_of(tmp_path)


@pytest.fixture
def directory(config) -> Path:
    return Path(config.data_directory)


def append_account(store: Store, name: str = "a") -> int:
    """In shard 0, whatever its name is."""
    state = store.recovered.states[0]
    entry = AccountOpened(name, STERLING, 1, 0, at=1, sequence=state.sequence + 1)
    apply(state, entry)
    return store.journal.append(1, [record(0, entry)])


def descriptors() -> list[str]:
    """The files of a data directory that this process has open."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            target = str(path.readlink())
        except FileNotFoundError:  # that of the listing itself
            continue
        if "/bank/" in target:
            found.append(target)
    return sorted(found)


def is_free(directory: Path) -> bool:
    lock = ProcessLock(directory / "lock")
    try:
        lock.acquire()
    except OwnershipError:
        return False
    lock.release()
    return True


# --- what it opens


def test_an_empty_directory_is_initialised(config, directory):
    with open_store(config) as store:
        assert store.directory.is_new
        assert store.journal.shard_count == SHARD_COUNT
        assert len(store.recovered.states) == SHARD_COUNT
        assert store.journal.key_fingerprint == store.keys.fingerprint
        assert (store.journal.head, store.released.number) == (0, 0)
        assert not is_free(directory)
    assert is_free(directory)
    assert descriptors() == []
    assert {path.name for path in directory.iterdir()} == {
        *("journal.db", "lock", "pan.key", "released", "snapshots.db")
    }
    assert directory.stat().st_mode & 0o777 == 0o700
    for path in directory.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_what_was_written_is_there_again(config):
    with open_store(config) as store:
        append_account(store)
        identity = store.journal.identity
    with open_store(config) as store:
        assert not store.directory.is_new
        assert store.journal.identity == identity
        assert store.recovered.states[0].account("a")
        assert store.recovered.entries_replayed == 1


def test_the_number_of_shards_is_fixed_at_initialisation(config, tmp_path):
    with open_store(config):
        pass
    other = config_of(tmp_path, journal=JournalSettings(shards=SHARD_COUNT + 1))
    with open_store(other) as store:
        assert store.journal.shard_count == SHARD_COUNT
        assert len(store.recovered.states) == SHARD_COUNT


def test_an_initialisation_that_ended_early_is_begun_again(config, monkeypatch):
    """With as many shards as are asked for, though there is a file by then."""
    with monkeypatch.context() as patch:
        patch.setattr(connection, "initialise", Mock(side_effect=JournalError("no")))
        with pytest.raises(JournalError, match="no"):
            open_store(config).__enter__()
    with open_store(config) as store:
        assert store.journal.shard_count == SHARD_COUNT


def test_the_replay_tells_how_far_it_is(config):
    with open_store(config) as store:
        for number in range(3):
            append_account(store, f"a{number}")
    told: list[tuple[int, int]] = []
    with open_store(config, lambda commit, head: told.append((commit, head))):
        assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_limits_are_those_of_the_configuration(config, tmp_path):
    settings = LedgerSettings(
        hold_lifetime_s=60, duplicate_window_s=30, transactions_max=77
    )
    limits = make_limits(settings, 4)
    assert limits.hold_lifetime_ms == 60_000
    assert limits.duplicate_window_ms == 30_000
    assert limits.transactions_max == 77
    assert (limits.quiet_max, limits.money_max, limits.holds_max) == (4, 4, 11)
    with open_store(config_of(tmp_path, ledger=settings)) as store:
        for state in store.recovered.states:
            assert state.limits is store.recovered.states[0].limits
            assert state.limits.transactions_max == 77


# --- released


@pytest.mark.parametrize("told", [0, 1, 2, 3])
def test_released_is_told_the_head_at_opening(config, directory, told):
    """What was durable and not answered before a crash is answered now."""
    with open_store(config) as store:
        for number in range(3):
            append_account(store, f"a{number}")
        store.released.advance(told)
    assert lower_bound(directory / "released") == told
    with open_store(config) as store:
        assert store.released.number == 3
        assert lower_bound(directory / "released") == 3


@pytest.mark.parametrize("data", [None, b"", b"nonsense", bytes(24)])
def test_released_that_is_lost_is_made_again(config, directory, data):
    with open_store(config) as store:
        append_account(store)
    if data is None:
        (directory / "released").unlink()
    else:
        (directory / "released").write_bytes(data)
    with open_store(config) as store:
        assert store.released.number == 1


def test_a_journal_that_ends_before_what_was_answered(config, directory):
    with open_store(config) as store:
        append_account(store)
    released = Released(directory / "released")
    released.advance(2)
    released.close()
    for _ in range(2):
        with pytest.raises(JournalDamaged, match="commit 2 was answered"):
            open_store(config).__enter__()
        assert lower_bound(directory / "released") == 2
    assert is_free(directory)


# --- who opens it


def test_a_second_process_is_told_the_first(config, directory):
    program = (
        "import sys\n"
        "from switch.cli.main import main\n"
        "sys.exit(main(['accounts', 'import', sys.argv[1], '--data', sys.argv[2]]))\n"
    )
    file = directory.parent / "accounts.csv"
    file.write_text("account,currency,balance,credit_limit\na,EUR,1,0\n")
    words = [sys.executable, "-c", program, str(file), str(directory)]
    with open_store(config) as store:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 74
        assert f"in use by process {os.getpid()}" in done.stderr
        append_account(store)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with open_store(config) as store:
        assert store.journal.head == 2


def test_a_second_opening_in_this_process_is_refused_too(config):
    with open_store(config) as store:
        with pytest.raises(OwnershipError), open_store(config):
            pass
        append_account(store)
    with open_store(config) as store:
        assert store.journal.head == 1


def test_two_that_initialise_at_once_make_one_key(config, directory, monkeypatch):
    """The second looks again once it has the lock: it may not be new any more."""
    acquire = ProcessLock.acquire
    first_was_here = False

    def acquire_late(lock: ProcessLock) -> None:
        nonlocal first_was_here
        if not first_was_here:
            first_was_here = True
            with open_store(config) as store:
                append_account(store)
        acquire(lock)

    monkeypatch.setattr(ProcessLock, "acquire", acquire_late)
    with open_store(config) as store:
        assert not store.directory.is_new
        assert store.journal.head == 1


# --- keys


def test_a_key_that_is_gone_is_not_made_again(config, directory):
    with open_store(config):
        pass
    (directory / "pan.key").unlink()
    for _ in range(2):
        with pytest.raises(KeysError, match=r"pan\.key cannot be read"):
            open_store(config).__enter__()
    assert not (directory / "pan.key").exists()
    assert is_free(directory)
    assert descriptors() == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_is_open_to_others(config, directory, mode):
    with open_store(config):
        pass
    (directory / "pan.key").chmod(mode)
    with pytest.raises(KeysError, match=f"expected mode 0600, got 0{mode:o}"):
        open_store(config).__enter__()
    assert is_free(directory)


def test_a_key_that_is_another(config, directory):
    with open_store(config) as store:
        append_account(store)
    (directory / "pan.key").unlink()
    sealed_file.create(directory / "pan.key")
    before = (directory / "journal.db").read_bytes()
    with pytest.raises(JournalMismatch, match="another PAN key"):
        open_store(config).__enter__()
    assert is_free(directory)
    assert descriptors() == []
    assert (directory / "journal.db").read_bytes() == before


def test_a_key_that_is_given_and_not_there_initialises_nothing(tmp_path):
    keys = KeysSettings(pan_key_file=str(tmp_path / "none"))
    config = config_of(tmp_path, keys=keys)
    with pytest.raises(KeysError, match="none cannot be read"):
        open_store(config).__enter__()
    assert [path.name for path in (tmp_path / "bank").iterdir()] == ["lock"]


def test_a_directory_that_is_initialised_with_a_wrapping_key_has_a_wrapped_one(
    tmp_path,
):
    file = tmp_path / "wrapping.keys"
    newest = wrapping.add(file)
    keys = KeysSettings(wrapping_key_file=str(file))
    config = config_of(tmp_path, keys=keys)
    with open_store(config) as store:
        append_account(store)
        pan_key = store.directory.pan_key
    assert sealed_file.wrapped_by(pan_key) == newest.fingerprint
    with open_store(config) as store:
        assert store.journal.head == 1
    with pytest.raises(KeysError, match=newest.fingerprint):
        open_store(config_of(tmp_path)).__enter__()
    assert is_free(tmp_path / "bank")


def test_an_initialisation_that_ended_behind_its_key_goes_on_with_it(config, directory):
    """Else cards that were sealed elsewhere with a copy of it would be lost."""
    directory.mkdir(mode=0o700)
    made = sealed_file.create(directory / "pan.key")
    with open_store(config) as store:
        assert store.directory.is_new
        assert store.keys.fingerprint == made.fingerprint


# --- what fails leaves nothing open

STEPS = {
    "lock": (ProcessLock, "acquire"),
    "key": (embedded, "_load_keys"),
    "journal": (SqliteJournal, "_load"),
    "journal's end": (SqliteJournal, "_recover"),
    "snapshots": (SqliteSnapshots, "__init__"),
    "states": (embedded, "recover"),
    "released": (Released, "__init__"),
    "head": (Released, "advance"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("error", [JournalError("no"), KeyboardInterrupt()], ids=repr)
def test_whatever_fails_all_is_closed_and_it_opens_again(
    config, directory, monkeypatch, step, is_new, error
):
    if not is_new:
        with open_store(config) as store:
            append_account(store)
    owner, name = STEPS[step]

    def fail(*_arguments: object, **_more: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(type(error)):
            open_store(config).__enter__()
    assert descriptors() == []
    assert is_free(directory)
    with open_store(config) as store:
        assert store.journal.head == (0 if is_new else 1)


def test_what_fails_while_it_is_used_closes_it(config, directory):
    with (
        pytest.raises(ValueError, match="account: expected 1 to"),
        open_store(config) as store,
    ):
        append_account(store, "")
    assert descriptors() == []
    assert is_free(directory)


def test_the_lock_goes_last(config, directory, monkeypatch):
    """Else another process could begin while this one still writes."""
    order: list[str] = []
    for owner, name in (
        (SqliteJournal, "close"),
        (SqliteSnapshots, "close"),
        (Released, "close"),
        (ProcessLock, "release"),
    ):
        real = getattr(owner, name)

        def note(self, real=real, owner=owner):
            order.append(owner.__name__)
            real(self)

        monkeypatch.setattr(owner, name, note)
    with open_store(config):
        order.clear()
    assert order == ["Released", "SqliteSnapshots", "SqliteJournal", "ProcessLock"]


# --- places and files that are not good


def test_a_directory_that_cannot_be_made_or_written(tmp_path):
    for place in ("/proc/self/bank", "/proc/self"):
        config = config_of(tmp_path, data_directory=place)
        with pytest.raises((JournalReadOnly, JournalMismatch)):
            open_store(config).__enter__()


def test_a_directory_that_the_user_may_only_read(config):
    with a_users_directory() as directory:
        place = replace(config, data_directory=str(directory))
        directory.chmod(0o500)
        for _ in range(2):
            with pytest.raises(OwnershipError, match=r"cannot be locked.*Permission"):
                open_store(place).__enter__()
        assert list(directory.iterdir()) == []
        directory.chmod(0o700)
        with open_store(place) as store:
            append_account(store)
        (directory / "journal.db").chmod(0o400)
        for _ in range(2):
            with pytest.raises(JournalReadOnly, match="file cannot be written"):
                open_store(place).__enter__()
        assert is_free(directory)
        (directory / "journal.db").chmod(0o600)
        with open_store(place) as store:
            assert store.journal.head == 1


def test_a_directory_that_everybody_may_write(config, directory):
    with open_store(config):
        pass
    directory.chmod(0o777)
    with pytest.raises(JournalMismatch, match="every user may write"):
        open_store(config).__enter__()
    directory.chmod(0o700)
    assert is_free(directory)


def test_a_journal_that_is_gone(config, directory):
    with open_store(config) as store:
        append_account(store)
    (directory / "journal.db").unlink()
    for _ in range(2):
        with pytest.raises(JournalDamaged, match="is gone or empty"):
            open_store(config).__enter__()
    assert not (directory / "journal.db").exists()
    assert is_free(directory)


def test_a_damaged_snapshot_is_passed_over_and_said(config, caplog):
    with open_store(config) as store:
        append_account(store)
        state: State = store.recovered.states[0]
        store.snapshots.write(0, state.sequence, 1, dump(state))
        store.snapshots._connection.execute(
            "UPDATE snapshots SET record = substr(record, 1, 60)"
        )
    with caplog.at_level("WARNING", "switch.embedded"), open_store(config) as store:
        assert store.recovered.states[0].account("a")
        assert store.recovered.entries_replayed == 1
    assert "snapshot passed over" in caplog.text
