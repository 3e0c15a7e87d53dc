"""The engine for NSQ, between events and nsqd that do what a test says."""

import json

import pytest
from msgspec.structs import replace

from switch.publish.events import Event, events_of
from switch.publish.nsq import COUNTS, NsqEngine
from switch.publish.port import PublishError
from switch.publish.push import is_pushed
from switch.publish.settings import NsqSettings
from tests.unit.nsq.peer import OK, Line, bodies_of, frame, peer, run, until
from tests.unit.small_bank import full_journal


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> list[Event]:
    """At least one of every kind."""
    _, journal = full_journal(tmp_path_factory.mktemp("journal"))
    found = [event for commit in journal.read(0) for event in events_of(commit)]
    journal.close()
    return found


class Taking:
    """An nsqd that takes all but a push with that id."""

    def __init__(self, refused: str = "none") -> None:
        self.ids: list[str] = []
        self.topics: set[str] = set()
        self._refused = refused

    async def __call__(self, line: Line) -> None:
        await line.greet()
        while True:
            words, body = await line.expect("MPUB")
            ids = [json.loads(each)["id"] for each in bodies_of(body)]
            if self._refused in ids:
                line.say(frame(1, b"E_BAD_MESSAGE MPUB message too big"))
                return
            self.topics.add(words[1])
            self.ids += ids
            line.say(OK)


def settings_of(*hosts: str, **more: object) -> NsqSettings:
    return replace(NsqSettings(hosts), stale="send", timeout_ms=30_000, **more)


def test_what_is_to_be_pushed_goes_to_the_topic_and_nothing_else(events):
    async def test() -> None:
        nsqd = Taking()
        async with peer(nsqd) as host:
            engine = NsqEngine(settings_of(host, topic="mine"), {})
            await engine.open()
            assert list(await engine.send(events)) == []
            assert nsqd.ids == [event.id for event in events if is_pushed(event)]
            assert nsqd.topics == {"mine"}
            others = [event for event in events if not is_pushed(event)]
            assert others
            assert list(await engine.send(others)) == []
            await engine.close()

    run(test())


def test_what_nsqd_refuses_is_told_by_its_event(events):
    victim = [event for event in events if is_pushed(event)][2]

    async def test() -> None:
        nsqd = Taking(victim.id)
        async with peer(nsqd) as host:
            engine = NsqEngine(settings_of(host), {})
            await engine.open()
            (refused,) = await engine.send(events)
            assert refused.event is victim
            assert "E_BAD_MESSAGE" in refused.reason
            assert victim.id not in nsqd.ids
            await engine.close()

    run(test())


def test_with_nobody_there_it_is_a_publish_error_and_counted():
    async def test() -> None:
        async with peer(Taking()) as host:
            pass
        counts: dict[str, int] = {}
        engine = NsqEngine(settings_of(host), counts)
        with pytest.raises(PublishError, match="expected an nsqd to connect to"):
            await engine.open()
        await engine.close()
        assert counts == {**dict.fromkeys(COUNTS, 0), "servers_down": 1}

    run(test())


def test_what_engines_count_goes_on_with_the_next_one(events):
    pushed = [event for event in events if is_pushed(event)]

    async def test() -> None:
        counts: dict[str, int] = {}
        async with peer(Taking()) as host:
            for number in (1, 2):
                settings = replace(settings_of(host), stale="drop", stale_seconds=1)
                old = [replace(e, at="2020-01-01T00:00:00.000Z") for e in pushed]
                engine = NsqEngine(settings, counts)
                await engine.open()
                await engine.send(old)
                assert counts["dropped"] == counts["stale"] == number * len(pushed)
                await until(lambda: counts["servers_down"] == 0)
                await engine.close()

    run(test())
