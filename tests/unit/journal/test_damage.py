"""Invariant: whatever is damaged, a journal opens and reads as it was written, or
JournalError says what and where. It never yields less, or anything else, in silence."""

import shutil
from pathlib import Path

import apsw
import pytest

from switch.journal import record as codec
from switch.journal.errors import JournalDamaged, JournalError
from switch.journal.port import Commit
from switch.journal.sqlite import SqliteJournal
from tests.unit.journal.build import batch, fill

COUNT = 12
EXPECTED = [Commit(n, n * 1000, tuple(batch(n))) for n in range(1, COUNT + 1)]


def change(directory: Path, *statements: str) -> None:
    connection = apsw.Connection(str(directory / "journal.db"))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def read(directory: Path) -> list[Commit]:
    journal = SqliteJournal.open(directory)
    try:
        return list(journal.read(0))
    finally:
        journal.close()


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """All commits in journal.db."""
    (tmp_path / "data").mkdir()
    fill(tmp_path / "data", COUNT).close()
    return tmp_path / "data"


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """All commits in the log, as after kill -9."""
    (tmp_path / "live").mkdir()
    journal = fill(tmp_path / "live", COUNT)
    (tmp_path / "data").mkdir()
    for name in ("journal.db", "journal.db-wal", "released"):
        shutil.copy(tmp_path / "live" / name, tmp_path / "data")
    journal.close()
    return tmp_path / "data"


