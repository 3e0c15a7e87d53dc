import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest

from switch.journal.errors import (
    JournalDamaged,
    JournalError,
    JournalMismatch,
    JournalMissing,
    JournalReadOnly,
    JournalStopped,
    JournalVersion,
)
from switch.journal.port import Commit, Journal, ShardRecord
from switch.journal.sqlite import LOG_PAGES_HARD_MAX, SqliteJournal
from tests.unit.journal.build import SHARD_COUNT, batch, fill


def test_what_was_appended_is_read(tmp_path):
    journal: Journal = fill(tmp_path, 7)
    expected = [Commit(n, n * 1000, tuple(batch(n))) for n in range(1, 8)]
    assert journal.head == 7
    assert list(journal.read(0)) == expected
    assert list(journal.read(3)) == expected[3:]
    assert list(journal.read(3, limit=2)) == expected[3:5]
    assert list(journal.read(3, limit=0)) == []
    assert list(journal.read(7)) == []
    journal.close()
    journal = SqliteJournal.open(tmp_path)
    assert journal.shard_count == SHARD_COUNT
    assert list(journal.read(0)) == expected
    assert journal.append(8000, batch(8)) == 8
    assert [commit.number for commit in journal.read(6)] == [7, 8]
    journal.close()


def test_a_reader_ahead_of_the_journal_is_told(tmp_path):
    journal = fill(tmp_path, 2)
    with pytest.raises(
        JournalDamaged, match=r"reader is ahead.*commit 2, got commit 3"
    ):
        journal.read(3)
    journal.close()


def test_a_long_read_takes_several_transactions(tmp_path, monkeypatch):
    monkeypatch.setattr("switch.journal.sqlite.READ_CHUNK_BYTES_MAX", 1_000)
    journal = fill(tmp_path, 20)
    numbers = []
    for commit in journal.read(0):
        numbers.append(commit.number)
        if commit.number == 10:
            journal.append(21_000, batch(21))
    assert numbers == list(range(1, 22))
    journal.close()


