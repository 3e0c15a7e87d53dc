"""Frames that came off a real network are answered as their scheme expects."""

import json
import re

import pytest

import iso8583
from switch.link._framing import Framing
from switch.replay.captures import Capture
from tests.end_to_end.harness import (
    ROOT,
    Client,
    Daemon,
    import_accounts,
    import_cards,
    run_switch,
    verify,
)

SPEC = "mastercard-cis"
CAPTURE = ROOT / "tests/vectors/mastercard-cis.hex"
BALANCE = 500_000
# The test cards of the frames: the first expired in 2020, as its own field 14 says;
# the others do not tell when they do.
CARDS = [
    ("5204740000001010", "PURCHASE", "2010", "active"),
    ("5209190000009781", "ADVICE", "4912", "active"),
    ("5381020147507806", "REVERSAL", "4912", "active"),
]
ACCOUNTS = [
    ("PURCHASE", "USD", BALANCE, 0),
    ("ADVICE", "BRL", BALANCE, 0),
    ("REVERSAL", "BRL", BALANCE, 0),
]
# Message type, field 39, and the fields that the answer has beside 39.
COMMON = {2, 3, 4, 6, 7, 11, 15, 32, 49, 51}
ANSWERS = [
    ("0110", "54", COMMON | {10, 12, 13, 16, 37, 41, 42}),
    ("0130", "00", COMMON | {5, 33, 41, 42, 50}),
    ("0430", "00", COMMON | {10, 13, 16, 37, 90}),
]


@pytest.fixture
def daemon(tmp_path):
    with Daemon(tmp_path, "--spec", SPEC) as daemon:
        import_accounts(daemon.data, ACCOUNTS)
        import_cards(daemon.data, CARDS)
        daemon.start()
        yield daemon


def check_accounts(daemon: Daemon) -> None:
    """Declined, told that it was declined, and a reversal of what was never seen."""
    for account, currency, *_ in ACCOUNTS:
        assert daemon.account(account)["currency"] == currency
        assert daemon.figures(account) == (BALANCE, 0, BALANCE)


@pytest.mark.parametrize("chunk_size", [None, 1])
def test_each_frame_is_answered(daemon, chunk_size):
    frames = [bytes.fromhex(line) for line in CAPTURE.read_text().split()]
    codec = iso8583.Codec(iso8583.load_spec(SPEC))
    with Client(daemon.port, SPEC) as client:
        for frame, (mti, code, fields) in zip(frames, ANSWERS, strict=True):
            size = chunk_size or len(frame)
            for start in range(0, len(frame), size):
                client.socket.sendall(frame[start : start + size])
            answer = client.receive()
            request = codec.decode(frame[2:])
            echoed = {field: request[field] for field in fields}
            assert answer == echoed | {"mti": mti, 39: code}
    check_accounts(daemon)


def test_frames_sent_at_once_are_all_answered(daemon):
    data = bytes.fromhex("".join(CAPTURE.read_text().split()))
    with Client(daemon.port, SPEC) as client:
        client.socket.sendall(data)
        answers = [client.receive() for _ in ANSWERS]
    got = sorted((answer["mti"], answer[39]) for answer in answers)
    assert got == sorted((mti, code) for mti, code, _ in ANSWERS)


def test_the_replay_command_shows_the_answers_and_no_card_number(daemon):
    command = ("replay", CAPTURE, "--to", f"127.0.0.1:{daemon.port}", "--spec", SPEC)
    done = run_switch(*command)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^sent +3\nanswered +3\n", done.stdout, re.MULTILINE)
    for mti, code, _ in ANSWERS:
        assert f"→ {mti} {code} " in done.stdout

    # Again, for a program: the same answers, for they are the same requests.
    done = run_switch(*command, "--json")
    report = json.loads(done.stdout)
    got = [(f["response_mti"], f["response_code"]) for f in report["frames"]]
    assert got == [(mti, code) for mti, code, _ in ANSWERS]
    assert (report["sent"], report["answered"], report["unanswered"]) == (3, 3, 0)
    check_accounts(daemon)


def test_the_cards_of_a_capture_are_nowhere_in_clear(daemon):
    command = ("replay", CAPTURE, "--to", f"127.0.0.1:{daemon.port}", "--spec", SPEC)
    said = [run_switch(*command), run_switch(*command, "--json")]
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]
    text = "".join(done.stdout + done.stderr for done in said) + daemon.log_text()
    for pan, *_ in CARDS:
        assert pan not in text
        assert pan[-4:] in said[0].stdout


def test_the_reversal_of_a_capture_finds_its_original(daemon):
    """Field 90 of the capture has been made anonymous: it names no transmission date.
    With one, and once the original has been seen, what was held is given back."""
    with Capture.open(CAPTURE) as capture:
        *_, last = capture.frames(Framing("binary2"))
    codec = iso8583.Codec(iso8583.load_spec(SPEC))
    reversal = codec.decode(last.body).to_dict()
    held = int(reversal[6])
    original: dict[int | str, str] = {"mti": "0100", 3: "000000"}
    original |= {field: reversal[field] for field in (2, 4, 6, 7, 11, 32, 49, 51)}
    named = f"0100{reversal[11]}{reversal[7]}{reversal[32]:0>11}{0:011}"
    with Client(daemon.port, SPEC) as client:
        answer = client.ask(original)
        assert (answer["mti"], answer[39]) == ("0110", "00")
        assert daemon.figures("REVERSAL") == (BALANCE, held, BALANCE - held)
        answer = client.ask(reversal | {90: named})
        assert (answer["mti"], answer[39], answer[90]) == ("0430", "00", named)
        assert daemon.figures("REVERSAL") == (BALANCE, 0, BALANCE)
