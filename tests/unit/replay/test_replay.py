import asyncio
import datetime
import itertools
from collections import Counter
from pathlib import Path

import pytest

from switch.replay.captures import Capture, CapturedFrame
from switch.replay.client import answer_mti, is_answer, is_request
from switch.replay.errors import CaptureError, SessionError
from switch.replay.replay import EXCHANGES_MAX, Replay, ReplayPlan
from switch.replay.rewriting import Rewriter

CAPTURE = Path("tests/vectors/mastercard-cis.hex")
PAN = "9999990000000014"
NOW = datetime.datetime(2026, 11, 24, 12, 0, 0, tzinfo=datetime.UTC)


def run_replay(responder, frames, *, rewriter=None, notes=(), **options):
    options = {"host": "127.0.0.1", "port": responder.port, "timeout_s": 60} | options
    replay = Replay(ReplayPlan(**options), responder.codec, responder.framing, rewriter)
    asyncio.run(replay.run(lambda: iter(frames)))
    return replay.report(Counter(notes))


def outcomes(report) -> list[str]:
    return [frame.outcome for frame in report.frames]


class Talk:
    """Frames of a capture, written down as they come to mind."""

    def __init__(self, codec) -> None:
        self.codec = codec
        self.frames: list[CapturedFrame] = []

    def _add(self, fields, to_switch, connection, time_s) -> None:
        self.frames.append(
            CapturedFrame(
                f"packet {len(self.frames) + 1}",
                self.codec.encode(fields),
                time_s,
                to_switch,
                connection,
            )
        )

    def ask(
        self, stan: int, mti="0100", connection=0, to_switch=True, time_s=None, **more
    ) -> "Talk":
        fields = {
            "mti": mti,
            2: PAN,
            4: f"{stan:012}",
            7: "0102030405",
            11: f"{stan:06}",
            32: "123456",
            37: f"{stan:012}",
        }
        fields |= {int(name[1:]): value for name, value in more.items()}
        self._add(fields, to_switch, connection, time_s)
        return self

    def answer(
        self, stan: int, code="00", mti="0110", connection=0, to_switch=False, **more
    ) -> "Talk":
        fields = {
            "mti": mti,
            2: PAN,
            4: f"{stan:012}",
            7: "0102030405",
            11: f"{stan:06}",
            32: "123456",
            37: f"{stan:012}",
            39: code,
        }
        if code == "00":
            fields[38] = "123456"
        fields |= {int(name[1:]): value for name, value in more.items()}
        self._add(fields, to_switch, connection, None)
        return self


@pytest.fixture
def responder(respond):
    return respond()


@pytest.fixture
def talk(responder):
    return Talk(responder.codec)


@pytest.mark.parametrize(
    ("mti", "answer"),
    [
        *(("0100", "0110"), ("0101", "0110"), ("0120", "0130"), ("0121", "0130")),
        *(("0200", "0210"), ("0401", "0410"), ("0421", "0430"), ("0800", "0810")),
    ],
)
def test_who_is_answered_with_what(mti, answer):
    assert is_request(mti)
    assert not is_answer(mti)
    assert answer_mti(mti) == answer
    assert is_answer(answer)
    assert not is_request(answer)


# -- what is sent


def test_captured_frames_are_sent_and_answered(respond):
    responder = respond(lambda request, count: "54", spec="mastercard-cis")
    with Capture.open(CAPTURE) as capture:
        captured = list(capture.frames(responder.framing))
    report = run_replay(responder, captured)
    assert [frame.response_mti for frame in report.frames] == ["0110", "0130", "0430"]
    assert report.response_codes == {"54": 3}
    assert outcomes(report) == ["answered"] * 3
    assert [bytes(request) for request in responder.requests] == [
        frame.body for frame in captured
    ]
    assert report.frames[0].pan == "************1010"
    assert report.frames[0].place == "line 1"
    assert all(frame.time_ms > 0 for frame in report.frames)
    assert report.complete


def test_what_is_not_the_switchs_to_answer_is_not_sent(responder, talk):
    talk.answer(1, to_switch=True).ask(2, to_switch=False).answer(3)
    talk.ask(4, mti="0160")
    replay = Replay(
        ReplayPlan(host="127.0.0.1", port=responder.port),
        responder.codec,
        responder.framing,
    )
    asyncio.run(replay.run(lambda: talk.frames))
    report = replay.report(Counter())
    assert (report.sent, report.skipped, replay.turned_round) == (0, 4, 1)
    assert responder.requests == []


def test_without_directions_the_message_types_tell(responder, talk):
    talk.ask(1, to_switch=None).answer(1, to_switch=None)
    report = run_replay(responder, talk.frames)
    assert (report.sent, report.matched, report.skipped) == (1, 1, 0)


def test_a_malformed_message_with_a_stan_is_sent_all_the_same(responder):
    whole = responder.codec.encode({"mti": "0100", 11: "000042", 39: "00"})
    seen = []

    def answer(body):
        seen.append(body)
        return responder.codec.encode({"mti": "0110", 11: "000042", 39: "30"})

    responder._answer = answer
    report = run_replay(responder, [CapturedFrame("line 1", whole[:-1])])
    assert seen == [whole[:-1]]
    assert report.frames[0].response_code == "30"


