"""`switch replay`: captured requests out, one after the other, and their answers."""

from collections.abc import AsyncIterator, Iterable

import msgspec

import iso8583
from iso8583.describe import masked
from switch.link._framing import Framing
from switch.replay.capture import CapturedFrame
from switch.replay.client import Client, is_request
from switch.replay.errors import CaptureError


class ReplayedFrame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the capture and what came of it; card data masked."""

    line: int
    mti: str
    stan: str = ""
    pan: str = ""
    amount: str = ""
    #: an answer itself: nobody would answer it, so it isn't sent
    skipped: bool = False
    answered: bool = False
    response_mti: str = ""
    response_code: str = ""
    approval_code: str = ""
    time_ms: float = 0.0


async def replay(
    frames: Iterable[CapturedFrame],
    host: str,
    port: int,
    codec: iso8583.Codec,
    framing: Framing,
    *,
    timeout_s: float,
    sign_on: bool,
) -> AsyncIterator[ReplayedFrame]:
    """Sends each request and waits for its answer, so that order is kept.

    Once the connection is lost the rest counts as unanswered.
    """
    async with Client(host, port, codec, framing) as client:
        if sign_on:
            await client.sign_on()
        for frame in frames:
            message = read_message(codec, frame)
            if not is_request(message.mti):
                yield _describe(frame, message, skipped=True)
                continue
            answer = await client.ask(frame.body, message, timeout_s)
            if answer is None:
                yield _describe(frame, message)
                continue
            reply = masked(answer.message)
            yield _describe(
                frame,
                message,
                answered=True,
                response_mti=reply["mti"],
                response_code=reply.get(39, ""),
                approval_code=reply.get(38, ""),
                time_ms=round(answer.elapsed_ms, 3),
            )


def read_message(codec: iso8583.Codec, frame: CapturedFrame) -> iso8583.Message:
    """The message, or of a malformed one the part before the fault.

    A malformed message is sent all the same, if an answer could be told as its own.
    """
    try:
        return codec.decode(frame.body)
    except iso8583.DecodeError as error:
        if error.message is None or 11 not in error.message:
            raise CaptureError(f"line {frame.line}: {error}") from None
        return error.message


def _describe(
    frame: CapturedFrame, message: iso8583.Message, **outcome: str | bool | float
) -> ReplayedFrame:
    shown = masked(message)
    fields: dict[str, int | str | bool | float] = {
        "line": frame.line,
        "mti": message.mti,
        "stan": shown.get(11, ""),
        "pan": shown.get(2, ""),
        "amount": shown.get(4, ""),
        **outcome,
    }
    return msgspec.convert(fields, ReplayedFrame)
