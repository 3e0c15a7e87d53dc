"""Asking again while the outcome is unknown, for a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import msgspec

from switch.journal.errors import JournalUnknown

T = TypeVar("T")
U = TypeVar("U")

# Calls of one taking of shards that are under way at once.
WIDTH_MAX = 8
# How long a call with an unknown outcome is repeated: longer than a node of Cassandra
# that hangs is believed to live. Between two calls, from the first to the longest.
RETRY_SECONDS_MAX = 10.0
RETRY_PAUSE_FIRST_S = 0.01
RETRY_PAUSE_MAX_S = 0.5


class Patience(msgspec.Struct, frozen=True):
    """How long the same call is repeated, by the loop's clock. That it is over decides
    nothing: the outcome is as unknown then as it was before."""

    seconds_max: float = RETRY_SECONDS_MAX
    pause_first_s: float = RETRY_PAUSE_FIRST_S
    pause_max_s: float = RETRY_PAUSE_MAX_S


PATIENCE = Patience()


async def settled(call: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """The outcome of `call`, repeated unchanged. Raises JournalUnknown."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + patience.seconds_max
    pause = patience.pause_first_s
    while True:
        try:
            return await call()
        except JournalUnknown:
            if loop.time() + pause > ends_at:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, patience.pause_max_s)


async def together(one: Awaitable[T], other: Awaitable[U]) -> tuple[T, U]:
    """The results of both. Neither is under way any more when this raises."""
    done = await asyncio.gather(one, other, return_exceptions=True)
    for result in done:
        if isinstance(result, BaseException):
            raise result
    first, second = done
    return first, second  # type: ignore[return-value]


async def all_of(
    calls: Iterable[Callable[[], Awaitable[T]]], width: int = WIDTH_MAX
) -> list[T]:
    """The results in order. Nothing is under way any more when this raises."""
    waiting = list(calls)
    results: list[T] = []
    for first in range(0, len(waiting), width):
        slice_ = [call() for call in waiting[first : first + width]]
        done = await asyncio.gather(*slice_, return_exceptions=True)
        for result in done:
            if isinstance(result, BaseException):
                raise result
            results.append(result)
    return results
