import time

import pytest

import iso8583
from switch.link._framing import Framing
from switch.replay.errors import CardFileError, SessionError
from switch.replay.load import LoadPlan, LoadRun

REQUEST_FIELDS = [2, 3, 4, 7, 11, 12, 13, 14, 18, 22, 25, 32, 37, 41, 42, 43, 49]


def run_load(responder, cards, **chosen):
    plan = LoadPlan(
        **{
            "host": "127.0.0.1",
            "port": responder.port,
            "cards": cards,
            "connections": 2,
            "window": 8,
            "seconds": 0.3,
            "grace_seconds": 20.0,  # less only where answers never come
        }
        | chosen
    )
    run = LoadRun(plan, responder.codec)
    try:
        run.connect()
        run.run(lambda elapsed_s: None)
        return run.result()
    finally:
        run.close()


def test_every_request_is_answered_and_counted(respond, cards_file):
    responder = respond(lambda request, count: "51" if count % 4 == 0 else "00")
    result = run_load(responder, cards_file)
    assert result.complete
    assert result.sent == result.answered == len(responder.requests) > 50
    assert result.approved + result.declined == result.answered
    assert result.declined == result.response_codes["51"]
    assert result.declined == pytest.approx(result.answered / 4, abs=1)
    assert 0 < result.latency_ms.p50 <= result.latency_ms.p99 <= result.latency_ms.max
    # at most a window a connection of answers came after the time was up
    assert result.answered_per_second == pytest.approx(
        result.answered / result.seconds, rel=0.01, abs=2 * 8 / result.seconds
    )


def test_requests_are_unique_and_well_formed(respond, cards_file):
    responder = respond()
    run_load(responder, cards_file)
    first = len(responder.requests)
    run_load(responder, cards_file)
    requests = responder.requests
    assert len({(r[7], r[11], r[37]) for r in requests}) == len(requests)
    assert len({r[37] for r in requests}) == len(requests)
    for request in requests[:200]:
        assert request.mti == "0100"
        assert [*request] == [
            2,
            3,
            4,
            7,
            11,
            12,
            13,
            14,
            18,
            22,
            25,
            32,
            37,
            41,
            42,
            43,
            49,
        ]
        assert 1 <= int(request[4]) <= 500
        assert 1 <= int(request[11]) <= 999_999
    now = time.gmtime()
    assert requests[-1][7][:4] in {
        time.strftime("%m%d", now),
        time.strftime("%m%d", time.gmtime(time.time() - 5)),
    }
    expiries = {r[2]: r[14] for r in requests}
    assert expiries["999999000000000000"] == "3101"
    assert len(expiries) == 4
    assert 0 < first < len(requests)


def test_the_same_seed_draws_the_same_cards_and_amounts(respond, cards_file):
    drawn = []
    for seed in (7, 7, 8):
        responder = respond()
        run_load(responder, cards_file, connections=1, seed=seed)
        drawn.append([(r[2], r[4]) for r in responder.requests[:50]])
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("spec", ["iso87-mixed", "iso87-binary", "mastercard-cis"])
@pytest.mark.parametrize("framing", ["binary4", "ascii4", "bcd2"])
def test_other_specs_and_framings(respond, cards_file, spec, framing):
    responder = respond(spec=spec, framing=Framing(framing))
    result = run_load(
        responder, cards_file, spec=spec, framing=framing, seconds=0.1, connections=1
    )
    assert result.complete
    assert result.approved == result.sent > 0


def test_signs_on_unless_told_otherwise(respond, cards_file):
    responder = respond()
    run_load(responder, cards_file, seconds=0.05)
    assert [(r.mti, r[70]) for r in responder.network_requests] == [("0800", "001")] * 2
    responder = respond()
    run_load(responder, cards_file, seconds=0.05, sign_on=False)
    assert responder.network_requests == []


def test_the_window_bounds_what_is_outstanding(respond, cards_file):
    responder = respond(lambda request, count: None)
    result = run_load(responder, cards_file, grace_seconds=0.1)
    assert result.sent == result.unanswered == 2 * 8
    assert result.answered == 0
    assert not result.complete


