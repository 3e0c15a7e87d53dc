"""A scheme that writes down everything that it asked and everything that it was told.

It trusts nothing: what it was told once has to stay so, whatever happens to the switch.
"""

import random
import threading
from typing import NamedTuple

from tests.end_to_end.harness import Client, Daemon, request

CONNECTIONS = 4
BATCH_SIZE = 16
AMOUNT_MAX = 5_000
STANS = 1_000_000
# Asked again in one go: fewer than a connection may have outstanding.
AGAIN_BATCH_SIZE = 500


class Purchase(NamedTuple):
    account: int
    mti: str
    amount: int


class Answer(NamedTuple):
    response_code: str
    approval_code: str | None


class Recorder:
    """`pans[i]` is the card of account Ai, which had `balances[i]` to begin with."""

    def __init__(self, pans: list[str], balances: list[int], seed: int) -> None:
        self.pans = pans
        self.balances = balances
        self.purchases: dict[int, Purchase] = {}
        self.answers: dict[int, Answer] = {}
        self.unknown: set[int] = set()
        # The sum of all approvals that were received, by account.
        self.approved = [0] * len(pans)
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._workers: list[threading.Thread] = []
        self._faults: list[BaseException] = []
        self._stopping = threading.Event()

    # -- load, until the switch is gone

    def start_load(self, daemon: Daemon) -> None:
        self._stopping.clear()
        clients = [Client(daemon.port) for _ in range(CONNECTIONS)]
        self._workers = [
            threading.Thread(target=self._work, args=[client]) for client in clients
        ]
        for worker in self._workers:
            worker.start()

    def end_load(self) -> None:
        """Of a switch that still runs: each connection ends with all it was owed."""
        self._stopping.set()
        self.join()

    def join(self) -> None:
        for worker in self._workers:
            worker.join()
        assert not self._faults, self._faults

    def _work(self, client: Client) -> None:
        try:
            with client:
                while not self._stopping.is_set() and self._buy(client):
                    pass
        except (BrokenPipeError, ConnectionResetError):
            pass  # what was not answered is in `unknown`
        except BaseException as error:  # noqa: BLE001 -- told by `join`
            self._faults.append(error)

    def _buy(self, client: Client) -> bool:
        """One batch of new purchases; whether all of it was answered."""
        numbers = self._new_purchases()
        client.send(*(self._message(number) for number in numbers))
        return all(self._receive(client) for _ in numbers)

    def _new_purchases(self) -> list[int]:
        draw = self._draw
        with self._lock:
            first = len(self.purchases) + 1
            numbers = list(range(first, first + BATCH_SIZE))
            for number in numbers:
                self.purchases[number] = Purchase(
                    draw.randrange(len(self.pans)),
                    draw.choice(("0100", "0200")),
                    draw.randrange(1, AMOUNT_MAX),
                )
            self.unknown.update(numbers)
        return numbers

    def _message(self, number: int, *, repeat: bool = False) -> dict[int | str, str]:
        account, mti, amount = self.purchases[number]
        return request(
            f"{mti[:3]}1" if repeat else mti,
            number % STANS,
            self.pans[account],
            amount,
            f7=f"1124{number // STANS:06d}",
            f37=f"{number:012d}",
        )

    def _receive(self, client: Client) -> bool:
        body = client.receive_body()
        if body is None:
            return False
        message = client.codec.decode(body)
        number = int(message[37])
        answer = Answer(message[39], message.get(38))
        assert answer.response_code in ("00", "51"), answer
        assert (answer.approval_code is None) == (answer.response_code == "51")
        with self._lock:
            first = self.answers.get(number)
            if first is None:
                first = self.answers[number] = answer
                self._add(number, answer)
        assert answer == first, f"request {number}: was told {first}, now {answer}"
        return True

    def _add(self, number: int, answer: Answer) -> None:
        self.unknown.remove(number)
        if answer.response_code == "00":
            purchase = self.purchases[number]
            self.approved[purchase.account] += purchase.amount

    # -- what has to hold

    def check_bounds(self, daemon: Daemon) -> int:
        """Before anything is asked again: all that we were told is there, and no more
        than we asked for. Returns how much is there that we were not told of."""
        untold = 0
        asked = [0] * len(self.pans)
        for number in self.unknown:
            purchase = self.purchases[number]
            asked[purchase.account] += purchase.amount
        for index, told in enumerate(self.approved):
            used = self._used(daemon, index)
            assert told <= used <= told + asked[index], (
                f"account A{index}: approvals of {told} were received, and "
                f"{asked[index]} was not answered, but {used} is used"
            )
            untold += used - told
        return untold

    def check_exactly(self, daemon: Daemon) -> None:
        """When nothing is unknown: each approval counts once, nothing else does."""
        assert not self.unknown
        for index, told in enumerate(self.approved):
            assert self._used(daemon, index) == told, f"account A{index}"

    def ask_again(self, daemon: Daemon, others_max: int) -> None:
        """All that was not answered, and some that was: which gets the same answer,
        or `_receive` says what it got."""
        answered = list(self.answers)
        count = min(others_max, len(answered))
        numbers = [*self.unknown, *self._draw.sample(answered, count)]
        self._draw.shuffle(numbers)
        with Client(daemon.port) as client:
            for start in range(0, len(numbers), AGAIN_BATCH_SIZE):
                batch = numbers[start : start + AGAIN_BATCH_SIZE]
                repeats = [self._draw.random() < 0.5 for _ in batch]
                client.send(
                    *(
                        self._message(number, repeat=repeat)
                        for number, repeat in zip(batch, repeats, strict=True)
                    )
                )
                for _ in batch:
                    assert self._receive(client), "the connection has ended"

    def _used(self, daemon: Daemon, index: int) -> int:
        balance, held, available = daemon.figures(f"A{index}")
        assert available == balance - held >= 0
        return self.balances[index] - available
