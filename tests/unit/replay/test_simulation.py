"""The simulator against a switch that answers by rule, and against itself."""

import asyncio
from typing import Any

import msgspec
import pytest

import iso8583
from switch.ledger.currencies import NUMBERS
from switch.link._framing import Framing
from switch.link.settings import Address
from switch.replay.client import Client
from switch.replay.compose import Composer, Fields
from switch.replay.errors import ScenarioError, SessionError
from switch.replay.request import Station
from switch.replay.scenario import Scenario
from switch.replay.simulation import Report, Simulation
from tests.unit.replay.responder import REJECT

PAN = "9999990000000014"
MASKED, SHORT = "************0014", "<pan, 4 characters>"
PURCHASE = {"mti": "0100", "2": PAN, "4": 1500, "32": "123", "49": "EUR"}


def make(given: dict[str, Any]) -> Simulation:
    given = {"messages": {"purchase": PURCHASE}, **given}
    scenario = msgspec.convert(given, Scenario)
    codec = iso8583.Codec(iso8583.load_spec(scenario.spec))
    network = iso8583.load_dialect(scenario.spec, codec.spec).network
    return Simulation(
        scenario,
        codec,
        Framing(scenario.framing),
        Composer(codec, NUMBERS, header=scenario.header),
        station=Station(network, scenario.header),
    )


def play(responder, scenario: dict[str, Any], seconds: float | None = None):
    simulation = make(scenario)
    where = Address("127.0.0.1", responder.port)

    async def run() -> None:
        stopping = asyncio.Event()
        await simulation.run(where, listen=False, stopping=stopping, seconds=seconds)

    asyncio.run(run())
    return simulation.report()


def test_steps_are_sent_in_order_and_judged(respond):
    responder = respond(lambda request, count: "51" if count == 1 else "00")
    report = play(
        responder,
        {
            "session": {"sign_on": True, "sign_off": True},
            "steps": [
                {"send": "purchase", "expect": {"39": "00"}},
                {
                    "name": "too much",
                    "send": "purchase",
                    "set": {"4": 99},
                    "expect": {"39": "51", "38": ""},
                },
                {"send": "purchase", "expect": {"39": "51", "2": "1234"}},
            ],
        },
    )
    assert [request[4] for request in responder.requests] == [
        "000000001500",
        "000000000099",
        "000000001500",
    ]
    assert [r[70] for r in responder.network_requests] == ["001", "002"]
    assert [(s.name, s.sent, s.as_expected, s.not_so) for s in report.steps] == [
        ("purchase", 2, 1, 1),
        ("too much", 1, 1, 0),
    ]
    assert report.steps[0].response_codes == {"00": 2}
    stan = responder.requests[2][11]
    assert report.problems == [
        f"purchase: 0100 STAN {stan}: field 39: expected 51, got 00",
        f"purchase: 0100 STAN {stan}: field 2: expected {SHORT}, got {MASKED}",
    ]
    assert (report.ok, report.complete) == (False, True)


@pytest.mark.parametrize(
    ("spec", "codes"),
    [
        ("iso87-ascii", ["001", "301", "002"]),
        ("visa-base1", ["071", "301", "072"]),
        ("mastercard-cis", ["061", "270", "062"]),
    ],
)
def test_a_session_speaks_the_dialect_of_its_scheme(respond, spec, codes):
    responder = respond(spec=spec)
    echo = {"mti": "0800", "70": "{network.echo}"}
    report = play(
        responder,
        {
            "spec": spec,
            "session": {"sign_on": True, "sign_off": True},
            "messages": {"echo": echo},
            "steps": [{"send": "echo", "expect": {"70": "{network.echo}"}}],
        },
    )
    assert report.problems == []
    assert [request[70] for request in responder.network_requests] == codes


def test_the_header_of_a_scenario_is_in_all_that_it_sends(respond):
    responder = respond(spec="visa-base1")
    report = play(
        responder,
        {
            "spec": "visa-base1",
            "header": {"source": "123456", "destination": "654321"},
            "session": {"sign_on": True},
            "steps": [{"send": "purchase"}, {"send": "purchase", "again": True}],
        },
    )
    assert report.ok
    for message in (*responder.network_requests, *responder.requests):
        assert message.header["source"] == "123456"
        assert message.header["destination"] == "654321"


