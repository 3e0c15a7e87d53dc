"""`switch load`: as many authorisation requests as a window or a rate allows."""

import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

import iso8583
from switch.link._framing import Framing
from switch.replay._traffic import Traffic
from switch.replay.cards import read_cards
from switch.replay.errors import CardFileError, SessionError
from switch.replay.request import (
    APPROVED_CODE,
    STANDARD_STATION,
    Station,
    make_template,
    network_reply,
    network_request,
)

# between two looks at Ctrl-C and the progress bar
SLICE_NS: Final = 100_000_000
SIGN_ON_SLICE_NS: Final = 2_000_000
CONNECT_TIMEOUT_S: Final = 5.0
SIGN_ON_TIMEOUT_S: Final = 5.0
RRN_COUNT: Final = 10**12
FAULTS_SHOWN_MAX: Final = 10


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int
    cards: Path
    connections: int
    window: int
    seconds: float
    rate: float = 0.0  # 0: closed loop
    spec: str = "iso87-ascii"
    framing: str = "binary2"
    inclusive: bool = False
    seed: int = 1
    amount_max: int = 500  # minor units
    currency: str = "978"  # ISO 4217, numeric
    grace_seconds: float = 2.0
    sign_on: bool = True


class Latencies(msgspec.Struct, frozen=True):
    p50: float
    p99: float
    p999: float
    max: float


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    sent: int
    answered: int
    approved: int
    declined: int
    unanswered: int
    unexpected: int
    overdue: int
    answered_per_second: float
    latency_ms: Latencies
    response_codes: dict[str, int]
    connections: int
    window: int
    rate: float
    seconds: float
    faults: list[str]

    @property
    def complete(self) -> bool:
        """Every request sent was answered, and nothing else came."""
        return not (self.unanswered or self.unexpected or self.faults)


class LoadRun:
    """One run: `connect`, `run`, `result`, `close`."""

    def __init__(
        self,
        plan: LoadPlan,
        codec: iso8583.Codec,
        station: Station = STANDARD_STATION,
    ) -> None:
        self.plan = plan
        self._station = station
        self._codec = codec
        self._framing = Framing(plan.framing, plan.inclusive)
        self._echo_reply = network_reply(codec)
        self._sockets: list[socket.socket] = []
        self._signed_on: dict[int, str] = {}
        self.traffic = Traffic(
            codec,
            self._framing,
            window=plan.window,
            amount_max=plan.amount_max,
            seed=plan.seed,
            rrn_first=secrets.randbelow(RRN_COUNT),
            rate=plan.rate,
            examine=self._examine,
        )
        self._read_cards()

    def connect(self) -> None:
        plan = self.plan
        for _ in range(plan.connections):
            try:
                connection = socket.create_connection(
                    (plan.host, plan.port), CONNECT_TIMEOUT_S
                )
            except OSError as error:
                raise SessionError(
                    f"connection to {plan.host} port {plan.port}: "
                    f"{error.strerror or error}"
                ) from error
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets.append(connection)
            self.traffic.add_connection(connection.fileno())
        if plan.sign_on:
            self._sign_on()

    def run(self, progress: Callable[[float], None]) -> None:
        """Sends for the planned time, then waits for what is outstanding.

        `progress` gets the seconds since the start, some ten times a second.
        """
        traffic = self.traffic
        traffic.start()
        try:
            end_ns = traffic.started_at_ns + int(self.plan.seconds * 1e9)
            while (now := time.monotonic_ns()) < end_ns and traffic.open_count:
                traffic.run(min(end_ns, now + SLICE_NS))
                progress((time.monotonic_ns() - traffic.started_at_ns) / 1e9)
        finally:
            traffic.stop()
        end_ns = traffic.stopped_at_ns + int(self.plan.grace_seconds * 1e9)
        while (now := time.monotonic_ns()) < end_ns and traffic.outstanding:
            traffic.run(min(end_ns, now + SLICE_NS))

    def result(self) -> LoadResult:
        traffic = self.traffic
        seconds = max(1, traffic.stopped_at_ns - traffic.started_at_ns) / 1e9
        codes = traffic.response_codes
        approved = codes.get(APPROVED_CODE, 0)
        at_quantile_ms = [
            traffic.latencies_ns.at_quantile(quantile) / 1e6
            for quantile in (0.5, 0.99, 0.999, 1.0)
        ]
        return LoadResult(
            sent=traffic.sent,
            answered=traffic.answered,
            approved=approved,
            # an answer without field 39 is neither
            declined=traffic.answered - approved - codes.get("", 0),
            unanswered=traffic.sent - traffic.answered,
            unexpected=traffic.unexpected,
            overdue=traffic.overdue,
            answered_per_second=round(traffic.answered_in_time / seconds, 1),
            latency_ms=Latencies(*(round(value, 4) for value in at_quantile_ms)),
            response_codes=dict(sorted(codes.items())),
            connections=self.plan.connections,
            window=self.plan.window,
            rate=self.plan.rate,
            seconds=round(seconds, 3),
            faults=[
                f"connection {index + 1}: {what}"
                for index, what in traffic.faults[:FAULTS_SHOWN_MAX]
            ],
        )

    def close(self) -> None:
        for connection in self._sockets:
            connection.close()

    def _read_cards(self) -> None:
        plan = self.plan
        index_by_size: dict[int, int] = {}
        for card in read_cards(plan.cards):
            size = len(card.pan)
            if size not in index_by_size:
                template = make_template(
                    self._codec, self._framing, size, plan.currency
                )
                index_by_size[size] = self.traffic.add_template(
                    template.frame, template.places
                )
            self.traffic.add_card(card.pan, card.expiry, index_by_size[size])
        if not self.traffic.card_count:
            raise CardFileError(f"{plan.cards}: expected at least one card, got none")

    def _sign_on(self) -> None:
        for index in range(len(self._sockets)):
            body = network_request(self._codec, self._station, index + 1, "sign_on")
            self.traffic.push(index, self._framing.encode(body))
        give_up_ns = time.monotonic_ns() + int(SIGN_ON_TIMEOUT_S * 1e9)
        while len(self._signed_on) < len(self._sockets):
            if self.traffic.faults:
                index, what = self.traffic.faults[0]
                raise SessionError(f"sign-on of connection {index + 1}: {what}")
            if (now := time.monotonic_ns()) >= give_up_ns:
                missing = len(self._sockets) - len(self._signed_on)
                raise SessionError(
                    f"sign-on: expected an answer within {SIGN_ON_TIMEOUT_S:g} s, "
                    f"{missing} of {len(self._sockets)} did not come"
                )
            self.traffic.listen(now + SIGN_ON_SLICE_NS)
        for index, code in self._signed_on.items():
            if code != APPROVED_CODE:
                raise SessionError(
                    f"sign-on of connection {index + 1}: expected response code "
                    f"{APPROVED_CODE}, got {code}"
                )

    def _examine(self, index: int, body: bytes) -> bool:
        message = self._codec.decode(body)
        if message.mti == "0810":
            # a server that echoes without field 39 has accepted it too
            self._signed_on[index] = message.get(39, APPROVED_CODE)
            return True
        if message.mti == "0800":
            reply = self._echo_reply.build(message, APPROVED_CODE)
            self.traffic.push(index, self._framing.encode(reply))
            return True
        return False
