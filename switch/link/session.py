"""The session of one connection: who is signed on, and is the peer still there.

Rule 1: no socket, message or clock of its own here. Events and the time come in,
        actions go out; `management.py` carries them out.
Rule 2: what happens in which state stands in TABLE and nowhere else; the methods only
        find out which event it is.
Rule 3: an answer never causes an answer, so two switches cannot talk in circles.

Either side may sign on, sign off and test the line; the dialect says with which
function codes (field 70 of an 0800). We have at most one request of our own under way;
its repeats have a trace number each, and an answer to any of them counts.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from msgspec import Struct

from iso8583.dialect import Function, NetworkCodes
from switch.link.settings import SessionSettings


class State(Enum):
    OPEN = auto()  # nobody is signed on
    OPEN_TESTING = auto()  # the same, and our echo test is under way
    SIGNING_ON = auto()  # our sign-on is under way
    SIGNED_ON = auto()
    SIGNED_ON_TESTING = auto()
    SIGNING_OFF = auto()  # our sign-off is under way
    CLOSED = auto()


class Event(Enum):
    PEER_SIGN_ON = auto()
    PEER_SIGN_OFF = auto()
    PEER_ECHO = auto()
    PEER_UNKNOWN = auto()  # a function code that we do not have
    PEER_MALFORMED = auto()  # no function code at all
    ACCEPTED = auto()  # our request was answered 00
    REFUSED = auto()  # our request was answered otherwise
    UNEXPECTED = auto()  # an answer to nothing that we asked
    ALIVE = auto()  # no answer, but the peer sent something else meanwhile
    TIMED_OUT = auto()
    GAVE_UP = auto()  # the last time-out that we accept
    SIGN_ON = auto()  # we want to
    SIGN_OFF = auto()
    IDLE = auto()
    LOST = auto()


class Step(Enum):
    NOTHING = auto()
    APPROVE = auto()
    REFUSE_UNKNOWN = auto()
    REFUSE_MALFORMED = auto()
    SEND_SIGN_ON = auto()
    SEND_SIGN_OFF = auto()
    SEND_ECHO = auto()
    DROP = auto()
    REPORT_REFUSED = auto()
    CLOSE = auto()


class Answer(Struct, frozen=True):
    """Answer the peer's request with this response code."""

    response_code: str


class Send(Struct, frozen=True):
    """Send a request of our own."""

    function: str
    trace_number: int


class Drop(Struct, frozen=True):
    """Log and count an answer that nobody waits for."""


class Report(Struct, frozen=True):
    text: str


class Close(Struct, frozen=True):
    reason: str


Action = Answer | Send | Drop | Report | Close
Row = dict[Event, tuple[State, Step]]

TRACE_NUMBER_MAX = 999_999  # field 11 has six digits

_PEER_EVENTS: dict[Function | None, Event] = {
    "sign_on": Event.PEER_SIGN_ON,
    "sign_off": Event.PEER_SIGN_OFF,
    "echo": Event.PEER_ECHO,
    None: Event.PEER_UNKNOWN,
}
_RESPONSE_CODES = {
    Step.APPROVE: "00",
    Step.REFUSE_UNKNOWN: "12",
    Step.REFUSE_MALFORMED: "30",
}
_FUNCTIONS: dict[Step, Function] = {
    Step.SEND_SIGN_ON: "sign_on",
    Step.SEND_SIGN_OFF: "sign_off",
    Step.SEND_ECHO: "echo",
}
SIGNED_ON_STATES = frozenset(
    {State.SIGNED_ON, State.SIGNED_ON_TESTING, State.SIGNING_OFF}
)


def _row(state: State, on_sign_on: State, on_sign_off: State, own: Row) -> Row:
    """What every state answers alike, then what is its own."""
    common: Row = {
        Event.PEER_SIGN_ON: (on_sign_on, Step.APPROVE),
        Event.PEER_SIGN_OFF: (on_sign_off, Step.APPROVE),
        Event.PEER_ECHO: (state, Step.APPROVE),
        Event.PEER_UNKNOWN: (state, Step.REFUSE_UNKNOWN),
        Event.PEER_MALFORMED: (state, Step.REFUSE_MALFORMED),
        Event.UNEXPECTED: (state, Step.DROP),
        Event.LOST: (State.CLOSED, Step.NOTHING),
    }
    return common | own


