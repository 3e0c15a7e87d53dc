import asyncio
from pathlib import Path

import pytest

from switch.link._framing import Framing
from switch.replay.capture import CapturedFrame, read_capture
from switch.replay.client import answer_mti, is_request
from switch.replay.errors import CaptureError, SessionError
from switch.replay.replay import replay

CAPTURE = Path("tests/vectors/mastercard-cis.hex")


def run_replay(responder, frames, *, timeout_s=2.0, sign_on=False, port=None):
    async def collect():
        return [
            frame
            async for frame in replay(
                frames,
                "127.0.0.1",
                port or responder.port,
                responder.codec,
                responder.framing,
                timeout_s=timeout_s,
                sign_on=sign_on,
            )
        ]

    return asyncio.run(collect())


def frame_of(responder, line=1, mti="0100", stan="000001", transmitted="0102030405"):
    fields = {"mti": mti, 2: "9999990000000015", 7: transmitted, 11: stan}
    return CapturedFrame(line, responder.codec.encode(fields))


@pytest.mark.parametrize(
    ("mti", "answer"),
    [
        *(("0100", "0110"), ("0101", "0110"), ("0120", "0130"), ("0121", "0130")),
        *(("0200", "0210"), ("0401", "0410"), ("0421", "0430"), ("0800", "0810")),
    ],
)
def test_who_is_answered_with_what(mti, answer):
    assert is_request(mti)
    assert answer_mti(mti) == answer
    assert not is_request(answer)


def test_captured_frames_are_sent_and_answered(respond):
    responder = respond(lambda request, count: "54", spec="mastercard-cis")
    captured = list(read_capture(CAPTURE, Framing("binary2")))
    frames = run_replay(responder, captured)
    assert [f.response_mti for f in frames] == ["0110", "0130", "0430"]
    assert {f.response_code for f in frames} == {"54"}
    assert [bytes(request) for request in responder.requests] == [
        frame.body for frame in captured
    ]
    assert frames[0].pan == "************1010"
    assert all(frame.time_ms > 0 for frame in frames)


def test_what_stays_unanswered_is_told_and_the_rest_goes_on(respond):
    responder = respond(lambda request, count: None if count == 1 else "00")
    sent = [frame_of(responder, line, stan=f"{line:06d}") for line in (1, 2, 3)]
    frames = run_replay(responder, sent, timeout_s=0.2)
    assert [frame.answered for frame in frames] == [True, False, True]


def test_answers_in_a_capture_are_not_sent(respond):
    responder = respond()
    frames = run_replay(responder, [frame_of(responder, mti="0110")])
    assert [frame.skipped for frame in frames] == [True]
    assert responder.requests == []


def test_a_malformed_message_with_a_stan_is_sent_all_the_same(respond):
    responder = respond()
    whole = responder.codec.encode({"mti": "0100", 11: "000042", 39: "00"})
    seen = []

    def answer(body):
        seen.append(body)
        return responder.codec.encode({"mti": "0110", 11: "000042", 39: "30"})

    responder._answer = answer
    frames = run_replay(responder, [CapturedFrame(1, whole[:-1])])
    assert seen == [whole[:-1]]
    assert frames[0].response_code == "30"


def test_a_message_whose_answer_could_not_be_told_is_refused(respond):
    responder = respond()
    with pytest.raises(CaptureError, match="line 7: MTI at offset 0: expected"):
        run_replay(responder, [CapturedFrame(7, b"\xff\xff\xff\xff")])


def test_signs_on_when_told_to(respond):
    responder = respond()
    run_replay(responder, [frame_of(responder)], sign_on=True)
    assert [r[70] for r in responder.network_requests] == ["001"]


def test_a_lost_connection_leaves_the_rest_unanswered_at_once(respond):
    responder = respond(lambda request, count: None, close_after=1)
    sent = [frame_of(responder, line, stan=f"{line:06d}") for line in range(1, 20)]
    frames = run_replay(responder, sent, timeout_s=60)
    assert [frame.answered for frame in frames] == [False] * 19


def test_no_switch_no_replay(respond):
    responder = respond()
    with pytest.raises(SessionError, match="connection to 127\\.0\\.0\\.1 port 1"):
        run_replay(responder, [frame_of(responder)], port=1)


def test_the_answer_to_another_transmission_does_not_count(respond):
    responder = respond()

    def answer(body):
        request = responder.codec.decode(body)
        fields = {"mti": "0110", 7: "0909090909", 11: request[11], 39: "00"}
        return responder.codec.encode(fields)

    responder._answer = answer
    frames = run_replay(responder, [frame_of(responder)], timeout_s=0.2)
    assert [frame.answered for frame in frames] == [False]