def test_what_is_rejected_is_told(respond):
    """The request comes back behind the header of a reject: no request of theirs."""
    responder = respond(lambda request, count: REJECT, spec="visa-base1")
    report = play(responder, {"spec": "visa-base1", "steps": [{"send": "purchase"}]})
    (problem,) = report.problems
    assert problem.endswith(
        "expected an answer, it was rejected: reject_bitmap=8000 reject_code=0017"
    )
    assert (report.steps[0].answered, report.without_rule) == (1, 0)
    assert not report.ok

    responder.rejected = {"071"}
    with pytest.raises(SessionError, match=r"sign-on \(071\): .* reject_code=0017"):
        play(
            responder,
            {
                "spec": "visa-base1",
                "session": {"sign_on": True},
                "steps": [{"send": "purchase"}],
            },
        )


def test_a_network_code_that_is_none_is_said(respond):
    scenario = {
        "messages": {"echo": {"mti": "0800", "70": "{network.key}"}},
        "steps": [{"send": "echo"}],
    }
    with pytest.raises(ScenarioError, match="expected one of sign_on, sign_off, echo"):
        play(respond(), scenario)


def test_steps_are_repeated_and_refer_to_what_was_said(respond):
    responder = respond()
    reversal = {
        "mti": "0400",
        "38": "{purchase.answer.38}",
        "37": "{purchase.37}",
        "90": "{purchase.original}",
    }
    report = play(
        responder,
        {
            "messages": {"purchase": PURCHASE, "reversal": reversal},
            "steps": [
                {"times": 2, "steps": [{"send": "purchase"}, {"send": "reversal"}]},
                {"name": "again", "send": "purchase", "again": True},
                {"send": "purchase", "again": True, "set": {"mti": "0101", "4": 7}},
            ],
        },
    )
    assert report.ok
    one, back, two, _, again, repeat = responder.requests
    assert one[11] != two[11]
    assert back[38] == "123456"
    assert back[37] == one[37]
    assert back[90] == f"0100{one[11]}{one[7]}{'123':0>11}{'':0>11}"
    assert again == two
    assert (repeat.mti, repeat[11], repeat[4]) == ("0101", two[11], "000000000007")


def test_no_answer_may_be_what_is_expected(respond):
    responder = respond(lambda request, count: None)
    step = {"send": "purchase", "timeout_s": 0.05}
    report = play(responder, {"steps": [{**step, "answered": False}, step]})
    (said,) = report.steps
    assert (said.sent, said.answered, said.as_expected, said.not_so) == (2, 0, 1, 1)
    assert "expected an answer within 0.05 s, none came" in report.problems[0]


def test_a_connection_that_ends_ends_the_steps(respond):
    responder = respond(close_after=2)
    report = play(responder, {"steps": [{"send": "purchase", "times": 50}]})
    assert not report.ok
    assert not report.complete
    assert report.lost
    assert report.steps[0].sent < 50


def test_a_rate_does_not_wait_for_answers(respond):
    # the answers to the first ten come when all are sent, or never
    responder = respond(lambda request, count: None if count < 10 else "00")
    step = {"send": "purchase", "times": 20, "rate": 10_000, "timeout_s": 1}
    report = play(responder, {"steps": [step]})
    assert report.steps[0].sent == 20
    assert report.steps[0].answered == 10
    assert len({request[11] for request in responder.requests}) == 20


@pytest.mark.parametrize(
    ("fault", "arrived", "answered"),
    [("lost", 0, 0), ("doubled", 40, 20), ("late", 20, 20), ("reordered", 20, 20)],
)
def test_faults_are_injected_and_counted(respond, fault, arrived, answered):
    responder = respond()
    faults = {fault: 1.0, "late_ms": [0, 5]}
    step = {"send": "purchase", "times": 20, "rate": 1000, "expect": {"39": "00"}}
    report = play(responder, {"faults": faults, "steps": [step]})
    assert report.ok, report.problems
    assert report.faults == {fault: 20}
    assert len(responder.requests) == arrived
    assert report.steps[0].answered == answered


def test_what_goes_out_twice_has_to_be_answered_alike(respond):
    responder = respond(lambda request, count: "00" if count % 2 == 0 else "51")
    step = {"send": "purchase", "times": 3}
    report = play(responder, {"faults": {"doubled": 1.0}, "steps": [step]})
    assert report.doubled_differently == 3
    assert report.unexpected == 3
    assert not report.ok


def test_malformed_messages_leave_the_others_alone(respond):
    responder = respond()
    answer = responder._answer
    seen = []

    def take(body):
        try:
            return answer(body)
        except iso8583.DecodeError:
            seen.append(body)
            return None

    responder._answer = take
    step = {"send": "purchase", "times": 40, "rate": 1000, "expect": {"39": "00"}}
    report = play(responder, {"faults": {"malformed": 0.5}, "steps": [step]})
    assert report.ok, report.problems
    assert 0 < report.faults["malformed"] == len(seen) < 40
    assert report.steps[0].as_expected == 40 - len(seen)