def test_nothing_is_kept_open_for_others(tmp_path):
    journal = fill(tmp_path, 1)
    for name in ("journal.db", "journal.db-wal", "journal.db-shm", "released"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600, name
    journal.close()


class TestManyAtOnce:
    def test_a_commit_per_batch(self, tmp_path):
        journal = fill(tmp_path, 1)
        assert journal.append_many(5, (batch(n) for n in range(2, 52))) == 51
        assert journal.append(52_000, batch(52)) == 52
        assert [commit.number for commit in journal.read(0)] == list(range(1, 53))
        journal.close()

    def test_all_or_nothing(self, tmp_path):
        journal = fill(tmp_path, 1)

        def batches():
            # Enough for SQLite to write pages before the end.
            for number in range(2, 40):
                yield batch(number, size=200_000)
            raise ValueError("bad row")

        with pytest.raises(ValueError, match="bad row"):
            journal.append_many(5, batches())
        assert journal.head == 1
        assert len(list(journal.read(0))) == 1
        assert journal.append(2_000, batch(2)) == 2
        journal.close()
        journal = SqliteJournal.open(tmp_path)
        assert len(list(journal.read(0))) == 2
        journal.close()

    def test_a_gap_undoes_them_all(self, tmp_path):
        journal = fill(tmp_path, 1)
        with pytest.raises(JournalError, match="gap in the sequence of shard 2"):
            journal.append_many(5, [batch(2), batch(3), batch(6)])
        assert journal.head == 1
        assert journal.append_many(5, [batch(2), batch(3)]) == 3
        journal.close()

    def test_none(self, tmp_path):
        journal = fill(tmp_path, 1)
        assert journal.append_many(5, []) == 1
        journal.close()


def test_a_gap_in_the_sequences_is_refused(tmp_path):
    journal = fill(tmp_path, 2)
    with pytest.raises(JournalError, match="shard 0: expected 2, got 3"):
        journal.append(1, [ShardRecord(0, 3, 1, b"")])
    with pytest.raises(JournalError, match="expected 0 to 3, got 4"):
        journal.append(1, [ShardRecord(SHARD_COUNT, 1, 1, b"")])
    assert journal.append(3_000, batch(3)) == 3
    journal.close()


@pytest.mark.parametrize("tended", [True, False])
def test_the_log_stays_short(tmp_path, tended):
    journal = fill(tmp_path, 1)
    for number in range(2, 120):
        journal.append(1, batch(number, size=200_000))
        if tended:
            journal.tend()
    limit = (LOG_PAGES_HARD_MAX + 30) * (16_384 + 24)
    assert (tmp_path / "journal.db-wal").stat().st_size < limit
    journal.close()
    assert not (tmp_path / "journal.db-wal").exists()


def test_another_process_reads_while_this_one_writes(tmp_path):
    journal = fill(tmp_path, 3)
    program = (
        "import sys\n"
        "from switch.journal.sqlite import SqliteJournal\n"
        "journal = SqliteJournal.open(sys.argv[1], read_only=True)\n"
        "for line in sys.stdin:\n"
        "    numbers = [commit.number for commit in journal.read(int(line))]\n"
        "    print(journal.head, *numbers, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for after, number in ((0, 4), (2, 5), (5, 6)):
            journal.append(number * 1000, batch(number))
            print(after, file=reader.stdin, flush=True)
            numbers = [int(text) for text in reader.stdout.readline().split()]
            assert numbers == [number, *range(after + 1, number + 1)]
        reader.stdin.close()
        assert reader.wait() == 0
    journal.close()


def test_threads_read_while_one_appends(tmp_path):
    journal = fill(tmp_path, 1)
    faults: list[BaseException] = []

    def follow():
        try:
            last = 0
            while last < 200:
                for commit in journal.read(last):
                    assert commit.records == tuple(batch(commit.number))
                    last = commit.number
        except BaseException as error:  # noqa: BLE001 -- shown by the test
            faults.append(error)

    threads = [threading.Thread(target=follow) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2, 201):
        journal.append(number * 1000, batch(number))
    for thread in threads:
        thread.join()
    assert faults == []
    journal.close()


class TestOpening:
    def test_nothing_there_to_read(self, tmp_path):
        with pytest.raises(JournalMissing, match=r"journal\.db"):
            SqliteJournal.open(tmp_path, read_only=True)
        assert list(tmp_path.iterdir()) == []

    def test_read_only_accepts_nothing(self, tmp_path):
        fill(tmp_path, 2).close()
        journal = SqliteJournal.open(tmp_path, read_only=True)
        assert journal.head == 2
        assert len(list(journal.read(0))) == 2
        with pytest.raises(JournalReadOnly, match="reading only"):
            journal.append(1, batch(3))
        journal.close()

    def test_closed_accepts_nothing(self, tmp_path):
        journal = fill(tmp_path, 1)
        journal.close()
        journal.close()
        with pytest.raises(JournalStopped, match="closed"):
            journal.append(1, batch(2))

    def test_the_shard_count_is_fixed(self, tmp_path):
        fill(tmp_path, 1).close()
        journal = SqliteJournal.open(tmp_path, shard_count=64)
        assert journal.shard_count == SHARD_COUNT
        journal.close()

    @pytest.mark.parametrize("count", [0, -1, 65_537])
    def test_no_such_shard_count(self, tmp_path, count):
        with pytest.raises(ValueError, match="expected 1 to 65536"):
            SqliteJournal.open(tmp_path, shard_count=count)

    def test_the_key_is_fixed(self, tmp_path):
        SqliteJournal.open(tmp_path, key_fingerprint="o'ne").close()
        SqliteJournal.open(tmp_path, key_fingerprint="o'ne").close()
        SqliteJournal.open(tmp_path).close()
        with pytest.raises(JournalMismatch, match="fingerprint o'ne, got two"):
            SqliteJournal.open(tmp_path, key_fingerprint="two")

    def test_every_journal_has_an_identity(self, tmp_path):
        identities = set()
        for name in "ab":
            (tmp_path / name).mkdir()
            journal = SqliteJournal.open(tmp_path / name)
            identities.add(journal.identity)
            journal.close()
        assert len(identities) == 2
        assert {len(identity) for identity in identities} == {16}

    def test_no_sqlite_file(self, tmp_path):
        (tmp_path / "journal.db").write_bytes(b"these are my holiday pictures" * 100)
        with pytest.raises(JournalDamaged, match="file is not as SQLite wrote it"):
            SqliteJournal.open(tmp_path)

    def test_another_programs_sqlite_file(self, tmp_path):
        with apsw.Connection(str(tmp_path / "journal.db")) as other:
            other.execute("CREATE TABLE bookmarks (url)")
        other.close()
        with pytest.raises(JournalMismatch, match="no journal: expected application"):
            SqliteJournal.open(tmp_path)

    def test_a_newer_format(self, tmp_path):
        fill(tmp_path, 1).close()
        _change(tmp_path, "UPDATE meta SET format = 2")
        with pytest.raises(JournalVersion, match=r"expected 1, .*got 2"):
            SqliteJournal.open(tmp_path)

    def test_a_directory_that_is_not_there(self, tmp_path):
        with pytest.raises(JournalReadOnly, match="cannot be created"):
            SqliteJournal.open(tmp_path / "no" / "such")

    def test_an_old_sqlite_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
        with pytest.raises(JournalVersion, match=r"expected 3\.51\.3 or later, got 3"):
            SqliteJournal.open(tmp_path)

    def test_a_half_made_journal_is_made_again(self, tmp_path):
        (tmp_path / "journal.db").touch()
        journal = fill(tmp_path, 1)
        journal.close()


def _change(directory: Path, statement: str) -> None:
    connection = apsw.Connection(str(directory / "journal.db"))
    connection.execute(statement)
    connection.close()
