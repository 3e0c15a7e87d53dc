"""Looks that need no server: clocks, certificates, this machine, addresses."""

import asyncio
import resource
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from switch.cli.main import main
from switch.config import load
from switch.doctor import certificates, clocks, engines, greeting, machine
from switch.doctor.connecting import connected
from switch.doctor.findings import Finding, error, ok
from switch.link.settings import Address
from switch.ownership.process import ProcessLock
from switch.peer.framing import Kind, pack
from switch.peer.hello import Identity, hello
from tests.servers.certificates import Authority

IDENTITY = Identity("bank", "b", 64, "key")


def levels(findings):
    return {finding.check: finding.level for finding in findings}


def config_of(**settings):
    return load(None, {}, {name.replace("__", "."): v for name, v in settings.items()})


def test_a_line_says_what_was_expected_and_came_and_what_to_do():
    assert ok("a", "there").text == "there"
    text = error("a", "one", "none", "make it").text
    assert text == "expected one, got none: make it"
    assert error("a", "one", "none").text == "expected one, got none"


# -- clocks


@pytest.mark.parametrize(
    ("theirs", "level", "said"),
    [
        (100_500, "ok", "as ours"),
        (101_999, "ok", "as ours"),
        (99_002, "ok", "as ours"),
        (103_500, "warning", "2 s ahead of ours"),
        (97_000, "warning", "3 s behind ours"),
        (100_000 + 3_600_000, "error", "3,599 s ahead of ours"),
        (100_000 - 3_600_000, "error", "3,600 s behind ours"),
    ],
)
def test_a_clock_is_compared_with_the_time_that_asking_took(theirs, level, said):
    found = clocks.compared("clock", 100_000, theirs, 101_000)
    assert (found.level, found.got) == (level, said)


def test_a_clock_of_whole_seconds_is_given_its_grain():
    assert clocks.compared("clock", 100_000, 98_100, 100_000, 1000).level == "ok"
    assert clocks.compared("clock", 100_000, 97_900, 100_000, 1000).level == "warning"


def test_the_kernel_is_asked_for_a_time_service():
    assert clocks.service().level in ("ok", "warning")


# -- certificates


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def peer(authority, cert, listen="127.0.0.1:8581"):
    return config_of(
        cluster__name="bank",
        cluster__node="a",
        cluster__pan_key_file="pan.key",
        cluster__etcd__endpoints="127.0.0.1:2379",
        cluster__cassandra__contact_points="127.0.0.1",
        cluster__peer__listen=listen,
        cluster__peer__cert=str(cert),
        cluster__peer__key=str(cert),
        cluster__peer__ca=str(authority.ca),
    ).config


@pytest.mark.parametrize(
    ("days", "level"), [(365, "ok"), (29, "warning"), (-0.5, "error")]
)
def test_a_certificate_that_ends_is_told_of(authority, days, level):
    config = peer(authority, authority.issue("a", days=days))
    found = {f.check: f for f in certificates.examine(config)}
    assert found["cluster.peer.cert"].level == level
    assert "CN=a" in found["cluster.peer.cert"].text


def test_one_that_is_not_valid_yet_is_told_of(authority):
    config = peer(authority, authority.issue("a"))
    earlier = datetime.now(UTC) - timedelta(days=2)
    found = levels(certificates.examine(config, earlier))
    assert found["cluster.peer.cert"] == "error"


def test_one_of_another_host_is_told_of(authority):
    config = peer(authority, authority.issue("a", days=90), "10.0.0.1:8581")
    (found,) = (f for f in certificates.examine(config) if f.level == "error")
    assert "10.0.0.1, of cluster.peer.listen" in found.text
    assert found.got == "127.0.0.1"


def test_files_that_are_none_or_no_certificates_are_told_of(authority, tmp_path):
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for file, said in ((tmp_path / "none.pem", "no such file"), (nonsense, "none")):
        found = list(certificates.examine(peer(authority, file)))
        assert said in found[0].text
        assert found[0].level == "error"


def test_certificates_of_whatever_server_are_looked_at(authority):
    expired = authority.issue("kafka", days=-0.5)
    config = config_of(publish__kafka__ca_file=str(expired)).config
    assert levels(certificates.examine(config))["publish.kafka.ca_file"] == "error"


# -- this machine


def test_a_directory_that_cannot_be_used_is_told_of(tmp_path):
    def found(path):
        return levels(machine.directory(config_of(data_directory=str(path)).config))

    assert found(tmp_path / "new" / "data")["data_directory"] == "ok"
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert found(open_to_all)["data_directory"] == "error"
    (tmp_path / "file").touch()
    assert found(tmp_path / "file")["data_directory"] == "error"
    assert found(tmp_path / "file" / "data")["data_directory"] == "error"


def test_the_type_of_the_file_system_is_that_of_the_nearest_mount(tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
        "23 22 0:5 / /var/memory rw shared:1 - tmpfs tmpfs rw\n"
        "24 22 0:6 / /var/memory/a\\040b rw - nfs4 server:/ rw\n"
    )
    kinds = {
        "/var/lib/switch": "ext4",
        "/var/memory/data": "tmpfs",
        "/var/memory/a b/data": "nfs4",
        "/var/memorys": "ext4",
    }
    for path, kind in kinds.items():
        assert machine._kind_of(Path(path), mounts) == kind


