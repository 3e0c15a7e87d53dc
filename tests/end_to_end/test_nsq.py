"""A real switch and real nsqd, seen from both ends.

CARDSWITCH_TEST_SEED says when what is killed.
"""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import jsonschema_rs
import pytest

from switch.publish.schemas import PUSHES, path_of
from switch.publisher.places import POSITION_SECONDS
from tests.end_to_end.harness import (
    Client,
    Daemon,
    pan_of,
    request,
    run_switch,
    wait_until,
)
from tests.end_to_end.kafka_topics import journal_events
from tests.end_to_end.nsq_topics import Collector, check, wanted_pushes
from tests.end_to_end.publishing import (
    ACCOUNTS,
    VICTIMS,
    Load,
    harm,
    make_daemon,
    said_json,
    set_aside,
    trade,
)
from tests.servers.nsq import Nsqd

# Servers that are killed are waited for, one after the other.
pytestmark = pytest.mark.timeout(600)

SEED = int(os.environ.get("CARDSWITCH_TEST_SEED", "1"))
SEEDS = range(SEED, SEED + 2)
KILLS = 4
LAG = 'switch_publish_lag_entries{engine="nsq"}'
FAULTY = 'switch_publish_faulty{engine="nsq"}'
OWED = 'switch_publish_copies_owed{engine="nsq"}'
DOWN = 'switch_publish_servers_down{engine="nsq"}'
STALE = 'switch_publish_stale_total{engine="nsq"}'
DROPPED = 'switch_publish_dropped_total{engine="nsq"}'


def options(*servers: Nsqd, **more: object) -> list[str]:
    settings = {"nsqd": ",".join(server.address for server in servers), **more}
    words = []
    for name, value in settings.items():
        words += ["--set", f"publish.nsq.{name}={value}"]
    # A machine that stands still for a while shall not take approvals back.
    return [*words, "--set", "link.answer_deadline_ms=60000"]


def is_complete(daemon: Daemon) -> bool:
    """All is published, to as many nsqd as it should be."""
    metrics = daemon.metrics()
    return all(metrics.get(name) == 0 for name in (LAG, FAULTY, OWED, DOWN))


def wait_complete(daemon: Daemon) -> None:
    wait_until(lambda: is_complete(daemon), f"all in NSQ: {daemon.log_tail()}")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Nsqd, Nsqd]]:
    """Two nsqd to be killed, as they are by default."""
    with Nsqd(tmp_path / "nsqd1") as one, Nsqd(tmp_path / "nsqd2") as other:
        yield one, other


def test_each_use_of_a_card_is_told_of_as_documented(nsqd, tmp_path):
    topic = "told"
    words = options(nsqd, topic=topic)
    with (
        make_daemon(tmp_path, *words) as daemon,
        Collector(topic, [nsqd.address]) as collector,
    ):
        daemon.start()
        trade(daemon, 100)
        with Client(daemon.port) as client:
            # Too much, an unknown card, and one that is taken back.
            assert client.ask(request("0100", 900, daemon.pans[0], 10**11))[39] == "51"
            unknown = request("0100", 901, pan_of(ACCOUNTS + 1), 3)
            assert client.ask(unknown)[39] == "14"
            client.ask(request("0200", 902, daemon.pans[0], 500))
            fields = request("0400", 903, daemon.pans[0], 500)
            original = "0200" + "000902" + "1124120000" + f"{'123456':0>11}" + "0" * 11
            assert client.ask({**fields, 90: original})[39] == "00"
        wait_complete(daemon)
        events = journal_events(daemon.data)
        collector.wait_for(set(wanted_pushes(events)))
        assert daemon.get("/readyz")[1] == '{"ready": true, "reasons": []}'
        assert daemon.stop() == 0
        check(collector.pushes, events)
    assert len(collector.taken) == len(collector.pushes) == 102
    validator = jsonschema_rs.validator_for(json.loads(path_of(PUSHES).read_bytes()))
    for body in collector.taken:
        validator.validate(json.loads(body))
        for pan in daemon.pans:
            assert pan.encode() not in body


