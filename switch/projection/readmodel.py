"""The read model: accounts, cards and transactions as rows of readmodel.db.

Rule 1: rows and position change in one transaction, and only from the position on, so
        every entry counts exactly once whoever is killed when.
Rule 2: it is the journal's shadow: it can be deleted at any time and is then made
        again. Nothing decides by it.
Rule 3: it knows which journal it shadows. A position that the journal does not have,
        another journal's, or a file that SQLite cannot read, is thrown away and said.
Rule 4: SQLite's log is copied into the file piece by piece: durable log, copy, durable
        file, and only then the log is written over.
"""

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from switch.journal.port import Commit, ShardRecord
from switch.ledger._entry import (
    ACCOUNT_STATUSES,
    CARD_STATUSES,
    AccountOpened,
    CardIssued,
    Change,
    Entry,
    Transaction,
    decode_entries,
)
from switch.ledger.currencies import letters_of
from switch.observe.log import event
from switch.projection import schema
from switch.projection._rows import place_of, transaction_row
from switch.projection.writeback import write_back

BUSY_TIMEOUT_MS = 5_000
CACHE_KIB_MAX = 32 * 1024
# 32 MiB of log before it is copied into the file: bulk loading touches pages of the
# indices all over, and what is copied late is copied once.
LOG_PAGES_MAX = 8192

_logger = logging.getLogger("switch.projection")

# What an OSError of a sync leaves is not known: the kernel may forget what it could not
# write.
_UNREADABLE = (apsw.CorruptError, apsw.NotADBError, OSError)

Row = tuple[object, ...]


class ReadModelError(Exception):
    """What was expected, what came, where."""


