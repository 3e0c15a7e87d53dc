"""Imports and the directory they go to: its owner, its key, and crashes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from switch.cli import exits
from switch.cli.main import main
from switch.config import JournalSettings, KeysSettings
from switch.embedded import open_store
from switch.journal.errors import JournalError, JournalFull, JournalMismatch
from switch.journal.released import lower_bound
from switch.journal.snapshots import SqliteSnapshots
from switch.keys import sealed_file
from switch.keys.port import KeysError
from switch.ownership.port import OwnershipError
from switch.ownership.process import ProcessLock
from tests.unit.follower.running import publish_all
from tests.unit.import_files import (
    ACCOUNTS,
    CARDS,
    accounts,
    cards,
    cards_by_pan,
    config_of,
    kept,
    written,
)

ROOT = Path(__file__).parents[2]
PAN = "4000001234567899"
ROW = "a,EUR,1,0\n"


@pytest.fixture
def config(tmp_path):
    return config_of(tmp_path)


def listing(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# --- whose directory it is


def test_a_directory_with_a_running_daemon_is_refused(config, capsys):
    accounts(config, ACCOUNTS + ROW)
    with open_store(config) as store:
        head = store.journal.head
        with pytest.raises(OwnershipError, match=f"in use by process {os.getpid()}"):
            accounts(config, ACCOUNTS + "b,EUR,1,0\n")
        file = str(written(config, ACCOUNTS + "b,EUR,1,0\n"))
        words = ["accounts", "import", file, "--data", config.data_directory]
        assert main(words) == exits.INPUT_OUTPUT
        assert f"in use by process {os.getpid()}" in capsys.readouterr().err
        assert store.journal.head == head
    assert accounts(config, ACCOUNTS + "b,EUR,1,0\n") == 1


@pytest.mark.parametrize("name", ["notes.txt", "journal.sqlite", ".hidden"])
def test_a_directory_of_something_else_is_not_touched(config, name):
    directory = Path(config.data_directory)
    directory.mkdir(mode=0o700)
    (directory / name).write_text("mine")
    with pytest.raises(JournalMismatch, match="not a data directory of this program"):
        accounts(config, ACCOUNTS + ROW)
    assert listing(directory) == {name: b"mine"}


def test_a_directory_that_is_a_file(config):
    Path(config.data_directory).write_text("mine")
    with pytest.raises(JournalMismatch, match="not a directory"):
        accounts(config, ACCOUNTS + ROW)


def test_another_number_of_shards_than_it_has_is_no_error(config, tmp_path):
    """It is fixed at initialisation; what is set later does not move accounts."""
    accounts(config, ACCOUNTS + ROW)
    other = config_of(tmp_path, journal=JournalSettings(shards=3))
    accounts(other, ACCOUNTS + "b,EUR,1,0\n")
    found = kept(config)
    assert len(found.states) == 8
    assert set(found.accounts) == {"a", "b"}


# --- keys


@pytest.fixture
def given(config, tmp_path):
    """A configuration with a key that is kept elsewhere."""
    path = tmp_path / "elsewhere.key"
    sealed_file.create(path)
    return config_of(tmp_path, keys=KeysSettings(pan_key_file=str(path)))


def test_a_key_that_is_given(given):
    accounts(given, ACCOUNTS + ROW)
    assert cards(given, CARDS + f"{PAN},a,4912,active\n") == 1
    assert not (Path(given.data_directory) / "pan.key").exists()
    assert cards_by_pan(given, [PAN]) == {PAN: ("a", 4912, 0)}


def test_without_the_key_that_was_given_nothing_is_imported(given, config):
    accounts(given, ACCOUNTS + ROW)
    with pytest.raises(KeysError, match=r"pan\.key cannot be read"):
        accounts(config, ACCOUNTS + "b,EUR,1,0\n")
    with open_store(given) as store:
        assert store.journal.head == 1


def test_a_wrong_key_is_refused(config, tmp_path):
    accounts(config, ACCOUNTS + ROW)
    cards(config, CARDS + f"{PAN},a,4912,active\n")
    before = kept(config)
    path = tmp_path / "another.key"
    sealed_file.create(path)
    other = config_of(tmp_path, keys=KeysSettings(pan_key_file=str(path)))
    with pytest.raises(JournalMismatch, match="another PAN key than the one"):
        cards(other, CARDS + "9999990000000010,a,4912,active\n")
    assert kept(config) == before


def test_the_key_in_the_directory_is_made_once(config):
    accounts(config, ACCOUNTS + ROW)
    key = Path(config.data_directory) / "pan.key"
    before = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    accounts(config, ACCOUNTS + "b,EUR,1,0\n")
    assert key.read_bytes() == before


def test_no_pan_is_in_clear_in_any_file(config):
    accounts(config, ACCOUNTS + ROW)
    pans = [f"99999900{number:08d}" for number in range(200)]
    cards(config, CARDS + "".join(f"{pan},a,4912,active\n" for pan in [PAN, *pans]))
    files = listing(Path(config.data_directory))
    assert {"journal.db", "snapshots.db", "pan.key"} <= set(files)
    for pan in [PAN, *pans]:
        packed = bytes.fromhex(pan)
        for name, data in files.items():
            assert pan.encode() not in data, name
            assert packed not in data, name
            assert packed[1:7] not in data, name


# --- crashes

_KILLED = """
import os, sys
from pathlib import Path
from switch.journal.{module} import {kind}

