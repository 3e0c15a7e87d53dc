"""The composition root: which adapter is behind which port, and who calls whom.

    link bytes -> frames -> message -> dispatch -> shard -> journal -> reply
    (link)                             (flow)     (shard)   (commit thread)

and behind the journal, in processes of their own: the follower, which publishes to
files and projects, and the publisher, which feeds Kafka and its like.

Rule 1: when the journal fails, nothing is answered any more, and the process ends.
Rule 2: stopping answers everything that was received before it closes the links.
Rule 3: SIGHUP reads the configuration again. Links that it leaves as they are never
        notice; a configuration that is wrong changes nothing.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

import switch
from switch.admin.desk import Desk
from switch.admin.http import Admin
from switch.admin.imports import Importer
from switch.admin.search import Search
from switch.admin.tokens import TokenFile
from switch.backup import begun_from
from switch.check import load_languages
from switch.clock import WallClock
from switch.companion.supervisor import CompanionProcess
from switch.config import Config
from switch.embedded import Store, open_store
from switch.flow._dispatch import Dispatcher
from switch.follower.process import Settings as FollowerSettings
from switch.follower.supervisor import FollowerProcess
from switch.journal.errors import JournalError
from switch.link.links import Language, Links
from switch.observe import log
from switch.observe.disks import Disks
from switch.observe.http import HttpServer
from switch.observe.metrics import Sample, make_registry
from switch.publisher.process import Settings as PublisherSettings
from switch.publisher.supervisor import PublisherProcess
from switch.reloading import Reloading
from switch.shard import tending
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup
from switch.shard.committer import Committer
from switch.shard.snapshotter import Snapshotter

_log = logging.getLogger("switch.app")

# Entries that wait for their commit; above it requests get 91. With one commit in
# flight this is seconds of work for the slowest disk.
PENDING_ENTRIES_MAX = 65_536
# How long the loop may keep the interpreter from the commit thread, which needs it some
# times a commit for microseconds. With Python's 5 ms a busy link delays every commit,
# with 1 ms still by a few.
SWITCH_INTERVAL_S = 0.0001
# What was received in the last moment is published before we end.
DRAIN_S = 5.0
PROGRESS_INTERVAL_S = 2.0


def serve(load: Callable[[], Config]) -> int:
    """Runs the switch until SIGTERM or SIGINT; `load` is called again for SIGHUP.

    Raises ConfigError, and what `open_store` does.
    """
    config = load()
    log.set_up(config.log.level, config.log.format)
    languages = load_languages(config)
    # Until we can act on it: the file is read, and was just now.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    started_at = time.monotonic()
    with log.in_background(), open_store(config, _Progress()) as store:
        recovered = store.recovered
        log.event(
            _log,
            logging.INFO,
            "recovered",
            data=store.directory.path,
            head=recovered.head,
            from_commit=recovered.from_commit,
            entries_replayed=recovered.entries_replayed,
            accounts=sum(state.account_count for state in recovered.states),
            seconds=round(time.monotonic() - started_at, 3),
        )
        if config.journal.shards != store.journal.shard_count:
            log.event(
                _log,
                logging.WARNING,
                "journal.shards is fixed since initialisation",
                has=store.journal.shard_count,
                asked=config.journal.shards,
            )
        _say_where_it_began(store)
        # What is here stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        uvloop.run(Switch(config, languages, store, load).run())
    return 0


def _say_where_it_began(store: Store) -> None:
    """Once, by the first daemon on a backup: from then on it is a directory like any
    other."""
    backup = begun_from(store.directory)
    if backup is not None:
        log.event(
            _log,
            logging.WARNING,
            "begins from a backup: what was answered after it is not known here",
            taken_at=backup.taken_at,
            commit=backup.commit,
        )
        store.directory.backup.unlink()


class Switch:
    """One running switch. `run` returns when it was asked to stop."""

    def __init__(
        self,
        config: Config,
        languages: Mapping[str, Language],
        store: Store,
        load: Callable[[], Config],
    ) -> None:
        self._config = config
        self._languages = languages
        self._store = store
        self._load = load
        self._stopping = asyncio.Event()
        self._failure: Exception | None = None
        self._has_started = False
        self._clock = WallClock()

    async def run(self) -> None:
        self._compose()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reloading.ask)
        async with AsyncExitStack() as stack:
            self._committer.start(self._committed, self._journal_failed)
            stack.callback(self._committer.stop)
            stack.callback(self._search.close)
            await self._http.start()
            stack.push_async_callback(self._http.stop)
            for companion in self._companions:
                companion.start()
            stack.push_async_callback(self._stop_companions)
            await self._links.change(self._config.links, self._languages)
            self._has_started = True
            work = [
                asyncio.create_task(self._reloading.run()),
                asyncio.create_task(tending.end_holds(self._group, self._clock)),
                asyncio.create_task(self._snapshotter.run()),
                asyncio.create_task(self._disks.watch()),
            ]
            for task in work:
                task.add_done_callback(self._work_ended)
            stack.push_async_callback(_cancel, work)
            await self._stopping.wait()
            log.event(_log, logging.INFO, "stopping")
            await self._stop_links()
            await _cancel(work)
            await self._take_snapshots()
            if self._failure is not None:
                raise self._failure
        log.event(_log, logging.INFO, "stopped", head=self._group.head)

    def _compose(self) -> None:
        config, store = self._config, self._store
        loop = asyncio.get_running_loop()
        states = store.recovered.states
        self._committer = Committer(store.journal, loop.call_soon_threadsafe)
        self._group = CommitGroup(
            states,
            submit=self._committer.submit,
            schedule=loop.call_soon,
            released=self._released,
            clock=self._clock,
            head=store.journal.head,
            pending_max=PENDING_ENTRIES_MAX,
            monotonic=loop.time,
        )
        directory = CardDirectory(states)
        self._links = Links(
            self._group,
            lambda language, scheme: Dispatcher(
                language[0],
                directory,
                self._group,
                store.keys.pan_hash,
                scheme=scheme,
                dialect=language[1],
            ),
            clock=self._clock,
        )
        self._reloading = Reloading(config, self._load, self._links)
        self._snapshotter = Snapshotter(
            self._group,
            store.snapshots,
            every_entries=config.journal.snapshot_every_entries,
            sequences=store.recovered.snapshot_sequences,
        )
        self._compose_companions()
        self._disks = Disks(
            {
                "data": store.directory.path,
                "events": Path(config.publish.directory or store.directory.events),
            }
        )
        registry, collector = make_registry(switch.__version__)
        for source in (
            self._samples,
            lambda: self._follower.samples(store.released.number),
            self._publisher_samples,
            self._links.samples,
            self._disks.samples,
        ):
            collector.add(source)
        self._http = HttpServer(
            config.http.listen.host,
            config.http.listen.port,
            registry=registry,
            not_ready=self._not_ready,
            details=self._details,
            not_healthy=self._not_healthy,
            routes=self._administration(directory).routes(),
        )

    def _compose_companions(self) -> None:
        config, store = self._config, self._store
        self._follower = FollowerProcess(
            FollowerSettings(
                data_directory=str(store.directory.path),
                events_directory=config.publish.directory or None,
                file_bytes_max=config.publish.rotate_bytes,
                log_level=config.log.level,
                log_format=config.log.format,
            )
        )
        self._publisher = PublisherProcess(
            PublisherSettings(
                data_directory=str(store.directory.path),
                kafka=config.publish.kafka,
                nsq=config.publish.nsq,
                log_level=config.log.level,
                log_format=config.log.format,
            )
        )
        self._companions: list[CompanionProcess[Any]] = [self._follower]
        self._has_publisher = bool(self._publisher.engines)
        if self._has_publisher:
            self._companions.append(self._publisher)

    def _administration(self, directory: CardDirectory) -> Admin:
        store = self._store
        behind = (self._group, directory, store.keys, self._clock)
        self._search = Search(store.directory.read_model)
        return Admin(
            Desk(*behind),
            Importer(*behind, store.directory.path),
            self._search,
            TokenFile(self._config.admin.tokens_file or store.directory.tokens),
            switch.__version__,
        )

    # -- the end

    async def _stop_links(self) -> None:
        if self._failure is None:
            await self._links.drain()
        else:
            await self._links.abort()

    async def _take_snapshots(self) -> None:
        """A restart then replays nothing."""
        try:
            await self._snapshotter.take_all()
        except JournalError as error:
            log.event(_log, logging.ERROR, "no snapshots taken", reason=error)

    async def _stop_companions(self) -> None:
        await asyncio.gather(
            *(each.stop(drain_seconds=DRAIN_S) for each in self._companions)
        )

    def _journal_failed(self, error: Exception) -> None:
        """Whether the commit in flight is durable is not known: nobody is answered."""
        self._failure = error
        self._group.stop(error)
        log.event(
            _log,
            logging.CRITICAL,
            "failed, nothing is answered any more",
            reason=f"{type(error).__name__}: {error}",
            do="start it again when the cause is mended; what was answered is kept",
        )
        self._stopping.set()

    def _committed(self, number: int) -> None:
        try:
            self._group.committed(number)
        except Exception as error:  # noqa: BLE001 -- replies may be lost: stop
            self._journal_failed(error)

    def _work_ended(self, task: asyncio.Task[None]) -> None:
        """Work that goes on for ever has ended: nothing may rely on the rest."""
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, Exception)
            self._journal_failed(error)

    # -- what goes on beside the links

    def _released(self, number: int) -> None:
        self._store.released.advance(number)
        for companion in self._companions:
            companion.released(number)

    # -- what operators see

    def _not_healthy(self) -> Sequence[str]:
        return [] if self._failure is None else ["the journal cannot be written"]

    def _not_ready(self) -> Sequence[str]:
        if self._failure is not None:
            return self._not_healthy()
        if self._stopping.is_set():
            return ["stopping"]
        if not self._has_started:
            return ["not listening yet"]
        return self._links.not_ready("the journal")

    def _details(self) -> Mapping[str, object]:
        if not self._has_started:
            return {}
        found = {
            "links_down": self._links.down(),
            "follower": self._follower.fault,
            "publisher": self._publisher.faults if self._has_publisher else {},
            "disks_low": self._disks.low(),
        }
        return {name: value for name, value in found.items() if value}

    def _publisher_samples(self) -> Iterator[Sample]:
        if self._has_publisher:
            entries = sum(state.sequence for state in self._store.recovered.states)
            yield from self._publisher.samples(self._store.released.number, entries)

    def _samples(self) -> Iterator[Sample]:
        limits = self._store.recovered.states[0].limits
        yield from tending.samples(self._group, limits)
        yield Sample("released_head", self._store.released.number)
        yield from self._committer.times.samples()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Progress:
    """Says now and then how far a long replay is."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def __call__(self, commit: int, head: int) -> None:
        now = time.monotonic()
        if now - self._said_at >= PROGRESS_INTERVAL_S:
            self._said_at = now
            log.event(_log, logging.INFO, "replaying", commit=commit, head=head)
