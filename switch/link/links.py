"""All links of one switch: what the configuration says, and what it says next.

Rule 1: a link that a change leaves as it is never notices: it keeps its address, its
        connections and what they wait for.
Rule 2: a change that cannot be made changes nothing. Only an address that passes from
        one of our links to another has to be let go first; a link that does not get
        it then is down, and says so.
Rule 3: counts only grow: what a link counted that is gone goes on being told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import Struct

from iso8583 import Codec, Dialect
from switch.flow._dispatch import Dispatcher
from switch.link import descriptors
from switch.link._forwarding import Forwarded
from switch.link.dialler import LinkDialler
from switch.link.errors import ListenError
from switch.link.link import Link
from switch.link.server import LinkServer
from switch.link.settings import LinkSettings
from switch.observe.log import event
from switch.observe.metrics import METRICS, Sample, Totals
from switch.shard._group import CommitGroup

_log = logging.getLogger("switch.link")

# What is spoken on a link.
Language = tuple[Codec, Dialect]
# The dispatcher of a language and a scheme number.
MakeDispatcher = Callable[[Language, int], Dispatcher]

KINDS: dict[str, type[Link]] = {"listen": LinkServer, "dial": LinkDialler}


class Change(Struct, frozen=True):
    """The names of links, sorted."""

    started: list[str]
    replaced: list[str]
    ended: list[str]
    kept: list[str]


class Links:
    def __init__(
        self,
        group: CommitGroup,
        make_dispatcher: MakeDispatcher,
        *,
        clock: Callable[[], int],
        forward: Callable[[Forwarded], bool] | None = None,
    ) -> None:
        """`clock`: milliseconds since 1970. `forward` takes what is for other nodes."""
        self.by_name: dict[str, Link] = {}
        self._group = group
        self._make_dispatcher = make_dispatcher
        self._clock = clock
        self._forward = forward
        self._draining: dict[Link, asyncio.Task[None]] = {}
        self._ended = Totals()
        # Two changes, or a change and the end, are one after the other.
        self._lock = asyncio.Lock()
        self._is_stopping = False

    async def change(
        self, settings: Mapping[str, LinkSettings], languages: Mapping[str, Language]
    ) -> Change:
        """From the links that there are to these. Raises ListenError, and has then
        changed nothing."""
        async with self._lock:
            if self._is_stopping:
                return Change([], [], [], sorted(self.by_name))
            new = {
                name: self._make(name, wanted, languages[name])
                for name, wanted in settings.items()
                if not self._is_as(name, wanted, languages[name])
            }
            old = {
                name: link
                for name, link in self.by_name.items()
                if name in new or name not in settings
            }
            descriptors.raise_limit(settings.values())
            await self._replace(old, new)
            before = set(self.by_name)
            self.by_name = {
                name: new.get(name) or self.by_name[name] for name in settings
            }
            for link in old.values():
                task = asyncio.create_task(self._end(link))
                self._draining[link] = task
            self._set_deadline()
            return Change(
                started=sorted(new.keys() - before),
                replaced=sorted(new.keys() & before),
                ended=sorted(before - settings.keys()),
                kept=sorted(before - old.keys()),
            )

    async def drain(self) -> None:
        """Answers everything that was received, and closes."""
        async with self._lock:
            self._is_stopping = True
            await asyncio.gather(
                *(link.drain() for link in self.by_name.values()),
                *self._draining.values(),
            )

    async def abort(self) -> None:
        """Ends every connection with nothing more sent: the journal has failed."""
        async with self._lock:
            self._is_stopping = True
            links = (*self.by_name.values(), *self._draining)
            await asyncio.gather(*(link.abort() for link in links))
            await asyncio.gather(*self._draining.values())

    def down(self) -> dict[str, str]:
        """The links that are not up, and why."""
        reasons = {name: link.down() for name, link in self.by_name.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    def not_ready(self, journal: str) -> list[str]:
        """Why nothing that comes by them is answered in time. `journal` is what commits
        are written to, in words."""
        if self._group.in_flight_ms > self._group.deadline_ms:
            seconds = self._group.in_flight_ms // 1000
            return [f"{journal} has been writing for {seconds} s"]
        down = self.down()
        if len(down) == len(self.by_name):
            return [f"link {name}: {reason}" for name, reason in down.items()]
        return []

    def samples(self) -> Iterator[Sample]:
        yield from self._ended.samples()
        for link in (*self.by_name.values(), *self._draining):
            yield from link.samples()

    def _make(self, name: str, settings: LinkSettings, language: Language) -> Link:
        dispatcher = self._make_dispatcher(language, settings.scheme)
        return KINDS[settings.role](
            name, settings, dispatcher, clock=self._clock, forward=self._forward
        )

    def _is_as(self, name: str, settings: LinkSettings, language: Language) -> bool:
        """Whether the link is there, and is as wanted. A specification or a dialect in
        a file may have changed under the same name."""
        link = self.by_name.get(name)
        if link is None or (link.settings.role == "listen" and link.down()):
            return False
        codec, dialect = language
        spoken = (link.dispatcher.codec.spec, link.dispatcher.dialect)
        return link.settings == settings and spoken == (codec.spec, dialect)

    async def _replace(self, old: dict[str, Link], new: dict[str, Link]) -> None:
        waiting = [link for link in new.values() if _is_held(link, old.values())]
        started = [link for link in new.values() if link not in waiting]
        try:
            for link in started:
                await link.start()
        except ListenError:
            await asyncio.gather(*(link.abort() for link in started))
            raise
        for link in old.values():
            link.stop_opening()
        for link in waiting:
            try:
                await link.start()
            except ListenError as error:
                event(
                    _log,
                    logging.ERROR,
                    "link is down",
                    link=link.name,
                    reason=error,
                )

    async def _end(self, link: Link) -> None:
        await link.drain("the configuration has changed")
        del self._draining[link]
        for sample in link.samples():
            if METRICS[sample.name].kind != "gauge":
                self._ended.add(sample)
        self._set_deadline()

    def _set_deadline(self) -> None:
        """The group looks for late approvals when the strictest link would."""
        links = (*self.by_name.values(), *self._draining)
        self._group.deadline_ms = min(
            link.settings.answer_deadline_ms for link in links
        )


def _is_held(link: Link, old: Iterable[Link]) -> bool:
    """Whether one of the old links listens where this one will."""
    return any(
        link.settings.role == each.settings.role == "listen"
        and link.settings.address.overlaps(each.settings.address)
        for each in old
    )
