"""What a configuration needs beyond itself: specifications and files that can be used.

`switch serve` looks before it makes anything, a reload before it changes anything, and
`switch config check` does nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from iso8583 import Codec, load_spec
from switch.config import Config, ConfigError, load
from switch.keys import sealed_file
from switch.keys.port import KeysError
from switch.link.management import NetworkMessages


def load_codecs(config: Config) -> dict[str, Codec]:
    """The codec of each link. Raises ConfigError with all that cannot be used."""
    codecs: dict[str, Codec] = {}
    problems = []
    for name, link in config.links.items():
        try:
            codecs[name] = Codec(load_spec(link.spec))
            NetworkMessages(codecs[name], lambda: 0)
        except ValueError as error:
            problems.append(f"links.{name}.spec: {error}")
    if problems:
        raise ConfigError(*problems)
    return codecs


def check(file: Path, environment: Mapping[str, str]) -> Config:
    """As a daemon would run with it. Raises ConfigError with all that is wrong."""
    config = load(file, environment).config
    problems: list[str] = []
    try:
        load_codecs(config)
    except ConfigError as error:
        problems += error.problems
    if config.keys.pan_key_file:
        try:
            sealed_file.load(config.keys.pan_key_file)
        except KeysError as error:
            problems.append(f"keys.pan_key_file: {error}")
    if problems:
        raise ConfigError(*problems)
    return config
