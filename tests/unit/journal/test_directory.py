import pytest

from switch.journal.directory import DataDirectory
from switch.journal.errors import (
    JournalDamaged,
    JournalMismatch,
    JournalMissing,
    JournalReadOnly,
)
from switch.journal.sqlite import SqliteJournal
from tests.unit.journal.build import fill


def test_a_new_one_is_made_for_its_owner_alone(tmp_path):
    directory = DataDirectory.open(tmp_path / "a" / "b")
    assert directory.is_new
    assert directory.path.stat().st_mode & 0o777 == 0o700
    assert directory.journal == tmp_path / "a" / "b" / "journal.db"
    assert {path.parent for path in (directory.lock, directory.pan_key)} == {
        directory.path
    }


@pytest.mark.parametrize(
    "left",
    [
        [], ["lost+found"], ["lock", "pan.key"], ["lock"],
        # of a power loss while the journal was made
        ["lock", "journal.db-journal"],
    ],
)  # fmt: skip
def test_an_empty_one_or_a_half_made_one_is_new(tmp_path, left):
    for name in left:
        (tmp_path / name).touch()
    assert DataDirectory.open(tmp_path).is_new


def test_ours(tmp_path):
    fill(tmp_path, 1).close()
    directory = DataDirectory.open(tmp_path, create=False)
    assert not directory.is_new


def test_a_foreign_one_is_refused_and_not_touched(tmp_path):
    for name in ("holiday.jpg", "notes.txt", "a", "b"):
        (tmp_path / name).write_text(name)
    with pytest.raises(
        JournalMismatch,
        match=r"not a data directory of this program: expected journal\.db, or an "
        r"empty directory, got a, b, holiday\.jpg, … \(.*\)",
    ):
        DataDirectory.open(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    "trace", ["snapshots.db", "readmodel.db", "released", "events"]
)
def test_a_lost_journal_is_not_begun_again(tmp_path, trace):
    (tmp_path / "pan.key").touch()
    (tmp_path / trace).touch()
    with pytest.raises(
        JournalDamaged, match=rf"journal\.db is gone or empty.*: got {trace} \("
    ):
        DataDirectory.open(tmp_path)
    with pytest.raises(JournalDamaged, match=trace):
        SqliteJournal.open(tmp_path)


def test_reading_makes_nothing(tmp_path):
    with pytest.raises(JournalMissing, match="no such data directory"):
        DataDirectory.open(tmp_path / "x", create=False)
    assert not (tmp_path / "x").exists()
    with pytest.raises(JournalMissing, match=r"expected journal\.db"):
        DataDirectory.open(tmp_path, create=False)


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JournalMismatch, match="not a directory"):
        DataDirectory.open(tmp_path / "file")


def test_one_that_everybody_writes(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(JournalMismatch, match="expected mode 0700, got mode 0777"):
        DataDirectory.open(tmp_path)


def test_a_place_where_nothing_can_be_made():
    with pytest.raises(JournalReadOnly, match=r"cannot be used.*got"):
        DataDirectory.open("/proc/self/data")
