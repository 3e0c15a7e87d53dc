"""Plays the steps of a scenario on one connection, and judges the answers.

Values may refer to what went before:

    {purchase.11}           field 11 of the last message, or step, `purchase`
    {purchase.answer.38}    field 38 of its answer
    {purchase.original}     what field 90 has to say of it -- ISO 8583:1987, 4.3.54
    {card.pan}              a card of the scenario's card file, drawn for each message
    {card.expiry}           its expiry
    {network.echo}          what field 70 is for it: sign_on, sign_off or echo
"""

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

import iso8583
from iso8583.dialect import NetworkCodes
from switch.replay.cards import TrafficCard
from switch.replay.client import Client, answer_mti, reject_text
from switch.replay.compose import MTI, NETWORK_CLASS, Composer, Fields, field_names
from switch.replay.errors import RequestError, ScenarioError
from switch.replay.expect import compare, value_of
from switch.replay.faults import EXCUSED, Fault, Injector
from switch.replay.scenario import Scenario, Step

# messages of one step at a rate that wait for their answers
OUTSTANDING_MAX: Final = 1000
# how long the answer to a malformed message is waited for: mostly none comes
MALFORMED_WAIT_S: Final = 1.0
# the second answer to what went out twice, after all else is done
SETTLE_S: Final = 1.0
ORIGINAL: Final = "original"
INSTITUTION_SIZE: Final = 11

