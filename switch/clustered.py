"""The other composition root: a node of a cluster.

    link bytes -> frames -> message -> dispatch -> shard here -> session's log -> reply
                                          └─> shard elsewhere -> its node -> reply

Rule 1: a session that is lost ends nothing but itself: the links stay, what was not
        answered by then is not answered from here, and the node begins another one.
Rule 2: stopping answers everything that was received, gives up every shard as planned,
        and leaves; other nodes have them before this process ends.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import uvloop

import switch
from switch.admin.cluster import ClusterDesk, NoSearch
from switch.admin.cluster_imports import ClusterImporter
from switch.admin.desk import released
from switch.admin.errors import AdminError
from switch.admin.http import Admin
from switch.admin.imports import Wanted
from switch.admin.search import Search
from switch.admin.shards import ShardDesk
from switch.admin.tokens import TokenFile
from switch.app import DRAIN_S, PENDING_ENTRIES_MAX, SWITCH_INTERVAL_S
from switch.check import load_languages
from switch.clock import WallClock
from switch.cluster.followers import Followers
from switch.cluster.lines import Lines
from switch.cluster.node import Node
from switch.cluster.port import Follower, JournalSession, ShardOwnership
from switch.cluster.retention import Retention
from switch.cluster.rows import NAME as ROWS
from switch.cluster.rows import AccountRows
from switch.cluster_pieces import Pieces
from switch.cluster_store import Cluster, node_directory, open_cluster
from switch.config import Config, ConfigError
from switch.embedded import make_limits
from switch.flow._dispatch import Dispatcher
from switch.journal.cassandra.node_session import CassandraSession
from switch.journal.cassandra.session import new_session_name
from switch.journal.cassandra.writer import Timed
from switch.journal.directory import EVENTS_NAME, READ_MODEL_NAME, TOKENS_NAME
from switch.link.links import Language, Links
from switch.link.settings import Address
from switch.node_follower.process import Settings as FollowerSettings
from switch.node_follower.supervisor import NodeFollowerProcess
from switch.node_publisher.process import Settings as PublisherSettings
from switch.node_publisher.process import engines_of
from switch.node_publisher.supervisor import NodePublisherProcess
from switch.observe import log
from switch.observe.disks import Disks
from switch.observe.http import HttpServer
from switch.observe.metrics import Sample, make_registry
from switch.ownership.etcd.membership import EtcdOwnership
from switch.ownership.port import Member
from switch.peer.answering import Answering
from switch.peer.asking import PeerLine
from switch.peer.calls import Caller, CallFailed
from switch.peer.forwarder import Forwarder
from switch.peer.hello import Identity, fingerprint
from switch.peer.sockets import Certificates, contexts, dial_to, listen
from switch.reloading import Reloading
from switch.shard import tending
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup

_log = logging.getLogger("switch.clustered")

# A takeover replays at most about so many entries of a shard: some tenths of a second.
CHECKPOINT_ENTRIES_MAX = 100_000
MS_PER_HOUR = 3_600_000

Dispatchers = dict[str, Dispatcher]


def serve(load: Callable[[], Config]) -> int:
    """Runs a node until SIGTERM or SIGINT; `load` is called again for SIGHUP. Raises
    ConfigError, and what `open_cluster` does."""
    config = load()
    log.set_up(config.log.level, config.log.format)
    languages = load_languages(config)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # Until we can act on it: the file is read, and was just now.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    uvloop.run(_serve(config, languages, load))
    return 0


async def _serve(
    config: Config, languages: Mapping[str, Language], load: Callable[[], Config]
) -> None:
    async with open_cluster(config) as cluster:
        gc.collect()
        gc.freeze()
        await ClusteredSwitch(config, languages, cluster, load).run()


class ClusterNode:
    """What a node is to the other nodes: its shards, and the ways to those of others.
    It has no links of its own and no HTTP."""

    def __init__(
        self,
        config: Config,
        name: str,
        listen_at: Address,
        languages: Mapping[str, Language],
        cluster: Cluster,
        publisher: NodePublisherProcess | None = None,
    ) -> None:
        """Without a publisher the next owner of a shard publishes what was released."""
        self.publisher = publisher
        self.name = name
        self.cluster = cluster
        self.clock = WallClock()
        self._config = config
        self._listen_at = listen_at
        self._address = str(listen_at)
        self._contexts = certificates(config)
        self._rows: AccountRows | None = None
        self._identity = Identity(
            cluster.name, name, cluster.shard_count, cluster.keys.fingerprint
        )
        loop = asyncio.get_running_loop()
        self.group = CommitGroup(
            [],
            submit=lambda at, records: self.node.submit(at, records),
            schedule=loop.call_soon,
            released=lambda number: None,
            clock=self.clock,
            pending_max=PENDING_ENTRIES_MAX,
            monotonic=loop.time,
            shard_count=cluster.shard_count,
            confirms=True,
        )
        self.directory = CardDirectory([], shard_count=cluster.shard_count)
        self.limits = make_limits(config.ledger, cluster.shard_count)
        self.retention = Retention(
            cluster.store,
            cluster.shard_count,
            kept_ms=config.cluster.cassandra.retention_h * MS_PER_HOUR,
            clock=self.clock,
            readers=[ROWS, *engines_of(config.publish.kafka, config.publish.nsq)],
        )
        self.node = Node(
            name,
            self.group,
            self.directory,
            self.limits,
            self._new_session,
            every_entries=min(
                config.journal.snapshot_every_entries, CHECKPOINT_ENTRIES_MAX
            ),
            follow=self._followers_of,
            beside=self._tidy,
        )
        self._compose_peers(languages)

    def _compose_peers(self, languages: Mapping[str, Language]) -> None:
        cluster, config = self.cluster, self._config
        self.desk = ShardDesk(
            self.group, self.directory, cluster.keys, self.clock, cluster.store
        )
        self.caller = Caller(self.name, self.node, self.desk.answer)
        self.forwarder = Forwarder(
            self.name,
            cluster.shard_count,
            self._dispatchers(config, languages),
            cluster.store,
            self.node,
            clock=self.clock,
        )
        dispatchers = self._dispatchers(config, languages)
        self.prints = {
            name: fingerprint(each.codec, each.dialect, each.scheme)
            for name, each in dispatchers.items()
        }
        self.answering = Answering(
            self._identity,
            dispatchers,
            self.node,
            clock=self.clock,
            answer_call=self.desk.answer,
        )
        self.node.attach(
            self.forwarder,
            self.answering,
            Lines(self.forwarder.lines, self._line),
            Lines(self.caller.lines, self._line_of_calls),
        )

    def dispatcher(self, language: Language, scheme: int) -> Dispatcher:
        return Dispatcher(
            language[0],
            self.directory,
            self.group,
            self.cluster.keys.pan_hash,
            scheme=scheme,
            dialect=language[1],
        )

    def _dispatchers(
        self, config: Config, languages: Mapping[str, Language]
    ) -> Dispatchers:
        return {
            name: self.dispatcher(languages[name], config.links[name].scheme)
            for name in languages
        }

    def _line(self, node: str, address: str) -> PeerLine:
        dial = dial_to(address, self._contexts[1])
        return PeerLine(node, self.forwarder, self._identity, self.prints, dial)

    def _line_of_calls(self, node: str, address: str) -> PeerLine:
        dial = dial_to(address, self._contexts[1])
        return PeerLine(node, self.caller, self._identity, {}, dial)

    def _new_session(self) -> tuple[EtcdOwnership, CassandraSession]:
        name = new_session_name()
        cluster = self.cluster
        ownership = EtcdOwnership(
            cluster.etcd,
            cluster.name,
            Member(self.name, name, self._address),
            ttl_s=self._config.cluster.etcd.lease_ttl_s,
        )
        counts = self.node.counts
        journal = CassandraSession(
            cluster.store,
            name,
            self.name,
            cluster.shard_count,
            timed=Timed(counts.appends.add, counts.fence_reads.add),
        )
        return ownership, journal

    def _followers_of(self, journal: JournalSession) -> Follower:
        assert isinstance(journal, CassandraSession)
        self._rows = AccountRows(
            self.cluster.store, journal, lambda: released(self.group)
        )
        if self.publisher is None:
            return self._rows
        return Followers(self._rows, self.publisher.following(journal))

    def rows_samples(self) -> Iterator[Sample]:
        return iter(()) if self._rows is None else self._rows.samples()

    async def _tidy(self, ownership: ShardOwnership, journal: JournalSession) -> None:
        assert isinstance(journal, CassandraSession)
        await self.retention.run(ownership, journal.name)

    async def listen(self, stack: AsyncExitStack) -> None:
        """For the other nodes; they are told where. Raises PeerError."""
        server = await listen(self.answering, self._listen_at, self._contexts[0])
        port = server.sockets[0].getsockname()[1]
        self._address = str(Address(self._listen_at.host, port))
        log.event(
            _log, logging.INFO, "listening for nodes",
            node=self.name, address=self._address,
        )  # fmt: skip

        def close() -> None:
            server.close()
            self.answering.close("the node stops")

        stack.callback(close)

    async def call(self, shard: int, body: bytes, *, may_repeat: bool) -> bytes:
        """See `switch.admin.cluster.Calls`."""
        try:
            return await self.caller.call(shard, body, may_repeat=may_repeat)
        except CallFailed as error:
            doubt = ": it may have been done" if error.is_unknown else ""
            raise AdminError(503, f"{error}{doubt}") from None


class ClusteredSwitch:
    """One running node. `run` returns when it was asked to stop."""

    def __init__(
        self,
        config: Config,
        languages: Mapping[str, Language],
        cluster: Cluster,
        load: Callable[[], Config],
    ) -> None:
        self._config = config
        self._load = load
        self._languages = languages
        self._cluster = cluster
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._has_started = False
        settings = config.cluster
        publishing = _publisher_settings(config)
        self._publisher = NodePublisherProcess(publishing)
        self._follower: NodeFollowerProcess | None = None
        if settings.read_model:
            self._follower = NodeFollowerProcess(_follower_settings(config, cluster))
        self._disks = Disks(
            {
                "data": Path(publishing.data_directory),
                "events": Path(publishing.events_directory),
            }
        )
        self._node = ClusterNode(
            config,
            settings.node,
            settings.peer.listen,
            languages,
            cluster,
            self._publisher,
        )

    async def run(self) -> None:
        node = self._node
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self._links = Links(
            node.group,
            node.dispatcher,
            clock=node.clock,
            forward=node.forwarder.forward,
        )
        reloading = Reloading(
            self._config, self._load, self._links, partial(expect_links, node.prints)
        )
        loop.add_signal_handler(signal.SIGHUP, reloading.ask)
        async with AsyncExitStack() as stack:
            await node.listen(stack)
            self._http = self._make_http(self._make_search(stack))
            await self._http.start()
            stack.push_async_callback(self._http.stop)
            self._publisher.start()
            stack.push_async_callback(self._publisher.stop, drain_seconds=DRAIN_S)
            if self._follower is not None:
                self._follower.start()
                stack.push_async_callback(self._follower.stop, drain_seconds=0.0)
            work = [
                asyncio.create_task(node.node.run()),
                asyncio.create_task(tending.end_holds(node.group, node.clock)),
                asyncio.create_task(reloading.run()),
                asyncio.create_task(self._disks.watch()),
            ]
            for task in work:
                task.add_done_callback(self._work_ended)
            await self._links.change(self._config.links, self._languages)
            self._has_started = True
            await self._stopping.wait()
            log.event(_log, logging.INFO, "stopping")
            await self._stop(*work)
            if self._failure is not None:
                raise self._failure
        log.event(_log, logging.INFO, "stopped")

    async def _stop(
        self, node: asyncio.Task[None], *beside: asyncio.Task[None]
    ) -> None:
        if self._failure is None:
            await self._links.drain()
            # Its shards' next owners publish the rest, but there may be none.
            await self._publisher.drained(DRAIN_S)
            self._node.node.stop()
            await node
        else:
            await self._links.abort()
        for task in (node, *beside):
            task.cancel()
        await asyncio.gather(node, *beside, return_exceptions=True)

    def _work_ended(self, task: asyncio.Task[None]) -> None:
        """What goes on for ever has ended: nothing may rely on the rest."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._node.group.stop(RuntimeError("the node has failed"))
            log.event(
                _log, logging.CRITICAL, "failed, nothing is answered any more",
                reason=f"{type(error).__name__}: {error}",
            )  # fmt: skip
            self._stopping.set()

    def _make_search(self, stack: AsyncExitStack) -> Search | NoSearch:
        if self._follower is None:
            return NoSearch()
        search = Search(node_directory(self._config) / READ_MODEL_NAME)
        stack.callback(search.close)
        return search

    def _make_http(self, search: Search | NoSearch) -> HttpServer:
        config, cluster, node = self._config, self._cluster, self._node
        registry, collector = make_registry(switch.__version__)
        collector.add(self._samples)
        collector.add(self._links.samples)
        collector.add(self._publisher_samples)
        if self._follower is not None:
            collector.add(self._follower.samples)
        collector.add(self._disks.samples)
        desk = ClusterDesk(node, cluster.store, cluster.keys, cluster.shard_count)
        tokens = config.admin.tokens_file or _tokens_of(config)
        importer = ClusterImporter(
            cluster.keys,
            cluster.shard_count,
            node.clock,
            node_directory(config),
            self._pieces,
        )
        admin = Admin(desk, importer, search, TokenFile(tokens), switch.__version__)
        return HttpServer(
            config.http.listen.host,
            config.http.listen.port,
            registry=registry,
            not_ready=self._not_ready,
            details=self._details,
            not_healthy=self._not_healthy,
            routes=admin.routes(),
        )

    def _pieces(self, wanted: Wanted) -> Pieces:
        return Pieces(
            self._node.caller.call,
            wanted.what,
            skip_existing=wanted.skip_existing,
            again="existing ones skipped",
            who=wanted.told["operator"],
            reason=wanted.told["reason"],
        )

    # -- what operators see

    def _not_healthy(self) -> Sequence[str]:
        return [] if self._failure is None else ["the node has failed"]

    def _not_ready(self) -> Sequence[str]:
        if self._failure is not None:
            return self._not_healthy()
        if self._stopping.is_set():
            return ["stopping"]
        if not self._has_started:
            return ["not listening yet"]
        return self._links.not_ready("Cassandra") or self._node.node.not_ready()

    def _details(self) -> Mapping[str, object]:
        found = {
            "node": self._node.name,
            "cluster": self._cluster.name,
            "shards": self._node.node.owners(),
            "links_down": self._links.down() if self._has_started else {},
            "follower": self._follower_fault(),
            "publisher": self._publisher.faults if self._has_started else {},
            "disks_low": self._disks.low(),
        }
        return {name: value for name, value in found.items() if value}

    def _follower_fault(self) -> str | None:
        if self._follower is None or not self._has_started:
            return None
        return self._follower.fault

    def _publisher_samples(self) -> Iterator[Sample]:
        entries = sum(shard.state.sequence for shard in self._node.group.shards)
        yield from self._publisher.samples(self._publisher.released_number, entries)

    def _samples(self) -> Iterator[Sample]:
        node = self._node
        forwarder, answering = node.forwarder, node.answering
        yield from tending.samples(node.group, node.limits)
        yield from node.node.samples()
        yield from node.rows_samples()
        yield from node.retention.samples()
        yield Sample("cluster_nodes_up", sum(line.is_up for line in _lines(forwarder)))
        yield Sample("forwarded_pending", forwarder.pending)
        yield Sample("forwarded_expired", forwarder.expired)
        yield Sample("voids_made", forwarder.voids_made)
        yield Sample("voids_given_up", forwarder.voids_given_up)
        yield Sample("asked_by_nodes", answering.asked)
        yield Sample("asked_not_mine", answering.not_mine)
        yield Sample("asked_refused", answering.refused)


