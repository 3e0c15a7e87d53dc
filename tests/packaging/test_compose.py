"""The cluster in Docker, as far as it can be looked at without an engine: the file is
one of Compose's, and all that it names agrees with the switch and with itself."""

import importlib.resources
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from switch.check import check
from switch.cli.main import build_parser
from switch.config import Config, load
from switch.link.settings import Address
from switch.peer.sockets import Certificates, contexts
from tests.servers import cassandra, etcd, kafka, nsq
from tests.style.sources import ROOT

FOLDER = ROOT / "docs/compose"
SWITCH = "cardswitch"
NODES = ("node1", "node2", "node3")
KEYS = "/var/lib/switch-keys"
# Ports that servers listen on when nobody tells them otherwise.
PORTS_OF = {"cassandra": {9042}, "etcd": {2379}, "kafka": {9092}, "nsqd": {4150}}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def services(compose) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def config_of(node: str) -> Config:
    return load(FOLDER / f"{node}.toml", {}).config


def mounts(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for text in service.get("volumes", ()):
        source, target, *_ = text.split(":")
        yield source, target


def test_it_is_what_the_schema_of_compose_allows(compose):
    file = importlib.resources.files("check_jsonschema").joinpath(
        "builtin_schemas/vendor/compose-spec.json"
    )
    validator = jsonschema_rs.validator_for(json.loads(file.read_text()))
    found = [f"{e.instance_path}: {e.message}" for e in validator.iter_errors(compose)]
    assert found == []
    broken = {"services": {"node1": {"imagee": "x"}}}
    assert not validator.is_valid(broken)


def test_there_is_all_that_a_cluster_has(services):
    for name in ("cassandra", "etcd", "node"):
        assert {f"{name}{index}" for index in (1, 2, 3)} <= set(services)
    assert {"kafka", "nsqd", "nsqlookupd"} <= set(services)


def test_the_servers_are_the_ones_that_tests_run_against(services):
    versions = {
        "cassandra": cassandra.VERSION,
        "etcd": f"v{etcd.VERSION}",
        "kafka": kafka.VERSION,
        "nsq": f"v{nsq.VERSION}",
    }
    for name, service in services.items():
        image, _, tag = service["image"].partition(":")
        if image != SWITCH:
            assert tag == versions[image.rpartition("/")[2]], name


def test_all_that_is_named_is_there(compose, services):
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, name
            if how["condition"] == "service_healthy":
                assert is_checked(services[other]), f"{name}: {other}"
        for source, _ in mounts(service):
            if source.startswith("."):
                assert (FOLDER / source).is_file(), name
            else:
                assert source in compose["volumes"], name
        if "build" in service:
            build = service["build"]
            context = (FOLDER / build["context"]).resolve()
            assert context == ROOT
            assert (context / build["dockerfile"]) == FOLDER / "Dockerfile"


def is_checked(service: dict[str, Any]) -> bool:
    """By a check of its own, or by the image's."""
    own = service.get("healthcheck")
    if own is None:
        return bool(service["image"] == SWITCH)
    return not own.get("disable")


def test_what_runs_for_ever_is_checked_and_started_again(services):
    for name, service in services.items():
        if service.get("restart") == "unless-stopped":
            assert is_checked(service), name
    for name in NODES:
        assert services[name]["restart"] == "unless-stopped"


def test_the_commands_are_ones_of_the_switch(services):
    names = [name for name, each in services.items() if each["image"] == SWITCH]
    for name in names:
        service = services[name]
        if "entrypoint" in service:
            assert name == "certificates"
            continue
        parsed = build_parser().parse_args(service["command"])
        targets = {target for _, target in mounts(service)}
        for word in service["command"]:
            if word.startswith("/etc/switch/"):
                assert word in targets, f"{name}: {word}"
        if name in NODES:
            assert parsed.config == Path(f"/etc/switch/{name}.toml")


def test_the_nodes_configuration_fits_the_file_and_itself(services):
    configs = {name: config_of(name) for name in NODES}
    for name, config in configs.items():
        cluster = config.cluster
        assert cluster.node == name
        assert cluster.peer.listen.host == name
        hosts = [
            *map(str, cluster.cassandra.addresses),
            *cluster.etcd.endpoints,
            *config.publish.kafka.bootstrap,
            *config.publish.nsq.nsqd,
        ]
        for host in map(Address.parse, hosts):
            assert host.host in services
            assert host.port in PORTS_OF[host.host.rstrip("123")]
        assert len(cluster.cassandra.contact_points) == len(cluster.etcd.endpoints) == 3
        targets = [text.split(":")[2] for text in services[name]["ports"]]
        (link,) = config.links.values()
        assert sorted(map(int, targets)) == sorted(
            [link.address.port, config.http.listen.port]
        )
        volumes = dict(mounts(services[name]))
        assert Path(config.data_directory).is_relative_to(
            next(target for source, target in volumes.items() if source == name)
        )
        assert cluster.pan_key_file.startswith(f"{volumes.get('keys')}/")
    published = [text for name in NODES for text in services[name]["ports"]]
    assert len({text.rpartition(":")[0] for text in published}) == len(published)
    # Nobody else reaches them.
    assert all(text.startswith("127.0.0.1:") for text in published)
    # The rest they have in common.
    first, *others = (config.cluster for config in configs.values())
    for other in others:
        for name in ("name", "pan_key_file", "cassandra", "etcd"):
            assert getattr(other, name) == getattr(first, name)


def test_the_certificates_are_what_the_switch_takes(services, tmp_path):
    service = services["certificates"]
    folder, *names = service["command"]
    assert folder == KEYS
    script = FOLDER / "certificates.sh"
    for _ in range(2):  # what is there stays
        subprocess.run(["sh", script, tmp_path, *names], check=True)
    before = (tmp_path / "node1.pem").read_bytes()
    subprocess.run(["sh", script, tmp_path, *names], check=True)
    assert (tmp_path / "node1.pem").read_bytes() == before
    for name in NODES:
        text = (FOLDER / f"{name}.toml").read_text().replace(KEYS, str(tmp_path))
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        peer = check(path, {}).cluster.peer
        contexts(Certificates(peer.cert, peer.key, peer.ca))
        told = subprocess.run(
            [
                *("openssl", "verify", "-verify_hostname", name),
                *("-CAfile", peer.ca, peer.cert),
            ],
            capture_output=True,
            text=True,
        )
        assert told.returncode == 0, told.stderr


def instructions() -> list[tuple[str, str]]:
    text = (FOLDER / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines() if line.strip())
    pairs = (line.partition(" ") for line in lines)
    return [(name, words.strip()) for name, _, words in pairs]


def test_the_image_is_built_in_two_stages_and_is_not_root():
    found = instructions()
    stages = [words for name, words in found if name == "FROM"]
    assert len(stages) == 2
    assert stages[0].split()[1:] == ["AS", "build"]
    last = found[len(found) - [n for n, _ in reversed(found)].index("FROM") - 1 :]
    names = [name for name, _ in last]
    assert dict(last)["USER"] not in ("root", "0")
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "HEALTHCHECK" in names
    health = json.loads(dict(last)["HEALTHCHECK"].partition("CMD ")[2])
    compile(health[2], "HEALTHCHECK", "exec")
    port = config_of("node1").http.listen.port
    assert f"http://127.0.0.1:{port}/readyz" in health[2]
    exposed = set(map(int, dict(last)["EXPOSE"].split()))
    config = config_of("node1")
    (link,) = config.links.values()
    assert exposed == {link.address.port, port, config.cluster.peer.listen.port}


def test_what_the_image_is_built_from_is_there_and_let_in():
    allowed = {
        line[1:]
        for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied: set[str] = set()
    for name, words in instructions():
        if name == "COPY" and not words.startswith("--from="):
            *sources, _ = shlex.split(words)
            copied |= set(sources)
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    # What setup.py and pyproject.toml need.
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "ext"} <= copied
