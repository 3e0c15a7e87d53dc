"""`switch journal verify` and `dump`: ok when all fits, and else exactly what does not.

Design: for each account the sum of its entries is its balance, and its holds are the
sum of the open ones. Here each entry that breaks it is forged, with right checksums.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from switch import audit
from switch.cli import exits
from switch.cli.main import main
from switch.journal.errors import JournalDamaged, JournalMismatch, JournalMissing
from switch.journal.port import ShardRecord
from switch.journal.released import Released
from switch.journal.snapshots import SqliteSnapshots
from switch.journal.sqlite import SqliteJournal
from switch.ledger import (
    AccountOpened,
    CardIssued,
    Entry,
    Limits,
    Request,
    State,
    adjust,
    apply,
    change_card_status,
    decide,
    dump,
)
from switch.ownership.port import OwnershipError
from switch.ownership.process import ProcessLock
from tests.unit.small_bank import (
    FINANCIAL,
    FINANCIAL_ADVICE,
    JOINT,
    MAIN,
    MAIN_PAN,
    NOW,
    PANS,
    SEALED,
    SHARD_COUNT,
    SPARE_PAN,
    STERLING,
    SmallBank,
    commits_of,
    full_journal,
    opened_bank,
    record,
)

# Where in a packed transaction (see _entry.pxd): header, PAN hash, account, card,
# amount, then these.
ACCOUNT, BALANCE_CHANGE, HELD_CHANGE, ORIGINAL = 28, 44, 52, 76
# and in a packed change: header, PAN hash, account, card, balance change, value.
CHANGED_BY, PREVIOUS = 36, 52


def make(directory: Path, *, snapshots: bool = False) -> SmallBank:
    """A closed journal with every kind of entry."""
    bank, journal = full_journal(directory)
    if snapshots:
        take_snapshots(directory, journal, bank.states)
    journal.close()
    return bank


def take_snapshots(directory: Path, journal: SqliteJournal, states: list[State]):
    store = SqliteSnapshots.open(directory, journal=journal)
    for state in states:
        store.write(state.shard, state.sequence, journal.head, dump(state))
    store.close()


def append(directory: Path, *records: ShardRecord) -> None:
    journal = SqliteJournal.open(directory)
    journal.append(NOW, records)
    journal.close()


def forged(entry: Entry, *changes: tuple[str, int, int]) -> bytes:
    """The packed entry with other numbers at some places of it."""
    data = bytearray(entry.encode())
    for kind, offset, value in changes:
        struct.pack_into("<" + kind, data, offset, value)
    return bytes(data)


def found(directory: Path) -> list[str]:
    verdict = audit.verify(directory)
    assert verdict.ok == (not verdict.problems)
    return list(verdict.problems)


@pytest.fixture
def run(capsys):
    def call(*words):
        exit_code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err

    return call


# --- when all is well


@pytest.mark.parametrize("snapshots", [False, True])
def test_a_journal_with_every_kind_of_entry_is_ok(tmp_path, run, snapshots):
    bank = make(tmp_path, snapshots=snapshots)
    count = len(bank.entries)
    assert audit.verify(tmp_path) == audit.Verdict(True, count, 2, ())
    said = f"ok: {count} entries, 2 accounts\n"
    assert run("journal", "verify", tmp_path) == (exits.OK, said, "")
    exit_code, output, errors = run("journal", "verify", tmp_path, "--json")
    assert (exit_code, errors) == (exits.OK, "")
    assert json.loads(output) == {
        "ok": True,
        "entries": count,
        "accounts": 2,
        "problems": [],
    }


def test_snapshots_older_than_the_journal_are_ok(tmp_path):
    bank, journal = full_journal(tmp_path)
    take_snapshots(tmp_path, journal, bank.states)
    for _ in range(3):
        bank.ask(FINANCIAL, amount=7)
        bank.commit(journal)
    journal.close()
    assert found(tmp_path) == []


def test_an_empty_journal_is_ok(tmp_path):
    SqliteJournal.open(tmp_path).close()
    assert audit.verify(tmp_path) == audit.Verdict(True, 0, 0, ())


def test_it_changes_nothing_but_the_lock(tmp_path):
    make(tmp_path, snapshots=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    audit.verify(tmp_path)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    # SQLite's own, made anew by whoever opens the files
    left = {name: after.pop(name) for name in set(after) - set(before)}
    assert left.pop("lock")
    assert after == before
    assert not [name for name, data in left.items() if name.endswith("-wal") and data]
    assert {name[-4:] for name in left} <= {"-wal", "-shm"}


def test_its_progress_is_told(tmp_path):
    bank = make(tmp_path)
    told: list[tuple[float, str]] = []
    audit.verify(tmp_path, lambda done, words: told.append((done, words)))
    assert [done for done, _ in told] == [0.25, 0.5, 0.75, 1.0]
    assert told[-1][1] == f"{len(bank.entries)} entries"


def wrong_balance(what: str, expected: int, got: int) -> str:
    return (
        f"{what}: account main: balance: expected {expected}, the sum of its entries, "
        f"got {got}"
    )


# --- entries that cannot be: each is the next one of its shard, with right checksums


def beyond_available(bank: SmallBank) -> tuple[bytes, list[str]]:
    entry = bank.ask(FINANCIAL, amount=1).entry
    assert entry is not None
    view = bank.shard(MAIN).account(MAIN)
    assert view is not None
    left = view.available + 1 - 50_000
    where = f"entry 0-{entry.sequence}"
    return forged(entry, ("q", BALANCE_CHANGE, -50_000)), [
        f"{where}: expected posted to post -1, got -50000",
        f"{where}: an approval left {left} available",
    ]


def hold_beyond_available(bank: SmallBank) -> tuple[bytes, list[str]]:
    entry = bank.ask(amount=1).entry
    assert entry is not None
    view = bank.shard(MAIN).account(MAIN)
    assert view is not None
    left = view.available + 1 - 50_000
    where = f"0-{entry.sequence}"
    return forged(entry, ("q", HELD_CHANGE, 50_000)), [
        f"entry {where}: an approval left {left} available",
        # the ledger keeps what the amount says
        f"replay: hold {where}: expected ('main', 50000), got ('main', 1)",
    ]


def no_such_hold(bank: SmallBank) -> tuple[bytes, list[str]]:
    entry = bank.ask(FINANCIAL_ADVICE, amount=1, advice_approved=True).entry
    assert entry is not None
    return forged(entry, ("q", HELD_CHANGE, -40), ("Q", ORIGINAL, 99)), [
        f"entry 0-{entry.sequence}: releases a hold that entry 0-99 is not"
    ]


def more_than_was_held(bank: SmallBank) -> tuple[bytes, list[str]]:
    entry = bank.ask(FINANCIAL_ADVICE, amount=1, advice_approved=True).entry
    assert entry is not None
    (hold,) = bank.shard(MAIN).holds()
    assert hold.remaining == 5
    change = ("q", HELD_CHANGE, -12), ("Q", ORIGINAL, hold.sequence)
    return forged(entry, *change), [
        f"entry 0-{entry.sequence}: releases 7 more than was held",
        # without field 90 the ledger does not find it
        f"replay: hold 0-{hold.sequence}: expected None, got ('main', 5)",
    ]


def unknown_account(bank: SmallBank) -> tuple[bytes, list[str]]:
    entry = bank.ask(FINANCIAL, amount=1).entry
    assert entry is not None
    return forged(entry, ("I", ACCOUNT, 7)), [
        f"commit 5, shard 0: shard 0 entry {entry.sequence}: no account 7"
    ]


def account_never_opened(bank: SmallBank) -> tuple[bytes, list[str]]:
    entry = bank.ask(FINANCIAL, amount=1).entry
    assert entry is not None
    where = f"entry 0-{entry.sequence}"
    view = bank.shard(MAIN).account(MAIN)
    assert view is not None
    return entry.encode().replace(b"main", b"mine"), [
        f"{where}: account mine was never opened",
        wrong_balance("replay", view.balance + 1, view.balance),
    ]


def account_opened_twice(bank: SmallBank) -> tuple[bytes, list[str]]:
    sequence = bank.shard(MAIN).sequence + 1
    entry = AccountOpened(MAIN, STERLING, 5, 0, at=NOW, sequence=sequence)
    return entry.encode(), [
        f"commit 5, shard 0: shard 0 entry {sequence}: account is open already"
    ]


def account_in_another_shard(bank: SmallBank) -> tuple[bytes, list[str]]:
    sequence = bank.shard(MAIN).sequence + 1
    entry = AccountOpened("second", STERLING, 5, 0, at=NOW, sequence=sequence)
    return entry.encode(), [f"entry 0-{sequence}: account second: expected in shard 1"]


def card_of_another_account(bank: SmallBank) -> tuple[bytes, list[str]]:
    sequence = bank.shard(MAIN).sequence + 1
    entry = CardIssued(
        bytes(16), b"", "none", 0, 4912, 0, "0000", at=NOW, sequence=sequence
    )
    return entry.encode(), [
        "replay: shard 0: expected the 2 cards that were issued, got 2, not the same"
    ]


def unknown_kind(bank: SmallBank) -> tuple[bytes, list[str]]:
    sequence = bank.shard(MAIN).sequence + 1
    entry = AccountOpened("a", STERLING, 5, 0, at=NOW, sequence=sequence)
    return forged(entry, ("B", 0, 99)), [
        f"commit 5, shard 0: entry {sequence}: unknown kind 99"
    ]


def changed(bank: SmallBank, make: Callable[..., Entry | None]) -> Entry:
    entry = make(bank.shard(MAIN), operator="maria", reason="because", now=NOW)
    assert entry is not None
    return entry


def balance_of(bank: SmallBank) -> int:
    view = bank.shard(MAIN).account(MAIN)
    assert view is not None
    return view.balance


def adjusted_by_more_than_it_says(bank: SmallBank) -> tuple[bytes, list[str]]:
    entry = changed(bank, lambda state, **why: adjust(state, MAIN, 5, **why))
    balance = balance_of(bank)
    return forged(entry, ("q", CHANGED_BY, 500)), [
        (
            f"entry 0-{entry.sequence}: adjusted: expected {balance + 500}, the sum "
            f"of the account's entries, got {balance + 5}"
        )
    ]


def adjusted_from_another_balance(bank: SmallBank) -> tuple[bytes, list[str]]:
    entry = changed(bank, lambda state, **why: adjust(state, MAIN, 5, **why))
    balance = balance_of(bank)
    return forged(entry, ("q", PREVIOUS, 1)), [
        f"entry 0-{entry.sequence}: adjusted: expected {balance} before it, got 1",
        (
            f"commit 5, shard 0: shard 0 entry {entry.sequence}: adjusted: expected to "
            f"find 1, got {balance}"
        ),
    ]


def another_status_before(bank: SmallBank) -> tuple[bytes, list[str]]:
    pan_hash = SEALED[MAIN_PAN][0]
    entry = changed(
        bank, lambda state, **why: change_card_status(state, pan_hash, "lost", **why)
    )
    return forged(entry, ("q", PREVIOUS, 3)), [
        (
            f"commit 5, shard 0: shard 0 entry {entry.sequence}: card_status_changed: "
            "expected to find 3, got 0"
        ),
    ]


FORGERIES = [
    adjusted_by_more_than_it_says,
    adjusted_from_another_balance,
    another_status_before,
    beyond_available,
    hold_beyond_available,
    no_such_hold,
    more_than_was_held,
    unknown_account,
    account_never_opened,
    account_opened_twice,
    account_in_another_shard,
    card_of_another_account,
    unknown_kind,
]


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.__name__)
def test_a_forged_entry_is_told_and_nothing_else(tmp_path, run, forgery):
    bank = make(tmp_path)
    sequence = bank.shard(MAIN).sequence + 1
    data, expected = forgery(bank)
    append(tmp_path, ShardRecord(0, sequence, 1, data))
    assert found(tmp_path) == expected
    exit_code, output, errors = run("journal", "verify", tmp_path)
    assert (exit_code, errors) == (exits.NOT_SO, "")
    *lines, last = output.splitlines()
    assert lines == expected
    assert last.startswith(f"NOT ok, {len(expected)} problems: ")
    exit_code, output, _ = run("journal", "verify", tmp_path, "--json")
    said = json.loads(output)
    assert exit_code == exits.NOT_SO
    assert said["ok"] is False
    assert said["problems"] == expected


def test_a_release_of_another_accounts_hold(tmp_path):
    bank, journal = full_journal(tmp_path)
    bank.open_account("other")
    bank.issue_card(SPARE_PAN, "other")
    bank.commit(journal)
    journal.close()
    (hold,) = bank.shard(MAIN).holds()
    entry = bank.ask(
        FINANCIAL_ADVICE, account="other", pan=SPARE_PAN, amount=1, advice_approved=True
    ).entry
    assert entry is not None
    data = forged(entry, ("q", HELD_CHANGE, -5), ("Q", ORIGINAL, hold.sequence))
    append(tmp_path, ShardRecord(0, entry.sequence, 1, data))
    assert found(tmp_path) == [
        f"entry 0-{entry.sequence}: releases a hold that entry 0-{hold.sequence} is not"
    ]


def test_what_comes_behind_a_broken_entry_is_not_told_again(tmp_path):
    bank = make(tmp_path)
    sequence = bank.shard(MAIN).sequence + 1
    data, expected = unknown_account(bank)
    append(tmp_path, ShardRecord(0, sequence, 1, data))
    for _ in range(3):
        entry = bank.ask(amount=1).entry
        assert entry is not None
        append(tmp_path, record(0, entry))
    assert found(tmp_path) == expected


def test_a_count_that_is_not_that_of_the_entries(tmp_path):
    bank = make(tmp_path)
    entry = bank.ask(amount=1).entry
    assert entry is not None
    append(tmp_path, ShardRecord(0, entry.sequence, 2, entry.encode()))
    assert found(tmp_path) == ["commit 5, shard 0: expected 2 entries, got 1"]


def test_a_journal_full_of_faults_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "PROBLEMS_MAX", 3)
    bank = make(tmp_path)
    for number in range(5):
        entry = bank.ask(FINANCIAL, amount=1).entry
        assert entry is not None
        data = forged(entry, ("q", BALANCE_CHANGE, -90_000 - number))
        append(tmp_path, ShardRecord(0, entry.sequence, 1, data))
    *first, last = found(tmp_path)
    assert len(first) == 3
    assert last == "and 7 more"


def test_an_account_that_looks_like_a_card_is_masked(tmp_path):
    """Whoever imports card numbers as account names does not read them here."""
    bank = SmallBank()
    name = PANS[0]
    bank.open_account(name)
    (commit,) = commits_of(bank, SqliteJournal.open(tmp_path, shard_count=SHARD_COUNT))
    (opened,) = commit.records
    other = (opened.shard + 1) % SHARD_COUNT
    append(tmp_path, ShardRecord(other, 1, 1, opened.payload))
    problems = found(tmp_path)
    assert problems[0].startswith(f"entry {other}-1: account [card ..7899]: expected")
    assert name not in "".join(problems)


# --- damage of the file


def change_rows(directory: Path, statement: str, *values) -> None:
    connection = apsw.Connection(str(directory / "journal.db"))
    connection.execute(statement, values)
    connection.close()


def row(directory: Path, number: int) -> bytearray:
    connection = apsw.Connection(str(directory / "journal.db"))
    data = connection.execute("SELECT record FROM commits WHERE number = ?", (number,))
    content = bytearray(data.get)
    connection.close()
    return content


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("byte", [0, 9, 60, -30, -1])
def test_a_flipped_bit(tmp_path, run, number, byte):
    make(tmp_path, snapshots=True)
    data = row(tmp_path, number)
    data[byte] ^= 4
    update = "UPDATE commits SET record = ? WHERE number = ?"
    change_rows(tmp_path, update, bytes(data), number)
    exit_code, output, _ = run("journal", "verify", tmp_path, "--json")
    (problem,) = json.loads(output)["problems"]
    assert exit_code == exits.NOT_SO
    what = "not a commit record" if byte == 0 else "record changed since it was written"
    if (number, byte) == (3, -1):
        # the opening compares the last two, and the last names that checksum
        number, what = 4, "broken chain"
    assert problem.startswith(what)
    assert f"(commit {number}, byte " in problem


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_missing_commit(tmp_path, number):
    make(tmp_path)
    change_rows(tmp_path, "DELETE FROM commits WHERE number = ?", number)
    (problem,) = found(tmp_path)
    if number == 1:
        assert problem.startswith("journal begins late: expected commit 1, got 2")
    else:
        assert problem.startswith(f"commit is missing (commit {number}, ")


def test_a_last_commit_that_is_missing_and_was_answered(tmp_path):
    make(tmp_path)
    released = Released(tmp_path / "released")
    released.advance(4)
    released.close()
    change_rows(tmp_path, "DELETE FROM commits WHERE number = 4")
    (problem,) = found(tmp_path)
    assert problem.startswith("commit 4 was answered, but the journal ends before it")


def test_a_last_commit_that_is_missing_and_is_in_a_snapshot(tmp_path):
    make(tmp_path, snapshots=True)
    change_rows(tmp_path, "DELETE FROM commits WHERE number = 4")
    (problem,) = found(tmp_path)
    assert problem.startswith("snapshot of shard 0 is ahead of the journal")


# --- snapshots


def test_a_snapshot_that_disagrees_with_the_journal(tmp_path):
    bank, journal = full_journal(tmp_path)
    other, other_journal = full_journal(_subdirectory(tmp_path))
    other_journal.close()
    for each, amount in ((bank, 30), (other, 31)):
        each.ask(FINANCIAL, amount=amount)
    bank.commit(journal)
    take_snapshots(tmp_path, journal, other.states)
    journal.close()
    view = bank.shard(MAIN).account(MAIN)
    assert view is not None
    assert found(tmp_path) == [
        wrong_balance("snapshots and replay", view.balance, view.balance - 1)
    ]


def test_a_snapshot_with_a_hold_less_and_other_cards(tmp_path):
    bank, journal = full_journal(tmp_path)
    other = opened_bank()
    state = other.shard(JOINT)
    while state.sequence < bank.shard(JOINT).sequence:
        other.ask(amount=10**9, account=JOINT, pan=PANS[1])
    card = CardIssued(
        bytes(16), b"", JOINT, 0, 4912, 0, "0000", at=NOW,
        sequence=bank.shard(JOINT).sequence + 1,
    )  # fmt: skip
    bank.take(bank.shard(JOINT), card)
    bank.commit(journal)
    other.ask(amount=10**9, account=JOINT, pan=PANS[1])
    take_snapshots(tmp_path, journal, [state])
    journal.close()
    what = "snapshots and replay"
    assert found(tmp_path) == [
        f"{what}: account joint: held: expected 200, the sum of its entries, got 0",
        f"{what}: hold 3-5: expected 200 on account joint, got none",
        f"{what}: shard 3: expected the 2 cards that were issued, got 1, not the same",
    ]


def test_a_snapshot_without_an_account(tmp_path):
    bank, journal = full_journal(tmp_path)
    state = State(3, Limits())
    while state.sequence < bank.shard(JOINT).sequence:
        request = Request(amount=1, stan=str(state.sequence))
        for entry in decide(state, request, 0).entries:
            apply(state, entry)
    take_snapshots(tmp_path, journal, [state])
    journal.close()
    assert found(tmp_path)[-1] == "snapshots and replay: expected 2 accounts, got 1"


def test_snapshots_of_another_journal(tmp_path, run):
    make(tmp_path)
    elsewhere = _subdirectory(tmp_path)
    make(elsewhere, snapshots=True)
    (elsewhere / "snapshots.db").rename(tmp_path / "snapshots.db")
    exit_code, output, _ = run("journal", "verify", tmp_path, "--json")
    (problem,) = json.loads(output)["problems"]
    assert exit_code == exits.NOT_SO
    assert problem.startswith("snapshots of another journal: expected identity ")


def test_a_snapshot_that_is_damaged(tmp_path):
    make(tmp_path, snapshots=True)
    connection = apsw.Connection(str(tmp_path / "snapshots.db"))
    identifier, data = next(connection.execute("SELECT id, record FROM snapshots"))
    broken = bytearray(data)
    broken[40] ^= 1
    connection.execute(
        "UPDATE snapshots SET record = ? WHERE id = ?", (bytes(broken), identifier)
    )
    connection.close()
    (problem,) = found(tmp_path)
    assert problem.startswith("snapshot of shard 0 changed since it was written")


def _subdirectory(directory: Path) -> Path:
    path = directory / "another"
    path.mkdir(mode=0o700)
    return path


# --- where there is nothing to verify


def test_it_keeps_away_from_a_running_daemon(tmp_path, run):
    make(tmp_path)
    lock = ProcessLock(tmp_path / "lock")
    lock.acquire()
    with pytest.raises(OwnershipError, match="in use by process"):
        audit.verify(tmp_path)
    exit_code, output, errors = run("journal", "verify", tmp_path, "--json")
    assert (exit_code, output) == (exits.INPUT_OUTPUT, "")
    assert "in use by process" in errors
    lock.release()
    assert found(tmp_path) == []


def test_the_lock_is_held_meanwhile_and_free_afterwards(tmp_path):
    make(tmp_path)
    other = ProcessLock(tmp_path / "lock")

    def try_it(_done: float, _words: str) -> None:
        with pytest.raises(OwnershipError):
            other.acquire()

    audit.verify(tmp_path, try_it)
    change_rows(tmp_path, "DELETE FROM commits WHERE number = 2")
    audit.verify(tmp_path)
    other.acquire()
    other.release()


@pytest.mark.parametrize("action", ["verify", "dump"])
def test_a_directory_without_a_journal(tmp_path, run, action):
    call = audit.verify if action == "verify" else lambda path: list(audit.dump(path))
    with pytest.raises(JournalMissing):
        call(tmp_path / "nowhere")
    with pytest.raises(JournalMissing):
        call(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(JournalMismatch):
        call(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert run("journal", action, tmp_path)[0] == exits.INPUT_OUTPUT


# --- dump


def test_dump_shows_every_entry_and_no_pan(tmp_path, run):
    bank = make(tmp_path)
    exit_code, output, _ = run("journal", "dump", tmp_path, "--json")
    assert exit_code == exits.OK
    lines = [json.loads(text) for text in output.splitlines()]
    places = [f"{shard}-{entry.sequence}" for shard, entry in bank.entries]
    assert sorted(line["id"] for line in lines) == sorted(places)
    kinds = {f"{shard}-{entry.sequence}": entry.name for shard, entry in bank.entries}
    assert {line["id"]: line["kind"] for line in lines} == kinds
    exit_code, plain, _ = run("journal", "dump", tmp_path)
    assert exit_code == exits.OK
    assert [text.split()[0] for text in plain.splitlines()] == [
        f"id={line['id']}" for line in lines
    ]
    sealed = [e.sealed_pan.hex() for _, e in bank.entries if isinstance(e, CardIssued)]
    for text in (output, plain):
        assert not [pan for pan in PANS if pan in text]
        assert not [seal for seal in sealed if seal in text]


def test_dump_says_which_entry_it_cannot_read(tmp_path, run):
    bank = make(tmp_path)
    sequence = bank.shard(MAIN).sequence + 1
    data, _ = unknown_kind(bank)
    append(tmp_path, ShardRecord(0, sequence, 1, data))
    with pytest.raises(JournalDamaged, match=f"entry {sequence}: unknown kind 99"):
        list(audit.dump(tmp_path))
    exit_code, output, errors = run("journal", "dump", tmp_path)
    assert exit_code == exits.INPUT_OUTPUT
    assert len(output.splitlines()) == sequence - 1 + bank.shard(JOINT).sequence
    assert f"switch: entry {sequence}: unknown kind 99" in errors
