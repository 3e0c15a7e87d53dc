"""A real switch and a real Kafka, seen from both ends.

CARDSWITCH_TEST_SEED says when what is killed.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.end_to_end.harness import (
    HOST,
    ROOT,
    SWITCH,
    Client,
    Daemon,
    environment,
    make_bank,
    pan_of,
    request,
    run_switch,
    verify,
    wait_until,
)
from tests.end_to_end.kafka_topics import check, journal_events, records
from tests.end_to_end.publishing import (
    ACCOUNTS,
    BALANCE,
    VICTIMS,
    Load,
    harm,
    make_daemon,
    said_json,
    set_aside,
    trade,
)
from tests.servers.certificates import Authority
from tests.servers.common import free_ports
from tests.servers.kafka import Kafka

# Servers that are killed are waited for, one after the other.
pytestmark = pytest.mark.timeout(600)

SEED = int(os.environ.get("CARDSWITCH_TEST_SEED", "1"))
SEEDS = range(SEED, SEED + 3)
KILLS = 6
LAG = 'switch_publish_lag_entries{engine="kafka"}'
FAULTY = 'switch_publish_faulty{engine="kafka"}'


def options(bootstrap: str, prefix: str = "", **more: object) -> list[str]:
    settings = {"bootstrap": bootstrap, "topic_prefix": prefix, "timeout_ms": 3000}
    words = []
    for name, value in {**settings, **more}.items():
        words += ["--set", f"publish.kafka.{name}={value}"]
    # A machine that stands still for a while shall not take approvals back.
    return [*words, "--set", "link.answer_deadline_ms=60000"]


def has_published_all(daemon: Daemon) -> bool:
    metrics = daemon.metrics()
    return metrics.get(LAG) == 0 and metrics[FAULTY] == 0


def wait_published(daemon: Daemon) -> None:
    wait_until(lambda: has_published_all(daemon), f"all in Kafka: {daemon.log_tail()}")


def test_everything_arrives_in_order_with_key_id_and_fields(kafka, tmp_path):
    prefix = "arrives-"
    with make_daemon(tmp_path, *options(kafka.bootstrap, prefix)) as daemon:
        daemon.start()
        trade(daemon, 300)
        wait_published(daemon)
        found = records(kafka.bootstrap, prefix)
        assert check(found, journal_events(daemon.data), prefix) == 0
        metrics = daemon.metrics()
        assert metrics['switch_publish_events_total{engine="kafka"}'] == len(found)
        assert metrics['switch_publish_lag_seconds{engine="kafka"}'] == 0
        assert metrics["switch_publisher_up"] == 1
        assert daemon.get("/readyz")[1] == '{"ready": true, "reasons": []}'
        assert daemon.stop() == 0
    topics = {record.topic.removeprefix(prefix) for record in found}
    assert topics == {"authorisations", "postings", "card-events"}
    fields = ("id", "kind", "account", "amount", "currency", "approved")
    for record in found:
        assert {*fields, "response_code", "stan", "rrn", "at"} <= set(
            json.loads(record.value or b"")
        )
    # The broker dates records, and an account is where any client looks for it.
    assert {record.timestamp_type for record in found} == {1}


def test_the_balances_follow_from_the_postings(kafka, tmp_path):
    prefix = "balances-"
    with make_daemon(tmp_path, *options(kafka.bootstrap, prefix)) as daemon:
        daemon.start()
        trade(daemon, 100)
        with Client(daemon.port) as client:
            # Takes a posting back.
            pan = daemon.pans[0]
            client.ask(request("0200", 900, pan, 500))
            fields = request("0400", 901, pan, 500)
            original = "0200" + "000900" + "1124120000" + f"{'123456':0>11}" + "0" * 11
            assert client.ask({**fields, 90: original})[39] == "00"
        wait_published(daemon)
        sums = dict.fromkeys((f"A{index}" for index in range(ACCOUNTS)), 0)
        for record in records(kafka.bootstrap, prefix):
            if record.topic == prefix + "postings":
                event = json.loads(record.value or b"")
                sums[event["account"]] += event.get("balance_change", 0)
        for account, balance in sums.items():
            assert daemon.figures(account)[0] == balance
        assert daemon.stop() == 0


def test_a_restart_goes_on_where_it_was(kafka, tmp_path):
    prefix = "restart-"
    with make_daemon(tmp_path, *options(kafka.bootstrap, prefix)) as daemon:
        for round_number in range(3):
            daemon.start()
            trade(daemon, 50, 1 + 50 * round_number)
            # What is answered is published before it ends.
            assert daemon.stop() == 0
        wanted = journal_events(daemon.data)
    assert check(records(kafka.bootstrap, prefix), wanted, prefix) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_kills_under_load_lose_nothing_and_keep_the_order(seed, tmp_path):
    """kill -9 of the switch, of the publisher and of Kafka, in an order of chance."""
    chance = random.Random(seed)
    with Kafka(tmp_path / "kafka") as kafka:
        daemon = make_daemon(tmp_path, *options(kafka.bootstrap))
        with daemon:
            daemon.start()
            load = Load(lambda: daemon.port, daemon.pans, seed)
            load.start()
            try:
                for _ in range(KILLS):
                    load.wait_for(chance.randrange(20, 200))
                    victim = chance.choice(VICTIMS)
                    harm(victim, daemon, kafka, load, chance.randrange(50))
            finally:
                load.end()
            wait_published(daemon)
            assert daemon.stop() == 0
            assert verify(daemon.data)["ok"]
            check(records(kafka.bootstrap), journal_events(daemon.data))


def test_without_kafka_it_serves_says_so_and_catches_up(tmp_path):
    kafka = Kafka(tmp_path / "kafka")
    daemon = make_daemon(tmp_path, *options(kafka.bootstrap))
    with daemon:
        daemon.start()  # and is ready
        trade(daemon, 40)
        wait_until(lambda: daemon.metrics()[FAULTY] == 1, "the fault to be told")
        status, body = daemon.get("/readyz")
        said = json.loads(body)
        assert status == 200
        assert f"expected to connect at {kafka.bootstrap}" in said["publisher"]["kafka"]
        assert daemon.log_records("cannot go on, will try again")
        metrics = daemon.metrics()
        assert metrics['switch_publish_lag_seconds{engine="kafka"}'] > 0
        with kafka:
            wait_published(daemon)
            kafka.kill()
            trade(daemon, 40, 100)
            kafka.start()
            wait_until(lambda: daemon.metrics().get(LAG) == 0, "the rest in Kafka")
            assert "publisher" not in json.loads(daemon.get("/readyz")[1])
            assert daemon.stop() == 0
            check(records(kafka.bootstrap), journal_events(daemon.data))


def test_topics_are_made_as_configured_or_asked_for(kafka, tmp_path):
    prefix = "made-"
    words = options(kafka.bootstrap, prefix, create_topics="false")
    with make_daemon(tmp_path, *words) as daemon:
        daemon.start()
        wait_until(lambda: daemon.metrics()[FAULTY] == 1, "the fault to be told")
        said = json.loads(daemon.get("/readyz")[1])["publisher"]["kafka"]
        assert "expected the topics made-authorisations, made-card-events" in said
        assert daemon.stop() == 0
        more = {"partitions": 3, "replication": 1, "retention_h": 7}
        daemon.options = tuple(options(kafka.bootstrap, prefix, **more))
        daemon.start()
        wait_published(daemon)
        assert daemon.stop() == 0
        found = records(kafka.bootstrap, prefix)
        check(found, journal_events(daemon.data), prefix)
        assert {record.partition for record in found} == {0, 1, 2}


def test_what_is_too_large_for_a_topic_is_set_aside_and_the_rest_goes_on(tmp_path):
    """The brokers' limit is so low that long merchant names are beyond it."""
    with Kafka(tmp_path / "kafka", properties=["message.max.bytes=695"]) as kafka:
        daemon = make_daemon(tmp_path, *options(kafka.bootstrap))
        with daemon:
            daemon.start()
            trade(daemon, 30)
            with Client(daemon.port) as client:
                # Two bytes of JSON each.
                message = request("0200", 500, daemon.pans[1], 3, f43="\\" * 40)
                assert client.ask(message)[39] == "00"
            trade(daemon, 30, 600)
            wait_published(daemon)
            refused = frozenset(
                line["event"]["id"] for line in set_aside(daemon.data, "kafka")
            )
            assert len(refused) == 1
            assert daemon.metrics()['switch_publish_refused_total{engine="kafka"}'] == 1
            (line,) = set_aside(daemon.data, "kafka")
            assert "MessageSizeTooLarge" in str(line["reason"])
            assert daemon.log_records("event set aside")[0]["id"] in refused
            assert daemon.stop() == 0
            found = records(kafka.bootstrap)
            check(found, journal_events(daemon.data), refused=refused)


