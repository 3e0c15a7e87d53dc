"""The engine for NSQ, between events and nsqd that do what a test says."""

import json

import pytest
from msgspec.structs import replace

from switch.journal.port import Commit
from switch.publish.events import events_of
from switch.publish.nsq import COUNTS, NsqEngine
from switch.publish.port import PublishError
from switch.publish.push import is_pushed
from switch.publish.settings import NsqSettings
from tests.servers.common import free_ports
from tests.unit.nsq.peer import OK, Line, bodies_of, frame, peer, run, until
from tests.unit.small_bank import full_journal


@pytest.fixture(scope="module")
def commits(tmp_path_factory) -> list[Commit]:
    """At least one entry of every kind."""
    _, journal = full_journal(tmp_path_factory.mktemp("journal"))
    found = list(journal.read(0))
    journal.close()
    return found


@pytest.fixture(scope="module")
def pushed(commits) -> list[str]:
    """The ids of what is told of."""
    events = [event for commit in commits for event in events_of(commit)]
    return [event.id for event in events if is_pushed(event)]


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


def test_what_is_to_be_pushed_goes_to_the_topic_and_nothing_else(commits, pushed):
    async def test() -> None:
        nsqd = Taking()
        async with peer(nsqd) as host:
            engine = NsqEngine(settings_of(host, topic="mine"), {})
            await engine.open()
            assert list(await engine.send(commits)) == []
            assert nsqd.ids == pushed
            assert nsqd.topics == {"mine"}
            # What nobody is told of.
            opening = commits[:1]
            assert not any(is_pushed(each) for each in events_of(opening[0]))
            assert list(await engine.send(opening)) == []
            assert nsqd.ids == pushed
            assert engine.settled == 2
            await engine.close()

    run(test())


def test_what_nsqd_refuses_is_told_by_its_event(commits, pushed):
    victim = pushed[2]

    async def test() -> None:
        nsqd = Taking(victim)
        async with peer(nsqd) as host:
            engine = NsqEngine(settings_of(host), {})
            await engine.open()
            (refused,) = await engine.send(commits)
            assert refused.event.id == victim
            assert "E_BAD_MESSAGE" in refused.reason
            assert victim not in nsqd.ids
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


def test_a_batch_is_settled_when_its_second_copy_is_there(commits, pushed):
    async def test() -> None:
        there, late = Taking(), Taking()
        (port,) = free_ports(1)
        host_late = f"127.0.0.1:{port}"
        async with peer(there) as host:
            engine = NsqEngine(settings_of(host, host_late), {})
            await engine.open()
            for number in range(3):
                await engine.send(commits)
                assert len(there.ids) == (number + 1) * len(pushed)
                assert engine.settled == 0
            async with peer(late, port=port):
                await until(lambda: engine.settled == 3)
            assert late.ids == there.ids
            await engine.close()

    run(test())


def test_what_engines_count_goes_on_with_the_next_one(commits, pushed):
    # Of 2025, and long ago by now.
    async def test() -> None:
        counts: dict[str, int] = {}
        async with peer(Taking()) as host:
            for number in (1, 2):
                settings = replace(settings_of(host), stale="drop", stale_seconds=1)
                engine = NsqEngine(settings, counts)
                await engine.open()
                await engine.send(commits)
                assert counts["dropped"] == counts["stale"] == number * len(pushed)
                await until(lambda: counts["servers_down"] == 0)
                await engine.close()

    run(test())