def _asking(state: State, again: Step, done: State, refused: State) -> Row:
    """While a request of ours is under way."""
    return {
        Event.ACCEPTED: (done, Step.NOTHING),
        Event.REFUSED: (refused, Step.REPORT_REFUSED),
        Event.TIMED_OUT: (state, again),
        Event.GAVE_UP: (State.CLOSED, Step.CLOSE),
    }


def _testing(state: State, rest: State) -> Row:
    """An echo test: any answer, and any other sign of life, ends it well."""
    return _asking(state, Step.SEND_ECHO, rest, rest) | {
        Event.REFUSED: (rest, Step.NOTHING),
        Event.ALIVE: (rest, Step.NOTHING),
        Event.SIGN_ON: (State.SIGNING_ON, Step.SEND_SIGN_ON),
        Event.SIGN_OFF: (State.SIGNING_OFF, Step.SEND_SIGN_OFF),
    }


TABLE: dict[State, Row] = {
    State.OPEN: _row(
        State.OPEN,
        State.SIGNED_ON,
        State.OPEN,
        {
            Event.SIGN_ON: (State.SIGNING_ON, Step.SEND_SIGN_ON),
            Event.SIGN_OFF: (State.OPEN, Step.NOTHING),
            Event.IDLE: (State.OPEN_TESTING, Step.SEND_ECHO),
        },
    ),
    State.OPEN_TESTING: _row(
        State.OPEN_TESTING,
        State.SIGNED_ON_TESTING,
        State.OPEN_TESTING,
        _testing(State.OPEN_TESTING, State.OPEN),
    ),
    State.SIGNING_ON: _row(
        State.SIGNING_ON,
        # The two sign-ons crossed: ours is still to be answered.
        State.SIGNING_ON,
        State.SIGNING_ON,
        _asking(State.SIGNING_ON, Step.SEND_SIGN_ON, State.SIGNED_ON, State.OPEN)
        | {
            # The line works; the sign-on itself has still to be answered.
            Event.ALIVE: (State.SIGNING_ON, Step.SEND_SIGN_ON),
            Event.SIGN_ON: (State.SIGNING_ON, Step.NOTHING),
            Event.SIGN_OFF: (State.SIGNING_OFF, Step.SEND_SIGN_OFF),
        },
    ),
    State.SIGNED_ON: _row(
        State.SIGNED_ON,
        State.SIGNED_ON,
        State.OPEN,
        {
            Event.SIGN_ON: (State.SIGNED_ON, Step.NOTHING),
            Event.SIGN_OFF: (State.SIGNING_OFF, Step.SEND_SIGN_OFF),
            Event.IDLE: (State.SIGNED_ON_TESTING, Step.SEND_ECHO),
        },
    ),
    State.SIGNED_ON_TESTING: _row(
        State.SIGNED_ON_TESTING,
        State.SIGNED_ON_TESTING,
        State.OPEN_TESTING,
        _testing(State.SIGNED_ON_TESTING, State.SIGNED_ON),
    ),
    State.SIGNING_OFF: _row(
        State.SIGNING_OFF,
        State.SIGNING_OFF,
        State.SIGNING_OFF,
        # A peer that refuses our sign-off is told no more requests by us all the same.
        _asking(State.SIGNING_OFF, Step.SEND_SIGN_OFF, State.OPEN, State.OPEN)
        | {
            Event.ALIVE: (State.SIGNING_OFF, Step.SEND_SIGN_OFF),
            Event.SIGN_ON: (State.SIGNING_ON, Step.SEND_SIGN_ON),
            Event.SIGN_OFF: (State.SIGNING_OFF, Step.NOTHING),
        },
    ),
    State.CLOSED: dict.fromkeys(Event, (State.CLOSED, Step.NOTHING)),
}


