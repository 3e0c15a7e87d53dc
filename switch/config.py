"""The configuration: one typed tree, from a TOML file, the environment and flags.

Rule 1: everything that can be set stands here (or, for a link, in link/settings.py),
        with its unit in its name or beside it, and a default that works.
Rule 2: flags win over the environment, which wins over the file.
Rule 3: no secret stands here. Keys are files of their own; the tree may be printed.

`ledger.hold_lifetime_s` is SWITCH_LEDGER_HOLD_LIFETIME_S in the environment. A link is
a table of the file,

    [links.visa]
    address = "0.0.0.0:8583"

    [links.visa.session]
    sign_on = "send"

and its settings are `links.visa.address` and SWITCH_LINKS_VISA_ADDRESS. The file says
which links there are; without any, the flags that name one do, and without these there
is `main`. In the environment and in flags `link.address` is the address of the only
link, or of `main`.

What is unknown is an error, for it is a misspelling; only the environment may hold
names that begin with SWITCH_ and belong to no section (a container platform puts some
there).
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from switch.cluster.settings import (
    ClusterSettings,
    ContactPoints,
    Keyspace,
    Name,
    Replication,
)
from switch.cluster.settings import missing as missing_of_cluster
from switch.link._framing import size_max_of
from switch.link.settings import MAIN, Address, LinkSettings, scheme_of
from switch.publish.settings import Hosts, KafkaSettings, NsqName, NsqSettings

Seconds = Annotated[int, Meta(ge=1, le=366 * 86_400)]


# Each has metrics of its own, so there is a bound.
LINKS_MAX = 64
LINK_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class ConfigError(Exception):
    """Settings that are not what they must be: each of `problems` names one, and where
    it is from."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        more = len(problems) - 1
        hint = f" (and {more} more: `switch config check` names them)" if more else ""
        super().__init__(problems[0] + hint)


class HttpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    listen: Address = Address("127.0.0.1", 8580)


class AdminSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # Who may administer, as `switch tokens` writes it; empty: `tokens.json` in the
    # data directory.
    tokens_file: str = ""


class LedgerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # How long an approved hold waits for its posting before it expires.
    hold_lifetime_s: Seconds = 7 * 86_400
    # How long a request is remembered, so that its repeat gets the same answer.
    duplicate_window_s: Seconds = 86_400
    # Remembered at once in the whole process; when it is full, the oldest that hold
    # nothing are forgotten early.
    transactions_max: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 8_000_000


class KeysSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # The master key of the card numbers; empty: `pan.key` in the data directory, made
    # when that is initialised.
    pan_key_file: str = ""
    # The keys that may have wrapped it; empty: it is in clear.
    wrapping_key_file: str = ""


class JournalSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # Fixed when a data directory is initialised. Field 38 tells 1024 apart.
    shards: Annotated[int, Meta(ge=1, le=1024)] = 64
    # A restart replays at most about so many entries beyond the last snapshot.
    snapshot_every_entries: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 2_000_000


class PublishSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # Where the JSON-lines files go; empty: `events` in the data directory.
    directory: str = ""
    rotate_bytes: Annotated[int, Meta(ge=4096, le=1 << 40)] = 64 << 20
    kafka: KafkaSettings = KafkaSettings()
    nsq: NsqSettings = NsqSettings()


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    # auto: plain lines on a terminal, JSON elsewhere.
    format: Literal["auto", "plain", "json"] = "auto"


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    data_directory: str = "switch-data"
    links: dict[str, LinkSettings] = msgspec.field(
        default_factory=lambda: {MAIN: LinkSettings()}
    )
    http: HttpSettings = HttpSettings()
    admin: AdminSettings = AdminSettings()
    ledger: LedgerSettings = LedgerSettings()
    keys: KeysSettings = KeysSettings()
    journal: JournalSettings = JournalSettings()
    publish: PublishSettings = PublishSettings()
    cluster: ClusterSettings = ClusterSettings()
    log: LogSettings = LogSettings()


