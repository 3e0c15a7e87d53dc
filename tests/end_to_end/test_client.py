"""A stranger's client, written with another library, gets what the standard promises.

Every answer is compared field by field, and the account over HTTP after each step.
"""

import itertools
import json
import subprocess

import pytest

from bench.load.servers import build_environment
from tests.end_to_end.harness import (
    HOST,
    ROOT,
    WAIT_SECONDS_MAX,
    Daemon,
    make_bank,
    pan_of,
    verify,
    wait_until,
)

Fields = dict[str, str]

SCRIPT = ROOT / "tests/end_to_end/pyiso8583_client.py"
BALANCE = 100_000
ECHOED = ("2", "3", "4", "7", "11", "12", "13", "32", "37", "41", "42", "49")
ANSWERS = {"0400": "0410", "0420": "0430"}
ACCOUNTS = 20
SPECS = [("iso87-ascii", "default_ascii"), ("iso87-mixed", "default")]


class OutsideClient:
    """Asks through the script, in its own environment; has a card of its own."""

    def __init__(self, daemon: Daemon, spec: str, index: int) -> None:
        self.daemon = daemon
        self.account = f"A{index}"
        self.pan = pan_of(index)
        self.stan = 0
        python = build_environment("bench")
        self._process = subprocess.Popen(
            [python, "-I", SCRIPT, HOST, str(daemon.port), spec],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, message: Fields) -> Fields:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the client has ended"
        answer: Fields = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.communicate(timeout=WAIT_SECONDS_MAX)
        assert self._process.returncode == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def figures(self) -> tuple[int, int, int]:
        """Balance, held and available, over HTTP."""
        return self.daemon.figures(self.account)

    # -- messages

    def network(self, function: str) -> Fields:
        self.stan += 1
        stan = f"{self.stan:06d}"
        return {"t": "0800", "7": "1124120000", "11": stan, "70": function}

    def transaction(self, mti: str, amount: int, **more: str) -> Fields:
        self.stan += 1
        fields = {
            "t": mti,
            "2": self.pan,
            "3": "000000",
            "4": f"{amount:012d}",
            "7": "1124120000",
            "11": f"{self.stan:06d}",
            "12": "120000",
            "13": "1124",
            "14": "4912",
            # What terminals send as well, and no answer carries.
            "18": "5411",
            "22": "051",
            "25": "00",
            "32": "123456",
            "37": f"{self.stan:012d}",
            "41": "TERM0001",
            "42": "MERCHANT0000001",
            "43": "A SHOP                 A TOWN         DE",
            "49": "978",
            "52": "0123456789ABCDEF",
        }
        return fields | {name[1:]: value for name, value in more.items()}


def original_of(message: Fields) -> str:
    """Field 90: what a reversal or a posting is about."""
    stan, transmitted = message["11"], message["7"]
    return f"{message['t']}{stan}{transmitted}{message['32']:0>11}{'':0>11}"


def answer_to(message: Fields, mti: str, code: str, *more: str) -> Fields:
    """The answer's fields, but for field 38; `more` is echoed as well."""
    echoed = {field: message[field] for field in (*ECHOED, *more)}
    return echoed | {"t": mti, "39": code}


def check_approved(message: Fields, answer: Fields, mti: str) -> None:
    approval = answer["38"]
    assert len(approval) == 6
    assert approval.isascii()
    assert approval.isalnum()
    assert answer == answer_to(message, mti, "00") | {"38": approval}


@pytest.fixture(scope="module", params=SPECS, ids=lambda param: param[0])
def served(request, tmp_path_factory):
    """A daemon with accounts and their cards; the client's name of its spec."""
    ours, theirs = request.param
    with Daemon(tmp_path_factory.mktemp("client"), "--spec", ours) as daemon:
        make_bank(daemon.data, ACCOUNTS, BALANCE)
        daemon.start()
        yield daemon, theirs, itertools.count()


@pytest.fixture
def client(served):
    daemon, spec, indices = served
    client = OutsideClient(daemon, spec, next(indices))
    try:
        yield client
        client.close()
    finally:
        client.kill()


@pytest.mark.parametrize(
    ("function", "code"), [("001", "00"), ("002", "00"), ("301", "00"), ("999", "12")]
)
def test_sign_on_sign_off_and_echo_are_answered(client, function, code):
    message = client.network(function)
    assert client.ask(message) == message | {"t": "0810", "39": code}


def test_the_switch_knows_who_is_signed_on(client):
    signed_on = 'switch_connections_signed_on{link="main"}'
    # The connection of a test before this one may still be closing.
    wait_until(lambda: client.daemon.metrics()[signed_on] == 0, "others to be gone")
    client.ask(client.network("001"))
    assert client.daemon.metrics()[signed_on] == 1
    client.ask(client.network("002"))
    assert client.daemon.metrics()[signed_on] == 0