def test_the_missing_answers_are_counted(respond, cards_file):
    responder = respond(lambda request, count: None if count in (3, 5, 8) else "00")
    result = run_load(responder, cards_file, grace_seconds=1.0)
    assert result.unanswered == 3
    assert result.answered > 50


def test_an_answer_to_nothing_is_unexpected(respond, cards_file):
    def stray(codec: iso8583.Codec) -> bytes:
        return codec.encode({"mti": "0110", 11: "999999", 37: "000000000000", 39: "00"})

    responder = respond(greeting=stray)
    result = run_load(responder, cards_file, connections=1)
    assert result.unexpected == 1
    assert result.unanswered == 0
    assert not result.complete


def test_a_right_stan_with_a_wrong_rrn_answers_nothing(respond, cards_file):
    responder = respond()
    answer = responder._answer

    def wrong(body):
        reply = answer(body)
        message = responder.codec.decode(reply)
        if message.mti == "0110" and len(responder.requests) == 4:
            message[37] = "000000000000"
        return message.encode()

    responder._answer = wrong
    result = run_load(responder, cards_file, grace_seconds=1.0)
    assert (result.unexpected, result.unanswered) == (1, 1)


def test_bytes_that_are_no_message_are_unexpected(respond, cards_file):
    responder = respond(greeting=lambda codec: b"nonsense")
    result = run_load(responder, cards_file, connections=1, sign_on=False)
    assert result.unexpected == 1
    assert "MTI at offset 0" in result.faults[0]


def test_an_echo_test_of_the_switch_is_answered(respond, cards_file):
    def echo(codec: iso8583.Codec) -> bytes:
        return codec.encode({"mti": "0800", 7: "0102030405", 11: "000077", 70: "301"})

    responder = respond(greeting=echo)
    result = run_load(responder, cards_file, connections=1)
    assert result.complete
    answers = [r for r in responder.network_requests if r.mti == "0810"]
    assert [(r[11], r[39], r[70]) for r in answers] == [("000077", "00", "301")]


def test_a_lost_connection_is_told_and_the_others_go_on(respond, cards_file):
    responder = respond(close_after=40)
    result = run_load(responder, cards_file)
    assert result.faults
    assert "connection" in result.faults[0]
    assert not result.complete
    assert result.sent >= 40


def test_a_rate_is_kept_and_latency_counts_from_when_a_request_was_due(
    respond, cards_file
):
    responder = respond()
    result = run_load(responder, cards_file, rate=200.0, seconds=0.5)
    assert result.sent + result.overdue == pytest.approx(200 * result.seconds, abs=2)
    assert result.complete

    # one stall of 0.2 s: with a closed loop only the window would notice
    def stall(request: iso8583.Message, count: int) -> str:
        if count == 20:
            time.sleep(0.2)
        return "00"

    responder = respond(stall)
    result = run_load(responder, cards_file, rate=200.0, seconds=0.5)
    assert result.latency_ms.max >= 190
    # the requests due during the stall waited too: 0.1 s and more for some 20 of 100
    assert result.latency_ms.p99 >= 100


def test_what_a_full_window_held_back_is_overdue(respond, cards_file):
    responder = respond(lambda request, count: None)
    result = run_load(
        responder, cards_file, rate=1000.0, seconds=0.2, grace_seconds=0.1
    )
    assert result.sent == 16
    assert result.overdue == pytest.approx(1000 * result.seconds - 16, abs=3)


def test_no_switch_no_run(respond, cards_file):
    responder = respond()
    with pytest.raises(SessionError, match="connection to 127\\.0\\.0\\.1 port 1"):
        run_load(responder, cards_file, port=1)


def test_no_cards_no_run(respond, tmp_path):
    path = tmp_path / "cards.csv"
    path.write_text("pan,account,expiry,status\n")
    with pytest.raises(CardFileError, match="expected at least one card"):
        run_load(respond(), path)
