import apsw
import pytest

from switch.journal.errors import (
    JournalDamaged,
    JournalError,
    JournalMismatch,
    JournalMissing,
    JournalReadOnly,
    JournalVersion,
)
from switch.journal.port import Snapshot, SnapshotStore
from switch.journal.snapshots import SqliteSnapshots, decode, encode, encode_mark
from tests.unit.journal.build import fill


@pytest.fixture
def journal(tmp_path):
    journal = fill(tmp_path, 9)
    yield journal
    journal.close()


@pytest.fixture
def directory(tmp_path):
    return tmp_path


def read(directory, journal):
    store = SqliteSnapshots.open(directory, journal=journal)
    try:
        return list(store.read_all()), store.problems
    finally:
        store.close()


def write(directory, journal, *snapshots):
    store: SnapshotStore = SqliteSnapshots.open(directory, journal=journal)
    for one in snapshots:
        store.write(one.shard, one.sequence, one.commit, one.data)
    store.close()


def change(directory, statement, *values):
    connection = apsw.Connection(str(directory / "snapshots.db"))
    connection.execute(statement, values)
    connection.close()


FIRST = Snapshot(3, 5, 4, b"first" * 20_000)
SECOND = Snapshot(3, 8, 7, b"second")
OTHER = Snapshot(1, 2, 7, b"")


def test_the_newest_of_each_shard_is_read(directory, journal):
    assert read(directory, journal) == ([], [])
    write(directory, journal, FIRST, SECOND, OTHER)
    assert read(directory, journal) == ([OTHER, SECOND], [])
    write(directory, journal, *[Snapshot(3, n, 8, b"x") for n in range(9, 14)])
    assert read(directory, journal)[0] == [OTHER, Snapshot(3, 13, 8, b"x")]
    assert (directory / "snapshots.db").stat().st_mode & 0o777 == 0o600


def test_two_are_kept(directory, journal):
    write(directory, journal, FIRST, SECOND, FIRST, SECOND)
    connection = apsw.Connection(str(directory / "snapshots.db"))
    assert connection.execute("SELECT count(*) FROM snapshots").get == 2
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE snapshots SET record = substr(record, 1, 34) WHERE id = 7",
        "UPDATE snapshots SET record = substr(record, 1, 20) WHERE id = 7",
        "UPDATE snapshots SET record = x'00' || record WHERE id = 7",
        "UPDATE snapshots SET record = CAST(x'00' || record AS BLOB) WHERE id = 7",
    ],
)
def test_a_damaged_newest_one_leaves_the_one_before(directory, journal, damage):
    write(directory, journal, FIRST, SECOND)
    change(directory, damage)
    snapshots, problems = read(directory, journal)
    assert snapshots == [FIRST]
    assert len(problems) == 1
    assert all("shard 3" in str(problem) for problem in problems)
    assert all("snapshots.db" in str(problem) for problem in problems)


def test_both_damaged_is_as_none(directory, journal):
    write(directory, journal, FIRST, SECOND, OTHER)
    change(directory, "UPDATE snapshots SET record = x'00' || record WHERE id > 5")
    snapshots, problems = read(directory, journal)
    assert snapshots == [OTHER]
    assert len(problems) == 2