def test_memory_is_no_place_for_a_journal(monkeypatch, tmp_path):
    config = config_of(data_directory=str(tmp_path)).config
    for kind in ("tmpfs", "nfs4"):
        monkeypatch.setattr(machine, "_kind_of", lambda path, kind=kind: kind)
        found = levels(machine.directory(config))
        assert found["file system of data_directory"] == "error"


def test_whether_it_runs_is_seen_by_its_lock(tmp_path):
    config = config_of(data_directory=str(tmp_path)).config
    assert not machine.is_running(config)
    owner = ProcessLock(tmp_path / machine.LOCK_NAME)
    owner.acquire()
    try:
        assert machine.is_running(config)
    finally:
        owner.release()
    assert not machine.is_running(config)


def test_an_address_is_free_or_taken_or_its_own():
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        config = config_of(links__main__address=taken).config
        found = {f.check: f for f in machine.addresses(config, runs=False)}
        assert found["links.main.address"].level == "error"
        assert "already in use" in found["links.main.address"].text
        found = {f.check: f for f in machine.addresses(config, runs=True)}
        assert found["links.main.address"].level == "ok"
    found = {f.check: f for f in machine.addresses(config, runs=False)}
    assert found["links.main.address"].level == "ok"
    found = {f.check: f for f in machine.addresses(config, runs=True)}
    assert found["links.main.address"].level == "warning"
    elsewhere = config_of(links__main__address="192.0.2.1:8583").config
    assert levels(machine.addresses(elsewhere, runs=False))["links.main.address"] == (
        "error"
    )


def test_too_few_descriptors_are_told_of(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (1024, 4096))
    assert machine.descriptors(config_of().config).level == "warning"
    monkeypatch.setattr(resource, "getrlimit", lambda what: (65536, 65536))
    assert machine.descriptors(config_of().config).level == "ok"


# -- servers that are not there, or others


def test_nobody_and_somebody_who_says_nothing(monkeypatch, free_port):
    async def look():
        found = await connected("x", Address("127.0.0.1", free_port), "start it")
        assert found.level == "error"
        assert found.text.endswith(": start it")
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            found = await connected("x", Address("127.0.0.1", port), "start it")
            assert found == Finding("x", "ok", "there")
            context = ssl.create_default_context()
            found = await connected(
                "x", Address("127.0.0.1", port), "start it", tls=context
            )
            assert found.level == "error"

    asyncio.run(look())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            pack(Kind.HELLO, hello(IDENTITY, {}, 0)),
            {"node b": "ok", "node b: clock": "error"},
        ),
        # One of an older version.
        (pack(Kind.HELLO, hello(IDENTITY, {})), {"node b": "ok"}),
        (pack(Kind.PING), {"node b": "error"}),
        (b"220 mail.example.com ESMTP\r\n", {"node b": "error"}),
        (b"", {"node b": "error"}),
    ],
)
def test_a_node_is_asked_for_its_clock(said, expected):
    async def look():
        def greet(reader, writer):
            writer.write(said)
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            found = await greeting.node("b", Address("127.0.0.1", port), None)
            assert levels(found) == expected

    asyncio.run(look())


def test_engines_that_are_not_there_are_told_of(free_port):
    nobody = f"127.0.0.1:{free_port}"
    config = config_of(
        publish__kafka__bootstrap=nobody, publish__nsq__nsqd=nobody
    ).config
    found = levels(
        [*asyncio.run(engines.kafka(config)), *asyncio.run(engines.nsq(config))]
    )
    assert found == {f"kafka {nobody}": "error", f"nsqd {nobody}": "error"}


def test_engines_that_are_there_take_us(kafka, nsqd):
    config = config_of(
        publish__kafka__bootstrap=kafka.bootstrap,
        publish__kafka__replication="3",
        publish__nsq__nsqd=nsqd.address,
    ).config
    found = asyncio.run(engines.kafka(config))
    assert levels(found) == {
        f"kafka {kafka.bootstrap}": "ok",
        "publish.kafka.replication": "error",
    }
    (of_nsq,) = asyncio.run(engines.nsq(config))
    assert of_nsq.level == "ok"
    # Somebody who is no broker.
    config = config_of(publish__kafka__bootstrap=nsqd.http_address).config
    assert levels(asyncio.run(engines.kafka(config)))["publish.kafka"] == "error"


# -- the command


def test_a_single_machine_is_looked_at_too(tmp_path, free_port, capsys):
    file = tmp_path / "switch.toml"
    file.write_text(
        f'data_directory = "{tmp_path}/data"\n'
        f'[links.main]\naddress = "127.0.0.1:{free_port}"\n'
        '[http]\nlisten = "127.0.0.1:0"\n'
    )
    code = main(["doctor", "--config", str(file)])
    lines = capsys.readouterr().out.splitlines()
    wrong = [line for line in lines if line.startswith("error")]
    assert (code == 0) == (not wrong)
    assert any(line.startswith("ok") and "data_directory" in line for line in lines)
    with socket.create_server(("127.0.0.1", free_port)):
        assert main(["doctor", "--config", str(file)]) == 1
    assert "already in use" in capsys.readouterr().out


def test_a_configuration_that_cannot_be_used_is_another_exit_code(tmp_path, capsys):
    file = tmp_path / "switch.toml"
    file.write_text("[links.main]\naddress = 5\nadress = 6\n")
    assert main(["doctor", "--config", str(file)]) == 2
    assert capsys.readouterr().out.count("error") == 2
