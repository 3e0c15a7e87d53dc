"""One connection to an nsqd that does what it should not."""

import asyncio

import pytest

from switch.nsq import protocol
from switch.nsq.connection import Connection
from switch.nsq.errors import (
    NsqAnswerError,
    NsqConnectionError,
    NsqError,
    NsqProtocolError,
)
from tests.unit.nsq.peer import HEARTBEAT, OK, Line, frame, message, peer, run, until

MPUB = protocol.publish_many("t", [b"x"])
SECONDS = 30.0


async def stay(line: Line) -> None:
    await line.greet()
    await line.until_closed()


def test_it_says_who_it_is_and_hears_what_nsqd_can():
    about = {}

    async def script(line: Line) -> None:
        about.update(await line.greet(max_rdy_count=7))
        await line.until_closed()

    async def test() -> None:
        async with peer(script) as host:
            connection = Connection(host, heartbeat_seconds=3.0)
            await connection.open(SECONDS)
            assert connection.limits.max_rdy_count == 7
            await connection.close()
            assert connection.has_ended

    run(test())
    assert about["feature_negotiation"] is True
    assert about["heartbeat_interval"] == 3000
    assert about["output_buffer_size"] == -1


def test_heartbeats_are_answered_also_between_a_question_and_its_answer():
    async def script(line: Line) -> None:
        await line.greet()
        line.say(HEARTBEAT)
        assert await line.command() == (["NOP"], b"")
        await line.expect("MPUB")
        line.say(HEARTBEAT[:5])
        await asyncio.sleep(0)
        line.say(HEARTBEAT[5:])
        assert await line.command() == (["NOP"], b"")
        line.say(OK)
        await line.until_closed()

    async def test() -> None:
        async with peer(script) as host:
            connection = Connection(host)
            await connection.open(SECONDS)
            assert await connection.ask(MPUB, SECONDS) == b"OK"
            await connection.close()

    run(test())


def test_silence_for_two_heartbeats_is_the_end():
    async def test() -> None:
        async with peer(stay) as host:
            ended = asyncio.Event()
            connection = Connection(host, heartbeat_seconds=0.05, on_end=ended.set)
            await connection.open(SECONDS)
            await ended.wait()
            assert "expected a heartbeat" in str(connection.error)
            with pytest.raises(NsqConnectionError, match="expected a heartbeat"):
                await connection.ask(MPUB, SECONDS)
            await connection.close()

    run(test())


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", NsqProtocolError),
        (frame(9, b"?"), NsqProtocolError),
        (OK + OK, NsqProtocolError),  # nothing else was asked
        (message(b"x"), NsqProtocolError),  # nothing was subscribed to
        (frame(0, b"OK")[:-1], NsqConnectionError),  # half of it, and the end
        (b"", NsqConnectionError),
        (frame(1, b"E_BAD_TOPIC PUB topic name"), NsqAnswerError),
    ],
)
def test_whatever_nsqd_says_it_ends_with_one_error(said, error):
    async def script(line: Line) -> None:
        await line.greet()
        await line.expect("MPUB")
        line.say(said)

    async def test() -> None:
        ends = []
        async with peer(script) as host:
            connection = Connection(host, on_end=lambda: ends.append(1))
            await connection.open(SECONDS)
            try:
                await connection.ask(MPUB, SECONDS)
            except NsqError as got:
                assert isinstance(got, error)  # noqa: PT017
            await until(lambda: connection.has_ended)
            assert isinstance(connection.error, NsqError)
            await connection.close()
        assert ends == [1]

    run(test())


@pytest.mark.parametrize("what", ["reason", "answer"])
def test_what_came_before_a_reset_is_heard_before_it(what):
    """nsqd says what it refuses and closes with bytes unread, so that a reset is close
    behind. On a busy machine both are there before anybody looks."""
    said = {"reason": frame(1, b"E_BAD_BODY MPUB body too big"), "answer": OK}[what]

    async def test() -> None:
        async with peer(stay) as host:
            connection = Connection(host)
            await connection.open(SECONDS)
            asking = asyncio.create_task(connection.ask(MPUB, SECONDS))
            await asyncio.sleep(0)
            stream = connection._stream
            assert stream is not None
            stream.data_received(said)
            stream.connection_lost(ConnectionResetError("reset by peer"))
            if what == "answer":
                assert await asking == b"OK"
            else:
                with pytest.raises(NsqAnswerError, match="E_BAD_BODY"):
                    await asking
            assert connection.has_ended
            await connection.close()

    run(test())


def test_an_nsqd_that_takes_no_more_bytes_is_given_up_in_time():
    async def deaf(line: Line) -> None:
        await line.greet()
        await asyncio.Event().wait()

    async def test() -> None:
        async with peer(deaf) as host:
            connection = Connection(host)
            await connection.open(SECONDS)
            large = protocol.publish_many("t", [bytes(1 << 24)])
            with pytest.raises(NsqConnectionError, match="nothing within"):
                await connection.ask(large, 0.1)
            await connection.close()

    run(test())


@pytest.mark.parametrize("code", ["E_FIN_FAILED", "E_REQ_FAILED", "E_TOUCH_FAILED"])
def test_an_error_about_a_message_that_is_gone_ends_nothing(code):
    async def script(line: Line) -> None:
        await line.greet()
        line.say(frame(1, code.encode() + b" FIN 0123456789abcdef failed"))
        await line.expect("MPUB")
        line.say(OK)
        await line.until_closed()

    async def test() -> None:
        async with peer(script) as host:
            connection = Connection(host)
            await connection.open(SECONDS)
            assert await connection.ask(MPUB, SECONDS) == b"OK"
            assert not connection.has_ended
            await connection.close()

    run(test())


def test_an_answer_that_does_not_come_ends_it_for_it_might_come_late():
    async def test() -> None:
        async with peer(stay) as host:
            connection = Connection(host)
            await connection.open(SECONDS)
            with pytest.raises(NsqConnectionError, match=r"nothing within 0\.05 s"):
                await connection.ask(MPUB, 0.05)
            assert connection.has_ended
            await connection.close()

    run(test())


@pytest.mark.parametrize("greeting", [b"", b"not json", frame(0, b"not json")])
def test_a_stranger_is_no_nsqd(greeting):
    async def script(line: Line) -> None:
        line.say(greeting)

    async def test() -> None:
        async with peer(script) as host:
            with pytest.raises(NsqError):
                await Connection(host).open(SECONDS)

    run(test())


def test_nobody_and_somebody_who_says_nothing_are_told():
    async def silent(line: Line) -> None:
        await line.until_closed()

    async def test() -> None:
        async with peer(silent) as host:
            with pytest.raises(NsqConnectionError, match=r"nothing within 0\.05 s"):
                await Connection(host).open(0.05)
        with pytest.raises(NsqConnectionError, match="expected nsqd at"):
            await Connection(host).open(SECONDS)

    run(test())