_REFERENCE: Final = re.compile(r"\{([^{}.]+)\.(?:(answer)\.)?(\w+)\}")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one message; card data masked."""

    step: str
    mti: str
    stan: str
    answered: bool
    #: "": no answer, or none with field 39
    response_code: str
    elapsed_ms: float
    fault: Fault | None
    problems: tuple[str, ...]


class _Exchange(msgspec.Struct):
    message: iso8583.Message
    answer: iso8583.Message | None = None


class Player:
    def __init__(
        self,
        client: Client,
        scenario: Scenario,
        composer: Composer,
        injector: Injector,
        *,
        draw: random.Random,
        cards: Sequence[TrafficCard],
        network: NetworkCodes,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self._client = client
        self._scenario = scenario
        self._composer = composer
        self._injector = injector
        self._draw = draw
        self._cards = cards
        self._network = network
        self._on_outcome = on_outcome
        self._last: dict[str, _Exchange] = {}
        #: of messages that went out twice, what must be the same in both answers
        self._doubled: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self._settled = asyncio.Event()

    async def play(self, steps: Sequence[Step]) -> None:
        """Until all is sent and answered, or the connection is lost."""
        for step in steps:
            if step.rate and step.send:
                await self._send_at_rate(step)
                continue
            for _ in range(step.times):
                if self._client.lost is not None:
                    return
                if step.pause_s:
                    await asyncio.sleep(step.pause_s)
                elif step.steps:
                    await self.play(step.steps)
                else:
                    await self._send(step)

    def take_unexpected(self, answer: iso8583.Message) -> None:
        """The second answer to what went out twice."""
        said = self._doubled.get(_key(answer))
        if said is not None:
            said.append(_decision(answer))
            if not self._second_answers_due():
                self._settled.set()

    async def settle(self) -> None:
        """Waits for the second answers to what went out twice, if there are any."""
        self._settled.clear()
        if self._client.lost is None and self._second_answers_due():
            try:
                async with asyncio.timeout(SETTLE_S):
                    await self._settled.wait()
            except TimeoutError:
                return  # a switch may well answer once only

    def _second_answers_due(self) -> bool:
        return any(len(said) == 1 for said in self._doubled.values())

    def doubled_differently(self) -> int:
        return sum(len(set(said)) > 1 for said in self._doubled.values())

    async def _send_at_rate(self, step: Step) -> None:
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        room = asyncio.Semaphore(OUTSTANDING_MAX)
        async with asyncio.TaskGroup() as group:
            for index in range(step.times):
                await room.acquire()
                await asyncio.sleep(started_at + index / step.rate - loop.time())
                if self._client.lost is not None:
                    return
                task = group.create_task(self._send(step))
                task.add_done_callback(lambda _: room.release())

    async def _send(self, step: Step) -> None:
        message = self._make(step)
        network = message.mti[1] == NETWORK_CLASS
        fault = None if network else self._injector.choose()
        exchange = _Exchange(message)
        self._last[step.send] = self._last[step.title] = exchange
        body = message.encode()
        if fault == "lost":
            self._injector.send(body, fault)
            self._tell(step, exchange, fault, 0.0)
            return
        wait_s = step.timeout_s
        if fault == "malformed":
            wait_s = min(wait_s, MALFORMED_WAIT_S)
        elif fault == "doubled":
            self._doubled[(answer_mti(message.mti), value_of(message, 11) or "")] = []
        answer = await self._client.ask(
            body, message, wait_s, lambda body: self._injector.send(body, fault)
        )
        if answer is not None:
            exchange.answer = answer.message
            if fault == "doubled":
                self._doubled[_key(answer.message)].append(_decision(answer.message))
        self._tell(step, exchange, fault, answer.elapsed_ms if answer else 0.0)

    def _tell(
        self, step: Step, exchange: _Exchange, fault: Fault | None, elapsed_ms: float
    ) -> None:
        answer = exchange.answer
        problems: list[str] = []
        if fault in EXCUSED:
            pass
        elif answer is None:
            if step.answered:
                lost = self._client.lost
                why = f"the connection is lost: {lost}" if lost else "none came"
                problems = [f"expected an answer within {step.timeout_s:g} s, {why}"]
        elif not step.answered:
            problems = ["expected no answer, one came"]
        elif answer.rejected:
            problems = [reject_text(answer)]
        else:
            wanted = self._resolved(field_names(step.expect))
            problems = [str(one) for one in compare(self._composer, wanted, answer)]
        self._on_outcome(
            Outcome(
                step=step.title,
                mti=exchange.message.mti,
                stan=value_of(exchange.message, 11) or "",
                answered=answer is not None,
                response_code="" if answer is None else value_of(answer, 39) or "",
                elapsed_ms=elapsed_ms,
                fault=fault,
                problems=tuple(problems),
            )
        )

    def _make(self, step: Step) -> iso8583.Message:
        changes = field_names(step.set)
        try:
            if not step.again:
                fields = self._scenario.message(step.send) | changes
                return self._composer.compose(self._resolved(fields))
            fields = dict(self._exchange(step.send).message.to_dict())
            for field, value in self._resolved(changes).items():
                fields[field] = (
                    self._composer.fit(field, value)
                    if isinstance(field, int) and value
                    else value
                )
            kept = {field: value for field, value in fields.items() if value}
            return self._composer.codec.message(kept)
        except (RequestError, iso8583.EncodeError) as error:
            raise ScenarioError(f"step {step.title!r}: {error}") from None

    def _resolved(self, fields: Fields) -> Fields:
        card = self._draw.choice(self._cards) if self._cards else None

        def of(match: re.Match[str]) -> str:
            name, answered, what = match.groups()
            if name == "card":
                return _of_card(card, what)
            if name == "network":
                return _code_of(self._network, what)
            return self._said(name, what, answered=bool(answered))

        return {field: _REFERENCE.sub(of, value) for field, value in fields.items()}

    def _said(self, name: str, what: str, *, answered: bool) -> str:
        exchange = self._exchange(name)
        if what == ORIGINAL:
            return _original(exchange.message)
        message = exchange.answer if answered else exchange.message
        if message is None:
            return ""
        return value_of(message, MTI if what == MTI else _number(what)) or ""

    def _exchange(self, name: str) -> _Exchange:
        if name not in self._last:
            raise ScenarioError(f"{name}: expected it to be sent before, it was not")
        return self._last[name]


def _key(answer: iso8583.Message) -> tuple[str, str]:
    return answer.mti, value_of(answer, 11) or ""


def _decision(answer: iso8583.Message) -> tuple[str, str]:
    return value_of(answer, 39) or "", value_of(answer, 38) or ""


def _of_card(card: TrafficCard | None, what: str) -> str:
    if card is None:
        raise ScenarioError("{card...}: expected a card file with cards in it")
    if what not in ("pan", "expiry"):
        raise ScenarioError(f"card.{what}: expected card.pan or card.expiry")
    value: bytes = getattr(card, what)
    return value.decode()


def _code_of(network: NetworkCodes, what: str) -> str:
    codes = {str(function): code for function, code in network.functions.items()}
    if what not in codes:
        raise ScenarioError(f"network.{what}: expected one of {', '.join(codes)}")
    return codes[what].send


def _number(text: str) -> int:
    if not text.isdigit():
        raise ScenarioError(f"{text}: expected the number of a field")
    return int(text)


def _original(message: iso8583.Message) -> str:
    """Original data elements: type, STAN, transmission time, who acquired it."""
    institutions = (value_of(message, field) or "" for field in (32, 33))
    return (
        f"{message.mti}{value_of(message, 11) or '':0>6}"
        f"{value_of(message, 7) or '':0>10}"
        + "".join(one.rjust(INSTITUTION_SIZE, "0") for one in institutions)
    )
