"""What the switch knows of its publisher."""

import time
from collections.abc import Iterator
from types import MappingProxyType

import msgspec

from switch.companion.lag import ReleaseTimes
from switch.companion.supervisor import CompanionProcess
from switch.observe.metrics import Sample
from switch.publisher.engines import names_of
from switch.publisher.forwarder import EngineStatus
from switch.publisher.process import Settings, Status
from switch.publisher.waker import WAKE_SECONDS_MIN

_UNKNOWN = EngineStatus()


class EnginesProcess(CompanionProcess[Status]):
    """Whatever journal its engines are fed from."""

    wake_seconds_min = WAKE_SECONDS_MIN
    # Whose commits are told, where there is more than one log.
    session = ""

    def __init__(self, settings: msgspec.Struct, engines: tuple[str, ...]) -> None:
        super().__init__(settings, Status())
        self.engines = engines
        self.begin_log("")

    def begin_log(self, session: str) -> None:
        """Commits are numbered from 1 again."""
        self.session = session
        self._times = ReleaseTimes(time.monotonic())
        # What was known last: an engine that has failed is where it was.
        self._known = dict.fromkeys(self.engines, _UNKNOWN)

    @property
    def faults(self) -> dict[str, str]:
        """Why an engine does not get on, of those that do not."""
        if self.fault is not None:
            return dict.fromkeys(self.engines, self.fault)
        return {
            name: status.fault
            for name, status in self.status.engines.items()
            if status.fault is not None
        }

    @property
    def known(self) -> MappingProxyType[str, EngineStatus]:
        return MappingProxyType(self._known)

    def heard(self, status: Status) -> None:
        for name, said in status.engines.items():
            if said.commit >= 0 and said.session == self.session:
                self._known[name] = said
        self._times.forget(
            min((max(each.commit, 0) for each in self._known.values()), default=0)
        )

    def samples(self, head: int, entries: int) -> Iterator[Sample]:
        """What there is to tell, with all up to `head` answered, `entries` in all."""
        now, faults = time.monotonic(), self.faults
        yield Sample("publisher_up", int(self.is_running))
        yield Sample("publisher_restarts", self.restarts)
        for name, known in self._known.items():
            labels = (name,)
            age = self._times.age(max(known.commit, 0), head, now)
            yield Sample("publish_lag_seconds", age, labels)
            yield Sample("publish_faulty", int(name in faults), labels)
            said = self.status.engines.get(name, _UNKNOWN)
            yield Sample("publish_events", said.published, labels)
            yield Sample("publish_retries", said.retries, labels)
            yield Sample("publish_refused", said.refused, labels)
            for what, count in said.counts.items():
                yield Sample(f"publish_{what}", count, labels)
            if known.commit >= 0:
                lag = max(entries - known.entries, 0) if known.commit < head else 0
                yield Sample("publish_lag_entries", lag, labels)


class PublisherProcess(EnginesProcess):
    name = "publisher"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, names_of(settings.kafka, settings.nsq))
