"""Scenarios: who the simulator is, what it sends, what it answers, and what goes wrong.

A file in TOML, checked as a whole before anything is sent:

    spec, framing, inclusive, dial or listen, seed      how it talks, and to whom
    [header]                                            parts of the message header
    [session]                                           sign-on, echo tests, sign-off
    [messages.NAME]                                     fields by number, and mti
    [[steps]]                                           what is sent, and expected
    [[rules]]                                           what is answered to whom
    [faults]                                            shares of late, lost, ...
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec

from switch.replay.compose import MTI, Composer, Fields, field_names
from switch.replay.errors import ScenarioError
from switch.replay.faults import FaultPlan

SCENARIO_SIZE_MAX: Final = 1 << 20
STEPS_DEPTH_MAX: Final = 8
# a mistyped number shall not run for days
TIMES_MAX: Final = 1_000_000

Values = dict[str, str | int]
Times = Annotated[int, msgspec.Meta(ge=1, le=TIMES_MAX)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Wait = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class SessionPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sign_on: bool = False
    #: 0: none
    echo_every_s: Seconds = 0.0
    sign_off: bool = False


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of: a message to send, a pause, or steps to repeat."""

    name: str = ""
    send: str = ""
    #: send the same message again as it was, traces and all
    again: bool = False
    set: Values = {}
    expect: Values = {}
    #: false: that no answer comes is what is expected
    answered: bool = True
    timeout_s: Wait = 5.0
    #: messages a second; without it each waits for the answer to the one before
    rate: Annotated[float, msgspec.Meta(ge=0, le=100_000)] = 0.0
    times: Times = 1
    pause_s: Seconds = 0.0
    steps: "list[Step]" = []

    def __post_init__(self) -> None:
        kinds = bool(self.send) + bool(self.pause_s) + bool(self.steps)
        if kinds != 1:
            raise ValueError(
                "step: expected one of send, pause_s and steps, "
                f"got {kinds or 'none'} of them"
            )

    @property
    def title(self) -> str:
        return self.name or (f"{self.send}, again" if self.again else self.send)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which requests it is for (all fields match), and what they are answered."""

    name: str = ""
    match: Values = {}
    answer: str = "00"
    fields: Values = {}
    delay_ms: Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] = 0
    drop: bool = False


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    spec: str = "iso87-ascii"
    framing: str = "binary2"
    inclusive: bool = False
    dial: str = ""
    listen: str = ""
    seed: int = 1
    #: a card file; `{card.pan}` and `{card.expiry}` draw one for each message
    cards: str = ""
    #: parts of the message header that are not as the specification has them
    header: dict[str, str] = {}
    session: SessionPlan = SessionPlan()
    messages: dict[str, Values] = {}
    steps: list[Step] = []
    rules: list[Rule] = []
    faults: FaultPlan = FaultPlan()

    def message(self, name: str) -> Fields:
        return field_names(self.messages[name])


def load_scenario(path: Path) -> Scenario:
    try:
        with path.open("rb") as file:
            content = file.read(SCENARIO_SIZE_MAX + 1)
        if len(content) > SCENARIO_SIZE_MAX:
            raise ValueError(f"expected at most {SCENARIO_SIZE_MAX} bytes")
        scenario = msgspec.toml.decode(content, type=Scenario)
        for step in all_steps(scenario.steps):
            if step.send and step.send not in scenario.messages:
                known = ", ".join(scenario.messages) or "none"
                raise ValueError(f"send: expected one of {known}, got {step.send!r}")
        if not scenario.steps and not scenario.rules:
            raise ValueError("expected steps or rules, got neither")
    except (msgspec.MsgspecError, ValueError) as error:
        raise ScenarioError(f"{path}: {error}") from None
    return scenario


def check(scenario: Scenario, composer: Composer) -> None:
    """That the specification has all fields; raises RequestError."""
    composer.compose({MTI: "0800"})
    for name in scenario.messages:
        composer.check(scenario.message(name))
    for step in all_steps(scenario.steps):
        composer.check([*field_names(step.set), *field_names(step.expect)])
    for rule in scenario.rules:
        composer.check([*field_names(rule.match), *field_names(rule.fields)])


def all_steps(steps: list[Step], depth: int = 1) -> Iterator[Step]:
    if depth > STEPS_DEPTH_MAX:
        raise ValueError(f"steps: expected at most {STEPS_DEPTH_MAX} within each other")
    for step in steps:
        yield step
        yield from all_steps(step.steps, depth + 1)
