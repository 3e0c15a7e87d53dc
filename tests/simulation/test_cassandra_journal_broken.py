"""The protocol broken on purpose, one step at a time: the simulation must find each,
within `SEEDS_MAX` of the seed that is beside it. What one seed in a hundred finds is
not looked for from the first one on, for the time that it would take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from msgspec.structs import replace

from switch.cluster.states import StateWriter
from switch.journal import record as codec
from switch.journal.cassandra import recovery, retention, takeover
from switch.journal.cassandra.retrying import settled
from switch.journal.cassandra.session import Session
from switch.journal.cassandra.writer import SessionWriter
from switch.journal.errors import JournalUnknown
from switch.ledger import dump
from tests.simulation.cassandra import Client
from tests.simulation.journal_node import Node
from tests.simulation.journal_world import World
from tests.simulation.seeds import first_fault


async def nothing(*_: object) -> None:
    pass


def answers_before_the_append(patch: pytest.MonkeyPatch) -> None:
    append = SessionWriter.append

    async def other(self: Any, at: int, records: Any) -> int:
        before = getattr(self, "early", None)
        if before is not None:
            await before
        self.early = asyncio.get_running_loop().create_task(append(self, at, records))
        return int(self.issued.number) + 1

    patch.setattr(SessionWriter, "append", other)


def answers_without_the_fence_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SessionWriter, "_look_at_fence", nothing)


def reads_the_fence_before_the_acknowledgement(patch: pytest.MonkeyPatch) -> None:
    insert, look = SessionWriter._insert, SessionWriter._look_at_fence

    async def other(self: Any, parts: Any) -> None:
        await look(self)
        await insert(self, parts)

    patch.setattr(SessionWriter, "_insert", other)
    patch.setattr(SessionWriter, "_look_at_fence", nothing)


def reads_the_tail_before_the_fence(patch: pytest.MonkeyPatch) -> None:
    async def other(store: Any, session: str, fenced_by: str, patience: Any) -> int:
        row = await settled(lambda: store.read_session(session), patience)
        if row.sealed_at is not None:
            return int(row.sealed_at)
        end, last = await takeover.read_tail(store, session, patience)
        await settled(lambda: store.write_fence(session, fenced_by), patience)
        if last is not None:
            await takeover.write_back(store, session, last, patience)
        return await takeover.seal(store, session, end, patience)

    patch.setattr(takeover, "end_session", other)


def writes_nothing_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(takeover, "write_back", nothing)


def trusts_a_fence_of_others(patch: pytest.MonkeyPatch) -> None:
    write = Client.write_fence

    async def other(self: Client, session: str, fenced_by: str) -> None:
        if not await self.read_fence(session):
            await write(self, session, fenced_by)

    patch.setattr(Client, "write_fence", other)


def seals_without_agreement(patch: pytest.MonkeyPatch) -> None:
    async def other(store: Any, session: str, end: int, patience: Any) -> int:
        await settled(
            lambda: store.cassandra.serially(lambda: store.write_seal(session, end)),
            patience,
        )
        return end

    patch.setattr(takeover, "seal", other)


def opens_what_is_merely_higher(patch: pytest.MonkeyPatch) -> None:
    def other(self: Client, epoch: Any) -> bool:
        current = self.cassandra.current.get(epoch.shard)
        return current is None or epoch.id.number > current.number

    patch.setattr(Client, "may_open", other)


def reads_nothing_again(patch: pytest.MonkeyPatch) -> None:
    """After a shard has moved while it was taken."""
    recover, take = recovery.recover, Session.take

    async def once(store: Any, chains: Any, *rest: Any) -> Any:
        left = [chain for chain in chains if chain.shard not in store.known]
        store.known |= await recover(store, left, *rest)
        return store.known

    async def other(self: Any, *arguments: Any) -> Any:
        self._store.known = {}
        return await take(self, *arguments)

    patch.setattr(recovery, "recover", once)
    patch.setattr(Session, "take", other)


def believes_what_was_read_ahead(patch: pytest.MonkeyPatch) -> None:
    """Though its epoch opens behind another one than was read."""
    read_ahead, recover, take = Session.read_ahead, recovery.recover, Session.take

    async def keeps(self: Any, shards: Any, limits: Any) -> None:
        await read_ahead(self, shards, limits)
        self._store.known = {} if self._reading is None else await self._reading
        self._ahead, self._reading = {}, None

    async def once(store: Any, chains: Any, *rest: Any) -> Any:
        known = getattr(store, "known", {})
        left = [chain for chain in chains if chain.shard not in known]
        return known | await recover(store, left, *rest)

    async def other(self: Any, *arguments: Any) -> Any:
        try:
            return await take(self, *arguments)
        finally:
            self._store.known = {}

    patch.setattr(Session, "read_ahead", keeps)
    patch.setattr(recovery, "recover", once)
    patch.setattr(Session, "take", other)


def retries_with_other_bytes(patch: pytest.MonkeyPatch) -> None:
    async def other(self: Any, segment: int, part: Any) -> None:
        for _ in range(20):
            try:
                await self._store.insert_part(self.session, segment, part)
                return
            except JournalUnknown:
                commit, _ = codec.decode(part.data, part.number, None, "")
                previous = int.from_bytes(part.data[24:28], "little")
                data, self._checksum = codec.encode(
                    part.number, commit.at + 1, previous, commit.records
                )
                part = replace(part, data=data)
        raise JournalUnknown("no answer")

    patch.setattr(SessionWriter, "_acknowledged", other)


def begins_the_next_without_an_acknowledgement(patch: pytest.MonkeyPatch) -> None:
    async def other(self: Any, segment: int, part: Any) -> None:
        with suppress(JournalUnknown):
            await self._store.insert_part(self.session, segment, part)

    patch.setattr(SessionWriter, "_acknowledged", other)


def publishes_before_the_release(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Node, "may_publish_to", lambda self: self.writer.issued)


def checkpoints_before_the_release(patch: pytest.MonkeyPatch) -> None:
    async def other(self: Any, shard: int) -> None:
        state = self._written[shard].shard.state
        await self._journal.checkpoint(
            shard, state.sequence, self._journal.position, dump(state)
        )

    patch.setattr(StateWriter, "write", other)
    patch.setattr(StateWriter, "write_the_rest", other)


def drops_a_segment_too_many(patch: pytest.MonkeyPatch) -> None:
    limit = retention._limit

    def other(log: Any, needed_from: Any) -> Any:
        found = limit(log, needed_from)
        return found and replace(found, segment=found.segment + 1)

    patch.setattr(retention, "_limit", other)


def drops_what_a_publisher_needs(patch: pytest.MonkeyPatch) -> None:
    needed_by = retention._needed_by

    async def other(store: Any, shard: int, publishers: Any, *rest: Any) -> Any:
        return await needed_by(store, shard, [], *rest)

    patch.setattr(retention, "_needed_by", other)


def believes_a_reader_that_is_behind_the_checkpoint(patch: pytest.MonkeyPatch) -> None:
    start_of = retention._start_of

    async def other(*arguments: Any) -> Any:
        head = arguments[3]
        start = await start_of(*arguments)
        return start if start is None or head is None else head.start

    patch.setattr(retention, "_start_of", other)


def stamps_checkpoints_by_the_clock(patch: pytest.MonkeyPatch) -> None:
    def other(self: Client, sequence: int) -> int:
        return int(self.cassandra.loop.time() * 1_000_000)

    patch.setattr(Client, "checkpoint_timestamp", other)


def gives_up_what_is_not_released(patch: pytest.MonkeyPatch) -> None:
    async def other(self: Any, shard: int) -> None:
        epoch = self.epochs.pop(shard)
        self.writer.forget(shard)
        self._leaving[shard] = epoch.id, self.writer.issued.number
        await self._seal(shard)

    patch.setattr(Session, "give_up", other)


SEEDS_MAX = 500
BREAKS = [
    answers_before_the_append,
    answers_without_the_fence_read,
    reads_the_fence_before_the_acknowledgement,
    reads_the_tail_before_the_fence,
    writes_nothing_back,
    trusts_a_fence_of_others,
    seals_without_agreement,
    opens_what_is_merely_higher,
    reads_nothing_again,
    believes_what_was_read_ahead,
    retries_with_other_bytes,
    begins_the_next_without_an_acknowledgement,
    publishes_before_the_release,
    checkpoints_before_the_release,
    drops_a_segment_too_many,
    drops_what_a_publisher_needs,
    believes_a_reader_that_is_behind_the_checkpoint,
    stamps_checkpoints_by_the_clock,
    gives_up_what_is_not_released,
]


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_a_step_left_out_is_found(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
):
    broken(monkeypatch)
    assert first_fault(World, SEEDS_MAX) is not None