def test_echo_tests_keep_a_quiet_line_busy(respond):
    responder = respond()
    report = play(
        responder,
        {"session": {"echo_every_s": 0.02}, "steps": [{"pause_s": 0.2}]},
    )
    assert report.ok
    assert {request[70] for request in responder.network_requests} == {"301"}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("{refund.37}", "refund: expected it to be sent before"),
        ("{card.pan}", "expected a card file"),
        ("{purchase.amount}", "amount: expected the number of a field"),
    ],
)
def test_a_reference_to_nothing_is_told(respond, value, fault):
    steps = [{"send": "purchase"}, {"send": "purchase", "set": {"37": value}}]
    with pytest.raises(ScenarioError, match=fault):
        play(respond(), {"steps": steps})


def converse(
    scenario: dict[str, Any], asked: list[dict[int | str, str]]
) -> tuple[list[Any], Report]:
    """What a listening simulator answers, None for nothing; and its report."""
    simulation = make(scenario)

    async def run() -> list[Any]:
        stopping, where = asyncio.Event(), asyncio.get_running_loop().create_future()
        simulation.on_listening = where.set_result
        running = asyncio.create_task(
            simulation.run(
                Address("127.0.0.1", 0), listen=True, stopping=stopping, seconds=None
            )
        )
        address = await where
        codec = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
        composer = Composer(codec, NUMBERS)
        framing = Framing("binary2")
        answers = []
        async with Client(address.host, address.port, codec, framing) as client:
            for fields in asked:
                message = composer.compose(fields)
                answer = await client.ask(message.encode(), message, 1.0)
                answers.append(None if answer is None else answer.message)
        stopping.set()
        await running
        return answers

    return asyncio.run(run()), simulation.report()


def test_a_listening_simulator_answers_by_its_rules():
    rules = [
        {"name": "never", "match": {"4": 1}, "drop": True},
        {"name": "late", "match": {"4": 2}, "delay_ms": 30},
        {"name": "others", "match": {"mti": "0100"}, "answer": "05"},
    ]
    asked: list[Fields] = [{"mti": "0100", 4: f"{n}"} for n in (1, 2, 3)]
    asked += [{"mti": "0800", 70: "001"}, {"mti": "0200", 4: "4"}]
    answers, report = converse({"rules": rules}, asked)
    assert answers[0] is None
    assert [a[39] for a in answers[1:3]] == ["00", "05"]
    assert (answers[3].mti, answers[3][70]) == ("0810", "001")
    assert answers[4] is None
    assert report.rules == {"never": 1, "late": 1, "others": 1}
    assert report.without_rule == 1
    assert report.problems == ["0200: expected a rule for it, there is none"]


def test_answers_have_faults_too():
    asked: list[Fields] = [{"mti": "0100", 4: f"{n}"} for n in range(3)]
    answers, report = converse(
        {"rules": [{"answer": "00"}], "faults": {"lost": 1.0}}, asked
    )
    assert answers == [None] * 3
    assert report.faults == {"lost": 3}
    assert report.ok


def play_both(sender: Simulation, answerer: Simulation) -> None:
    """One listens and sends steps, one dials and answers by rules."""

    async def run() -> None:
        where = asyncio.get_running_loop().create_future()
        sender.on_listening = where.set_result
        never = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(
                sender.run(
                    Address("127.0.0.1", 0), listen=True, stopping=never, seconds=None
                )
            )
            group.create_task(
                answerer.run(await where, listen=False, stopping=never, seconds=None)
            )

    asyncio.run(run())


def test_two_simulators_play_both_sides():
    steps = [
        {"send": "purchase", "times": 3, "expect": {"39": "05"}},
        {"send": "purchase", "set": {"4": 9}, "expect": {"39": "00"}},
    ]
    sender = make({"steps": steps, "session": {"sign_on": True, "sign_off": True}})
    rules = [{"name": "nine", "match": {"4": 9}}, {"answer": "05"}]
    answerer = make({"rules": rules})
    play_both(sender, answerer)
    assert sender.report().ok, sender.report().problems
    assert sender.report().steps[0].sent == 4
    assert answerer.report().ok
    assert answerer.report().rules == {"nine": 1, "rule 2": 3}


def test_the_second_answer_to_what_went_out_twice_is_waited_for():
    sender = make({"steps": [{"send": "purchase"}], "faults": {"doubled": 1}})
    # of the two answers, this seed holds the second one back
    faults = {"late": 0.5, "late_ms": [100, 100]}
    answerer = make({"rules": [{"answer": "05"}], "faults": faults, "seed": 9})
    play_both(sender, answerer)
    assert answerer.report().faults == {"late": 1}
    assert sender.report().unexpected == 1
    assert sender.report().ok
