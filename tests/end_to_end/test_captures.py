"""Frames that came off a real network are answered as their scheme expects."""

import json
import re

import pytest

import iso8583
from tests.captures import CAPTURES, Capture
from tests.end_to_end.harness import (
    Client,
    Daemon,
    import_accounts,
    import_cards,
    run_switch,
    verify,
)

MASTERCARD = CAPTURES["mastercard-cis"]
each_capture = pytest.mark.parametrize(
    "capture", CAPTURES.values(), ids=CAPTURES.keys()
)


@pytest.fixture
def capture() -> Capture:
    return MASTERCARD


@pytest.fixture
def daemon(tmp_path, capture):
    options = ("--spec", capture.spec, "--framing", capture.framing)
    with Daemon(tmp_path, *options) as daemon:
        import_accounts(daemon.data, capture.accounts)
        import_cards(daemon.data, capture.cards)
        daemon.start()
        yield daemon


def connect(daemon: Daemon, capture: Capture) -> Client:
    return Client(daemon.port, capture.spec, framing=capture.framing)


def check_accounts(daemon: Daemon, capture: Capture) -> None:
    for row in capture.accounts:
        name, currency, balance, _ = row
        held = sum(frame.now.held for frame in capture.frames if row in frame.accounts)
        assert daemon.account(name)["currency"] == currency
        assert daemon.figures(name) == (balance, held, balance - held)


@each_capture
@pytest.mark.parametrize("chunk_size", [None, 1])
def test_each_frame_is_answered(daemon, capture, chunk_size):
    with connect(daemon, capture) as client:
        for body, frame in zip(capture.bodies(), capture.frames, strict=True):
            data = client.framing.encode(body)
            size = chunk_size or len(data)
            for start in range(0, len(data), size):
                client.socket.sendall(data[start : start + size])
            answer = client.receive_body()
            assert answer is not None
            request, reply = client.codec.decode(body), client.codec.decode(answer)
            frame.check(frame.now, request, reply)
    check_accounts(daemon, capture)


@each_capture
def test_frames_sent_at_once_are_all_answered(daemon, capture):
    data = bytes.fromhex("".join(capture.path.read_text().split()))
    with connect(daemon, capture) as client:
        client.socket.sendall(data)
        answers = [client.receive() for _ in capture.frames]
    got = sorted((answer["mti"], answer[39]) for answer in answers)
    assert got == sorted((frame.mti, frame.now.code) for frame in capture.frames)


def replay(daemon: Daemon, capture: Capture, *options: str):
    return run_switch(
        *("replay", capture.path, "--to", f"127.0.0.1:{daemon.port}"),
        *("--spec", capture.spec, "--framing", capture.framing, *options),
    )


@each_capture
def test_the_replay_command_shows_the_answers_and_no_card_number(daemon, capture):
    done = replay(daemon, capture)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^sent +3\nanswered +3\n", done.stdout, re.MULTILINE)
    for frame in capture.frames:
        assert f"→ {frame.mti} {frame.now.code} " in done.stdout

    # Again, for a program: the same answers, for they are the same requests.
    done = replay(daemon, capture, "--json")
    report = json.loads(done.stdout)
    got = [(f["response_mti"], f["response_code"]) for f in report["frames"]]
    assert got == [(frame.mti, frame.now.code) for frame in capture.frames]
    assert (report["sent"], report["answered"], report["unanswered"]) == (3, 3, 0)
    check_accounts(daemon, capture)


@each_capture
def test_with_fresh_numbers_each_frame_gets_the_answer_of_the_table(daemon, capture):
    """Every frame, through the command; what is asked has been asked by nobody yet."""
    done = replay(daemon, capture, "--fresh", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    got = [(f["response_mti"], f["response_code"]) for f in report["frames"]]
    assert got == [(frame.mti, frame.now.code) for frame in capture.frames]
    assert (report["skipped"], report["unexpected"], report["faults"]) == (0, 0, [])
    check_accounts(daemon, capture)
    # Once more they are other requests, not repeats: what can be held is held again.
    done = replay(daemon, capture, "--fresh", "--json")
    assert done.returncode == 0, done.stderr
    assert daemon.metrics_of("switch_duplicates_total") == 0
    for row in capture.accounts:
        held = sum(frame.now.held for frame in capture.frames if row in frame.accounts)
        assert daemon.figures(row[0]) == (row[2], 2 * held, row[2] - 2 * held)


@each_capture
def test_the_cards_of_a_capture_are_nowhere_in_clear(daemon, capture):
    said = [replay(daemon, capture), replay(daemon, capture, "--json")]
    said.append(
        run_switch(
            *("decode", "--spec", capture.spec, "--framing", capture.framing),
            capture.path,
        )
    )
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]
    text = "".join(done.stdout + done.stderr for done in said) + daemon.log_text()
    for pan, *_ in capture.cards:
        assert pan not in text
        assert pan[-4:] in said[0].stdout
        assert pan[-4:] in said[2].stdout


def test_the_reversal_of_a_capture_finds_its_original(daemon, capture):
    """Field 90 of the capture has been made anonymous: it names no transmission date.
    With one, and once the original has been seen, what was held is given back."""
    codec = iso8583.Codec(iso8583.load_spec(capture.spec))
    reversal = codec.decode(capture.bodies()[-1]).to_dict()
    held = int(reversal[6])
    original: dict[int | str, str] = {"mti": "0100", 3: "000000"}
    original |= {field: reversal[field] for field in (2, 4, 6, 7, 11, 32, 49, 51)}
    named = f"0100{reversal[11]}{reversal[7]}{reversal[32]:0>11}{0:011}"
    balance = 500_000
    with connect(daemon, capture) as client:
        answer = client.ask(original)
        assert (answer["mti"], answer[39]) == ("0110", "00")
        assert daemon.figures("REVERSAL") == (balance, held, balance - held)
        answer = client.ask(reversal | {90: named})
        assert (answer["mti"], answer[39], answer[90]) == ("0430", "00", named)
        assert daemon.figures("REVERSAL") == (balance, 0, balance)