def test_every_flipped_bit_is_found():
    data = encode(Snapshot(3, 5, 4, b"state"))
    assert decode(data, 3, "x") == Snapshot(3, 5, 4, b"state")
    for index in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[index // 8] ^= 1 << index % 8
        with pytest.raises(JournalDamaged, match="shard 3"):
            decode(bytes(flipped), 3, "x")


def test_another_shards_is_found(directory, journal):
    write(directory, journal, SECOND)
    change(directory, "UPDATE snapshots SET id = id + 2")
    snapshots, problems = read(directory, journal)
    assert snapshots == []
    assert "snapshot of shard 4 is another shard's: expected 4, got 3" in str(
        problems[0]
    )


def test_one_ahead_of_the_journal_is_refused(directory, journal):
    store = SqliteSnapshots.open(directory, journal=journal)
    with pytest.raises(
        JournalError, match="not durable yet: expected a commit up to 9"
    ):
        store.write(3, 20, 10, b"")
    store.close()
    write(directory, journal, SECOND)
    change(
        directory, "UPDATE snapshots SET record = ?", encode(Snapshot(3, 9, 10, b""))
    )
    change(
        directory, "DELETE FROM snapshots WHERE id <> (SELECT max(id) FROM snapshots)"
    )
    with pytest.raises(
        JournalDamaged,
        match=r"snapshot of shard 3 is ahead of the journal.*: expected a commit up to "
        r"9, got commit 10, sequence 9 \(commit 10, .*snapshots\.db\)",
    ):
        read(directory, journal)


def test_another_journals_are_refused(directory, journal):
    (directory / "other").mkdir()
    other = fill(directory / "other", 9)
    write(directory / "other", other, FIRST)
    other.close()
    (directory / "other" / "snapshots.db").rename(directory / "snapshots.db")
    with pytest.raises(JournalMismatch, match="snapshots of another journal"):
        read(directory, journal)


def test_another_version_is_refused(directory, journal):
    write(directory, journal, FIRST)
    change(directory, "UPDATE meta SET format = 2")
    with pytest.raises(JournalVersion, match="expected 1, got 2"):
        read(directory, journal)


def test_read_only(directory, journal):
    with pytest.raises(JournalMissing):
        SqliteSnapshots.open(directory, journal=journal, read_only=True)
    write(directory, journal, FIRST)
    store = SqliteSnapshots.open(directory, journal=journal, read_only=True)
    assert list(store.read_all()) == [FIRST]
    with pytest.raises(JournalReadOnly):
        store.write(3, 8, 7, b"")
    with pytest.raises(JournalReadOnly):
        store.mark_complete(4)
    store.close()


def marked(directory, journal, commit, *snapshots):
    """All that is read of a store whose newest snapshots are complete to `commit`."""
    store = SqliteSnapshots.open(directory, journal=journal)
    for one in snapshots:
        store.write(one.shard, one.sequence, one.commit, one.data)
    store.mark_complete(commit)
    store.close()


def positions(directory, journal):
    """Where replay goes on for each shard, and for those without a snapshot."""
    store = SqliteSnapshots.open(directory, journal=journal)
    try:
        found = {one.shard: one.commit for one in store.read_all()}
        return found, store.complete_to
    finally:
        store.close()


def test_a_quiet_shard_is_complete_to_the_mark(directory, journal):
    marked(directory, journal, 8, FIRST, OTHER)
    assert positions(directory, journal) == ({1: 8, 3: 8}, 8)
    write(directory, journal, Snapshot(3, 9, 9, b"later"))
    assert positions(directory, journal) == ({1: 8, 3: 9}, 8)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE snapshots SET record = substr(record, 1, 34) WHERE id = 7",
        "UPDATE snapshots SET record = x'00' || record WHERE id = 7",
    ],
)
def test_the_mark_says_nothing_of_a_shard_whose_newest_is_damaged(
    directory, journal, damage
):
    marked(directory, journal, 8, FIRST, SECOND, OTHER)
    change(directory, damage)
    assert positions(directory, journal) == ({1: 8, 3: FIRST.commit}, 0)


def test_a_mark_ahead_of_the_journal_is_refused(directory, journal):
    marked(directory, journal, 8, FIRST)
    change(directory, "UPDATE meta SET mark = ?", encode_mark(10, {}))
    with pytest.raises(
        JournalDamaged, match="expected a commit up to 9, got commit 10"
    ):
        read(directory, journal)


@pytest.mark.parametrize("mark", [b"", "x", 7, encode_mark(8, {3: 5})[:-1]])
def test_a_damaged_mark_says_nothing(directory, journal, mark):
    marked(directory, journal, 8, FIRST)
    change(directory, "UPDATE meta SET mark = ?", mark)
    assert positions(directory, journal) == ({3: FIRST.commit}, 0)
    assert "mark of the snapshots" in str(read(directory, journal)[1][0])


def test_a_newest_snapshot_that_is_gone_is_missed(directory, journal):
    marked(directory, journal, 8, FIRST, SECOND, OTHER)
    change(directory, "DELETE FROM snapshots WHERE id = 7")
    assert positions(directory, journal) == ({1: 8, 3: FIRST.commit}, 0)
    change(directory, "DELETE FROM snapshots WHERE id = 6")
    assert positions(directory, journal) == ({1: 8}, 0)
    assert "newest snapshot of shard 3 is gone: expected one of entry 8, got none" in (
        str(read(directory, journal)[1][0])
    )


def test_every_bit_of_the_page_that_lists_them_may_flip(directory, journal):
    """What is not missed loses nothing: a start replays from where it is sure."""
    marked(directory, journal, 8, Snapshot(3, 8, 7, b"second"), OTHER)
    whole = positions(directory, journal)
    path = directory / "snapshots.db"
    sound = path.read_bytes()
    page = bytearray(sound)
    (root,) = (
        n for n in range(0, len(sound), 16_384) if sound[n] == 0x0D and b"swSN" in
        sound[n : n + 16_384]
    )  # fmt: skip
    for bit in range(8 * 12, 8 * 20):
        page[:] = sound
        page[root + bit // 8] ^= 1 << bit % 8
        path.write_bytes(page)
        try:
            found, complete_to = positions(directory, journal)
        except JournalError:
            continue
        if (found, complete_to) != whole:
            assert complete_to == 0
            assert all(found[shard] <= whole[0][shard] for shard in found)
    path.write_bytes(sound)
