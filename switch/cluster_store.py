"""The cluster's store: Cassandra, etcd, the key of the card numbers; opened in order.

Whatever of it fails, what was opened before is closed again, and nothing has been
written but what `switch cluster init` says that it writes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from switch.cluster import founding
from switch.cluster.access import Access, AccessError
from switch.cluster.access import read as read_access
from switch.cluster.founding import Founded
from switch.cluster.settings import CassandraSettings, EtcdSettings
from switch.config import Config, ConfigError
from switch.journal.cassandra.acsylla_store import Settings as StoreSettings
from switch.journal.cassandra.acsylla_store import Tls as CassandraTls
from switch.journal.cassandra.cluster_store import ClusterStore
from switch.journal.cassandra.retrying import PATIENCE, settled
from switch.journal.errors import JournalMismatch
from switch.keys import sealed_file
from switch.keys.port import KeysError, PanKeys
from switch.keys.wrapping import WrappingKey
from switch.keys.wrapping import load as load_wrapping_keys
from switch.ownership.etcd.client import EtcdClient
from switch.ownership.etcd.client import Settings as ClientSettings
from switch.ownership.etcd.endpoints import Tls as EtcdTls
from switch.ownership.etcd.errors import EtcdError
from switch.ownership.port import OwnershipUnavailable


class Cluster(msgspec.Struct, frozen=True):
    name: str
    shard_count: int
    keys: PanKeys
    store: ClusterStore
    etcd: EtcdClient


@asynccontextmanager
async def open_cluster(config: Config) -> AsyncIterator[Cluster]:
    """That was initialised, and is this one. Raises JournalError, OwnershipError or
    KeysError."""
    expect_cluster(config)
    keys = load_key(config)
    async with _connected(config) as (store, etcd):
        await settled(store.open, PATIENCE)
        wanted = founded(config, keys)
        try:
            await founding.check(store, etcd, wanted)
        except EtcdError as error:
            raise OwnershipUnavailable(str(error)) from error
        yield Cluster(config.cluster.name, wanted.shards, keys, store, etcd)


async def init_cluster(config: Config) -> bool:
    """Makes what is missing of it. Whether the key was made. Raises as above."""
    expect_cluster(config)
    async with _connected(config) as (store, etcd):
        await settled(store.create, PATIENCE)
        await store.open()
        fingerprint = await store.agreed("pan_key")
        keys, is_new = _load_or_make_key(config, fingerprint)
        try:
            await founding.found(store, etcd, founded(config, keys))
        except EtcdError as error:
            raise OwnershipUnavailable(str(error)) from error
        return is_new


@asynccontextmanager
async def _connected(config: Config) -> AsyncIterator[tuple[ClusterStore, EtcdClient]]:
    async with AsyncExitStack() as stack:
        store = await connect_cassandra(config.cluster.cassandra)
        stack.push_async_callback(store.close)
        etcd = EtcdClient(etcd_settings(config.cluster.etcd))
        stack.push_async_callback(etcd.close)
        yield store, etcd


async def connect_cassandra(settings: CassandraSettings) -> ClusterStore:
    """Raises ConfigError or JournalUnknown."""
    return await ClusterStore.connect(cassandra_settings(settings))


def cassandra_settings(settings: CassandraSettings) -> StoreSettings:
    """Raises ConfigError."""
    access = _access("cluster.cassandra", settings)
    addresses = settings.addresses
    tls = None
    if access.ca is not None:
        tls = CassandraTls(access.ca, access.cert, access.key, settings.verify_host)
    return StoreSettings(
        [address.host for address in addresses],
        settings.keyspace,
        settings.replication,
        port=addresses[0].port,
        username=access.user,
        password=access.password,
        tls=tls,
    )


def etcd_settings(settings: EtcdSettings) -> ClientSettings:
    """Raises ConfigError."""
    access = _access("cluster.etcd", settings)
    tls = None
    if access.ca is not None:
        server_name = settings.server_name or None
        tls = EtcdTls(access.ca, access.cert, access.key, server_name)
    return ClientSettings(
        settings.endpoints, tls=tls, user=access.user, password=access.password
    )


def _access(section: str, files: CassandraSettings | EtcdSettings) -> Access:
    try:
        return read_access(section, files)
    except AccessError as error:
        raise ConfigError(str(error)) from None


def node_directory(config: Config) -> Path:
    """Of what is a node's alone: tokens, event files, what was set aside. There is no
    journal in it."""
    directory = Path(config.data_directory).absolute()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def expect_cluster(config: Config) -> None:
    if not config.cluster.name:
        raise ConfigError("cluster.name: expected the name of a cluster, got none")


def founded(config: Config, keys: PanKeys) -> Founded:
    """What this configuration says that all nodes have in common."""
    return Founded(config.cluster.name, config.journal.shards, keys.fingerprint)


def _wrapping(config: Config) -> Sequence[WrappingKey]:
    file = config.keys.wrapping_key_file
    return load_wrapping_keys(file) if file else ()


def load_key(config: Config) -> PanKeys:
    """That of all nodes. Raises KeysError."""
    file = config.cluster.pan_key_file
    if not Path(file).exists():
        raise KeysError(
            f"key file {file}: expected that of all nodes, which `switch cluster init` "
            "makes on the first one, got none"
        )
    return sealed_file.load(file, _wrapping(config))


def _load_or_make_key(config: Config, fingerprint: str | None) -> tuple[PanKeys, bool]:
    file = config.cluster.pan_key_file
    if Path(file).exists():
        return sealed_file.load(file, _wrapping(config)), False
    if fingerprint is not None:
        raise JournalMismatch(
            "the cluster has a key already, which hashed its card numbers",
            path=file,
            expected=f"a copy of key {fingerprint}",
            got="no file",
        )
    return sealed_file.create(file, _wrapping(config)), True
