"""`switch notify` between real nsqd and a webhook that is not always there."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from switch.nsq.producer import Producer
from tests.end_to_end.harness import (
    HOST,
    ROOT,
    SWITCH,
    environment,
    run_switch,
    wait_until,
)
from tests.end_to_end.webhook import Receiver
from tests.scraping import values_of
from tests.servers.common import free_ports
from tests.servers.nsq import Nsqd
from tests.unit.nsq.peer import until

pytestmark = pytest.mark.timeout(600)

SECRET = "a secret of enough bytes"
AT = "2026-11-24T18:00:00.000Z"


def push(number: int) -> bytes:
    return json.dumps({"id": f"1-{number}", "amount": 5, "at": AT}).encode()


def publish(
    hosts: Sequence[str], topic: str, bodies: list[bytes], copies: int = 1
) -> None:
    async def run() -> None:
        producer = Producer(hosts, copies=copies, timeout_seconds=30)
        await producer.open()
        await producer.publish(topic, bodies)
        await until(lambda: not producer.owed)
        await producer.close()

    asyncio.run(run())


class Notify:
    """`switch notify`, with metrics."""

    def __init__(
        self, folder: Path, topic: str, url: str, hosts: Sequence[str], *options: str
    ) -> None:
        self.dead_letters = folder / "dead.jsonl"
        (folder / "secret").write_text(SECRET + "\n")
        (self.metrics_port,) = free_ports(1)
        self.words = [
            *("notify", "--to", url, "--secret-file", str(folder / "secret")),
            *("--dead-letters", str(self.dead_letters), "--topic", topic),
            *(word for host in hosts for word in ("--nsqd", host)),
            *("--metrics", f"{HOST}:{self.metrics_port}"),
            *("--retry-min", "0.05", "--retry-max", "0.2", *options),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        with subprocess.Popen(
            [*SWITCH, *self.words],
            cwd=ROOT,
            env=environment(),
            stderr=subprocess.DEVNULL,
        ) as process:
            self.process = process
            try:
                wait_until(self._is_there, "its metrics")
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def _is_there(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "it ended"
        try:
            return bool(self.metrics())
        except OSError:
            return False

    def metrics(self) -> dict[str, float]:
        url = f"http://{HOST}:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return values_of(answer.read().decode())

    def dead(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.dead_letters.read_text().splitlines()]


def end(process: "subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(60)


def test_each_push_is_posted_once_and_signed(nsqd, tmp_path):
    topic = "signed"
    with Receiver() as receiver:
        notify = Notify(tmp_path, topic, receiver.url, [nsqd.address])
        publish([nsqd.address], topic, [push(number) for number in range(50)])
        began_at = int(time.time())
        with notify.running() as process:
            wait_until(lambda: len(receiver.requests) == 50, "all of them")
            taken = 'switch_notify_posts_total{outcome="taken"}'
            wait_until(lambda: notify.metrics()[taken] == 50, "the count")
            assert notify.metrics()["switch_notify_nsqd"] == 1
            assert notify.metrics()["switch_notify_seconds_count"] == 50
            assert end(process) == 143
    for headers, body in receiver.requests:
        timestamp = headers["Switch-Timestamp"]
        assert began_at <= int(timestamp) <= int(time.time())
        signed = timestamp.encode() + b"." + body
        wanted = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert headers["Switch-Signature"] == f"v1={wanted}"
        assert headers["Switch-Id"] == json.loads(body)["id"]
        assert headers["Content-Type"] == "application/json"
    assert {each["id"] for each in receiver.pushes} == {f"1-{n}" for n in range(50)}
    assert notify.dead() == []


def test_what_is_not_taken_comes_again_and_is_put_aside_in_the_end(nsqd, tmp_path):
    """One push is never taken, one hangs at first; the others do not wait for them."""
    topic = "retried"

    def answer(push_id: str, time: int) -> int | None:
        if push_id == "1-0":
            return 500
        if push_id == "1-1" and time == 1:
            return None
        return 503 if push_id == "1-2" and time == 1 else 204

    with Receiver(answer) as receiver:
        words = ("--attempts", "3", "--timeout", "2")
        notify = Notify(tmp_path, topic, receiver.url, [nsqd.address], *words)
        publish([nsqd.address], topic, [push(number) for number in range(10)])
        with notify.running() as process:
            wait_until(lambda: notify.dead_letters.read_text(), "one put aside")
            wait_until(
                lambda: receiver.times("1-1") == receiver.times("1-2") == 2, "others"
            )
            taken = 'switch_notify_posts_total{outcome="taken"}'
            wait_until(lambda: notify.metrics()[taken] == 9, "the count")
            assert notify.metrics()["switch_notify_dead_letters_total"] == 1
            assert end(process) == 143
    (letter,) = notify.dead()
    assert json.loads(str(letter["push"]))["id"] == "1-0"
    assert (letter["reason"], letter["attempts"]) == (
        "expected an answer 2xx, got 500",
        3,
    )
    assert receiver.times("1-0") == 3
    assert all(receiver.times(f"1-{number}") == 1 for number in range(3, 10))
    assert notify.dead_letters.stat().st_mode & 0o777 == 0o600


def test_two_copies_are_posted_once(tmp_path):
    with (
        Nsqd(tmp_path / "nsqd1") as one,
        Nsqd(tmp_path / "nsqd2") as two,
        Receiver() as receiver,
    ):
        hosts = [one.address, two.address]
        notify = Notify(tmp_path, "twice", receiver.url, hosts)
        publish(hosts, "twice", [push(number) for number in range(30)], copies=2)
        with notify.running() as process:
            repeats = "switch_notify_repeats_total"
            wait_until(lambda: notify.metrics()[repeats] == 30, "the other copies")
            assert len(receiver.requests) == 30
            assert end(process) == 143


def test_a_push_that_comes_again_after_a_restart_is_passed_over(nsqd, tmp_path):
    topic = "remembered"
    words = ("--remember", str(tmp_path / "ids"))
    with Receiver() as receiver:
        notify = Notify(tmp_path, topic, receiver.url, [nsqd.address], *words)
        pushes = [push(number) for number in range(10)]
        publish([nsqd.address], topic, pushes)
        with notify.running() as process:
            wait_until(lambda: len(receiver.requests) == 10, "the pushes")
            assert end(process) == 143
        publish([nsqd.address], topic, pushes)
        with notify.running() as process:
            repeats = "switch_notify_repeats_total"
            wait_until(lambda: notify.metrics()[repeats] == 10, "repeats")
            assert end(process) == 143
        assert all(receiver.times(f"1-{each}") == 1 for each in range(10))


def test_nobody_listens_and_nsqd_is_killed_and_it_stays(tmp_path):
    (port,) = free_ports(1)
    with Nsqd(tmp_path / "nsqd") as nsqd:
        notify = Notify(tmp_path, "late", f"http://{HOST}:{port}/", [nsqd.address])
        publish([nsqd.address], "late", [push(1)])
        with notify.running() as process:
            missed = 'switch_notify_posts_total{outcome="not_taken"}'
            wait_until(lambda: notify.metrics()[missed] >= 1, "an attempt")
            nsqd.kill()
            wait_until(lambda: notify.metrics()["switch_notify_nsqd"] == 0, "the end")
            nsqd.start()
            wait_until(lambda: notify.metrics()["switch_notify_nsqd"] == 1, "it again")
            assert end(process, signal.SIGINT) == 130


def test_a_secret_that_is_none_and_no_nsqd_are_said(tmp_path):
    (tmp_path / "secret").write_text("short\n")
    words = ("notify", "--to", "http://localhost/", "--secret-file")
    done = run_switch(*words, tmp_path / "secret", "--nsqd", "127.0.0.1:1")
    assert done.returncode == 2
    assert "expected a secret of at least 16 bytes, got 5" in done.stderr
    (tmp_path / "secret").write_text(SECRET)
    done = run_switch(*words, tmp_path / "secret")
    assert done.returncode == 2
    assert "expected --nsqd, --lookupd or the setting publish.nsq.nsqd" in done.stderr
    done = run_switch("notify", "--to", "ftp://x", "--secret-file", "secret")
    assert done.returncode == 2
    assert "expected http(s)://HOST" in done.stderr
