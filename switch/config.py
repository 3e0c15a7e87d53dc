"""The configuration: one typed tree, from a TOML file, the environment and flags.

Rule 1: everything that can be set stands here (or, for a link, in link/settings.py),
        with its unit in its name or beside it, and a default that works.
Rule 2: flags win over the environment, which wins over the file.
Rule 3: no secret stands here. Keys are files of their own; the tree may be printed.

`link.session.sign_on` is SWITCH_LINK_SESSION_SIGN_ON in the environment and

    [link.session]
    sign_on = "send"

in the file. What is unknown is an error, for it is a misspelling; only the environment
may hold names that begin with SWITCH_ and belong to no section (a container platform
puts some there).
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from switch.link._framing import size_max_of
from switch.link.settings import Address, LinkSettings

Seconds = Annotated[int, Meta(ge=1, le=366 * 86_400)]


class ConfigError(Exception):
    """A setting is not what it must be; the message names it and where it is from."""


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
    # Remembered at once in the whole process; when it is full, requests get 91.
    transactions_max: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 8_000_000


class KeysSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # The master key of the card numbers; empty: `pan.key` in the data directory, made
    # when that is initialised.
    pan_key_file: str = ""


class JournalSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # Fixed when a data directory is initialised. Field 38 tells 1024 apart.
    shards: Annotated[int, Meta(ge=1, le=1024)] = 64
    # A restart replays at most about so many entries beyond the last snapshot.
    snapshot_every_entries: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 2_000_000


class PublishSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # Where the JSON-lines files go; empty: `events` in the data directory.
    directory: str = ""
    rotate_bytes: Annotated[int, Meta(ge=4096, le=1 << 40)] = 64 << 20


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    # auto: plain lines on a terminal, JSON elsewhere.
    format: Literal["auto", "plain", "json"] = "auto"


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    data_directory: str = "switch-data"
    link: LinkSettings = LinkSettings()
    http: HttpSettings = HttpSettings()
    admin: AdminSettings = AdminSettings()
    ledger: LedgerSettings = LedgerSettings()
    keys: KeysSettings = KeysSettings()
    journal: JournalSettings = JournalSettings()
    publish: PublishSettings = PublishSettings()
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
    """`flags` are by path ("link.listen"); None means that the flag was not given."""
    leaves = dict(_leaves(Config))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for path, value, source in (
        *_from_file(file, leaves),
        *_from_environment(environment or {}, leaves),
        *_from_flags(flags or {}, leaves),
    ):
        # Only the file has types; the environment and flags may give text.
        strict = file is not None and source == str(file)
        values[path] = _convert(path, leaves[path], value, source, strict=strict)
        sources[path] = source
    config: Config = _build(Config, "", values)
    _check(config, sources)
    return Loaded(config, sources)


def effective(config: Config) -> dict[str, Any]:
    """The whole tree as plain values, for JSON."""
    tree: dict[str, Any] = _plain(config)
    return tree


def to_toml(config: Config, sources: Mapping[str, str] | None = None) -> str:
    """The whole tree as a TOML file; with `sources`, saying where each came from."""
    lines: list[str] = []
    section = ""
    for path, _ in _leaves(Config):
        head, _, name = path.rpartition(".")
        if head != section:
            lines += ["", f"[{head}]"]
            section = head
        value = _value(config, path)
        text = json.dumps(str(value) if isinstance(value, Address) else value)
        source = "" if sources is None else f"  # {sources.get(path, 'default')}"
        lines.append(f"{name} = {text}{source}")
    return "\n".join(lines) + "\n"


def _leaves(struct: type[Struct], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, type) of every setting; those of a section before its sub-sections."""
    hints = get_type_hints(struct, include_extras=True)
    sections = [n for n, hint in hints.items() if _is_section(hint)]
    for name in hints:
        if name not in sections:
            yield prefix + name, hints[name]
    for name in sections:
        yield from _leaves(hints[name], f"{prefix}{name}.")


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Struct) and hint is not Address