calls = {calls}
real = {kind}.{name}

def end(*arguments):
    global calls
    calls -= 1
    if not calls:
        os._exit(42)
    return real(*arguments)

{kind}.{name} = end
from switch.cli.main import main
main(sys.argv[1:])
"""


def killed(config, what: str, text: str, where: str, *, calls: int = 1) -> None:
    """An import whose process ends, without a last word, where the method is called
    for the n-th time."""
    module, kind, name = where.split(".")
    program = _KILLED.format(module=module, kind=kind, name=name, calls=calls)
    words = [what, "import", str(written(config, text))]
    words += ["--data", config.data_directory, "--set", "journal.shards=8"]
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT)
    assert done.returncode == 42


def published(config) -> list[str]:
    """What the follower of the next start publishes."""
    publish_all(Path(config.data_directory))
    events = Path(config.data_directory) / "events"
    return [line for path in events.iterdir() for line in path.read_text().splitlines()]


def test_a_crash_before_released_was_told_leaves_the_import_published(config):
    accounts(config, ACCOUNTS + ROW)
    text = CARDS + f"{PAN},a,4912,active\n"
    # the first call is that of the opening
    killed(config, "cards", text, "released.Released.advance", calls=2)
    assert lower_bound(Path(config.data_directory) / "released") == 1
    assert len(published(config)) == 1
    with open_store(config) as store:
        assert store.journal.head == store.released.number == 2
        assert sum(state.card_count for state in store.recovered.states) == 1
    lines = published(config)
    assert len(lines) == 2
    assert '"kind":"card_issued"' in lines[1]
    assert cards_by_pan(config, [PAN]) == {PAN: ("a", 4912, 0)}


def test_an_import_is_released_at_once(config):
    accounts(config, ACCOUNTS + ROW)
    assert lower_bound(Path(config.data_directory) / "released") == 1
    assert len(published(config)) == 1


def test_a_crash_before_the_snapshots_costs_a_replay(config):
    text = ACCOUNTS + "".join(f"a{number},EUR,{number},0\n" for number in range(100))
    killed(config, "accounts", text, "snapshots.SqliteSnapshots.write")
    found = kept(config)
    assert (found.head, found.released) == (1, 1)
    assert {name: view.balance for name, view in found.accounts.items()} == {
        f"a{number}": number for number in range(100)
    }


def test_a_crash_before_the_commit_leaves_nothing(config):
    accounts(config, ACCOUNTS + ROW)
    before = kept(config)
    killed(
        config, "accounts", ACCOUNTS + "b,EUR,1,0\n", "sqlite.SqliteJournal.append_many"
    )
    assert kept(config) == before


def test_an_import_is_not_replayed_when_its_snapshots_are_there(config):
    text = ACCOUNTS + "".join(f"a{number},EUR,{number},0\n" for number in range(100))
    accounts(config, text)
    cards(config, CARDS + f"{PAN},a1,4912,active\n")
    with open_store(config) as store:
        assert store.recovered.entries_replayed == 0
        assert len(list(store.recovered.states)) == 8


def test_snapshots_that_cannot_be_written_do_not_fail_the_import(
    config, monkeypatch, caplog
):
    """It is done by then: to say that it failed would be to ask for it again."""

    def full(*_arguments: object) -> None:
        raise JournalFull("disk full", path="snapshots.db")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteSnapshots, "write", full)
        assert accounts(config, ACCOUNTS + ROW) == 1
    assert "no snapshots, the next start will replay" in caplog.text
    assert list(kept(config).accounts) == ["a"]


def test_a_journal_that_cannot_take_it_fails_the_import(config, monkeypatch):
    accounts(config, ACCOUNTS + ROW)
    before = kept(config)
    monkeypatch.setattr("switch.journal.record.RECORD_SIZE_MAX", 1000)
    text = ACCOUNTS + "".join(f"b{number},EUR,1,0\n" for number in range(100))
    with pytest.raises(JournalError, match="record too large"):
        accounts(config, text)
    monkeypatch.undo()
    assert kept(config) == before


def test_the_lock_is_free_after_every_end(config):
    accounts(config, ACCOUNTS + ROW)
    with pytest.raises(Exception, match="bad row"):
        accounts(config, ACCOUNTS + ROW)
    lock = ProcessLock(Path(config.data_directory) / "lock")
    lock.acquire()
    lock.release()


# --- who ends it, and when


def spawned(config, what: str) -> "subprocess.Popen[bytes]":
    """An import that waits for the rest of its file, which comes through a pipe."""
    words = [sys.executable, "-m", "switch", what, "import", "/dev/stdin"]
    process = subprocess.Popen(
        [*words, "--data", config.data_directory, "--set", "journal.shards=8"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    # more than a pipe holds: when it is written, they are being read
    rows = "".join(f"a{number},EUR,1,0\n" for number in range(2**20 // 16))
    process.stdin.write((ACCOUNTS + rows).encode())
    return process


STOPS = [(signal.SIGINT, exits.INTERRUPTED), (signal.SIGTERM, exits.TERMINATED)]


@pytest.mark.parametrize(("number", "exit_code"), STOPS)
def test_one_that_is_interrupted_says_that_it_left_nothing(config, number, exit_code):
    directory = Path(config.data_directory)
    for left in (f"; {directory} was made, and empty", ""):
        process = spawned(config, "accounts")
        process.send_signal(number)
        output, errors = process.communicate()
        assert errors.decode() == f"switch: interrupted: nothing imported{left}\n"
        assert (process.returncode, output) == (exit_code, b"")
        assert kept(config).accounts == {}
    assert accounts(config, ACCOUNTS + ROW) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_ends_it_when_all_rows_are_taken(config, number, monkeypatch, capsys):
    """It would not be known whether they are imported."""
    handler = signal.getsignal(number)
    real = SqliteSnapshots.write

    def write(*arguments):
        os.kill(os.getpid(), number)
        return real(*arguments)

    monkeypatch.setattr(SqliteSnapshots, "write", write)
    file = str(written(config, ACCOUNTS + ROW))
    words = ["accounts", "import", file, "--data", config.data_directory]
    assert main(words) == exits.OK
    assert capsys.readouterr().out == "1 accounts imported\n"
    assert signal.getsignal(number) is handler


# --- memory

MEMORY_KIB_MAX = 128 * 1024


# The peak of its own memory: what the parent tells of a child (ru_maxrss) begins with
# the memory of the parent that it was forked from.
IMPORT_AND_TELL = """
import re, sys
from pathlib import Path
from switch.cli.main import main
assert main(sys.argv[1:]) == 0
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def peak_kib_of(config, what: str, text: str) -> int:
    """Of a process that imports this."""
    words = [what, "import", str(written(config, text))]
    words += ["--data", config.data_directory, "--set", "journal.shards=8"]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_AND_TELL, *words],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return int(done.stdout.split()[-1])


def test_a_hundred_thousand_rows_fit_into_little_memory(config):
    """What was read is not kept: what grows are the accounts, the cards and a batch."""
    count = 100_000
    text = ACCOUNTS + "".join(f"a{n},EUR,{n},0\n" for n in range(count))
    assert peak_kib_of(config, "accounts", text) <= MEMORY_KIB_MAX
    text = CARDS + "".join(f"999999{n:010d},a{n},4912,active\n" for n in range(count))
    assert peak_kib_of(config, "cards", text) <= MEMORY_KIB_MAX
    found = kept(config)
    assert len(found.accounts) == found.card_count == count
    assert found.accounts["a99999"].balance == 99_999
