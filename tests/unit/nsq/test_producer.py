"""Messages to some of several nsqd, of which some are not what they should be."""

import asyncio

import pytest

from switch.nsq.consumer import Consumer, Subscription
from switch.nsq.errors import NsqConnectionError
from switch.nsq.producer import (
    BATCH_BYTES_MAX,
    BATCH_MESSAGES_MAX,
    CUT_OFF_MAX,
    PART_BYTES,
    SMALL_BYTES,
    Producer,
)
from switch.nsq.protocol import Message
from tests.servers.nsq import Nsqd
from tests.unit.nsq.peer import OK, Line, bodies_of, frame, peer, run, until

SECONDS = 30.0


class Taking:
    """The script of an nsqd that takes all there is, or `at_most` so many commands;
    then the connection ends. `refuses` a body with the error frame of that code."""

    def __init__(self, at_most: int = 1 << 30, refuses: bytes = b"none") -> None:
        self.batches: list[list[bytes]] = []
        self._at_most = at_most
        self._refuses = refuses

    @property
    def taken(self) -> list[bytes]:
        return [body for batch in self.batches for body in batch]

    async def __call__(self, line: Line) -> None:
        await line.greet()
        while len(self.batches) < self._at_most:
            words, body = await line.expect("MPUB")
            assert words == ["MPUB", "t"]
            bodies = bodies_of(body)
            if self._refuses in bodies:
                line.say(frame(1, b"E_BAD_MESSAGE MPUB message too big"))
                return
            self.batches.append(bodies)
            line.say(OK)