def test_what_is_no_valid_record_for_a_topic_is_set_aside(kafka, tmp_path):
    """A topic that is compacted takes none without a key: those of unknown cards."""
    prefix = "compacted-"
    topic = NewTopic(
        prefix + "authorisations", 2, 1, topic_configs={"cleanup.policy": "compact"}
    )
    asyncio.run(create(kafka.bootstrap, topic))
    with make_daemon(tmp_path, *options(kafka.bootstrap, prefix)) as daemon:
        daemon.start()
        trade(daemon, 20)
        with Client(daemon.port) as client:
            for stan in (500, 501):
                answer = client.ask(request("0100", stan, pan_of(ACCOUNTS + 1), 3))
                assert answer[39] == "14"
        trade(daemon, 20, 600)
        wait_published(daemon)
        assert daemon.stop() == 0
        lines = set_aside(daemon.data, "kafka")
        assert {line["event"]["stan"] for line in lines} == {"000500", "000501"}
        assert all("InvalidRecord" in line["reason"] for line in lines)
        refused = frozenset(line["event"]["id"] for line in lines)
        found = records(kafka.bootstrap, prefix)
        check(found, journal_events(daemon.data), prefix, refused)


async def create(bootstrap: str, topic: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([topic])
    await admin.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secured(tmp_path: Path, authority: Authority) -> Iterator[Kafka]:
    """Wants TLS, a certificate of ours, and a user with a password."""
    user = (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        'username="broker" password="broker-word";'
    )
    mechanism = "SCRAM-SHA-512"
    with Kafka(
        tmp_path / "kafka",
        protocol="SASL_SSL",
        properties=[
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={authority.issue('broker')}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={authority.ca}",
            "ssl.client.auth=required",
            f"sasl.enabled.mechanisms={mechanism}",
            f"sasl.mechanism.inter.broker.protocol={mechanism}",
            f"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={user}",
        ],
        format_options=[
            *("--add-scram", f"{mechanism}=[name=broker,password=broker-word]"),
            *("--add-scram", f"{mechanism}=[name=switch,password=switch-word]"),
        ],
    ) as server:
        yield server


def secured_options(kafka: Kafka, authority: Authority, word: str) -> tuple[str, ...]:
    password = authority.directory / "password"
    password.write_text(word + "\n")
    password.chmod(0o600)
    ours = authority.issue("switch")
    return tuple(
        options(
            kafka.bootstrap,
            security_protocol="SASL_SSL",
            ca_file=authority.ca,
            certificate_file=ours,
            key_file=ours,
            user="switch",
            password_file=password,
        )
    )


def test_over_tls_with_a_password_and_not_with_a_wrong_one(
    secured, authority, tmp_path
):
    with make_daemon(tmp_path) as daemon:
        stranger = Authority(tmp_path, "stranger")
        wrong = secured_options(secured, authority, "wrong-word")
        for words, reason in (
            (wrong, "SaslAuthenticationFailed"),
            ((*wrong, "--set", f"publish.kafka.ca_file={stranger.ca}"), "CERTIFICATE"),
        ):
            daemon.options = words
            daemon.start()
            wait_until(lambda: daemon.metrics()[FAULTY] == 1, "the fault to be told")
            said = json.loads(daemon.get("/readyz")[1])["publisher"]["kafka"]
            assert reason in said, said
            assert daemon.stop() == 0
        daemon.options = secured_options(secured, authority, "switch-word")
        daemon.start()
        trade(daemon, 20)
        wait_published(daemon)
        assert daemon.stop() == 0
        context = ssl.create_default_context(cafile=authority.ca)
        context.load_cert_chain(authority.issue("reader"))
        found = records(
            secured.bootstrap,
            security_protocol="SASL_SSL",
            ssl_context=context,
            sasl_mechanism="SCRAM-SHA-512",
            sasl_plain_username="switch",
            sasl_plain_password="switch-word",
        )
        check(found, journal_events(daemon.data))
    assert "word" not in daemon.log_text().replace("password", "")


def test_the_configuration_file_that_consumers_lean_on(tmp_path):
    """Nothing but `bootstrap`, and the first flags, which win."""
    port, http = free_ports(2)
    with Kafka(tmp_path / "kafka") as kafka:
        (tmp_path / "data").parent.mkdir(exist_ok=True)
        pans = make_bank(tmp_path / "data", 2, BALANCE)
        file = tmp_path / "switch.toml"
        file.write_text(
            'data_directory = "elsewhere"\n'
            f'[publish.kafka]\nbootstrap = ["{kafka.bootstrap}"]\n'
        )
        words = ("serve", "--config", str(file), "--data", str(tmp_path / "data"))
        where = ("--listen", f"{HOST}:{port}", "--http", f"{HOST}:{http}")
        with (tmp_path / "serve.log").open("wb") as log:
            process = subprocess.Popen(
                [*SWITCH, *words, *where], cwd=ROOT, env=environment(), stderr=log
            )
        try:
            wait_until(lambda: b'"link"' in (tmp_path / "serve.log").read_bytes(), "it")
            with Client(port) as client:
                assert client.ask(request("0200", 1, pans[0], 5))[39] == "00"
        finally:
            process.terminate()
            assert process.wait(60) == 0
        check(records(kafka.bootstrap), journal_events(tmp_path / "data"))
        assert not (ROOT / "elsewhere").exists()


# -- what operators and consumers have ---------------------------------------------


def where(daemon: Daemon) -> tuple[str, ...]:
    return ("--data", str(daemon.data), *daemon.options)


def test_an_operator_rewinds_and_skips_beside_the_daemon(kafka, tmp_path):
    prefix = "moves-"
    with make_daemon(tmp_path, *options(kafka.bootstrap, prefix)) as daemon:
        daemon.start()
        trade(daemon, 60)
        wait_published(daemon)
        wanted = journal_events(daemon.data)
        wait_until(
            lambda: (
                said_json("publish", "status", *where(daemon), "--json")[0]["commit"]
                == said_json("publish", "status", *where(daemon), "--json")[0]["head"]
            ),
            "the position to be kept",
        )
        (status,) = said_json("publish", "status", *where(daemon), "--json")
        assert (status["engine"], status["configured"]) == ("kafka", True)
        assert (status["running"], status["refused"]) == (True, 0)
        assert status["entries"] == len(wanted)
        at = list(wanted)[-20]
        moved = said_json(
            *("publish", "rewind", "kafka", "--to-id", at, *where(daemon), "--json")
        )
        assert moved["done"]
        wait_until(lambda: daemon.log_records("position moved"), "the move")
        wait_published(daemon)
        # The same ids again, and nothing else.
        repeats = check(records(kafka.bootstrap, prefix), wanted, prefix)
        assert repeats >= 20
        # There is nothing to skip now; and an engine that is not there is told.
        done = run_switch(
            "publish", "rewind", "kafkaesque", "--to-start", *where(daemon)
        )
        assert done.returncode == 74
        assert "expected an engine, kafka, got kafkaesque" in done.stderr
        daemon.kill()
        wait_until(lambda: not daemon.processes(), "the rest to end")


def test_an_operator_skips_while_nothing_runs(kafka, tmp_path):
    prefix = "skips-"
    with make_daemon(tmp_path, *options(kafka.bootstrap, prefix)) as daemon:
        daemon.options = ()
        daemon.start()
        trade(daemon, 30)
        assert daemon.stop() == 0
        skipped = set(journal_events(daemon.data))
        words = options(kafka.bootstrap, prefix)
        moved = said_json(
            "publish", "skip", "kafka", "--data", daemon.data, *words, "--json"
        )
        assert moved["done"]
        daemon.options = tuple(words)
        daemon.start()
        trade(daemon, 30, 100)
        wait_published(daemon)
        assert daemon.stop() == 0
        wanted = journal_events(daemon.data)
        rest = {name: wanted[name] for name in wanted if name not in skipped}
        check(records(kafka.bootstrap, prefix), rest, prefix)
        # It is taken out of the configuration for good.
        forget = ("publish", "forget", "kafka", "--data", daemon.data)
        done = run_switch(*forget, *words)
        assert done.returncode == 74
        assert "not configured any more, got kafka" in done.stderr
        assert said_json(*forget, "--json") == {
            "engine": "kafka",
            "entries": len(wanted),
        }
        assert said_json("publish", "status", "--data", daemon.data, "--json") == []


@pytest.mark.parametrize("value_format", ["json", "msgpack"])
def test_a_consumer_sees_each_event_once_and_goes_on(kafka, tmp_path, value_format):
    prefix = f"consumed-{value_format}-"
    words = options(kafka.bootstrap, prefix, value_format=value_format)
    position = tmp_path / "position"
    with make_daemon(tmp_path, *words) as daemon:
        daemon.start()
        trade(daemon, 40)
        wait_published(daemon)
        consume = ("consume", "kafka", *where(daemon), "--position", position)
        done = run_switch(*consume, "--count", "10")
        assert done.returncode == 0, done.stderr
        seen = done.stdout.splitlines()
        assert len(seen) == 10
        # All of it once more, and something new.
        said_json("publish", "rewind", "kafka", "--to-start", *where(daemon), "--json")
        trade(daemon, 10, 100)
        wait_published(daemon)
        done = run_switch(*consume)
        assert done.returncode == 0, done.stderr
        seen += done.stdout.splitlines()
        wanted = journal_events(daemon.data)
        found = [json.loads(line) for line in seen]
        assert {event["id"]: event for event in found} == wanted
        assert len(found) == len(wanted)
        # Without a position, and all that was sent.
        done = run_switch("consume", "kafka", *where(daemon), "--repeats")
        assert len(done.stdout.splitlines()) > len(wanted)
        done = run_switch("consume", "kafka", *where(daemon), "--topic", "elsewhere")
        assert done.returncode == 74
        assert f"expected a topic {prefix}elsewhere" in done.stderr
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_consumer_follows_until_it_is_told_to_end(kafka, tmp_path, number, code):
    prefix = f"followed-{code}-"
    with make_daemon(tmp_path, *options(kafka.bootstrap, prefix)) as daemon:
        daemon.start()
        wait_published(daemon)
        count = len(journal_events(daemon.data))
        (port,) = free_ports(1)
        metrics = ("--metrics", f"{HOST}:{port}")
        with (
            subprocess.Popen(
                [*SWITCH, "consume", "kafka", "--follow", *metrics, *where(daemon)],
                cwd=ROOT,
                env=environment(),
                stdout=subprocess.PIPE,
            ) as process,
            contextlib.ExitStack() as stack,
        ):
            stack.callback(process.kill)
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(count)]
            trade(daemon, 5)
            lines += [process.stdout.readline() for _ in range(5)]
            assert {json.loads(line)["id"] for line in lines} == set(
                journal_events(daemon.data)
            )
            with urllib.request.urlopen(f"http://{HOST}:{port}/metrics") as answer:
                assert b"switch_consumed_events_total" in answer.read()
            process.send_signal(number)
            assert process.wait(60) == code
        assert daemon.stop() == 0
