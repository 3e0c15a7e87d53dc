"""A lease, kept alive at a third of its time, and until when it surely lives.

Rule 1: it is counted from the moment before the keep-alive was sent that etcd answered:
        etcd counts from a later one. Both count seconds of their own, and agree on
        nothing else.
Rule 2: it ends once: when that time is over, whatever etcd says later, or when etcd
        says that it is gone. A process that was stopped for long finds it over.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from switch.observe.log import event
from switch.ownership.etcd.errors import EtcdError, EtcdLeaseGone
from switch.ownership.etcd.store import Store
from switch.ownership.port import SessionOver

# Of its time: so that two may be lost.
KEEP_ALIVE_PART: Final = 3
RETRY_SECONDS: Final = 0.1
REVOKE_SECONDS: Final = 1.0

T = TypeVar("T")

_log = logging.getLogger("switch.ownership")


def boot_seconds() -> float:
    """Goes on while the machine is suspended, as leases do, and is never set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Session:
    """`on_end` is called once, with the reason."""

    def __init__(
        self,
        store: Store,
        name: str,
        ttl_s: int,
        on_end: Callable[[str], None],
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        assert ttl_s > 0
        self.name = name
        self.clock = clock
        self.lease = 0
        self.ttl_s = ttl_s
        self.valid_until = -math.inf
        self._store = store
        self._on_end = on_end
        self._reason: str | None = None
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_valid(self) -> bool:
        return self.clock() < self.valid_until

    @property
    def has_ended(self) -> bool:
        return self._reason is not None

    def check(self) -> None:
        """By the clock, before anybody else has noticed."""
        if self._reason is None and not self.is_valid:
            self.end("the time of its lease is over")
        if self._reason is not None:
            raise SessionOver(f"session {self.name} is over: {self._reason}")

    async def unless_over(self, awaitable: Coroutine[Any, Any, T]) -> T:
        """Its result; SessionOver, should the session end before there is one."""
        over = asyncio.ensure_future(self._over.wait())
        work = asyncio.ensure_future(awaitable)
        try:
            await asyncio.wait({work, over}, return_when=asyncio.FIRST_COMPLETED)
            self.check()
            return await work
        finally:
            over.cancel()
            work.cancel()

    async def open(self) -> None:
        """A lease of the time asked for, or of another one that etcd likes better."""
        assert self._task is None, "opened twice"
        sent_at = self.clock()
        lease = await self._store.grant(self.ttl_s)
        self.lease, self.ttl_s = lease.id, lease.ttl_s
        self.valid_until = sent_at + lease.ttl_s
        self._task = asyncio.create_task(self._keep(sent_at))

    def end(self, reason: str) -> None:
        if self._reason is not None:
            return
        self._reason = reason
        self.valid_until = -math.inf
        self._over.set()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._on_end(reason)

    async def close(self, reason: str) -> None:
        """Whatever hangs on the lease is gone, or will be when its time is over."""
        self.end(reason)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self.lease:
            try:
                async with asyncio.timeout(REVOKE_SECONDS):
                    await self._store.revoke(self.lease)
            except (EtcdError, TimeoutError) as error:
                event(_log, logging.WARNING, "a lease was not revoked", reason=error)
            self.lease = 0

    async def _keep(self, heard_at: float) -> None:
        """The answer to what was sent then was the last one."""
        while True:
            due_at = heard_at + self.ttl_s / KEEP_ALIVE_PART
            await asyncio.sleep(max(due_at - self.clock(), 0.0))
            trouble = "it was not asked in time"
            while (sent_at := self.clock()) < self.valid_until:
                seconds = min(self.ttl_s / KEEP_ALIVE_PART, self.valid_until - sent_at)
                try:
                    ttl_s = await self._store.keep_alive(self.lease, seconds)
                    break
                except EtcdLeaseGone as error:
                    self.end(str(error))
                    return
                except EtcdError as error:
                    trouble = str(error)
                await asyncio.sleep(RETRY_SECONDS)
            if not self.is_valid:
                self.end(
                    f"expected etcd to keep its lease of {self.ttl_s} s alive, got no "
                    f"answer in that time: {trouble}"
                )
                return
            self.ttl_s = ttl_s
            self.valid_until = sent_at + ttl_s
            heard_at = sent_at