def expect_links(
    prints: Mapping[str, str], config: Config, languages: Mapping[str, Language]
) -> None:
    """What is passed on to other nodes goes by the links that this one began with, as
    they were read then: `prints`. Raises ConfigError for others."""
    problems = []
    for name, (codec, dialect) in languages.items():
        began_as = prints.get(name)
        if began_as is None:
            problems.append(
                f"links.{name}: expected the links that the node began with, got "
                "another one: start it again"
            )
        elif began_as != fingerprint(codec, dialect, config.links[name].scheme):
            problems.append(
                f"links.{name}: expected the spec, dialect and scheme that the node "
                "began with, got others: start it again"
            )
    if problems:
        raise ConfigError(*problems)


def certificates(
    config: Config,
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """For nodes that connect to us, and for those to which we do. Raises PeerError."""
    peer = config.cluster.peer
    if not peer.cert:
        return None, None
    return contexts(Certificates(peer.cert, peer.key, peer.ca))


def _lines(forwarder: Forwarder) -> list[PeerLine]:
    return list(forwarder.lines.values())


def _follower_settings(config: Config, cluster: Cluster) -> FollowerSettings:
    return FollowerSettings(
        data_directory=str(node_directory(config)),
        cassandra=config.cluster.cassandra,
        shard_count=cluster.shard_count,
        log_level=config.log.level,
        log_format=config.log.format,
    )


def _publisher_settings(config: Config) -> PublisherSettings:
    data = node_directory(config)
    events = config.publish.directory or data / EVENTS_NAME
    return PublisherSettings(
        data_directory=str(data),
        events_directory=str(events),
        cassandra=config.cluster.cassandra,
        file_bytes_max=config.publish.rotate_bytes,
        kafka=config.publish.kafka,
        nsq=config.publish.nsq,
        log_level=config.log.level,
        log_format=config.log.format,
    )


def _tokens_of(config: Config) -> Path:
    return node_directory(config) / TOKENS_NAME
