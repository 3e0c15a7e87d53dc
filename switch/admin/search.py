"""Looking things up in the read model, from a thread of its own.

Rule 1: it only reads, and what it reads is released: the read model is behind that.
Rule 2: a search has an end: one that takes longer than SECONDS_MAX is broken off.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec
from msgspec import UNSET

from switch.admin import types
from switch.admin.errors import AdminError

SECONDS_MAX = 2.0
# Searches that wait for the one that runs; each has a connection of somebody.
WAITING_MAX = 16
BUSY_TIMEOUT_MS = 500
# Steps of SQLite's machine between two looks at the clock: well below a millisecond.
_STEPS = 10_000
_MS_PER_S = 1000

# The fields of types.Transaction, and before them what pages go by.
_COLUMNS = """
    at AS at_ms, place, id, strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000.0, 'unixepoch'),
    kind, account, token, last_four, amount, currency, balance_change, held_change,
    approved, response_code, mti, stan, rrn, merchant, merchant_name, mcc, terminal,
    transaction_amount, transaction_currency,
    (original_place & 65535) || '-' || (original_place >> 16), operator, reason
"""

Answer = TypeVar("Answer")


class Search:
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._thread = ThreadPoolExecutor(1, "switch-search")
        self._waiting = 0
        self._connection: apsw.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._deadline = 0.0

    async def accounts(self, query: types.AccountsQuery) -> types.Accounts:
        return await self._run(lambda connection: _accounts(connection, query))

    async def cards(self, query: types.CardsQuery) -> types.Cards:
        return await self._run(lambda connection: _cards(connection, query))

    async def transactions(self, query: types.TransactionsQuery) -> types.Transactions:
        return await self._run(lambda connection: _transactions(connection, query))

    def close(self) -> None:
        self._thread.submit(self._disconnect)
        self._thread.shutdown()

    async def _run(self, look: Callable[[apsw.Connection], Answer]) -> Answer:
        if self._waiting >= WAITING_MAX:
            raise AdminError(503, "expected fewer searches at once: try again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._look, look
            )
        finally:
            self._waiting -= 1

    # -- in the thread

    def _look(self, look: Callable[[apsw.Connection], Answer]) -> Answer:
        self._deadline = time.monotonic() + SECONDS_MAX
        try:
            connection = self._connected()
            connection.execute("BEGIN")
            try:
                return look(connection)
            finally:
                # It only read: nothing is lost.
                connection.execute("ROLLBACK")
        except apsw.InterruptError:
            raise AdminError(
                503,
                f"expected a search of at most {SECONDS_MAX:g} s, got a longer one: "
                "narrow it down by account, card or time",
            ) from None
        except (apsw.Error, OSError) as error:
            self._disconnect()
            raise AdminError(
                503, "expected a read model, got none that can be read now: try again"
            ) from error

    def _connected(self) -> apsw.Connection:
        """The follower may have thrown the file away and made another one."""
        status = self._path.stat()
        file = status.st_dev, status.st_ino
        if self._connection is None or file != self._file:
            self._disconnect()
            self._connection = apsw.Connection(
                os.fspath(self._path), flags=apsw.SQLITE_OPEN_READONLY
            )
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            self._connection.set_progress_handler(self._is_late, _STEPS)
            self._file = file
        return self._connection

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._file = None


def _accounts(
    connection: apsw.Connection, query: types.AccountsQuery
) -> types.Accounts:
    rows = connection.execute(
        "SELECT account, currency, balance, held, credit_limit, available, status "
        "FROM accounts WHERE account > ? ORDER BY account LIMIT ?",
        ("" if query.cursor is UNSET else query.cursor, query.limit + 1),
    )
    found = [types.Account(*row) for row in rows]
    page = found[: query.limit]
    return types.Accounts(page, page[-1].account if len(found) > len(page) else None)


def _cards(connection: apsw.Connection, query: types.CardsQuery) -> types.Cards:
    where, values = "token > ?", ["" if query.cursor is UNSET else query.cursor]
    if query.account is not UNSET:
        where += " AND account = ?"
        values.append(query.account)
    rows = connection.execute(
        "SELECT token, account, last_four, expiry, status FROM cards "
        f"WHERE {where} ORDER BY token LIMIT ?",
        (*values, query.limit + 1),
    )
    found = [types.Card(*row) for row in rows]
    page = found[: query.limit]
    return types.Cards(page, page[-1].token if len(found) > len(page) else None)


def _transactions(
    connection: apsw.Connection, query: types.TransactionsQuery
) -> types.Transactions:
    conditions, values = _conditions(connection, query)
    where = " AND ".join(conditions) or "TRUE"
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM transactions WHERE {where} "
        "ORDER BY at DESC, place DESC LIMIT ?",
        (*values, query.limit + 1),
    ).fetchall()
    page = rows[: query.limit]
    as_of = connection.execute("SELECT commit_number FROM position").get
    return types.Transactions(
        [_transaction(row) for row in page],
        as_of,
        f"{page[-1][0]}-{page[-1][1]}" if len(rows) > len(page) else None,
    )


def _conditions(
    connection: apsw.Connection, query: types.TransactionsQuery
) -> tuple[list[str], list[object]]:
    conditions: list[str] = []
    values: list[object] = []

    def want(condition: str, *wanted: object) -> None:
        conditions.append(condition)
        values.extend(wanted)

    if query.account is not UNSET:
        want("account = ?", query.account)
    if query.card is not UNSET:
        # There is an index of the accounts and none of the tokens.
        row = connection.execute(
            "SELECT account FROM cards WHERE token = ?", (query.card,)
        ).fetchone()
        want("account IS ?", row and row[0])
        want("token = ?", query.card)
    if query.rrn is not UNSET:
        want("rrn = ?", query.rrn)
    if query.stan is not UNSET:
        want("stan = ?", query.stan)
    if query.amount is not UNSET:
        want("? IN (amount, transaction_amount)", query.amount)
    if query.since is not UNSET:
        want("at >= ?", _ms(query.since))
    if query.until is not UNSET:
        want("at < ?", _ms(query.until))
    if query.cursor is not UNSET:
        at, _, place = query.cursor.partition("-")
        want("(at, place) < (?, ?)", int(at), int(place))
    return conditions, values


def _transaction(row: tuple[object, ...]) -> types.Transaction:
    fields = dict(zip(types.Transaction.__struct_fields__, row[2:], strict=True))
    # SQLite has no booleans.
    return msgspec.convert(fields, types.Transaction, strict=False)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * _MS_PER_S)
