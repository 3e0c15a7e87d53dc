"""NSQ: nsqd, which has the messages, and nsqlookupd, which knows where topics are."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.servers.common import (
    HOST,
    Server,
    accepts,
    being_fetched,
    cached,
    fetch,
    free_ports,
    go,
)

VERSION = "1.3.0"
NAME = f"nsq-{VERSION}"
# What a project that is nothing but NSQ depends on, and the checksums of all of it: Go
# refuses what is anything else.
MODULE = Path(__file__).with_name("nsq.mod")
SUMS = Path(__file__).with_name("nsq.sum")
PROGRAMS = ("nsqd", "nsqlookupd")


def get() -> bool:
    """Whether it had to be built."""
    with being_fetched(NAME) as directory:
        if directory is None:
            return False
        project = directory / "project"
        project.mkdir()
        shutil.copy(MODULE, project / "go.mod")
        shutil.copy(SUMS, project / "go.sum")
        environment = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -modcacherw"}
        fetch(
            *(go(), "build", "-p", "2", "-ldflags", "-s -w"),
            *("-o", f"{directory}/"),
            *(f"github.com/nsqio/nsq/apps/{program}" for program in PROGRAMS),
            cwd=project,
            env=environment,
        )
        shutil.rmtree(project)
    return True


class Nsqlookupd(Server):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port, self.http_port = free_ports(2)
        self._program = cached(NAME) / "nsqlookupd"

    @property
    def address(self) -> str:
        """Where nsqd tells it what topics it has."""
        return f"{HOST}:{self.port}"

    @property
    def http_address(self) -> str:
        """Where consumers ask."""
        return f"{HOST}:{self.http_port}"

    def command(self) -> Sequence[str]:
        return (
            str(self._program),
            f"-tcp-address={self.address}",
            f"-http-address={self.http_address}",
        )

    def is_ready(self) -> bool:
        return accepts(self.port) and accepts(self.http_port)


class Nsqd(Server):
    """`options` are added to its command line. What it has in memory, and in flight,
    is lost when it is killed: with `-mem-queue-size=0` only the latter is."""

    def __init__(
        self,
        directory: Path,
        lookupd: Nsqlookupd | None = None,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(directory)
        self.port, self.http_port = free_ports(2)
        self._program = cached(NAME) / "nsqd"
        self._lookupd = lookupd
        self._options = tuple(options)

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def http_address(self) -> str:
        return f"{HOST}:{self.http_port}"

    def command(self) -> Sequence[str]:
        lookupd = self._lookupd
        return (
            str(self._program),
            f"-tcp-address={self.address}",
            f"-http-address={self.http_address}",
            f"-broadcast-address={HOST}",
            f"-data-path={self.directory}",
            *(() if lookupd is None else (f"-lookupd-tcp-address={lookupd.address}",)),
            *self._options,
        )

    def is_ready(self) -> bool:
        return accepts(self.port) and accepts(self.http_port)