class Session:
    def __init__(
        self,
        settings: SessionSettings,
        clock: Callable[[], float],
        next_trace_number: Callable[[], int],
        codes: NetworkCodes,
    ) -> None:
        """`clock`: seconds that never go back. Trace numbers are the link's."""
        self.state = State.OPEN
        self._settings = settings
        self._clock = clock
        self._next_trace_number = next_trace_number
        self._codes = codes
        self._heard_at: float | None = None  # when the peer last sent anything
        self._quiet_since = clock()
        # Our request under way: when it was last sent, and its trace numbers so far.
        self._asked_at: float | None = None
        self._trace_numbers: tuple[int, ...] = ()
        self._unanswered = 0
        # Requests of ours that got no answer in time, since the start.
        self.unanswered_total = 0

    @property
    def signed_on(self) -> bool:
        return self.state in SIGNED_ON_STATES

    def opened(self) -> list[Action]:
        if self._settings.sign_on == "send":
            return self._take(Event.SIGN_ON)
        return []

    def peer_request(self, function: str | None) -> list[Action]:
        """An 0800; `function` is its field 70, None when it has none to be read."""
        if function is None:
            return self._take(Event.PEER_MALFORMED)
        return self._take(_PEER_EVENTS[self._codes.function_of(function)])

    def peer_answer(self, trace_number: int, response_code: str | None) -> list[Action]:
        if trace_number not in self._trace_numbers:
            return self._take(Event.UNEXPECTED)
        self._settle()
        accepted = response_code == "00"
        return self._take(
            Event.ACCEPTED if accepted else Event.REFUSED, response_code or ""
        )

    def heard(self, at: float) -> None:
        """The peer sent something, whatever it was, at this time of our clock."""
        self._heard_at = at
        self._quiet_since = max(self._quiet_since, at)

    def sign_on(self) -> list[Action]:
        return self._take(Event.SIGN_ON)

    def sign_off(self) -> list[Action]:
        return self._take(Event.SIGN_OFF)

    def lost(self) -> None:
        self._settle()
        self._take(Event.LOST)

    def due_at(self) -> float:
        """When `tick` is to be called next; early is harmless."""
        if self._asked_at is not None:
            return self._asked_at + self._settings.response_timeout_ms / 1000
        return self._quiet_since + self._settings.echo_interval_ms / 1000

    def tick(self) -> list[Action]:
        now = self._clock()
        if self.state is State.CLOSED or now < self.due_at():
            return []
        if self._asked_at is None:
            return self._idle(now)
        if self._heard_at is not None and self._heard_at >= self._asked_at:
            self._unanswered = 0
            return self._take_alive()
        self._unanswered += 1
        self.unanswered_total += 1
        if self._unanswered >= self._settings.unanswered_max:
            self._settle(self._unanswered)
            return self._take(Event.GAVE_UP)
        return self._take(Event.TIMED_OUT)

    def _idle(self, now: float) -> list[Action]:
        self._quiet_since = now
        if not self.signed_on and self._settings.sign_on == "send":
            return self._take(Event.SIGN_ON)
        if not self.signed_on and self._heard_at is None:
            return []  # a spare line that nobody has used: nothing to keep up
        return self._take(Event.IDLE)

    def _take_alive(self) -> list[Action]:
        testing = (State.OPEN_TESTING, State.SIGNED_ON_TESTING)
        if self.state in testing:
            self._settle()
        return self._take(Event.ALIVE)

    def _settle(self, unanswered: int = 0) -> None:
        """Nothing of ours is under way any more."""
        self._asked_at = None
        self._trace_numbers = ()
        self._unanswered = unanswered
        self._quiet_since = self._clock()

    def _take(self, event: Event, response_code: str = "") -> list[Action]:
        before = self.state
        self.state, step = TABLE[before][event]
        if step in _RESPONSE_CODES:
            return [Answer(_RESPONSE_CODES[step])]
        if step in _FUNCTIONS:
            code = self._codes.functions[_FUNCTIONS[step]].send
            return [self._ask(code, fresh=self.state is not before)]
        if step is Step.DROP:
            return [Drop()]
        if step is Step.REPORT_REFUSED:
            doing = before.name.lower().replace("_", " ")
            return [Report(f"{doing}: refused with {response_code or 'no code'}")]
        if step is Step.CLOSE:
            doing = before.name.lower().replace("_", " ")
            return [Close(f"{doing}: {self._unanswered} requests were not answered")]
        return []

    def _ask(self, function: str, *, fresh: bool) -> Send:
        if fresh:
            self._settle()
        trace_number = self._next_trace_number()
        assert 1 <= trace_number <= TRACE_NUMBER_MAX
        self._asked_at = self._clock()
        numbers = (*self._trace_numbers, trace_number)
        self._trace_numbers = numbers[-self._settings.unanswered_max :]
        return Send(function, trace_number)
