"""The keys below a prefix, as they are: watched, then listed, and whatever the watch
tells that is later than the list.

Rule 1: a watch that ends, for whatever reason, is followed by a new one and a new list.
        Nothing depends on how long etcd keeps what is past, and what was missed
        meanwhile comes as one change from what was to what is.
Rule 2: a list of an earlier revision than was seen before is of an etcd that was
        restored from a copy: that is told, for the keys of it are others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from switch.backoff import Backoff
from switch.observe.log import event
from switch.ownership.etcd.errors import EtcdError
from switch.ownership.etcd.store import Change, KeyValue, Listing, Store

RETRY_SECONDS_MIN: Final = 0.05
RETRY_SECONDS_MAX: Final = 1.0

_log = logging.getLogger("switch.ownership")


class Listener(Protocol):
    def changed(self, changes: Sequence[Change]) -> None:
        """What is not as it was. Must not raise."""

    def went_back(self) -> None: ...


class Mirror:
    """`run` until it is cancelled."""

    def __init__(self, store: Store, prefix: str, listener: Listener) -> None:
        self.prefix = prefix
        self.revision = 0
        # Whether a watch is open: what is here may be behind, but not for long.
        self.is_current = False
        self._store = store
        self._listener = listener
        self._items: dict[str, KeyValue] = {}
        self._progress = asyncio.Event()

    @property
    def items(self) -> Mapping[str, KeyValue]:
        return self._items

    async def reached(self, revision: int) -> None:
        """Returns when what is here is of that revision or a later one."""
        while self.revision < revision:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> None:
        backoff = Backoff(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
        while True:
            try:
                async with self._store.watch(self.prefix) as batches:
                    listing = await self._store.listing(self.prefix)
                    self._replace(listing)
                    self.is_current = True
                    async for changes in batches:
                        backoff.reset()
                        news = [
                            change
                            for change in changes
                            if change.revision > listing.revision
                        ]
                        self._apply(news, changes[-1].revision)
            except EtcdError as error:
                event(_log, logging.WARNING, "a watch of etcd ended", reason=error)
            finally:
                self.is_current = False
            await backoff.sleep()

    def _replace(self, listing: Listing) -> None:
        if listing.revision < self.revision:
            event(
                _log,
                logging.CRITICAL,
                "etcd went back, as if it was restored from a copy",
                revision=listing.revision,
                was=self.revision,
            )
            self.revision = listing.revision
            self._listener.went_back()
        now = {item.key: item for item in listing.items}
        gone = [
            Change(key, listing.revision, None) for key in self._items if key not in now
        ]
        new = [
            Change(item.key, item.mod_revision, item)
            for item in listing.items
            if self._items.get(item.key) != item
        ]
        self._apply([*gone, *new], listing.revision)

    def _apply(self, changes: Sequence[Change], revision: int) -> None:
        for change in changes:
            if change.after is None:
                self._items.pop(change.key, None)
            else:
                self._items[change.key] = change.after
        self.revision = max(self.revision, revision)
        self._progress.set()
        if changes:
            self._listener.changed(changes)
