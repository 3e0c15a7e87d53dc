"""SIGHUP: the configuration is read again, and the links become what it says.

A configuration that is wrong changes nothing. What is not about links is the same until
the next start, and said to be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from switch.check import load_languages
from switch.config import Config, ConfigError, settings_of
from switch.link.errors import ListenError
from switch.link.links import Language, Links
from switch.observe.log import event

_log = logging.getLogger("switch.app")

# Raises ConfigError if the links that run cannot become these.
Check = Callable[[Config, Mapping[str, Language]], object]


def _anything(config: Config, languages: Mapping[str, Language]) -> None:
    pass


class Reloading:
    """`ask` is for the signal; `run` goes on for ever."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        links: Links,
        check: Check = _anything,
    ) -> None:
        """`config` is what it began with."""
        self._config = config
        self._load = load
        self._links = links
        self._check = check
        self._asked = asyncio.Event()

    def ask(self) -> None:
        self._asked.set()

    async def run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self._reload()
            except ConfigError as error:
                for problem in error.problems:
                    _say_not_changed(problem)
            except ListenError as error:
                _say_not_changed(error)

    async def _reload(self) -> None:
        config = self._load()
        languages = load_languages(config)
        self._check(config, languages)
        change = await self._links.change(config.links, languages)
        has, asked = settings_of(self._config), settings_of(config)
        for path, value in asked.items():
            # The links have been changed.
            if not path.startswith("links.") and value != has[path]:
                event(
                    _log,
                    logging.WARNING,
                    "setting is the same until the next start",
                    setting=path,
                    has=has[path],
                    asked=value,
                )
        event(
            _log,
            logging.INFO,
            "configuration read again",
            started=",".join(change.started),
            replaced=",".join(change.replaced),
            ended=",".join(change.ended),
            kept=",".join(change.kept),
        )


def _say_not_changed(reason: object) -> None:
    event(
        _log,
        logging.ERROR,
        "configuration is wrong: nothing has changed",
        reason=reason,
    )
