"""Accounts and cards from CSV, into the shards of the running daemon.

Rule 1: the file is checked to its end before anything of it is written: a bad row means
        that nothing is imported. Until then its entries wait in a spool.
Rule 2: it is written in pieces, a commit each, so that it never holds up the answers.
        What ends it midway (a kill, a full disk) leaves the rows before; the same file
        with `skip_existing` then goes on behind them.
Rule 3: it works for SLICE_SECONDS at a time and then leaves the loop to messages for as
        long. What it holds in memory does not grow with the file.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import apsw
import msgspec

from switch.admin import types
from switch.admin.desk import Changes, attribution, released
from switch.admin.errors import AdminError, ImportBad
from switch.admin.spool import Spool
from switch.keys.port import PanKeys
from switch.ledger import CardIssued, ChangeRefused
from switch.observe.log import event
from switch.openings import AccountOpenings, Attribution, CardOpenings, Openings
from switch.rows import ImportRefused, Rows
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup, OverCapacity

_log = logging.getLogger("switch.admin")

# Some gigabytes of spool and of journal.
IMPORT_ROWS_MAX: Final = 10_000_000
IMPORT_BYTES_MAX: Final = 2 << 30
SLICE_SECONDS: Final = 0.001
# Of a body, what is cut into lines at once.
FEED_BYTES: Final = 8192
# Rows between two looks at the clock: a fraction of a slice.
CHECK_ROWS: Final = 32
# Rows in a commit: some kilobytes beside what messages bring.
WRITE_ROWS: Final = 128
# Of a row, as the csv module has it; what is longer is no row.
HELD_CHARACTERS_MAX: Final = 1 << 17


class Wanted(NamedTuple):
    what: types.Imports
    told: Attribution
    skip_existing: bool


class Imports(ABC):
    """One at a time. `folder` is for the spool."""

    def __init__(self, clock: Callable[[], int], folder: Path) -> None:
        self._clock = clock
        self._folder = folder
        # The one that runs, or the last one.
        self.status: types.ImportStatus | None = None
        self._is_busy = False

    async def run(
        self,
        what: types.Imports,
        who: str,
        query: types.ImportQuery,
        body: AsyncIterator[bytes],
    ) -> types.Imported:
        """Raises ImportBad, with nothing imported; or AdminError."""
        told = attribution(who, query.reason, self._clock())
        if self._is_busy:
            raise AdminError(503, "expected one import at a time, got another one")
        self._is_busy = True
        started_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.status = types.ImportStatus(what, who, started_at)
        try:
            column = "account" if what == "accounts" else "pan"
            with closing(Spool(self._folder, column)) as spool:
                wanted = Wanted(what, told, query.existing == "skip")
                await self._check(body, self._openings(wanted, spool))
                self._set(state="writing")
                await self._write(wanted, spool)
        except BaseException as error:
            self._set(state="refused" if isinstance(error, ImportBad) else "failed")
            if isinstance(error, apsw.Error | OSError):
                raise AdminError(
                    503, f"the import broke off: {type(error).__name__}"
                ) from error
            raise
        else:
            self._set(state="done")
        finally:
            self._is_busy = False
            self._report()
        return types.Imported(self.status.imported, self.status.existing)

    @abstractmethod
    def _openings(self, wanted: Wanted, spool: Spool) -> Openings:
        """What looks at the rows, and keeps them in the spool."""

    @abstractmethod
    async def _write(self, wanted: Wanted, spool: Spool) -> None:
        """All that was kept. Raises AdminError."""

    def _report(self) -> None:
        status = self.status
        assert status is not None
        event(
            _log, logging.INFO, "import ended",
            what=status.what, operator=status.operator, state=status.state,
            rows=status.rows, imported=status.imported,
        )  # fmt: skip

    def _set(self, **values: object) -> None:
        assert self.status is not None
        self.status = msgspec.structs.replace(self.status, **values)

    # -- checking

    async def _check(self, body: AsyncIterator[bytes], openings: Openings) -> None:
        lines = _Lines()
        rows = Rows(lines, openings.columns)
        size = 0
        try:
            async for chunk in body:
                size += len(chunk)
                if size > IMPORT_BYTES_MAX:
                    raise AdminError(
                        413,
                        f"body: expected at most {IMPORT_BYTES_MAX:,} bytes, got more",
                    )
                for at in range(0, len(chunk), FEED_BYTES):
                    lines.feed(chunk[at : at + FEED_BYTES])
                    if lines.is_ready:
                        await self._take(rows, openings)
            lines.end()
            await self._take(rows, openings)
        except ImportRefused as refused:
            raise ImportBad(refused.problems, refused.count) from None
        if rows.problem_count:
            raise ImportBad(rows.problems, rows.problem_count)

    async def _take(self, rows: Rows, openings: Openings) -> None:
        pace = Pace()
        source = iter(rows)
        while piece := list(islice(source, CHECK_ROWS)):
            openings.take(piece, rows)
            if rows.count > IMPORT_ROWS_MAX:
                raise AdminError(
                    413, f"expected at most {IMPORT_ROWS_MAX:,} rows, got more"
                )
            self._set(
                rows=rows.count, existing=openings.existing, problems=rows.problem_count
            )
            await pace.turn()


class Importer(Imports):
    """Into the shards of this process."""

    def __init__(
        self,
        group: CommitGroup,
        directory: CardDirectory,
        keys: PanKeys,
        clock: Callable[[], int],
        folder: Path,
    ) -> None:
        super().__init__(clock, folder)
        self._group = group
        self._directory = directory
        self._keys = keys

    def _openings(self, wanted: Wanted, spool: Spool) -> Openings:
        if wanted.what == "accounts":
            return AccountOpenings(
                self._directory.states,
                wanted.told,
                spool.once,
                spool.keep,
                skip_existing=wanted.skip_existing,
            )
        return CardOpenings(
            self._directory,
            self._keys,
            wanted.told,
            spool.once,
            spool.keep,
            skip_existing=wanted.skip_existing,
        )

    async def _write(self, wanted: Wanted, spool: Spool) -> None:
        pace = Pace()
        done = 0
        for piece in spool.pieces(WRITE_ROWS):
            changes = [(shard, entry) for _, shard, entry in piece]
            try:
                await self._administer(changes)
            except ChangeRefused as error:
                raise AdminError(
                    409,
                    f"{error}, in lines {piece[0][0]} to {piece[-1][0]}, which was "
                    f"opened meanwhile: the {done:,} rows before are imported; the "
                    "same file, existing ones skipped, goes on there",
                ) from None
            await released(self._group)
            done += len(piece)
            self._set(imported=done)
            await pace.turn()

    async def _administer(self, changes: Changes) -> None:
        while True:
            try:
                self._group.administer(changes, self._clock())
                break
            except OverCapacity:
                await released(self._group)
        for shard, entry in changes:
            if isinstance(entry, CardIssued):
                self._directory.learn(entry.pan_hash, shard)


class Pace:
    """Half of the time is for others."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    async def turn(self) -> None:
        worked = time.monotonic() - self._since
        if worked >= SLICE_SECONDS:
            await asyncio.sleep(worked)
            self._since = time.monotonic()


class _Lines:
    """The whole lines of a body that comes in pieces. A row in quotes may have several:
    none is given away before its quotes are closed."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._ready: deque[str] = deque()
        self._held: list[str] = []
        self._held_size = 0
        self._is_quoted = False
        self._rest = ""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in lines:
            self._add(line + "\n")
        if len(self._rest) > HELD_CHARACTERS_MAX:
            self._release()

    def end(self) -> None:
        self._rest += self._decoder.decode(b"", final=True)
        self._release()

    @property
    def is_ready(self) -> bool:
        return bool(self._ready)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()

    def _add(self, line: str) -> None:
        self._held.append(line)
        self._held_size += len(line)
        self._is_quoted ^= line.count('"') % 2 == 1
        if not self._is_quoted or self._held_size > HELD_CHARACTERS_MAX:
            self._ready.extend(self._held)
            self._held.clear()
            self._held_size = 0

    def _release(self) -> None:
        self._ready.extend(self._held)
        if self._rest:
            self._ready.append(self._rest)
        self._held.clear()
        self._held_size = 0
        self._rest = ""