def test_batches_are_bounded_by_count_and_by_size_and_keep_the_order():
    async def test() -> None:
        nsqd = Taking()
        async with peer(nsqd) as host:
            producer = Producer([host], timeout_seconds=SECONDS)
            await producer.open()
            small = [b"%d" % number for number in range(2 * BATCH_MESSAGES_MAX + 1)]
            assert await producer.publish("t", small) == {}
            assert [len(batch) for batch in nsqd.batches] == [
                BATCH_MESSAGES_MAX,
                BATCH_MESSAGES_MAX,
                1,
            ]
            large = [bytes(BATCH_BYTES_MAX // 2 + 1), b"x", bytes(BATCH_BYTES_MAX + 1)]
            await producer.publish("t", large)
            assert [len(batch) for batch in nsqd.batches[3:]] == [2, 1]
            assert nsqd.taken == small + large
            assert await producer.publish("t", []) == {}
            await producer.close()

    run(test())


def test_each_message_goes_to_as_many_as_there_shall_be_copies():
    async def test() -> None:
        three = [Taking(), Taking(), Taking()]
        async with (
            peer(three[0]) as one,
            peer(three[1]) as two,
            peer(three[2]) as other,
        ):
            producer = Producer([one, two, other], copies=2, timeout_seconds=SECONDS)
            await producer.open()
            await until(lambda: producer.hosts_down == 0)
            sent = [b"%d" % number for number in range(30)]
            for body in sent:
                await producer.publish("t", [body])
            await until(lambda: producer.owed == 0)
            everything = [body for nsqd in three for body in nsqd.taken]
            assert sorted(everything) == sorted(sent * 2)
            for nsqd in three:
                # None has two of one, and all have some.
                assert len(set(nsqd.taken)) == len(nsqd.taken) == 20
            await producer.close()

    run(test())


def test_when_one_ends_another_takes_over_what_it_did_not_acknowledge():
    async def test() -> None:
        async def gone(line: Line) -> None:
            await line.greet()
            await line.expect("MPUB")  # and no answer

        good = Taking()
        async with peer(gone) as bad, peer(good) as host:
            producer = Producer([bad, host], timeout_seconds=SECONDS)
            await producer.open()
            await until(lambda: producer.hosts_down == 0)
            sent = [b"%d" % number for number in range(10)]
            for body in sent:
                await producer.publish("t", [body])
            # And of two commands both.
            more = [b"%d" % number for number in range(BATCH_MESSAGES_MAX + 1)]
            for _ in range(2):
                await producer.publish("t", more)
            assert good.taken == sent + more + more
            await producer.close()

    run(test())


def test_a_second_copy_is_owed_until_its_nsqd_is_back(tmp_path):
    async def test() -> None:
        good = Taking()
        away = Nsqd(tmp_path)
        async with peer(good) as host:
            producer = Producer([host, away.address], copies=2, timeout_seconds=SECONDS)
            await producer.open()
            for number in range(5):
                await producer.publish("t", [b"%d" % number])
            assert len(good.taken) == producer.owed == 5
            assert producer.hosts_down == 1
            assert producer.settled == 0
            with away:
                await until(lambda: producer.owed == producer.hosts_down == 0)
                await until(lambda: producer.settled == 5)
                got = await take("t", away.address, 5)
            assert sorted(got) == sorted(good.taken)
            assert producer.missed == 0
            await producer.close()

    run(test())


async def take(topic: str, host: str, count: int) -> list[bytes]:
    taken: list[bytes] = []

    async def handle(message: Message) -> None:
        taken.append(message.body)

    consumer = Consumer(Subscription(topic, "c", nsqd=(host,)), handle)
    task = asyncio.create_task(consumer.run())
    await until(lambda: len(taken) >= count)
    await consumer.drain(SECONDS)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return taken


def test_what_is_owed_is_bounded_and_the_oldest_are_given_up_and_counted():
    async def test() -> None:
        good = Taking()
        async with peer(good) as host, peer(Taking()) as nobody:
            pass
        async with peer(good) as host:
            producer = Producer(
                [host, nobody],
                copies=2,
                timeout_seconds=SECONDS,
                owed_bytes_max=3 * (100 + PART_BYTES),
            )
            await producer.open()
            for number in range(10):
                await producer.publish("t", [b"%d" % number * 100])
            assert len(good.taken) == 10
            assert (producer.owed, producer.missed) == (3, 7)
            assert producer.settled == 7
            await producer.close()

    run(test())


def test_nothing_is_owed_for_longer_than_the_bound():
    """Though nothing else is sent any more."""

    async def test() -> None:
        good = Taking()
        async with peer(good) as host, peer(Taking()) as nobody:
            pass
        async with peer(good) as host:
            producer = Producer(
                [host, nobody], copies=2, timeout_seconds=SECONDS, owed_seconds_max=0.2
            )
            await producer.open()
            await producer.publish("t", [b"x", b"y"])
            assert (producer.owed, producer.settled) == (2, 0)
            await until(lambda: producer.owed == 0)
            await until(lambda: producer.settled == 1)
            assert producer.missed == 2
            await producer.close()

    run(test())


def test_what_nobody_took_in_time_is_not_owed():
    async def deaf(line: Line) -> None:
        await line.greet()
        await line.until_closed()

    async def test() -> None:
        async with peer(deaf) as host:
            producer = Producer([host], timeout_seconds=0.1)
            await producer.open()
            with pytest.raises(NsqConnectionError):
                await producer.publish("t", [b"x"])
            assert (producer.owed, producer.settled) == (0, 1)
            await producer.close()

    run(test())


@pytest.mark.parametrize("place", [0, 1, 6, 9])
def test_a_message_that_is_refused_is_told_and_the_others_are_taken(place):
    async def test() -> None:
        nsqd = Taking(refuses=b"bad")
        sent = [b"%d" % number for number in range(10)]
        sent[place] = b"bad"
        async with peer(nsqd) as host:
            producer = Producer([host], timeout_seconds=SECONDS)
            await producer.open()
            refused = await producer.publish("t", sent)
            assert list(refused) == [place]
            assert "E_BAD_MESSAGE" in refused[place]
            assert nsqd.taken == sent[:place] + sent[place + 1 :]
            await producer.close()

    run(test())


class Limited:
    """An nsqd that closes, unheard, on more than so many bytes at once."""

    def __init__(self, bytes_max: int) -> None:
        self.taken: list[bytes] = []
        self.cut_offs = 0
        self._bytes_max = bytes_max

    async def __call__(self, line: Line) -> None:
        await line.greet()
        while True:
            _, body = await line.expect("MPUB")
            bodies = bodies_of(body)
            if sum(map(len, bodies)) > self._bytes_max:
                self.cut_offs += 1
                return
            self.taken += bodies
            line.say(OK)


def test_what_is_cut_off_again_and_again_is_sent_in_halves():
    """And once that is known, no more is sent at once."""

    async def test() -> None:
        nsqd = Limited(10_000)
        async with peer(nsqd) as host:
            producer = Producer([host], timeout_seconds=SECONDS)
            await producer.open()
            sent = [b"%07d" % number * 100 for number in range(200)]
            assert await producer.publish("t", sent) == {}
            assert sorted(nsqd.taken) == sent
            cut_offs = nsqd.cut_offs
            assert cut_offs <= CUT_OFF_MAX * 5
            assert await producer.publish("t", sent) == {}
            assert nsqd.cut_offs == cut_offs
            await producer.close()

    run(test())


def test_a_message_that_is_cut_off_again_and_again_is_refused_unless_it_is_small():
    async def test() -> None:
        nsqd = Limited(SMALL_BYTES)
        async with peer(nsqd) as host:
            producer = Producer([host], timeout_seconds=SECONDS)
            await producer.open()
            sent = [b"x", bytes(SMALL_BYTES + 1), b"y"]
            refused = await producer.publish("t", sent)
            assert list(refused) == [1]
            assert f"cut off {CUT_OFF_MAX} times" in refused[1]
            assert nsqd.taken == [b"x", b"y"]
            await producer.close()
        times = 0

        async def short(line: Line) -> None:
            nonlocal times
            times += 1
            if times > CUT_OFF_MAX + 3:
                await nsqd(line)
            await line.greet()
            await line.expect("MPUB")

        async with peer(short) as host:
            producer = Producer([host], timeout_seconds=SECONDS)
            await producer.open()
            assert await producer.publish("t", [bytes(SMALL_BYTES)]) == {}
            await producer.close()

    run(test())


@pytest.mark.parametrize("option", ["-max-body-size=5000", "-max-msg-size=500"])
def test_a_real_nsqd_with_small_limits_gets_what_it_takes(tmp_path, option):
    async def test() -> None:
        with Nsqd(tmp_path, options=[option]) as nsqd:
            producer = Producer([nsqd.address], timeout_seconds=SECONDS)
            await producer.open()
            sent = [b"%04d" % number * 100 for number in range(1500)]
            sent[700] = bytes(6000)
            refused = await producer.publish("t", sent)
            assert list(refused) == [700]
            got = await take("t", nsqd.address, 1499)
            assert set(got) == {*sent[:700], *sent[701:]}
            await producer.close()

    run(test())


def test_an_nsqd_that_comes_and_goes_misses_nothing():
    """It ends after every second command, and is there again."""

    async def test() -> None:
        taken: list[bytes] = []

        async def short(line: Line) -> None:
            await line.greet()
            for _ in range(2):
                _, body = await line.expect("MPUB")
                taken.extend(bodies_of(body))
                line.say(OK)

        async with peer(short) as host:
            producer = Producer([host], timeout_seconds=SECONDS)
            await producer.open()
            sent = [b"%d" % number for number in range(12)]
            for body in sent:
                await producer.publish("t", [body])
            assert set(taken) == set(sent)
            await producer.close()

    run(test())


def test_with_nobody_there_it_is_said_who_was_looked_for():
    async def test() -> None:
        async with peer(Taking()) as host:
            pass
        producer = Producer([host], timeout_seconds=SECONDS)
        with pytest.raises(NsqConnectionError, match=f"got none: {host}: expected nsq"):
            await producer.open()
        await producer.close()

    run(test())


def test_what_nobody_acknowledges_in_time_is_an_error_and_not_kept():
    async def deaf(line: Line) -> None:
        await line.greet()
        await line.until_closed()

    async def test() -> None:
        async with peer(deaf) as host:
            producer = Producer([host], timeout_seconds=0.2)
            await producer.open()
            with pytest.raises(NsqConnectionError, match="expected an nsqd to take"):
                await producer.publish("t", [b"x"])
            assert producer.owed == 0
            await producer.close()

    run(test())
