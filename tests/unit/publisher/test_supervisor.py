"""What the switch knows of its publisher, and tells."""

import asyncio
import time

import pytest

from switch.observe.metrics import Histogram
from switch.publish.settings import KafkaSettings, NsqSettings
from switch.publisher import process
from switch.publisher.forwarder import EngineStatus
from switch.publisher.process import Settings, Status
from switch.publisher.supervisor import PublisherProcess
from tests.unit.follower.running import Bank, until_it_is_so

NOBODY = KafkaSettings(bootstrap=("127.0.0.1:1",), timeout_ms=1000)


@pytest.fixture
def publisher() -> PublisherProcess:
    return PublisherProcess(Settings("/none", NOBODY))


def heard(publisher: PublisherProcess, status: EngineStatus) -> None:
    publisher.status = Status({"kafka": status})
    publisher.heard(publisher.status)


def told(publisher: PublisherProcess, head: int, entries: int) -> dict[str, float]:
    figures = {}
    for sample in publisher.samples(head, entries):
        assert not isinstance(sample.value, Histogram)
        figures[" ".join((sample.name, *sample.labels))] = sample.value
    return figures


def test_without_an_engine_there_is_none():
    assert PublisherProcess(Settings("/none")).engines == ()


def test_nothing_is_claimed_before_it_has_said_anything(publisher):
    figures = told(publisher, 5, 50)
    assert "publish_lag_entries kafka" not in figures
    assert figures["publisher_up"] == 0
    assert publisher.faults == {"kafka": "the publisher is not running"}


def test_an_engine_that_has_failed_is_where_it_was(publisher):
    heard(publisher, EngineStatus(commit=7, entries=70, published=70))
    assert told(publisher, 9, 95)["publish_lag_entries kafka"] == 25
    heard(publisher, EngineStatus(fault="PublishError: nobody", retries=2))
    figures = told(publisher, 9, 95)
    assert figures["publish_lag_entries kafka"] == 25
    assert figures["publish_retries kafka"] == 2
    assert figures["publish_faulty kafka"] == 1
    heard(publisher, EngineStatus(commit=9, entries=95, published=25))
    # One commit more is durable, and not yet answered.
    figures = told(publisher, 9, 99)
    assert figures["publish_lag_entries kafka"] == 0
    assert figures["publish_lag_seconds kafka"] == 0


def test_how_long_it_is_behind_grows_while_it_is(publisher):
    heard(publisher, EngineStatus(commit=1, entries=1))
    publisher.released(2)
    before = time.monotonic()
    while time.monotonic() == before:
        pass
    assert told(publisher, 2, 2)["publish_lag_seconds kafka"] > 0


def test_with_nobody_to_send_to_it_runs_says_why_and_ends_when_told(tmp_path):
    bank = Bank(tmp_path)
    bank.release()

    async def main() -> None:
        publisher = PublisherProcess(Settings(str(tmp_path), NOBODY))
        publisher.start()
        await until_it_is_so(lambda: "kafka" in publisher.faults)
        assert publisher.is_running
        assert "expected to connect at 127.0.0.1:1, got" in publisher.faults["kafka"]
        # Where it is, it knows all the same.
        assert publisher.known["kafka"].commit == 0
        await publisher.stop(drain_seconds=1)
        assert publisher.restarts == 0

    asyncio.run(main())
    bank.close()


def test_settings_that_are_passed_on_are_read_again():
    import msgspec

    settings = Settings("/data", KafkaSettings(bootstrap=("a:1", "[::1]:2")))
    again = msgspec.json.decode(msgspec.json.encode(settings), type=process.Settings)
    assert again == settings


def test_what_an_engine_counts_of_its_own_is_told(publisher):
    counts = {"stale": 3, "servers_down": 1}
    heard(publisher, EngineStatus(commit=1, entries=1, counts=counts))
    figures = told(publisher, 1, 1)
    assert figures["publish_stale kafka"] == 3
    assert figures["publish_servers_down kafka"] == 1


def test_engines_are_those_whose_hosts_are_given():
    both = Settings("/none", NOBODY, NsqSettings(nsqd=("127.0.0.1:1",)))
    assert PublisherProcess(both).engines == ("kafka", "nsq")