def test_consumers_find_pushes_through_nsqlookupd(nsqd, nsqlookupd, tmp_path):
    topic = "looked-up"
    with (
        make_daemon(tmp_path, *options(nsqd, topic=topic)) as daemon,
        Collector(topic, lookupd=[nsqlookupd.http_address]) as collector,
    ):
        daemon.start()
        trade(daemon, 20)
        events = journal_events(daemon.data)
        collector.wait_for(set(wanted_pushes(events)))
        assert daemon.stop() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_with_one_nsqd_killed_at_a_time_everything_is_told(seed, pair, tmp_path):
    """And the switch, and the publisher, in an order of chance."""
    chance = random.Random(seed)
    hosts = [server.address for server in pair]
    with (
        make_daemon(tmp_path, *options(*pair, timeout_ms=1000)) as daemon,
        Collector("push-notifications", hosts) as collector,
    ):
        daemon.start()
        load = Load(lambda: daemon.port, daemon.pans, seed)
        load.start()
        try:
            for _ in range(KILLS):
                load.wait_for(chance.randrange(20, 200))
                victim = chance.choice((*VICTIMS, "server"))
                server = pair[chance.randrange(2)]
                harm(victim, daemon, server, load, chance.randrange(200))
                # Both have what is to be told, and consumers have had time for it.
                wait_until(lambda: daemon.metrics().get(DOWN) == 0, "both nsqd")
                answered = wanted_pushes(journal_events(daemon.data))
                collector.wait_for(set(answered))
                wait_until(lambda: collector.connected == 2, "the consumer")
        finally:
            load.end()
        wait_complete(daemon)
        events = journal_events(daemon.data)
        collector.wait_for(set(wanted_pushes(events)))
        assert daemon.stop() == 0
        check(collector.pushes, events)


def test_the_publisher_and_the_nsqd_with_the_only_copy_are_killed_and_all_is_told(
    pair, tmp_path
):
    """What one has and the other is owed is handed in again by the next publisher."""
    one, other = pair
    with make_daemon(tmp_path, *options(one, other, timeout_ms=1000)) as daemon:
        daemon.start()
        trade(daemon, 10)
        wait_complete(daemon)
        other.kill()
        trade(daemon, 20, 100)
        # One has it, and that is all that answers wait for.
        wait_until(lambda: daemon.metrics().get(LAG) == 0, "one to have it")
        assert daemon.metrics()[OWED] > 0
        # As long as what is acknowledged, and owed to nobody, takes to be written.
        time.sleep(2 * POSITION_SECONDS)
        where = ("--data", str(daemon.data), *daemon.options)
        (status,) = said_json("publish", "status", *where, "--json")
        assert status["commit"] < status["head"]
        harm_publishers(daemon)
        one.kill()
        one.start()
        other.start()
        with Collector("push-notifications", [one.address, other.address]) as collector:
            wait_complete(daemon)
            events = journal_events(daemon.data)
            behind = {
                event_id: event
                for event_id, event in wanted_pushes(events).items()
                if int(event["stan"]) >= 100
            }
            assert len(behind) == 20
            collector.wait_for(set(behind))
            assert daemon.stop() == 0


def harm_publishers(daemon: Daemon) -> None:
    for pid in daemon.publishers():
        os.kill(pid, signal.SIGKILL)


def test_without_nsqd_it_serves_says_so_and_catches_up(tmp_path):
    nsqd = Nsqd(tmp_path / "nsqd")
    with make_daemon(tmp_path, *options(nsqd)) as daemon:
        daemon.start()  # and is ready
        trade(daemon, 40)
        wait_until(lambda: daemon.metrics()[FAULTY] == 1, "the fault to be told")
        status, body = daemon.get("/readyz")
        assert status == 200
        said = json.loads(body)["publisher"]["nsq"]
        assert f"expected an nsqd to connect to, got none: {nsqd.address}" in said
        assert daemon.log_records("cannot go on, will try again")
        assert daemon.metrics()[DOWN] == 1
        with nsqd, Collector("push-notifications", [nsqd.address]) as collector:
            events = journal_events(daemon.data)
            collector.wait_for(set(wanted_pushes(events)))
            nsqd.kill()
            trade(daemon, 40, 100)
            nsqd.start()
            wait_complete(daemon)
            events = journal_events(daemon.data)
            collector.wait_for(set(wanted_pushes(events)))
            assert "publisher" not in json.loads(daemon.get("/readyz")[1])
            assert daemon.stop() == 0
            check(collector.pushes, events)


