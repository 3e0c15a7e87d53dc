"""`switch simulate`: a scenario on its connections, and what came of it.

Rule 1: one connection plays the steps: the one that is dialled, or the first that
        comes in. The rules answer on all of them.
Rule 2: nothing stays behind: when a connection ends, what it was going to send late is
        forgotten.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

import iso8583
from switch.link._framing import Framing
from switch.link.settings import Address
from switch.replay._traffic import Histogram
from switch.replay.cards import TrafficCard
from switch.replay.client import Client
from switch.replay.compose import NETWORK_CLASS, Composer
from switch.replay.errors import SessionError
from switch.replay.faults import Fault, Injector
from switch.replay.load import Latencies
from switch.replay.player import Outcome, Player
from switch.replay.request import STANDARD_STATION, Station
from switch.replay.rules import RuleTable
from switch.replay.scenario import Scenario

# a test has a handful of peers; more are closed at once
CONNECTIONS_MAX: Final = 64
PROBLEMS_MAX: Final = 100
QUANTILES: Final = (0.5, 0.99, 0.999, 1.0)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class StepReport(msgspec.Struct):
    name: str
    sent: int = 0
    answered: int = 0
    #: answered, or not, as the step says; what a fault makes impossible not counted
    as_expected: int = 0
    not_so: int = 0
    response_codes: Counter[str] = msgspec.field(default_factory=Counter)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    #: all that was expected came, and all steps were played
    ok: bool
    #: false: it was stopped, or the connection was lost, before all steps were played
    complete: bool
    steps: list[StepReport]
    #: requests of the other side, by the rule that answered them
    rules: dict[str, int]
    without_rule: int
    faults: dict[Fault, int]
    #: answers that nobody waited for: late ones, and second ones
    unexpected: int
    #: messages that went out twice and were answered in two ways
    doubled_differently: int
    latency_ms: Latencies
    problems: list[str]
    problems_left_out: int
    lost: str = ""


class Simulation:
    def __init__(
        self,
        scenario: Scenario,
        codec: iso8583.Codec,
        framing: Framing,
        composer: Composer,
        cards: Sequence[TrafficCard] = (),
        station: Station = STANDARD_STATION,
    ) -> None:
        self._scenario = scenario
        self._codec = codec
        self._framing = framing
        self._composer = composer
        self._cards = cards
        self._station = station
        # apart from each other: one more message must not change every fault
        self._draw = random.Random(scenario.seed)
        self._fault_draw = random.Random(scenario.seed + 1)
        self._rules = RuleTable(
            scenario.rules, composer, random.Random(scenario.seed + 2)
        )
        self._steps: dict[str, StepReport] = {}
        self._answered_by: Counter[str] = Counter()
        self._faults: Counter[Fault] = Counter()
        self._without_rule = self._unexpected = self._differently = 0
        self._latencies = Histogram()
        self._problems: list[str] = []
        self._problem_count = 0
        self._lost = ""
        self._played = not scenario.steps
        self._taken = False
        self.on_progress: Callable[[int], None] = lambda sent: None
        self.on_listening: Callable[[Address], None] = lambda address: None

    async def run(
        self,
        address: Address,
        *,
        listen: bool,
        stopping: asyncio.Event,
        seconds: float | None,
    ) -> None:
        """Until all steps are played; with rules alone, until it is stopped, the time
        is up, or the connection that it dialled is lost."""
        work = asyncio.create_task(
            self._listen(address) if listen else self._dial(address)
        )
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait(
            {work, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        failed = work.exception() if work.done() else None
        for task in (work, stop):
            task.cancel()
        await asyncio.gather(work, stop, return_exceptions=True)
        if failed is not None:
            raise failed

    def report(self) -> Report:
        steps = list(self._steps.values())
        times = (self._latencies.at_quantile(q) / 1e6 for q in QUANTILES)
        return Report(
            ok=not self._problem_count and self._played and not self._differently,
            complete=self._played,
            steps=steps,
            rules={name: self._answered_by[name] for name in self._rules.names},
            without_rule=self._without_rule,
            faults=dict(self._faults),
            unexpected=self._unexpected,
            doubled_differently=self._differently,
            latency_ms=Latencies(*(round(value, 4) for value in times)),
            problems=self._problems,
            problems_left_out=self._problem_count - len(self._problems),
            lost=self._lost,
        )

    # -- connections

    async def _dial(self, address: Address) -> None:
        async with self._client(address.host, address.port) as client:
            await self._converse(client)

    def _client(self, host: str, port: int, streams: Streams | None = None) -> Client:
        return Client(host, port, self._codec, self._framing, streams, self._station)

    async def _listen(self, address: Address) -> None:
        done = asyncio.Event()
        conversations: set[asyncio.Task[None]] = set()

        def connected(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            if len(conversations) >= CONNECTIONS_MAX:
                writer.close()
                return
            task = asyncio.create_task(self._serve(reader, writer, done))
            conversations.add(task)
            task.add_done_callback(conversations.discard)
            # also when it was cancelled before it began, or while it ended
            task.add_done_callback(lambda _: writer.close())

        server = await asyncio.start_server(connected, address.host, address.port)
        try:
            self.on_listening(Address(address.host, server.sockets[0].getsockname()[1]))
            await done.wait()
        finally:
            server.close()
            for task in list(conversations):
                task.cancel()
            await asyncio.gather(*conversations, return_exceptions=True)

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        done: asyncio.Event,
    ) -> None:
        plays = bool(self._scenario.steps) and not self._taken
        self._taken = True
        host, port = writer.get_extra_info("peername")[:2]
        streams = reader, writer
        try:
            async with self._client(host, port, streams) as peer:
                await self._converse(peer, plays=plays)
        except SessionError as error:
            self._add_problem(str(error))
        except Exception as error:  # noqa: BLE001  a bug of ours: told, not hung on
            self._add_problem(f"{type(error).__name__}: {error}")
        finally:
            if plays:
                done.set()

    async def _converse(self, client: Client, *, plays: bool = True) -> None:
        timers: set[asyncio.TimerHandle] = set()
        injector = Injector(
            self._scenario.faults,
            self._fault_draw,
            self._codec,
            client.write,
            partial(_later, timers),
        )
        lost = asyncio.Event()
        client.on_lost = lambda why: lost.set()
        client.on_request = partial(self._take, client, injector, timers)
        session = self._scenario.session
        echo = None
        try:
            if session.sign_on:
                await client.sign_on()
            if session.echo_every_s:
                echo = asyncio.create_task(self._echo(client, session.echo_every_s))
            if plays and self._scenario.steps:
                await self._play(client, injector)
            elif client.lost is None:
                await lost.wait()
            if session.sign_off and client.lost is None:
                await client.manage("sign_off")
        finally:
            for timer in timers:
                timer.cancel()
            if echo is not None:
                echo.cancel()
                await asyncio.gather(echo, return_exceptions=True)
            self._faults.update(injector.counts)
            self._unexpected += client.unexpected_count

    async def _play(self, client: Client, injector: Injector) -> None:
        player = Player(
            client,
            self._scenario,
            self._composer,
            injector,
            draw=self._draw,
            cards=self._cards,
            network=self._station.network,
            on_outcome=self._add,
        )
        client.on_unexpected = player.take_unexpected
        try:
            await player.play(self._scenario.steps)
            await player.settle()
            self._played = client.lost is None
        finally:
            self._lost = client.lost or ""
            self._differently += player.doubled_differently()

    async def _echo(self, client: Client, every_s: float) -> None:
        while client.lost is None:
            await asyncio.sleep(every_s)
            try:
                await client.manage("echo")
            except SessionError as error:
                self._add_problem(str(error))

    # -- the other side's requests

    def _take(
        self,
        client: Client,
        injector: Injector,
        timers: set[asyncio.TimerHandle],
        request: iso8583.Message,
    ) -> bool:
        reply = self._rules.answer(request)
        network = request.mti[1] == NETWORK_CLASS
        if reply is None:
            if network:
                return client.answer_network(request)
            self._without_rule += 1
            self._add_problem(f"{request.mti}: expected a rule for it, there is none")
            return True
        self._answered_by[reply.rule] += 1
        if reply.body is None:
            return True
        send = partial(
            injector.send, reply.body, None if network else injector.choose()
        )
        if reply.delay_s:
            _later(timers, reply.delay_s, send)
        else:
            send()
        return True

    # -- what came of it

    def _add(self, outcome: Outcome) -> None:
        step = self._steps.setdefault(outcome.step, StepReport(outcome.step))
        step.sent += 1
        if outcome.answered:
            step.answered += 1
            step.response_codes[outcome.response_code] += 1
            self._latencies.add(int(outcome.elapsed_ms * 1e6))
        if outcome.problems:
            step.not_so += 1
            for problem in outcome.problems:
                self._add_problem(
                    f"{outcome.step}: {outcome.mti} STAN {outcome.stan}: {problem}"
                )
        elif outcome.fault not in ("lost", "malformed"):
            step.as_expected += 1
        self.on_progress(sum(each.sent for each in self._steps.values()))

    def _add_problem(self, text: str) -> None:
        self._problem_count += 1
        if len(self._problems) < PROBLEMS_MAX:
            self._problems.append(text)


def _later(
    timers: set[asyncio.TimerHandle], seconds: float, call: Callable[[], None]
) -> None:
    """A call that is forgotten with its connection."""

    def run() -> None:
        timers.discard(timer)
        call()

    timer = asyncio.get_running_loop().call_later(seconds, run)
    timers.add(timer)
