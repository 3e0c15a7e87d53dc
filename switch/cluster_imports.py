"""Accounts and cards from CSV files, into a cluster: to the shards, wherever they are.

Rule 1: the file is checked to its end before anything of it is written: a row that is
        none means that nothing is imported.
Rule 2: it is written in pieces, each to one shard and as one commit there, a bounded
        number at once. What ends it midway leaves the pieces that were done; the same
        file with `skip_existing` then goes on behind them.
Rule 3: while nodes run, they do it; while none does, this process is one, until all is
        written and given up. What happens meanwhile, nodes that come included, is what
        always happens when nodes come and go.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

from switch.admin.calls import AccountToOpen, CardToIssue
from switch.check import load_languages
from switch.cluster.lines import Lines
from switch.cluster.observing import Observer
from switch.cluster_pieces import Pieces, Row, What
from switch.cluster_store import Cluster, open_cluster
from switch.clustered import ClusterNode, certificates
from switch.config import Config
from switch.imports import Advance
from switch.keys.port import PanKeys
from switch.ledger import shard_of_account
from switch.link.settings import Address
from switch.ownership.port import OwnershipUnavailable
from switch.peer.asking import PeerLine
from switch.peer.calls import Caller
from switch.peer.hello import Identity
from switch.peer.sockets import dial_to
from switch.rows import (
    ACCOUNT_COLUMNS,
    CARD_COLUMNS,
    ImportRefused,
    Once,
    RowError,
    Rows,
    account_row,
    card_row,
)
from switch.shard.errors import Elsewhere

# Card numbers are hashed and sealed by so many, which is faster.
READ_ROWS: Final = 1024
START_S_MAX: Final = 60.0
START_LOOK_S: Final = 0.05

_READERS = {
    "accounts": (ACCOUNT_COLUMNS, account_row, "account"),
    "cards": (CARD_COLUMNS, card_row, "pan"),
}


def import_into_cluster(
    config: Config, what: What, path: Path, advance: Advance, *, skip_existing: bool
) -> tuple[int, int]:
    """How many were imported, and how many were there. Raises ImportRefused, with
    nothing imported; or AdminError, with a part."""
    # What is worth telling is told by what this raises.
    logging.getLogger("switch").addHandler(logging.NullHandler())
    size = check(what, path)
    return asyncio.run(_import(config, what, path, size, advance, skip_existing))


def check(what: What, path: Path) -> int:
    """How many rows there are. Raises ImportRefused."""
    columns, read, column = _READERS[what]
    once = Once(column).take
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = Rows(file, columns)
        for line, row in rows:
            try:
                once(read(row)[0], line)
            except RowError as error:
                rows.refuse(line, str(error))
        if rows.problem_count:
            raise ImportRefused(rows.problems, rows.problem_count)
        return rows.count


async def _import(
    config: Config,
    what: What,
    path: Path,
    size: int,
    advance: Advance,
    skip_existing: bool,
) -> tuple[int, int]:
    async with open_cluster(config) as cluster, _caller(config, cluster) as caller:
        work = Pieces(
            caller.call, what, skip_existing=skip_existing, again="--skip-existing"
        )
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = Rows(file, _READERS[what][0])
            for line, row in _read(what, rows, cluster.keys):
                shard = shard_of_account(row.account.encode(), cluster.shard_count)
                await work.take(shard, line, row)
                advance(work.done / max(size, 1), f"{work.done:,} rows")
            await work.finish()
        return work.imported, work.existing


def _read(what: What, rows: Rows, keys: PanKeys) -> Iterator[tuple[int, Row]]:
    source = iter(rows)
    while chunk := list(islice(source, READ_ROWS)):
        if what == "accounts":
            for line, row in chunk:
                yield line, AccountToOpen.of(account_row(row))
            continue
        cards = [(line, card_row(row)) for line, row in chunk]
        sealed = keys.seal_many(card.pan for _, card in cards)
        for (line, card), (pan_hash, seal) in zip(cards, sealed, strict=True):
            yield line, CardToIssue.of(card, pan_hash, seal)


# -- who does it


@asynccontextmanager
async def _caller(config: Config, cluster: Cluster) -> AsyncIterator[Caller]:
    name = f"import-{uuid.uuid4().hex[:12]}"
    async with AsyncExitStack() as stack:
        passer = _Passer(config, name, cluster)
        if (await passer.observer.look()).members:
            await passer.start(stack)
            yield passer.caller
            return
        await passer.close()
        node = ClusterNode(
            config, name, _anywhere(config), load_languages(config), cluster
        )
        await node.listen(stack)
        running = asyncio.create_task(node.node.run())
        try:
            await _until_ready(node, running)
            yield node.caller
        finally:
            node.node.stop()
            await running


def _anywhere(config: Config) -> Address:
    """Nobody needs to know the port beforehand, and the node's own may be taken."""
    return Address(config.cluster.peer.listen.host, 0)


async def _until_ready(node: ClusterNode, running: asyncio.Task[None]) -> None:
    until = time.monotonic() + START_S_MAX
    while reasons := node.node.not_ready():
        if running.done():
            running.result()
        if time.monotonic() >= until:
            raise OwnershipUnavailable(
                f"expected all shards to have an owner within {START_S_MAX:g} s, got: "
                + "; ".join(reasons)
            )
        await asyncio.sleep(START_LOOK_S)


class _Passer:
    """Asks the nodes, and is none."""

    def __init__(self, config: Config, name: str, cluster: Cluster) -> None:
        identity = Identity(
            cluster.name, name, cluster.shard_count, cluster.keys.fingerprint
        )
        context = certificates(config)[1]

        def line(node: str, address: str) -> PeerLine:
            return PeerLine(node, self.caller, identity, {}, dial_to(address, context))

        self.observer = Observer(cluster.etcd, cluster.name, self._changed)
        self.caller = Caller(name, self.observer, _nothing_here)
        self._lines = Lines(self.caller.lines, line)

    def _changed(self, addresses: dict[str, str]) -> None:
        self._lines.change(addresses)

    async def start(self, stack: AsyncExitStack) -> None:
        looking = asyncio.create_task(self.observer.run())

        async def stop() -> None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await self.close()

        stack.push_async_callback(stop)

    async def close(self) -> None:
        await self._lines.close()


async def _nothing_here(shard: int, _body: bytes) -> Any:
    raise Elsewhere(f"expected a shard that is here, got shard {shard}")