class ReadModel:
    """One writer. `take` is given the commits behind `position`, in order."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        journal_identity: bytes,
        journal_head: int,
    ) -> None:
        self.path = Path(path)
        self._identity = journal_identity
        self._log_path = Path(f"{self.path}-wal")
        self._log_pages = 0
        self._copying: Iterator[float] | None = None
        self._connection = self._opened(journal_head)
        self.position = self._stored_position()
        self._missing_indices = self._find_missing_indices()

    def take(self, commits: Sequence[Commit]) -> None:
        if not commits:
            return
        assert commits[0].number > self.position, (commits[0].number, self.position)
        end = commits[-1].number
        with self._changing():
            self._write(commits, end, {})
        self.position = end

    @property
    def wants_tending(self) -> bool:
        """SQLite's log is being copied into the file; `take` waits for its end."""
        return self._copying is not None

    def tend(self) -> bool:
        """A piece of the copying, with the rest that the disk is owed after it; or one
        missing index, for when the rows have caught up; whether there is more."""
        if self._copying is not None:
            self._copy_piece(self._copying)
        elif self._missing_indices:
            name = self._missing_indices.pop()
            try:
                self._connection.execute(
                    f"CREATE INDEX {name} ON {schema.INDICES[name]}"
                )
            except apsw.Error as error:
                self._check_readable(error)
                raise
            self._begin_copying()
        return self.wants_tending or bool(self._missing_indices)

    def close(self) -> None:
        # SQLite would delete a log that has been copied, and not sync the file.
        self._end_copying()
        self._connection.close()

    def _check_readable(self, error: BaseException) -> None:
        """After an error: a damaged page is met when its rows are, and every time.
        Whoever opens it again finds no file, and makes one."""
        if isinstance(error, _UNREADABLE):
            self._connection.close()
            self._throw_away(f"unreadable: {error}")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """All of it or nothing."""
        self._end_copying()
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException as error:
            with suppress(apsw.Error):
                connection.execute("ROLLBACK")
            self._check_readable(error)
            raise
        self._begin_copying()

    def _begin_copying(self) -> None:
        if self._log_pages >= LOG_PAGES_MAX:
            self._copying = self._copy_log()

    def _copy_piece(self, copying: Iterator[float]) -> None:
        try:
            time.sleep(next(copying))
        except StopIteration:
            self._copying = None
        except BaseException as error:
            self._copying = None
            self._check_readable(error)
            raise

    def _end_copying(self) -> None:
        while self._copying is not None:
            self._copy_piece(self._copying)

    def _copy_log(self) -> Iterator[float]:
        """A checkpoint of SQLite's, whose own syncs would be of everything at once.
        With the next change it writes its log from the beginning, the head durably."""
        connection = self._connection
        yield from write_back(self._log_path)
        connection.execute("PRAGMA synchronous = OFF")
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            connection.execute("PRAGMA synchronous = NORMAL")
        yield from write_back(self.path)

    def _note_log(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _expect_position(self) -> None:
        connection = self._connection
        row = connection.execute("SELECT commit_number FROM position").fetchone()
        if row is None or row[0] != self.position:
            raise ReadModelError(
                f"expected position {self.position}, got {row and row[0]}: another "
                f"process writes {self.path}"
            )

    def _write(
        self, commits: Sequence[Commit], end: int, bases: Mapping[int, int]
    ) -> None:
        """`end` is the position behind them; `bases` maps shards to the last entry that
        accounts and cards have already."""
        self._expect_position()
        connection = self._connection
        batch = _Batch(commits, bases)
        connection.executemany(schema.INSERT_TRANSACTION, batch.transactions())
        connection.executemany(schema.INSERT_ACCOUNT, batch.accounts)
        connection.executemany(schema.INSERT_CARD, batch.cards)
        connection.executemany(schema.INSERT_ADJUSTMENT, batch.adjustments)
        connection.executemany(schema.CHANGE_LIMIT, batch.limits)
        connection.executemany(schema.CHANGE_ACCOUNT_STATUS, batch.account_statuses)
        connection.executemany(schema.CHANGE_STATUS, batch.statuses)
        connection.executemany(schema.CHANGE_EXPIRY, batch.expiries)
        before = connection.total_changes()
        connection.executemany(schema.MOVE_MONEY, batch.moves())
        moved = connection.total_changes() - before
        if moved != len(batch.changes):
            raise ReadModelError(
                f"expected {len(batch.changes)} accounts that money moves on, got "
                f"{moved} in {self.path} before position {end}"
            )
        connection.execute(schema.ADVANCE, (end,))

    # -- opening

    def _opened(self, journal_head: int) -> apsw.Connection:
        connection = self._connected()
        fault = None
        try:
            # Who was killed copying may have left others who have the log open, and for
            # them it is copied.
            for _ in write_back(self.path):
                pass
            fault = self._fault(connection, journal_head)
        except _UNREADABLE as error:
            fault = f"unreadable: {error}"
        except BaseException:
            connection.close()
            raise
        if fault is None:
            return connection
        connection.close()
        self._throw_away(fault)
        connection = self._connected()
        self._create(connection)
        return connection

    def _throw_away(self, fault: str) -> None:
        event(
            _logger,
            logging.WARNING,
            "read model thrown away, to be made again from the journal",
            path=self.path,
            reason=fault,
        )
        drop(self.path)

    def _connected(self) -> apsw.Connection:
        # SQLite would make it 0644, and gives its other files the mode of this one.
        os.close(os.open(self.path, os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(os.fspath(self.path))
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        return connection

    def _fault(self, connection: apsw.Connection, journal_head: int) -> str | None:
        """Why the file cannot be gone on with; None if it can. Creates an empty one."""
        if not connection.execute("SELECT count(*) FROM sqlite_schema").get:
            self._create(connection)
            return None
        owner = connection.execute("PRAGMA application_id").get
        if owner != schema.APPLICATION_ID:
            raise ReadModelError(
                f"expected application id {schema.APPLICATION_ID:#x}, got {owner:#x} "
                f"in {self.path}"
            )
        self._configure(connection)
        version = connection.execute("PRAGMA user_version").get
        if version != schema.VERSION:
            return f"expected version {schema.VERSION}, got {version}"
        rows = connection.execute("SELECT journal, commit_number FROM position")
        row = rows.fetchone()
        if row is None:
            return "expected a position, got none"
        if row[0] != self._identity:
            return "it is another journal's"
        if row[1] > journal_head:
            return f"it is at commit {row[1]}, the journal ends at {journal_head}"
        return None

    def _configure(self, connection: apsw.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB_MAX}")
        # In place of SQLite's own checkpoints: `_copy_log`.
        connection.set_wal_hook(self._note_log)

    def _create(self, connection: apsw.Connection) -> None:
        self._configure(connection)
        with connection:
            connection.execute(schema.TABLES)
            self._create_more(connection)
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {schema.VERSION}")
            connection.execute(
                "INSERT INTO position VALUES (1, ?, 0)", (self._identity,)
            )

    def _create_more(self, connection: apsw.Connection) -> None:
        """What a read model of another journal has beside these tables."""

    def _stored_position(self) -> int:
        position: int = self._connection.execute(
            "SELECT commit_number FROM position"
        ).get
        return position

    def _find_missing_indices(self) -> list[str]:
        rows = self._connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'index'"
        )
        present = {name for (name,) in rows}
        return [name for name in schema.INDICES if name not in present]


def drop(path: str | os.PathLike[str]) -> None:
    """Removes the file; the next opening makes the rows again."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{os.fspath(path)}{suffix}").unlink(missing_ok=True)


class _Batch:
    """The rows of some commits, and what moves on each account: complete when the
    rows of the transactions have been taken, which are never there all at once."""

    def __init__(self, commits: Sequence[Commit], bases: Mapping[int, int]) -> None:
        self._commits = commits
        self._bases = bases
        self.accounts: list[Row] = []
        self.cards: list[Row] = []
        self.adjustments: list[Row] = []
        self.limits: list[Row] = []
        self.account_statuses: list[Row] = []
        self.statuses: list[Row] = []
        self.expiries: list[Row] = []
        self.changes: dict[str, tuple[int, int]] = {}

    def transactions(self) -> Iterator[Row]:
        for commit in self._commits:
            for record in commit.records:
                yield from self._transactions(commit.number, record)

    def _transactions(self, commit: int, record: ShardRecord) -> Iterator[Row]:
        base = self._bases.get(record.shard, 0)
        for entry in decode_entries(record.payload, record.first_sequence):
            is_new = entry.sequence > base
            if isinstance(entry, Transaction):
                if is_new:
                    self._move(entry.account, entry.balance_change, entry.held_change)
                yield transaction_row(entry, record.shard, commit)
            elif isinstance(entry, Change) and entry.name == "adjusted":
                if is_new:
                    self._move(entry.account, entry.balance_change, 0)
                self.adjustments.append(_adjustment_row(commit, record.shard, entry))
            elif is_new:
                self._add(record.shard, entry)

    def moves(self) -> Iterable[Row]:
        for account, (balance, held) in self.changes.items():
            yield balance, held, account

    def _add(self, shard: int, entry: Entry) -> None:
        if isinstance(entry, CardIssued):
            self.cards.append(_card_row(entry))
        elif isinstance(entry, Change):
            self._add_change(entry)
        else:
            assert isinstance(entry, AccountOpened), entry
            self.accounts.append(_account_row(shard, entry))

    def _add_change(self, entry: Change) -> None:
        value, token = entry.value, entry.pan_hash.hex()
        if entry.name == "limit_changed":
            self.limits.append((value, entry.account))
        elif entry.name == "account_status_changed":
            self.account_statuses.append((ACCOUNT_STATUSES[value], entry.account))
        elif entry.name == "card_status_changed":
            self.statuses.append((CARD_STATUSES[value], token))
        else:
            assert entry.name == "card_expiry_changed", entry.name
            self.expiries.append((f"{value:04d}", token))

    def _move(self, account: str, balance: int, held: int) -> None:
        if balance or held:
            before = self.changes.get(account, (0, 0))
            self.changes[account] = (before[0] + balance, before[1] + held)


def _account_row(shard: int, entry: AccountOpened) -> Row:
    return (
        entry.account,
        shard,
        letters_of(entry.currency),
        entry.balance,
        entry.credit_limit,
        entry.at,
    )


def _card_row(entry: CardIssued) -> Row:
    return (
        entry.pan_hash.hex(),
        entry.account,
        entry.last_four,
        f"{entry.expiry:04d}",
        CARD_STATUSES[entry.status],
        entry.at,
    )


def _adjustment_row(commit: int, shard: int, entry: Change) -> Row:
    return (
        place_of(shard, entry.sequence),
        commit,
        entry.at,
        entry.name,
        entry.account,
        abs(entry.balance_change),
        letters_of(entry.currency),
        entry.balance_change,
        entry.operator,
        entry.reason,
    )
