"""etcd: one member, or several that agree."""

import json
import shutil
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.servers.common import (
    HOST,
    Server,
    being_fetched,
    cached,
    fetch,
    free_ports,
    go,
)

VERSION = "3.7.3"
NAME = f"etcd-{VERSION}"
# What a project that is nothing but etcd depends on, and the checksums of all of it: Go
# refuses what is anything else.
MODULE = Path(__file__).with_name("etcd.mod")
SUMS = Path(__file__).with_name("etcd.sum")
ANSWER_SECONDS = 5.0
# Whatever proxy the environment names.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get() -> bool:
    """Whether it had to be built."""
    with being_fetched(NAME) as directory:
        if directory is None:
            return False
        project = directory / "project"
        project.mkdir()
        shutil.copy(MODULE, project / "go.mod")
        shutil.copy(SUMS, project / "go.sum")
        fetch(
            *(go(), "build", "-p", "2", "-ldflags", "-s -w"),
            *("-o", directory / "etcd", "go.etcd.io/etcd/server/v3"),
            cwd=project,
            env={"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -modcacherw"},
        )
        shutil.rmtree(project)
    return True


class Etcd:
    """A cluster, started whole. `members` are killed, paused and started one by one.

    `options` are added to the command line of each; `scheme` is what clients speak;
    `ports`, three a member, replace free ones: its files know them.
    """

    def __init__(
        self,
        directory: Path,
        count: int = 1,
        *,
        scheme: str = "http",
        options: Sequence[str] = (),
        ports: Sequence[int] | None = None,
    ) -> None:
        if ports is None:
            ports = free_ports(3 * count)
        assert len(ports) == 3 * count
        peers = {
            f"member{index + 1}": f"http://{HOST}:{port}"
            for index, port in enumerate(ports[:count])
        }
        self.members = [
            Member(
                *(directory / name, peers, scheme, options),
                port=ports[count + index],
                metrics_port=ports[2 * count + index],
            )
            for index, name in enumerate(peers)
        ]

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Those that do not run, at once; until they have a leader."""
        for member in self.members:
            if not member.is_running:
                member.spawn()
        for member in self.members:
            member.wait_ready()

    def kill(self) -> None:
        """kill -9, all of them."""
        for member in self.members:
            member.kill()

    def leader(self) -> "Member":
        """Of those that run."""
        (leader,) = (each for each in self.members if each.is_leader())
        return leader


class Member(Server):
    def __init__(
        self,
        directory: Path,
        peers: dict[str, str],
        scheme: str,
        options: Sequence[str],
        *,
        port: int,
        metrics_port: int,
    ) -> None:
        super().__init__(directory)
        self.port = port
        self._program = cached(NAME) / "etcd"
        self._peers = peers
        self._token = "-".join(peers.values())
        self._scheme = scheme
        self._options = tuple(options)
        # Without TLS, whatever clients speak.
        self._metrics = f"http://{HOST}:{metrics_port}"

    @property
    def endpoint(self) -> str:
        return f"{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        name = self.directory.name
        url = f"{self._scheme}://{self.endpoint}"
        members = ",".join(f"{name}={peer}" for name, peer in self._peers.items())
        return (
            str(self._program),
            *("--name", name, "--data-dir", str(self.directory / "data")),
            *("--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-peer-urls", self._peers[name]),
            *("--initial-advertise-peer-urls", self._peers[name]),
            *("--initial-cluster", members, "--initial-cluster-state", "new"),
            # Of this cluster alone, if ports are used again.
            *("--initial-cluster-token", self._token),
            *("--listen-metrics-urls", self._metrics),
            *self._options,
        )

    def is_ready(self) -> bool:
        """It knows a leader. That it has no space left is what a test may be about."""
        answer = self._get("/health?exclude=NOSPACE")
        return bool(answer) and json.loads(answer).get("health") == "true"

    def is_leader(self) -> bool:
        return self.is_running and "\netcd_server_is_leader 1\n" in self._get(
            "/metrics"
        )

    def ask(self, path: str, content: object, token: str = "") -> dict[str, object]:
        """What operators do, over HTTP and without TLS: `path` is of its gateway."""
        headers = {"Authorization": token} if token else {}
        url = f"http://{self.endpoint}/v3/{path}"
        request = urllib.request.Request(url, json.dumps(content).encode(), headers)
        with _DIRECTLY.open(request, timeout=ANSWER_SECONDS) as answer:
            found: dict[str, object] = json.load(answer)
        return found

    def _get(self, path: str) -> str:
        try:
            with _DIRECTLY.open(self._metrics + path, None, ANSWER_SECONDS) as answer:
                text: str = answer.read().decode()
        except OSError:  # an HTTP status that is an error among them
            return ""
        return text