def test_a_message_whose_answer_could_not_be_told_is_counted(responder, talk):
    frames = [CapturedFrame("line 7", b"\xff\xff\xff\xff"), *talk.ask(1).frames]
    report = run_replay(responder, frames)
    assert (report.sent, report.unreadable, report.complete) == (1, 1, False)
    assert report.faults[0].startswith("line 7: MTI at offset 0: expected")


def test_signs_on_each_connection_when_told_to(responder, talk):
    talk.ask(1).ask(2, connection=1)
    run_replay(responder, talk.frames, sign_on=True)
    assert [request[70] for request in responder.network_requests] == ["001"] * 2


def test_connections_are_as_many_as_captured_up_to_the_bound(responder, talk):
    for stan in range(20):
        talk.ask(stan, connection=stan)
    assert run_replay(responder, talk.frames).connections == 20
    assert run_replay(responder, talk.frames, connections_max=3).connections == 3
    assert len(responder._writers) == 23


def test_no_switch_no_replay(responder, talk):
    with pytest.raises(SessionError, match=r"connection to 127\.0\.0\.1 port 1"):
        run_replay(responder, talk.ask(1).frames, port=1)


# -- answers


def test_what_stays_unanswered_is_told_and_the_rest_goes_on(respond, talk):
    responder = respond(lambda request, count: None if count == 1 else "00")
    talk.ask(1).answer(1).ask(2).answer(2).ask(3).answer(3)
    report = run_replay(responder, talk.frames, timeout_s=2.0)
    assert outcomes(report) == ["matched", "unanswered", "matched"]
    assert (report.answered, report.unanswered, report.complete) == (2, 1, False)


def test_a_lost_connection_leaves_the_rest_unanswered_at_once(respond, talk):
    responder = respond(lambda request, count: None, close_after=1)
    for stan in range(1, 20):
        talk.ask(stan)
    report = run_replay(responder, talk.frames)
    assert outcomes(report) == ["unanswered"] * 19
    assert report.faults == ["connection 1: closed by the switch"]


@pytest.mark.parametrize("field", [7, 32, 37])
def test_the_answer_to_another_request_does_not_count(responder, talk, field):
    def answer(body):
        fields = responder.codec.decode(body).to_dict() | {"mti": "0110", 39: "00"}
        return responder.codec.encode(fields | {field: fields[field].replace("0", "9")})

    talk.ask(10, f32="100000")
    responder._answer = answer
    report = run_replay(responder, talk.frames, timeout_s=1.0)
    assert (report.unanswered, report.unexpected) == (1, 1)


def test_an_answer_may_leave_out_all_but_the_stan(responder, talk):
    fields = {"mti": "0110", 11: "000001", 39: "00"}
    responder._answer = lambda body: responder.codec.encode(fields)
    assert run_replay(responder, talk.ask(1).frames).answered == 1


def test_captured_answers_are_the_expected_ones(respond, talk):
    responder = respond(
        lambda request, count: "51" if request[11] == "000002" else "00"
    )
    talk.ask(1).ask(2).ask(3).answer(3).answer(2).answer(1)
    report = run_replay(responder, talk.frames)
    assert outcomes(report) == ["matched", "different", "matched"]
    assert (report.matched, report.different, report.not_compared) == (2, 1, 0)
    assert report.different_fields == {38: 1, 39: 1}
    differing = report.frames[1].differences
    assert [(each.field, each.captured, each.got) for each in differing] == [
        (38, "123456", ""),
        (39, "00", "51"),
    ]
    assert not report.complete


def test_fields_may_be_ignored(respond, talk):
    responder = respond(lambda request, count: "51")
    talk.ask(1).answer(1)
    ignored = frozenset({38, 39})
    assert run_replay(responder, talk.frames, ignored=ignored).matched == 1


def test_card_data_in_differences_is_masked(responder, talk):
    talk.ask(1).answer(1, f2="9999990000000022", f35="9999990000000022D4912")
    report = run_replay(responder, talk.frames)
    differing = {each.field: each for each in report.frames[0].differences}
    assert differing[2].captured == "************0022"
    assert differing[2].got == "************0014"
    assert differing[35].captured == "<track, 21 characters>"
    assert differing[35].got == ""


def test_an_answer_captured_before_the_next_request_is_waited_for(respond, talk):
    """Whatever connection it is on: the next request may depend on it."""
    order = []
    responder = respond()
    answer = responder._answer

    def slow(body):
        order.append(responder.codec.decode(body)[11])
        return answer(body)

    responder._answer = slow
    for stan in range(1, 40, 2):
        talk.ask(stan, connection=0).answer(stan).ask(stan + 1, connection=1)
        talk.answer(stan + 1, connection=1)
    report = run_replay(responder, talk.frames, window=50)
    assert order == [f"{stan:06}" for stan in range(1, 41)]
    assert report.matched == 40


