"""Network management messages: what a session decides, said in ISO 8583.

An 0800 is answered 0810 and an 0820 is answered 0830, at once and past the journal:
nothing is decided about money, and a line test must not wait for a disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from iso8583 import Codec, DecodeError, Dialect, Message, ReplyTemplate
from iso8583.dialect import STANDARD
from switch.link._counters import LinkCounters
from switch.link.session import Action, Answer, Close, Drop, Report, Send, Session
from switch.link.settings import SessionSettings
from switch.observe.log import event

_log = logging.getLogger("switch.link")

# Echoed where the request has them and the specification knows them: who asks (2, 32,
# 33, 93, 94, 100), which request it is (7, 11, 12, 13, 24, 37, 63), what it asks (70).
ECHOED = (2, 7, 11, 12, 13, 24, 32, 33, 37, 63, 70, 93, 94, 100)
NEEDED = (7, 11, 39, 70)


class Line(Protocol):
    """What a connection does for its session."""

    @property
    def link(self) -> str: ...

    peer: str
    signed_on: bool

    def send_body(self, body: bytes) -> None: ...

    def finish(self, kind: str, reason: str) -> None:
        """Answers what is due, then closes."""


class NetworkMessages:
    """0800 and 0810 in the codec and the dialect of one link."""

    def __init__(
        self, codec: Codec, clock: Callable[[], int], dialect: Dialect = STANDARD
    ) -> None:
        """`clock`: milliseconds since 1970."""
        missing = [field for field in NEEDED if field not in codec.spec.fields]
        if missing:
            raise ValueError(
                f"spec {codec.spec.name}: expected fields {NEEDED} for network "
                f"messages, missing are {missing}"
            )
        self.codes = dialect.network
        self._codec = codec
        self._clock = clock
        echoed = [field for field in ECHOED if field in codec.spec.fields]
        self._replies = {
            mti: ReplyTemplate(codec, reply, echoed)
            for mti, reply in (("0800", "0810"), ("0820", "0830"))
        }
        self._trace_number = 0

    def next_trace_number(self) -> int:
        """1 to 999999, then 1 again: field 11 of all our requests on this link."""
        self._trace_number = self._trace_number % 999_999 + 1
        return self._trace_number

    def request(self, function: str, trace_number: int) -> bytes:
        now = datetime.fromtimestamp(self._clock() / 1000, UTC)
        return self._codec.encode(
            {
                "mti": "0800",
                7: now.strftime("%m%d%H%M%S"),
                11: f"{trace_number:06d}",
                70: function,
            }
        )

    def reply(self, request: Message, response_code: str) -> bytes:
        # 0801 repeats 0800: which repeat it is does not change the answer.
        advice = request.mti[2] == "2"
        template = self._replies["0820" if advice else "0800"]
        return template.build(request, response_code)


class Management:
    """Carries out what the session of one connection decides."""

    def __init__(
        self,
        line: Line,
        messages: NetworkMessages,
        settings: SessionSettings,
        clock: Callable[[], float],
        counters: LinkCounters,
    ) -> None:
        """`clock`: seconds that never go back."""
        self._line = line
        self._messages = messages
        self._counters = counters
        self.session = Session(
            settings, clock, messages.next_trace_number, messages.codes
        )

    def opened(self) -> None:
        self._carry_out(self.session.opened())

    def receive_request(self, message: Message) -> None:
        self._carry_out(self.session.peer_request(_text(message, 70)), message)

    def receive_answer(self, message: Message) -> None:
        """A response of any kind: ours is found by its trace number, or it is nobody's.

        A financial response is nobody's: we send no such requests. A reject brings back
        what we sent, be it a request or an answer, and is no approval of either.
        """
        trace_number = _text(message, 11)
        code = _text(message, 39)
        ours = message.mti[1] == "8" and trace_number is not None
        if message.rejected:
            code = None
            ours = ours and message.mti[2] in "02"
            self._report_reject(message)
        if ours and trace_number is not None and _is_number(trace_number):
            actions = self.session.peer_answer(int(trace_number), code)
        else:
            actions = [Drop()]
        self._carry_out(actions, message)

    def tick(self) -> float:
        """Does what is due; returns when the next thing will be."""
        before = self.session.unanswered_total
        actions = self.session.tick()
        if self.session.unanswered_total > before:
            self._counters.network_unanswered += 1
            event(
                _log,
                logging.WARNING,
                "no answer in time to a request of ours",
                link=self._line.link,
                peer=self._line.peer,
            )
        self._carry_out(actions)
        return self.session.due_at()

    def sign_off(self) -> None:
        """Before we close: a peer that we signed on to is told."""
        if self.session.signed_on:
            self._carry_out(self.session.sign_off())

    def lost(self) -> None:
        self.session.lost()

    def _report_reject(self, message: Message) -> None:
        header, spec = message.header, message.codec.spec.header
        assert header is not None
        assert spec is not None
        event(
            _log,
            logging.WARNING,
            "rejected by the peer",
            link=self._line.link,
            peer=self._line.peer,
            mti=message.mti,
            reject=" ".join(f"{part.name}={header[part.name]}" for part in spec.reject),
        )

    def _carry_out(self, actions: list[Action], message: Message | None = None) -> None:
        line = self._line
        if line.signed_on != self.session.signed_on:
            line.signed_on = self.session.signed_on
            what = "signed on" if line.signed_on else "signed off"
            event(_log, logging.INFO, what, link=line.link, peer=line.peer)
        for action in actions:
            match action:
                case Answer(response_code):
                    assert message is not None
                    line.send_body(self._messages.reply(message, response_code))
                    self._counters.count_network(response_code)
                case Send(function, trace_number):
                    line.send_body(self._messages.request(function, trace_number))
                case Drop():
                    self._counters.responses_unexpected += 1
                    mti = "" if message is None else message.mti
                    event(
                        _log,
                        logging.WARNING,
                        "response dropped: nobody waits for it",
                        link=line.link,
                        peer=line.peer,
                        mti=mti,
                    )
                case Report(text):
                    event(
                        _log,
                        logging.WARNING,
                        "session",
                        link=line.link,
                        peer=line.peer,
                        report=text,
                    )
                case Close(reason):
                    line.finish("session", reason)


def _text(message: Message, field: int) -> str | None:
    try:
        return message.get(field)
    except DecodeError:
        return None  # not text in the field's encoding: the same as not there


def _is_number(text: str) -> bool:
    # EBCDIC has superscript digits, which are digits to Python and no numbers.
    return text.isascii() and text.isdigit()