def flip(path: Path, byte: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << byte % 8
    path.write_bytes(data)


class TestRows:
    def test_a_missing_commit(self, closed):
        change(closed, "DELETE FROM commits WHERE number = 5")
        with pytest.raises(JournalDamaged, match=r"commit is missing \(commit 5, "):
            read(closed)

    def test_a_missing_first_commit(self, closed):
        change(closed, "DELETE FROM commits WHERE number = 1")
        with pytest.raises(JournalDamaged, match="expected commit 1, got 2"):
            read(closed)

    def test_a_missing_last_commit(self, closed):
        change(closed, f"DELETE FROM commits WHERE number = {COUNT}")
        with pytest.raises(
            JournalDamaged,
            match="commit 12 was answered, but the journal ends before it: "
            r"expected commit 12 or later, got an end at commit 11 \(.*journal\.db\)",
        ):
            read(closed)

    def test_an_emptied_journal(self, closed):
        change(closed, "DELETE FROM commits")
        with pytest.raises(JournalDamaged, match="was answered"):
            read(closed)

    def test_swapped_commits(self, closed):
        change(
            closed,
            "UPDATE commits SET number = 100 WHERE number = 5",
            "UPDATE commits SET number = 5 WHERE number = 6",
            "UPDATE commits SET number = 6 WHERE number = 100",
        )
        with pytest.raises(
            JournalDamaged, match=r"wrong number: expected 5, got 6 \(commit 5, byte 8"
        ):
            read(closed)

    def test_a_commit_of_another_journal(self, closed, tmp_path):
        (tmp_path / "other").mkdir()
        fill(tmp_path / "other", COUNT).close()
        change(
            closed,
            f"ATTACH '{tmp_path}/other/journal.db' AS other",
            "UPDATE commits SET record = (SELECT record FROM other.commits AS o"
            " WHERE o.number = 5) WHERE number = 5",
        )
        with pytest.raises(JournalDamaged, match=r"broken chain.*\(commit 5, byte 24"):
            read(closed)

    def test_a_commit_that_was_changed_with_its_checksum(self, closed):
        data, _ = codec.encode(5, 5000, 0, batch(5, size=200))
        connection = apsw.Connection(str(closed / "journal.db"))
        connection.execute("UPDATE commits SET record = ? WHERE number = 5", (data,))
        connection.close()
        with pytest.raises(JournalDamaged, match="broken chain"):
            read(closed)

    def test_a_gap_in_a_shards_sequence(self, closed):
        connection = apsw.Connection(str(closed / "journal.db"))
        query = "SELECT record FROM commits WHERE number = ?"
        last = connection.execute(query, (COUNT,)).get
        data, _ = codec.encode(
            COUNT + 1,
            0,
            codec.stored_checksum(last, COUNT, ""),
            batch(COUNT + 3),
        )
        connection.execute("INSERT INTO commits VALUES (?, ?)", (COUNT + 1, data))
        connection.close()
        with pytest.raises(
            JournalDamaged,
            match=r"gap in the sequence of shard 0: expected 7, got 8 \(commit 13",
        ):
            read(closed)

    def test_a_torn_last_record(self, closed):
        change(
            closed,
            "UPDATE commits SET record = substr(record, 1, length(record) - 100)"
            f" WHERE number = {COUNT}",
        )
        with pytest.raises(
            JournalDamaged,
            match=r"expected checksum .* \(commit 12, byte .*journal\.db",
        ):
            SqliteJournal.open(closed)

    @pytest.mark.parametrize("value", ["NULL", "'text'", "7", "x''"])
    def test_a_row_of_another_kind(self, closed, value):
        change(
            closed,
            "PRAGMA ignore_check_constraints = ON",
            "CREATE TABLE copy (number INTEGER PRIMARY KEY, record BLOB)",
            "INSERT INTO copy SELECT * FROM commits",
            "DROP TABLE commits",
            "ALTER TABLE copy RENAME TO commits",
            f"UPDATE commits SET record = {value} WHERE number = 5",
        )
        with pytest.raises(JournalDamaged, match="commit 5"):
            read(closed)


class TestFlippedBits:
    @pytest.mark.parametrize("start", [0, 100, 16_384 + 5_000])
    def test_in_the_file(self, closed, start):
        original = (closed / "journal.db").read_bytes()
        unharmed = 0
        refusals: list[str] = []
        for byte in range(start, len(original), 509):
            (closed / "journal.db").write_bytes(original)
            flip(closed / "journal.db", byte)
            try:
                assert read(closed) == EXPECTED, byte
                unharmed += 1
            except JournalError as error:
                refusals.append(str(error))
        # Much of a page is unused: what counts is that no other list came out.
        assert unharmed
        assert refusals
        assert all("journal.db" in text for text in refusals)

    def test_in_a_record(self, closed):
        original = (closed / "journal.db").read_bytes()
        record = original.index(b"swJR")
        for byte in range(record, record + 300, 7):
            (closed / "journal.db").write_bytes(original)
            flip(closed / "journal.db", byte)
            with pytest.raises(JournalDamaged):
                read(closed)

    def test_in_the_log(self, killed, tmp_path):
        size = (killed / "journal.db-wal").stat().st_size
        offsets = [*range(32), *range(32, 32 + 24), *range(60, size, 1_777)]
        unharmed = 0
        refusals: list[str] = []
        for byte in offsets:
            work = tmp_path / "work"
            shutil.copytree(killed, work)
            flip(work / "journal.db-wal", byte)
            try:
                assert read(work) == EXPECTED, byte
                unharmed += 1
            except JournalError as error:
                refusals.append(str(error))
            shutil.rmtree(work)
        # A checksum covers every byte of the log, so only its header has any that
        # do not matter: the number of checkpoints, the format version.
        assert unharmed < 32
        assert all("journal.db" in text for text in refusals)

    @pytest.mark.parametrize("part", [0.1, 0.5, 0.8])
    def test_in_the_log_without_anything_else_to_tell(self, killed, part):
        """SQLite would forget the commits behind it; the log itself tells."""
        (killed / "released").unlink()
        log = killed / "journal.db-wal"
        flip(log, int(log.stat().st_size * part))
        with pytest.raises(
            JournalDamaged,
            match=r"write-ahead log changed since it was written: .*"
            r"whole commits behind frame \d+.*\(byte \d+, .*journal\.db-wal\)",
        ):
            SqliteJournal.open(killed)
        # Refused again, and again: looking at it heals nothing.
        with pytest.raises(JournalDamaged, match="write-ahead log changed"):
            SqliteJournal.open(killed)
        with pytest.raises(JournalDamaged, match="write-ahead log changed"):
            SqliteJournal.open(killed, read_only=True)

    @pytest.mark.parametrize("byte", [0, 2, 17, 20, 25, 31])
    def test_in_the_logs_header(self, killed, byte):
        (killed / "released").unlink()
        flip(killed / "journal.db-wal", byte)
        with pytest.raises(JournalDamaged, match="header of the write-ahead log"):
            SqliteJournal.open(killed)


class TestCutLog:
    def test_after_an_answered_commit(self, killed):
        log = killed / "journal.db-wal"
        log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
        with pytest.raises(JournalDamaged, match="commit 12 was answered"):
            SqliteJournal.open(killed)

    def test_removed(self, killed):
        (killed / "journal.db-wal").unlink()
        with pytest.raises(JournalDamaged, match="commit 12 was answered"):
            SqliteJournal.open(killed)

    def test_within_a_commit_that_nobody_was_told_of(self, killed):
        """This is what a crash in the last append leaves. It is no damage."""
        (killed / "released").unlink()
        log = killed / "journal.db-wal"
        log.write_bytes(log.read_bytes()[:-100])
        assert read(killed) == EXPECTED[:-1]


def test_torn_appends_one_after_the_other_are_no_damage(closed, tmp_path):
    """What the first leaves in the log must not be counted with the second."""
    (closed / "released").unlink()
    directory = closed
    for whole, size in ((COUNT + 1, 100_000), (COUNT + 2, 40_000)):
        journal = SqliteJournal.open(directory)
        journal.append(whole * 1000, batch(whole))
        first_frame = journal._log_frames()
        journal.append(1, batch(whole + 1, size))
        directory = tmp_path / f"after-{size}"
        directory.mkdir()
        for name in ("journal.db", "journal.db-wal"):
            shutil.copy(journal.path.replace("journal.db", name), directory)
        journal.close()
        # The first page did not reach the disk, those behind it did.
        flip(directory / "journal.db-wal", 32 + first_frame * (16_384 + 24) + 100)
    assert [commit.number for commit in read(directory)] == list(range(1, COUNT + 3))


def test_a_cut_file(closed):
    data = (closed / "journal.db").read_bytes()
    (closed / "journal.db").write_bytes(data[:-20_000])
    with pytest.raises(JournalDamaged, match=r"journal\.db"):
        read(closed)


@pytest.mark.parametrize("left", [b"", b"\0" * 16_384])
def test_an_emptied_file(closed, left):
    (closed / "journal.db").write_bytes(left)
    with pytest.raises(JournalDamaged, match=r"journal\.db"):
        SqliteJournal.open(closed)
