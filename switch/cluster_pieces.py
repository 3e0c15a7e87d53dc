"""Rows of a file on their way into a cluster: in pieces, each to one shard and as one
commit there, a bounded number at once."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Literal, Protocol

from switch.admin.calls import (
    CALL_ROWS_MAX,
    AccountToOpen,
    CardToIssue,
    Imported,
    pack_call,
    read_result,
)
from switch.admin.errors import AdminError
from switch.peer.calls import CallFailed

What = Literal["accounts", "cards"]
Row = AccountToOpen | CardToIssue
# Of one shard: the lines, and what stands there.
Piece = list[tuple[int, Row]]

# Pieces on their way at once; further rows are not read meanwhile.
PIECES_MAX: Final = 32
# Rows that are read, and wait for others of their shard.
WAITING_ROWS_MAX: Final = 16_384
# How long a shard may have no owner, and a piece no answer.
# Between two attempts.
RETRY_S: Final = 0.05
PATIENCE_S: Final = 60.0


class Call(Protocol):
    """Raises CallFailed."""

    async def __call__(self, shard: int, body: bytes, *, may_repeat: bool) -> bytes: ...


class Pieces:
    def __init__(
        self,
        call: Call,
        what: What,
        *,
        skip_existing: bool,
        again: str,
        who: str = "",
        reason: str = "",
    ) -> None:
        """`again`: how to say that what is there is to be passed over. `who` and
        `reason` are told of each entry."""
        self.imported = 0
        self.existing = 0
        self._call = call
        self._name = f"import_{what}"
        self._skips = skip_existing
        self._again = again
        self._told = who, reason
        self._waiting: dict[int, Piece] = {}
        self._waiting_rows = 0
        self._sending: set[asyncio.Task[None]] = set()
        # Why it is not gone on with, by line.
        self._troubles: dict[int, str] = {}

    @property
    def done(self) -> int:
        return self.imported + self.existing

    async def take(self, shard: int, line: int, row: Row) -> None:
        piece = self._waiting.setdefault(shard, [])
        piece.append((line, row))
        self._waiting_rows += 1
        if len(piece) >= CALL_ROWS_MAX:
            await self._send(shard)
        elif self._waiting_rows >= WAITING_ROWS_MAX:
            await self._send(max(self._waiting, key=lambda n: len(self._waiting[n])))

    async def finish(self) -> None:
        for shard in tuple(self._waiting):
            await self._send(shard)
        await self._until_fewer_than(1)

    async def _send(self, shard: int) -> None:
        piece = self._waiting.pop(shard)
        self._waiting_rows -= len(piece)
        await self._until_fewer_than(PIECES_MAX)
        self._sending.add(asyncio.create_task(self._import(shard, piece)))

    async def _until_fewer_than(self, count: int) -> None:
        """Raises AdminError when all is done that was begun, if there was trouble."""
        while len(self._sending) >= (1 if self._troubles else count):
            done, self._sending = await asyncio.wait(
                self._sending, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        if self._troubles:
            line = min(self._troubles)
            raise AdminError(
                409,
                f"line {line}: {self._troubles[line]}: {self.done:,} rows of the file "
                f"are imported; the same file with {self._again} goes on from there",
            )

    async def _import(self, shard: int, piece: Piece) -> None:
        try:
            answer, is_repeated = await self._ask(shard, piece)
        except (AdminError, CallFailed) as error:
            self._troubles[piece[0][0]] = str(error)
            return
        self._troubles |= {piece[index][0]: text for index, text in answer.problems}
        if not answer.problems:
            # What was asked twice may have been done the first time.
            existing = 0 if is_repeated and not self._skips else answer.existing
            self.imported += len(piece) - existing
            self.existing += existing

    async def _ask(self, shard: int, piece: Piece) -> tuple[Imported, bool]:
        rows = [row for _, row in piece]
        is_repeated = False
        until = time.monotonic() + PATIENCE_S
        while True:
            skips = self._skips or is_repeated
            try:
                body = await self._call(
                    shard,
                    pack_call(self._name, (rows, skips, *self._told)),
                    may_repeat=False,
                )
            except CallFailed as error:
                is_repeated |= error.is_unknown
                if time.monotonic() >= until:
                    raise
                # It may have failed before anybody else had a turn.
                await asyncio.sleep(RETRY_S)
                continue
            answer: Imported = read_result(self._name, body)
            return answer, is_repeated