def test_no_more_is_outstanding_than_the_window(respond, talk):
    responder = respond(lambda request, count: None)
    for stan in range(1, 7):
        talk.ask(stan)
    outstanding = []

    class Watching(Rewriter):
        def rewrite(self, body, message, *, is_whole=True):
            outstanding.append(len(responder.requests))
            return super().rewrite(body, message, is_whole=is_whole)

    report = run_replay(
        responder, talk.frames, window=3, timeout_s=0.1, rewriter=Watching()
    )
    assert report.unanswered == 6
    # the fifth is looked at when the fourth has left, and so one of the first has ended
    assert outstanding[:4] == [0, 0, 0, 0]
    assert outstanding[4] >= 3


# -- pace


def test_a_rate_keeps_requests_apart(responder, talk):
    for stan in range(1, 11):
        talk.ask(stan).answer(stan)
    report = run_replay(responder, talk.frames, rate=200.0)
    assert report.matched == 10
    # the last is due 9 intervals after the first
    assert report.seconds >= 9 / 200
    assert report.late_ms_max >= 0


def test_captured_times_are_kept_or_shortened(responder, talk):
    for stan in range(1, 4):
        talk.ask(stan, time_s=1000.0 + stan * 5)
    report = run_replay(responder, talk.frames, speed=100.0)
    assert report.answered == 3
    assert report.seconds >= 10 / 100


def test_a_capture_without_times_cannot_be_replayed_by_them(responder, talk):
    with pytest.raises(CaptureError, match="packet 1: expected a time to replay by"):
        run_replay(responder, talk.ask(1).frames, speed=1.0)


def test_a_loop_sends_it_all_again(responder, talk):
    talk.ask(1).answer(1).ask(2).answer(2)
    report = run_replay(responder, talk.frames, loops=3)
    assert (report.sent, report.matched) == (6, 6)
    assert [request[11] for request in responder.requests] == ["000001", "000002"] * 3


# -- changes on the way


def test_fresh_numbers_are_expected_in_the_answers(responder, talk):
    talk.ask(1).answer(1).ask(1, mti="0101").answer(1).ask(2).answer(2)
    rewriter = Rewriter(fresh=True, now=lambda: NOW)
    report = run_replay(responder, talk.frames, rewriter=rewriter, loops=2)
    assert (report.sent, report.matched) == (6, 6)
    first, repeat, second, *again = responder.requests
    assert first[7] == "1124120000"
    assert [first[f] for f in (7, 11, 37)] == [repeat[f] for f in (7, 11, 37)]
    assert first[37] != second[37]
    assert len({request[11] for request in responder.requests}) == 4
    assert len(again) == 3


def test_a_message_with_an_unmapped_card_is_not_sent(responder, talk):
    talk.ask(1).answer(1).ask(2, f2="9999990000000022").answer(2)
    rewriter = Rewriter(cards={PAN: "9999990000000030"})
    report = run_replay(responder, talk.frames, rewriter=rewriter)
    assert (report.sent, report.matched, report.unmapped) == (1, 1, 1)
    assert [request[2] for request in responder.requests] == ["9999990000000030"]
    assert not report.complete


# -- scale


def test_a_long_capture_is_read_as_it_is_sent_and_not_kept(respond):
    """Without answers in the capture, every request waits for one; only so many do."""
    responder = respond()
    first = Talk(responder.codec).ask(1)
    count = EXCHANGES_MAX + 500
    bodies = (
        Talk(responder.codec).ask(stan).frames[0]
        for stan in itertools.chain(range(2, count + 1))
    )
    remembered = 0

    def frames():
        nonlocal remembered
        yield first.frames[0]
        for frame in bodies:
            remembered = max(remembered, len(replay._waiting))
            yield frame

    plan = ReplayPlan(host="127.0.0.1", port=responder.port, window=200, shown_max=5)
    replay = Replay(plan, responder.codec, responder.framing)
    asyncio.run(replay.run(frames))
    report = replay.report(Counter())
    assert report.answered == report.not_compared == count
    assert remembered == EXCHANGES_MAX
    assert [frame.stan for frame in report.frames] == [f"{n:06}" for n in range(1, 6)]


def test_the_first_and_the_first_faulty_are_listed_in_order(respond, talk):
    responder = respond(lambda request, count: "51" if count >= 10 else "00")
    for stan in range(1, 21):
        talk.ask(stan).answer(stan)
    report = run_replay(responder, talk.frames, shown_max=3)
    shown = [(frame.stan, frame.outcome) for frame in report.frames]
    assert shown == [
        *((f"{n:06}", "matched") for n in (1, 2, 3)),
        *((f"{n:06}", "different") for n in (11, 12, 13)),
    ]
    assert (report.matched, report.different) == (10, 10)


def test_a_fault_of_ours_ends_the_replay(responder, talk, monkeypatch):
    replay = Replay(
        ReplayPlan(host="127.0.0.1", port=responder.port),
        responder.codec,
        responder.framing,
    )

    def fail(exchange):
        raise RuntimeError("a bug")

    talk.ask(1).answer(1)
    monkeypatch.setattr(replay, "_conclude", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        asyncio.run(replay.run(lambda: talk.frames))
