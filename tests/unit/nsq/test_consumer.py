"""Messages from real nsqd, and from some that are not what they should be."""

import asyncio
from collections import Counter

import pytest

from switch.nsq.consumer import Consumer, Handler, Requeue, Subscription
from switch.nsq.producer import Producer
from switch.nsq.protocol import Message
from tests.servers.nsq import Nsqd
from tests.unit.nsq.peer import OK, Line, message, peer, run, until

SECONDS = 30.0


class Running:
    """A consumer at work."""

    def __init__(self, subscription: Subscription, handler: Handler) -> None:
        self.consumer = Consumer(subscription, handler)
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Consumer:
        self.task = asyncio.create_task(self.consumer.run())
        return self.consumer

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def publish(host: str, topic: str, bodies: list[bytes]) -> None:
    producer = Producer([host], timeout_seconds=SECONDS)
    await producer.open()
    await producer.publish(topic, bodies)
    await producer.close()


def test_every_message_is_handled_and_no_more_at_once_than_asked_for(nsqd):
    sent = [b"%d" % number for number in range(200)]
    handled: list[bytes] = []
    at_once = most = 0

    async def handle(got: Message) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        handled.append(got.body)

    async def test() -> None:
        await publish(nsqd.address, "all", sent)
        subscription = Subscription("all", "c", nsqd=(nsqd.address,), in_flight=5)
        async with Running(subscription, handle):
            await until(lambda: len(handled) == 200)

    run(test())
    assert sorted(handled) == sorted(sent)
    assert 1 <= most <= 5


def test_what_the_handler_fails_on_comes_again_with_its_count(nsqd):
    seen: list[tuple[bytes, int]] = []

    async def handle(got: Message) -> None:
        seen.append((got.body, got.attempts))
        if got.body == b"fails" and got.attempts < 3:
            raise ValueError("not yet")
        if got.body == b"asks" and got.attempts < 2:
            raise Requeue(0.01)

    async def test() -> None:
        await publish(nsqd.address, "again", [b"fails", b"asks", b"good"])
        subscription = Subscription(
            *("again", "c"),
            nsqd=(nsqd.address,),
            requeue_seconds_min=0.01,
            requeue_seconds_max=0.02,
        )
        async with Running(subscription, handle):
            await until(lambda: len(seen) == 6)

    run(test())
    assert sorted(seen) == sorted(
        [
            *((b"fails", 1), (b"fails", 2), (b"fails", 3)),
            *((b"asks", 1), (b"asks", 2), (b"good", 1)),
        ]
    )


def test_a_handler_that_takes_long_keeps_its_message():
    """nsqd is told, so that it does not give the message to another."""
    touched = asyncio.Event()

    async def script(line: Line) -> None:
        await line.greet(msg_timeout=20)
        await line.expect("SUB")
        line.say(OK)
        await line.expect("RDY")
        line.say(message(b"slow"))
        for _ in range(3):
            assert await line.expect("TOUCH") == (["TOUCH", "0123456789abcdef"], b"")
        touched.set()
        while (await line.command())[0] != ["FIN", "0123456789abcdef"]:
            pass
        finished.set()
        await line.until_closed()

    finished = asyncio.Event()

    async def handle(_: Message) -> None:
        await touched.wait()

    async def test() -> None:
        async with (
            peer(script) as host,
            Running(Subscription("t", "c", nsqd=(host,)), handle),
        ):
            await finished.wait()

    run(test())


@pytest.mark.parametrize(
    "said", [b"", b"garbage that is no frame", message(b"x")[:20], message(b"x")[:8]]
)
def test_whatever_an_nsqd_does_it_is_connected_to_again(said):
    handled = asyncio.Event()

    async def bad(line: Line) -> None:
        await line.greet()
        await line.expect("SUB")
        line.say(OK)
        await line.expect("RDY")
        line.say(said)

    async def good(line: Line) -> None:
        await line.greet()
        await line.expect("SUB")
        line.say(OK)
        assert await line.expect("RDY") == (["RDY", "16"], b"")
        line.say(message(b"at last"))
        await line.expect("FIN")
        handled.set()
        await line.until_closed()

    async def handle(got: Message) -> None:
        assert got.body == b"at last"

    async def test() -> None:
        async with (
            peer(bad, good) as host,
            Running(Subscription("t", "c", nsqd=(host,)), handle),
        ):
            await handled.wait()

    run(test())


def test_an_nsqd_that_is_killed_and_started_again_goes_on(tmp_path):
    handled: list[bytes] = []

    async def handle(got: Message) -> None:
        handled.append(got.body)

    async def test() -> None:
        with Nsqd(tmp_path) as nsqd:
            subscription = Subscription("killed", "c", nsqd=(nsqd.address,))
            async with Running(subscription, handle) as consumer:
                for number in range(3):
                    await until(lambda: consumer.connected == 1)
                    await publish(nsqd.address, "killed", [b"%d" % number])
                    await until(lambda: len(handled) == number + 1)  # noqa: B023
                    nsqd.kill()
                    await until(lambda: consumer.connected == 0)
                    nsqd.start()

    run(test())
    assert Counter(handled) == {b"0": 1, b"1": 1, b"2": 1}


def test_nsqlookupd_says_who_has_a_topic_and_who_has_it_no_more(
    nsqd, nsqlookupd, tmp_path
):
    handled: list[bytes] = []

    async def handle(got: Message) -> None:
        handled.append(got.body)

    async def test() -> None:
        subscription = Subscription(
            *("found", "c"),
            # One that is not there, and one that is.
            lookupd=("127.0.0.1:1", nsqlookupd.http_address),
            lookup_seconds=0.05,
        )
        async with Running(subscription, handle) as consumer:
            await publish(nsqd.address, "found", [b"first"])
            await until(lambda: handled == [b"first"])
            with Nsqd(tmp_path, nsqlookupd) as second:
                await publish(second.address, "found", [b"second"])
                await until(lambda: handled == [b"first", b"second"])
                assert consumer.connected == 2
            await until(lambda: consumer.connected == 1)

    run(test())


def test_at_the_end_what_is_being_handled_is_finished(nsqd):
    begun, may_end = asyncio.Event(), asyncio.Event()
    handled: list[bytes] = []

    async def handle(got: Message) -> None:
        begun.set()
        await may_end.wait()
        handled.append(got.body)

    async def test() -> None:
        await publish(nsqd.address, "ending", [b"1", b"2", b"3"])
        subscription = Subscription("ending", "c", nsqd=(nsqd.address,), in_flight=1)
        async with Running(subscription, handle) as consumer:
            await begun.wait()
            draining = asyncio.create_task(consumer.drain(SECONDS))
            await asyncio.sleep(0)
            may_end.set()
            await draining
            assert len(handled) == 1
        # And the others are for whoever comes next.
        rest = []

        async def take(got: Message) -> None:
            rest.append(got.body)

        async with Running(subscription, take):
            await until(lambda: len(rest) == 2)
        assert sorted(handled + rest) == [b"1", b"2", b"3"]

    run(test())