@pytest.mark.parametrize("policy", ["send", "mark", "drop"])
def test_what_waited_too_long_is_sent_marked_or_dropped(policy, tmp_path):
    nsqd = Nsqd(tmp_path / "nsqd")
    words = options(nsqd, stale_seconds=1, stale=policy)
    with make_daemon(tmp_path, *words) as daemon:
        daemon.start()
        trade(daemon, 10)
        old = wanted_pushes(journal_events(daemon.data))
        newest = max(datetime.fromisoformat(e["at"]).timestamp() for e in old.values())
        wait_until(lambda: time.time() > newest + 1.1, "them to be old")
        with nsqd, Collector("push-notifications", [nsqd.address]) as collector:
            wait_complete(daemon)
            metrics = daemon.metrics()
            assert metrics[STALE] == len(old) == 10
            assert metrics[DROPPED] == (10 if policy == "drop" else 0)
            if policy != "drop":
                collector.wait_for(set(old))
            assert daemon.stop() == 0
            is_marked = {
                json.loads(each).get("stale", False) for each in collector.taken
            }
            wanted = {"send": {False}, "mark": {True}, "drop": set()}
            assert is_marked == wanted[policy]


def test_a_push_that_nsqd_will_not_take_is_set_aside_and_the_rest_goes_on(tmp_path):
    """Its limit is so low that long merchant names are beyond it."""
    limit = ["-max-msg-size=330"]
    with (
        Nsqd(tmp_path / "nsqd1", options=limit) as one,
        Nsqd(tmp_path / "nsqd2", options=limit) as other,
        make_daemon(tmp_path, *options(one, other)) as daemon,
        Collector("push-notifications", [one.address, other.address]) as collector,
    ):
        daemon.start()
        trade(daemon, 30)
        with Client(daemon.port) as client:
            # Two bytes of JSON each.
            message = request("0200", 500, daemon.pans[1], 3, f43="\\" * 40)
            assert client.ask(message)[39] == "00"
        trade(daemon, 30, 600)
        wait_complete(daemon)
        (line,) = set_aside(daemon.data, "nsq")
        assert "E_BAD_MESSAGE" in line["reason"]
        assert line["event"]["stan"] == "000500"
        events = journal_events(daemon.data)
        del events[line["event"]["id"]]
        collector.wait_for(set(wanted_pushes(events)))
        assert daemon.stop() == 0
        check(collector.pushes, events)


def test_an_operator_rewinds_and_the_same_ids_come_again(nsqd, tmp_path):
    topic = "rewound"
    with (
        make_daemon(tmp_path, *options(nsqd, topic=topic)) as daemon,
        Collector(topic, [nsqd.address]) as collector,
    ):
        daemon.start()
        trade(daemon, 30)
        wait_complete(daemon)
        where = ("--data", str(daemon.data), *daemon.options)
        (status,) = said_json("publish", "status", *where, "--json")
        assert (status["engine"], status["configured"]) == ("nsq", True)
        assert (status["running"], status["refused"]) == (True, 0)
        said_json("publish", "rewind", "nsq", "--to-start", *where, "--json")
        wait_until(lambda: len(collector.taken) == 60, "them again")
        assert daemon.stop() == 0
        check(collector.pushes, journal_events(daemon.data))


def test_the_configuration_file_that_consumers_lean_on(pair, tmp_path):
    """Nothing but `nsqd`, and the first flags, which win."""
    hosts = [server.address for server in pair]
    file = tmp_path / "switch.toml"
    file.write_text(
        f'data_directory = "elsewhere"\n[publish.nsq]\nnsqd = {json.dumps(hosts)}\n'
    )
    with (
        make_daemon(tmp_path, "--config", str(file)) as daemon,
        Collector("push-notifications", hosts) as collector,
    ):
        daemon.start()
        trade(daemon, 20)
        wait_complete(daemon)
        events = journal_events(daemon.data)
        collector.wait_for(set(wanted_pushes(events)))
        # One copy from each of the two.
        wait_until(lambda: len(collector.taken) == 40, "the other copies")
        assert daemon.stop() == 0
        check(collector.pushes, events)
    always = {"id", "account", "card_token", "last_four", "amount", "currency"}
    for push in collector.pushes.values():
        assert always | {"merchant", "approved", "at"} <= set(push)


def test_a_name_that_is_no_topic_is_refused_at_the_start(tmp_path):
    done = run_switch(
        *("config", "--data", tmp_path / "data"),
        *("--set", "publish.nsq.topic=no topic"),
    )
    assert done.returncode == 2
    assert "publish.nsq.topic: expected" in done.stderr
