"""What becomes of pushes that are taken, that are not, and that come twice."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from switch.notify.deliveries import DeadLetters, Deliveries
from switch.notify.webhook import NotTakenError, signature_of
from switch.nsq.consumer import Requeue
from switch.nsq.protocol import Message


class Webhook:
    """Takes all, but for the next `failures`; while `held`, it does not answer."""

    def __init__(self) -> None:
        self.posted: list[str] = []
        self.failures = 0
        self.held: asyncio.Event | None = None

    async def post(self, push_id: str, body: bytes) -> None:
        assert json.loads(body)["id"] == push_id
        self.posted.append(push_id)
        if self.held is not None:
            await self.held.wait()
        if self.failures:
            self.failures -= 1
            raise NotTakenError("no")


class Counts:
    def __init__(self) -> None:
        self.said: list[str] = []

    def delivered(self, seconds: float | None) -> None:
        self.said.append("delivered")

    def failed(self) -> None:
        self.said.append("failed")

    def repeated(self) -> None:
        self.said.append("repeated")

    def put_aside(self) -> None:
        self.said.append("put aside")


class Case:
    def __init__(self, path: Path, remembered_max: int = 100) -> None:
        self.now = 0.0
        self.path = path
        self.webhook = Webhook()
        self.counts = Counts()
        self.letters = DeadLetters(path)
        self.deliveries = Deliveries(
            self.webhook,
            self.letters,
            self.counts,
            attempts_max=3,
            retry_seconds_min=1.0,
            retry_seconds_max=8.0,
            remembered_max=remembered_max,
            clock=lambda: self.now,
        )

    async def handle(self, push_id: str = "1-1", attempts: int = 1) -> None:
        body = json.dumps({"id": push_id}).encode()
        await self.deliveries.handle(Message(body, b"i" * 16, attempts, 0))

    @property
    def dead(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path / "dead.jsonl")
    yield made
    made.letters.close()


def test_it_is_tried_again_later_each_time_and_then_put_aside(case):
    async def test() -> None:
        case.webhook.failures = 3
        for tries, seconds in ((1, 1.0), (2, 2.0)):
            with pytest.raises(Requeue) as again:
                await case.handle(attempts=tries)
            assert again.value.seconds == seconds
            case.now += seconds
        await case.handle(attempts=3)
        await case.handle(attempts=1)  # the other copy

    asyncio.run(test())
    assert case.counts.said == ["failed"] * 3 + ["put aside", "repeated"]
    (letter,) = case.dead
    assert (letter["reason"], letter["attempts"]) == ("no", 3)
    assert json.loads(str(letter["push"])) == {"id": "1-1"}


def test_the_other_copy_is_tried_no_sooner(case):
    async def test() -> None:
        case.webhook.failures = 1
        with pytest.raises(Requeue):
            await case.handle()
        case.now = 0.25
        with pytest.raises(Requeue) as again:
            await case.handle()
        assert again.value.seconds == 0.75
        case.now = 1.0
        await case.handle()

    asyncio.run(test())
    assert case.webhook.posted == ["1-1"] * 2
    assert case.counts.said == ["failed", "delivered"]


@pytest.mark.parametrize("fails", [False, True])
def test_the_other_copy_waits_for_how_it_goes(case, fails):
    async def test() -> None:
        case.webhook.held = asyncio.Event()
        case.webhook.failures = int(fails)
        two = [asyncio.create_task(case.handle()) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert case.webhook.posted == ["1-1"]
        case.webhook.held.set()
        results = await asyncio.gather(*two, return_exceptions=True)
        assert [type(result) for result in results] == (
            [Requeue, Requeue] if fails else [type(None)] * 2
        )

    asyncio.run(test())
    assert case.webhook.posted == ["1-1"]
    assert case.counts.said == (["failed"] if fails else ["delivered", "repeated"])


def test_attempts_before_a_start_count(case):
    case.webhook.failures = 1
    asyncio.run(case.handle(attempts=3))
    assert case.counts.said == ["failed", "put aside"]


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"id": 5}'])
def test_what_is_no_push_is_put_aside(case, body):
    asyncio.run(case.deliveries.handle(Message(body, b"i" * 16, 1, 0)))
    assert case.counts.said == ["put aside"]
    assert str(case.dead[0]["reason"]).startswith("no push: ")


def test_what_is_remembered_is_bounded(tmp_path):
    case = Case(tmp_path / "dead.jsonl", remembered_max=2)

    async def test() -> None:
        for push_id in ("1-1", "1-2", "1-3", "1-3", "1-1"):
            await case.handle(push_id)

    asyncio.run(test())
    case.letters.close()
    assert case.webhook.posted == ["1-1", "1-2", "1-3", "1-1"]


def test_a_signature_is_of_time_and_body():
    # By `printf 1764028800.{} | openssl dgst -sha256 -hmac secret`.
    known = "4bc29738a97130b6e129254f77d01b56e171c9e5796d1ae1364623c1750fa10d"
    assert signature_of(b"secret", 1764028800, b"{}") == f"v1={known}"
    assert signature_of(b"secret", 1764028801, b"{}") != f"v1={known}"
    assert signature_of(b"secret", 1764028800, b"{ }") != f"v1={known}"
    assert signature_of(b"Secret", 1764028800, b"{}") != f"v1={known}"
