"""What a configuration needs beyond itself: specifications and files that can be used.

`switch serve` looks before it makes anything, a reload before it changes anything, and
`switch config check` does nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from iso8583 import Codec, load_dialect, load_spec
from switch.cluster import access
from switch.cluster.settings import ClusterSettings
from switch.config import Config, ConfigError, load
from switch.keys import sealed_file, wrapping
from switch.keys.port import KeysError
from switch.keys.wrapping import WrappingKey
from switch.link.links import Language
from switch.link.management import NetworkMessages
from switch.peer.errors import PeerError
from switch.peer.sockets import Certificates, contexts


def load_languages(config: Config) -> dict[str, Language]:
    """What each link speaks. Raises ConfigError with all that cannot be used."""
    languages: dict[str, Language] = {}
    problems = []
    for name, link in config.links.items():
        try:
            codec = Codec(load_spec(link.spec))
            dialect = load_dialect(link.spec, codec.spec)
            NetworkMessages(codec, lambda: 0, dialect)
            languages[name] = codec, dialect
        except ValueError as error:
            problems.append(f"links.{name}.spec: {error}")
    if problems:
        raise ConfigError(*problems)
    return languages


def check(file: Path, environment: Mapping[str, str]) -> Config:
    """As a daemon would run with it. Raises ConfigError with all that is wrong."""
    config = load(file, environment).config
    if problems := problems_of(config):
        raise ConfigError(*problems)
    return config


def problems_of(config: Config) -> Sequence[str]:
    """What of all that it names cannot be used."""
    problems: list[str] = []
    try:
        load_languages(config)
    except ConfigError as error:
        problems += error.problems
    keys: Sequence[WrappingKey] = ()
    if config.keys.wrapping_key_file:
        try:
            keys = wrapping.load(config.keys.wrapping_key_file)
        except KeysError as error:
            problems.append(f"keys.wrapping_key_file: {error}")
    if config.keys.pan_key_file:
        try:
            sealed_file.load(config.keys.pan_key_file, keys)
        except KeysError as error:
            problems.append(f"keys.pan_key_file: {error}")
    problems += _problems_of_cluster(config.cluster, keys)
    return problems


def _problems_of_cluster(
    settings: ClusterSettings, keys: Sequence[WrappingKey]
) -> Iterator[str]:
    """Whether there is a cluster is for `switch cluster init` to say, and so is a key
    that is not there yet."""
    if not settings.name:
        return
    if Path(settings.pan_key_file).exists():
        try:
            sealed_file.load(settings.pan_key_file, keys)
        except KeysError as error:
            yield f"cluster.pan_key_file: {error}"
    for section, files in (("etcd", settings.etcd), ("cassandra", settings.cassandra)):
        try:
            access.read(f"cluster.{section}", files)
        except access.AccessError as error:
            yield str(error)
    peer = settings.peer
    if peer.cert:
        try:
            contexts(Certificates(peer.cert, peer.key, peer.ca))
        except PeerError as error:
            yield f"cluster.peer: {error}"