def test_a_purchase_is_held_and_a_financial_one_is_booked(client):
    client.ask(client.network("001"))
    held = client.transaction("0100", 2_500)
    check_approved(held, client.ask(held), "0110")
    assert client.figures() == (BALANCE, 2_500, BALANCE - 2_500)

    booked = client.transaction("0200", 1_000)
    check_approved(booked, client.ask(booked), "0210")
    assert client.figures() == (BALANCE - 1_000, 2_500, BALANCE - 3_500)


@pytest.mark.parametrize("mti", ["0100", "0200"])
def test_a_repeat_gets_the_first_answer_again_and_takes_nothing(client, mti):
    message = client.transaction(mti, 2_500)
    answer = client.ask(message)
    check_approved(message, answer, f"{mti[:2]}10")
    figures = client.figures()
    assert figures[2] == BALANCE - 2_500
    assert client.ask(message) == answer
    assert client.ask(message | {"t": f"{mti[:3]}1"}) == answer
    assert client.figures() == figures


@pytest.mark.parametrize("reversal", ["0400", "0420"])
@pytest.mark.parametrize("mti", ["0100", "0200"])
def test_a_reversal_finds_its_original_and_gives_all_back(client, mti, reversal):
    original = client.transaction(mti, 2_500)
    check_approved(original, client.ask(original), f"{mti[:2]}10")
    assert client.figures()[2] == BALANCE - 2_500

    message = client.transaction(reversal, 2_500, f90=original_of(original))
    answer = client.ask(message)
    assert answer == answer_to(message, ANSWERS[reversal], "00", "90")
    assert client.figures() == (BALANCE, 0, BALANCE)

    assert client.ask(message | {"t": f"{reversal[:3]}1"}) == answer
    assert client.figures() == (BALANCE, 0, BALANCE)


def test_the_original_of_a_reversal_that_came_first_is_declined(client):
    original = client.transaction("0100", 2_500)
    message = client.transaction("0400", 2_500, f90=original_of(original))
    assert client.ask(message) == answer_to(message, "0410", "00", "90")
    assert client.ask(original) == answer_to(original, "0110", "05")
    assert client.figures() == (BALANCE, 0, BALANCE)


def test_advices_are_taken_even_beyond_the_limit(client):
    held = client.transaction("0120", BALANCE + 500, f38="STANDI", f39="00")
    assert client.ask(held) == answer_to(held, "0130", "00", "38")
    assert client.figures() == (BALANCE, BALANCE + 500, -500)

    posted = client.transaction(
        "0220", BALANCE + 400, f38="STANDI", f39="00", f90=original_of(held)
    )
    assert client.ask(posted) == answer_to(posted, "0230", "00", "38", "90")
    assert client.figures() == (-400, 0, -400)

    told = client.transaction("0120", 700, f39="05")
    assert client.ask(told) == answer_to(told, "0130", "00")
    assert client.figures() == (-400, 0, -400)


def test_what_is_declined_says_why_and_takes_nothing(client):
    much = client.transaction("0100", BALANCE + 1)
    assert client.ask(much) == answer_to(much, "0110", "51")
    unknown = client.transaction("0100", 1, f2=pan_of(ACCOUNTS + 1))
    assert client.ask(unknown) == answer_to(unknown, "0110", "14")
    expiry = client.transaction("0100", 1, f14="4911")
    assert client.ask(expiry) == answer_to(expiry, "0110", "54")
    nothing = client.transaction("0200", 0)
    assert client.ask(nothing) == answer_to(nothing, "0210", "13")
    foreign = client.transaction("0200", 1, f49="840")
    assert client.ask(foreign) == answer_to(foreign, "0210", "57")
    inquiry = client.transaction("0100", 1, f3="310000")
    assert client.ask(inquiry) == answer_to(inquiry, "0110", "57")
    assert client.figures() == (BALANCE, 0, BALANCE)


def test_field_6_counts_when_field_51_is_the_currency_of_the_account(client):
    message = client.transaction(
        "0100", 9_999, f6=f"{2_500:012d}", f49="840", f51="978"
    )
    answer = client.ask(message)
    assert answer.pop("38")
    assert answer == answer_to(message, "0110", "00", "6", "51")
    assert client.figures() == (BALANCE, 2_500, BALANCE - 2_500)


def test_a_malformed_request_is_answered_30_and_the_line_goes_on(client):
    message = client.transaction("0100", 1)
    del message["3"]
    answer = client.ask(message)
    assert (answer["t"], answer["39"]) == ("0110", "30")
    assert answer["11"] == message["11"]
    good = client.transaction("0100", 1)
    check_approved(good, client.ask(good), "0110")


def test_the_journal_of_all_this_verifies(served):
    daemon, _, _ = served
    assert daemon.stop() == 0
    verdict = verify(daemon.data)
    daemon.start()
    assert verdict["ok"], verdict
    assert verdict["accounts"] == ACCOUNTS