def _from_file(
    file: str | Path | None, leaves: Mapping[str, Any]
) -> Iterator[tuple[str, Any, str]]:
    if file is None:
        return
    try:
        tree = tomllib.loads(Path(file).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {(error.strerror or str(error)).lower()}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: expected TOML: {error}") from None
    yield from _flatten(tree, "", str(file), leaves)


def _flatten(
    tree: Mapping[str, Any], prefix: str, source: str, leaves: Mapping[str, Any]
) -> Iterator[tuple[str, Any, str]]:
    for name, value in tree.items():
        path = prefix + name
        if path in leaves:
            yield path, value, source
        elif not any(leaf.startswith(path + ".") for leaf in leaves):
            raise _unknown(path, source, leaves)
        elif isinstance(value, dict):
            yield from _flatten(value, path + ".", source, leaves)
        else:
            raise ConfigError(f"{path}: expected a section, got {value!r} ({source})")


def _from_environment(
    environment: Mapping[str, str], leaves: Mapping[str, Any]
) -> Iterator[tuple[str, Any, str]]:
    names = {ENVIRONMENT_PREFIX + _variable(path): path for path in leaves}
    sections = {
        ENVIRONMENT_PREFIX + _variable(path.split(".")[0]) + "_"
        for path in leaves
        if "." in path
    }
    for variable in sorted(environment):
        if variable in names:
            yield names[variable], environment[variable], variable
        elif variable.startswith(tuple(sections)):
            raise _unknown(variable, "environment", names)


def _variable(path: str) -> str:
    return path.replace(".", "_").upper()


def _from_flags(
    flags: Mapping[str, Any], leaves: Mapping[str, Any]
) -> Iterator[tuple[str, Any, str]]:
    for path, value in flags.items():
        if path not in leaves:
            raise _unknown(path, "flags", leaves)
        if value is not None:
            yield path, value, "flag"


def _unknown(name: str, source: str, known: Mapping[str, Any]) -> ConfigError:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ConfigError(f"{name}: unknown setting ({source}){hint}")


def _convert(path: str, hint: Any, value: Any, source: str, *, strict: bool) -> Any:
    try:
        if hint is Address:
            if isinstance(value, Address):
                return value
            return Address.parse(value)
        return msgspec.convert(value, hint, strict=strict)
    except (ValueError, AttributeError):  # ValidationError is a ValueError
        raise ConfigError(
            f"{path}: expected {_describe(hint)}, got {value!r} ({source})"
        ) from None


def _describe(hint: Any) -> str:
    if hint is Address:
        return "HOST:PORT"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    if get_origin(hint) is Annotated:
        base, meta = get_args(hint)
        assert base is int
        return f"an integer from {meta.ge} to {meta.le}"
    return {bool: "true or false", str: "text"}[hint]


def _build(struct: type[Struct], prefix: str, values: Mapping[str, Any]) -> Any:
    chosen: dict[str, Any] = {}
    for name, hint in get_type_hints(struct, include_extras=True).items():
        path = prefix + name
        if _is_section(hint):
            chosen[name] = _build(hint, path + ".", values)
        elif path in values:
            chosen[name] = values[path]
    return struct(**chosen)


def _check(config: Config, sources: Mapping[str, str]) -> None:
    """What no single setting can say alone."""
    link = config.link
    body_size_max = size_max_of(link.framing, link.inclusive)
    if link.frame_size_max > body_size_max:
        raise ConfigError(
            f"link.frame_size_max: expected at most {body_size_max} bytes with "
            f"framing {link.framing}, got {link.frame_size_max} "
            f"({sources.get('link.frame_size_max', 'default')})"
        )
    if config.http.listen == link.listen and link.listen.port:
        raise ConfigError(
            f"http.listen: expected an address other than link.listen, got "
            f"{config.http.listen} ({sources.get('http.listen', 'default')})"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    return value


def _value(config: Config, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value