class Loaded(Struct, frozen=True):
    """A configuration, and where each setting that is no default came from."""

    config: Config
    sources: dict[str, str]


ENVIRONMENT_PREFIX = "SWITCH_"


def load(
    file: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Loaded:
    """`flags` are by path ("http.listen"); None means that the flag was not given.

    Raises ConfigError with all that is wrong.
    """
    given = {path: value for path, value in (flags or {}).items() if value is not None}
    return _Loading(file, environment or {}, given).load()


class _Loading:
    """One load: what was found so far, and what was wrong with it."""

    def __init__(
        self,
        file: str | Path | None,
        environment: Mapping[str, str],
        flags: Mapping[str, Any],
    ) -> None:
        self._file = "" if file is None else str(file)
        self._environment = environment
        self._flags = flags
        self._tree = {} if file is None else _read(file)
        self._problems: list[str] = []
        self._links = self._link_names()
        self._leaves = dict(_leaves(Config, self._links))
        self._values: dict[str, Any] = {}
        self._sources: dict[str, str] = {}

    def load(self) -> Loaded:
        self._take_tree(self._tree, "")
        self._take_environment()
        self._take_flags()
        for name in self._links:
            self._values.setdefault(f"links.{name}.scheme", scheme_of(name))
        config: Config = _build(Config, "", self._values, self._links)
        if not self._problems:
            self._problems += _conflicts(config, self._sources)
        if self._problems:
            raise ConfigError(*self._problems)
        return Loaded(config, self._sources)

    def _link_names(self) -> tuple[str, ...]:
        links = self._tree.get("links")
        source = self._file
        names = list(links) if isinstance(links, dict) else []
        if not names:
            source = "flag"
            paths = (path.split(".") for path in self._flags)
            found = (parts[1] for parts in paths if parts[0] == "links" and parts[2:])
            names = list(dict.fromkeys(found))
        for name in names:
            if not LINK_NAME.fullmatch(name):
                self._problems.append(
                    f"links.{name}: expected a name of lower-case letters, digits and "
                    f"hyphens, 32 at most ({source})"
                )
        if len(names) > LINKS_MAX:
            self._problems.append(
                f"links: expected at most {LINKS_MAX}, got {len(names)} ({source})"
            )
        return tuple(names) or (MAIN,)

    def _take(self, path: str, value: Any, source: str) -> None:
        # Only the file has types; the environment and flags may give text.
        strict = source == self._file
        try:
            self._values[path] = _convert(
                path, self._leaves[path], value, source, strict=strict
            )
            self._sources[path] = source
        except ConfigError as error:
            self._problems += error.problems

    def _take_tree(self, tree: Mapping[str, Any], prefix: str) -> None:
        for name, value in tree.items():
            path = prefix + name
            if path in self._leaves:
                self._take(path, value, self._file)
            elif path == "link":
                self._problems.append(
                    f"link: expected a table for each link, such as "
                    f"[links.{self._links[0]}] ({self._file})"
                )
            elif not any(leaf.startswith(path + ".") for leaf in self._leaves):
                self._refuse(path, self._file, self._leaves)
            elif isinstance(value, dict):
                self._take_tree(value, path + ".")
            else:
                self._problems.append(
                    f"{path}: expected a section, got {value!r} ({self._file})"
                )

    def _take_environment(self) -> None:
        names = {_variable(path): path for path in self._leaves}
        names |= {_variable(path): path for path in self._paths_of_one_link()}
        sections = {
            _variable(path.split(".")[0]) + "_"
            for path in names.values()
            if "." in path
        }
        for variable in sorted(self._environment):
            value = self._environment[variable]
            if variable in names:
                self._take_one(names[variable], value, variable)
            elif variable.startswith(tuple(sections)):
                self._refuse(variable, "environment", names)

    def _take_flags(self) -> None:
        known = {*self._leaves, *self._paths_of_one_link()}
        for path, value in self._flags.items():
            if path in known:
                self._take_one(path, value, "flag")
            else:
                self._refuse(path, "flags", known)

    def _paths_of_one_link(self) -> list[str]:
        return [path for path, _ in _leaves(LinkSettings, (), "link.")]

    def _take_one(self, path: str, value: Any, source: str) -> None:
        if path in self._leaves:
            self._take(path, value, source)
            return
        setting = path.removeprefix("link.")
        only = self._links[0] if len(self._links) == 1 else MAIN
        if only in self._links:
            self._take(f"links.{only}.{setting}", value, source)
            return
        self._problems.append(
            f"{path}: expected one link, or one named {MAIN}, got "
            f"{', '.join(self._links)}; name it: "
            f"--set links.{self._links[0]}.{setting}=... ({source})"
        )

    def _refuse(self, name: str, source: str, known: Iterable[str]) -> None:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self._problems.append(f"{name}: unknown setting ({source}){hint}")


def _read(file: str | Path) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {(error.strerror or str(error)).lower()}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: expected TOML: {error}") from None


def effective(config: Config) -> dict[str, Any]:
    """The whole tree as plain values, for JSON."""
    tree: dict[str, Any] = _plain(config)
    return tree


def to_toml(config: Config, sources: Mapping[str, str] | None = None) -> str:
    """The whole tree as a TOML file; with `sources`, saying where each came from."""
    lines: list[str] = []
    section = ""
    for path, value in settings_of(config).items():
        head, _, name = path.rpartition(".")
        if head != section:
            lines += ["", f"[{head}]"]
            section = head
        text = _toml(value)
        source = "" if sources is None else f"  # {sources.get(path, 'default')}"
        lines.append(f"{name} = {text}{source}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {value[key]}" for key in value) + " }"
    return json.dumps(str(value) if isinstance(value, Address) else value)


def settings_of(config: Config) -> dict[str, Any]:
    """Every setting by its path."""
    return {path: _value(config, path) for path, _ in _leaves(Config, config.links)}


def _leaves(
    struct: type[Struct], links: Iterable[str], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """(path, type) of every setting; those of a section before its sub-sections."""
    hints = get_type_hints(struct, include_extras=True)
    sections = [name for name, hint in hints.items() if _is_section(hint)]
    for name in hints:
        if name not in sections:
            yield prefix + name, hints[name]
    for name in sections:
        if get_origin(hints[name]) is dict:  # the links
            for link in links:
                yield from _leaves(LinkSettings, links, f"{prefix}{name}.{link}.")
        else:
            yield from _leaves(hints[name], links, f"{prefix}{name}.")


def _is_section(hint: Any) -> bool:
    if get_origin(hint) is not None:
        return get_origin(hint) is dict and hint != Replication
    return isinstance(hint, type) and issubclass(hint, Struct) and hint is not Address


def _variable(path: str) -> str:
    return ENVIRONMENT_PREFIX + path.replace(".", "_").replace("-", "_").upper()


def _convert(path: str, hint: Any, value: Any, source: str, *, strict: bool) -> Any:
    try:
        if hint is Address:
            if isinstance(value, Address):
                return value
            return Address.parse(value)
        if hint in (Hosts, ContactPoints) and isinstance(value, str):
            value = [host.strip() for host in value.split(",") if host.strip()]
        if hint == Replication and isinstance(value, str):
            value = dict(part.strip().split("=") for part in value.split(","))
        return msgspec.convert(value, hint, strict=strict)
    except (ValueError, AttributeError):  # ValidationError is a ValueError
        raise ConfigError(
            f"{path}: expected {_describe(hint)}, got {value!r} ({source})"
        ) from None


_DESCRIPTIONS: tuple[tuple[Any, str], ...] = (
    (Address, "HOST:PORT"),
    (Hosts, "a list of HOST:PORT"),
    (ContactPoints, "a list of HOST or HOST:PORT"),
    (Replication, "{ DATACENTER = COPIES }"),
    (NsqName, "up to 64 letters, digits, '.', '_' and '-'"),
    (Name, "up to 64 letters, digits, '.', '_' and '-'"),
    (Keyspace, "up to 48 small letters, digits and '_', a letter first"),
)


def _describe(hint: Any) -> str:
    for known, words in _DESCRIPTIONS:
        if hint == known:
            return words
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    if get_origin(hint) is Annotated:
        base, meta = get_args(hint)
        assert base is int
        return f"an integer from {meta.ge} to {meta.le}"
    return {bool: "true or false", str: "text"}[hint]


def _build(
    struct: type[Struct], prefix: str, values: Mapping[str, Any], links: Iterable[str]
) -> Any:
    chosen: dict[str, Any] = {}
    for name, hint in get_type_hints(struct, include_extras=True).items():
        path = prefix + name
        if get_origin(hint) is dict and _is_section(hint):
            chosen[name] = {
                link: _build(LinkSettings, f"{path}.{link}.", values, links)
                for link in links
            }
        elif _is_section(hint):
            chosen[name] = _build(hint, path + ".", values, links)
        elif path in values:
            chosen[name] = values[path]
    return struct(**chosen)


def _conflicts(config: Config, sources: Mapping[str, str]) -> Iterator[str]:
    """What no single setting can say alone."""

    def source(path: str) -> str:
        return sources.get(path, "default")

    for name, link in config.links.items():
        path = f"links.{name}"
        body_size_max = size_max_of(link.framing, link.inclusive)
        if link.frame_size_max > body_size_max:
            yield (
                f"{path}.frame_size_max: expected at most {body_size_max} bytes with "
                f"framing {link.framing}, got {link.frame_size_max} "
                f"({source(f'{path}.frame_size_max')})"
            )
        if link.redial_min_ms > link.redial_max_ms:
            yield (
                f"{path}.redial_min_ms: expected at most redial_max_ms, "
                f"{link.redial_max_ms}, got {link.redial_min_ms} "
                f"({source(f'{path}.redial_min_ms')})"
            )
        if link.role == "dial" and link.address.port == 0:
            yield (
                f"{path}.address: expected a port to dial, got {link.address} "
                f"({source(f'{path}.address')})"
            )
    kafka = config.publish.kafka
    if kafka.bootstrap and kafka.security_protocol.startswith("SASL"):
        for name, what in (("user", "a user"), ("password_file", "a file")):
            if not getattr(kafka, name):
                yield (
                    f"publish.kafka.{name}: expected {what} with security_protocol "
                    f"{kafka.security_protocol}, got none "
                    f"({source(f'publish.kafka.{name}')})"
                )
    if kafka.key_file and not kafka.certificate_file:
        yield (
            f"publish.kafka.certificate_file: expected that of key_file, "
            f"{kafka.key_file}, got none ({source('publish.kafka.certificate_file')})"
        )
    for name, expected, got in missing_of_cluster(config.cluster):
        path = f"cluster.{name}"
        yield f"{path}: expected {expected}, got {got} ({source(path)})"
    listening = [
        (f"links.{name}.address", link.address)
        for name, link in config.links.items()
        if link.role == "listen"
    ]
    listening.append(("http.listen", config.http.listen))
    if config.cluster.name:
        listening.append(("cluster.peer.listen", config.cluster.peer.listen))
    for (one, taken), (other, address) in combinations(listening, 2):
        if address.overlaps(taken):
            yield (
                f"{other}: expected an address other than {one}, {taken}, got "
                f"{address} ({source(other)})"
            )
    for (one, first), (other, second) in combinations(config.links.items(), 2):
        paths = f"links.{one}.scheme", f"links.{other}.scheme"
        if first.scheme == second.scheme and not sources.keys() & set(paths):
            yield (
                f"{paths[1]}: expected a number: by its name it is {first.scheme}, and "
                f"so is that of {one} (default)"
            )


def _plain(value: Any) -> Any:
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value


def _value(config: Config, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value
