"""This machine: files, disks, addresses, descriptors."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from switch.config import Config
from switch.doctor.findings import Finding, error, ok, warning
from switch.link.settings import Address
from switch.observe.disks import room_at
from switch.observe.listening import why_not_listening

LOCK_NAME: Final = "lock"
MOUNTS: Final = Path("/proc/self/mountinfo")
LOCKS: Final = Path("/proc/locks")
IN_MEMORY: Final = ("tmpfs", "ramfs")
ELSEWHERE: Final = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph")
# For files, and for what is no connection of a link.
DESCRIPTORS_BESIDE: Final = 256


def is_running(config: Config, locks: Path = LOCKS) -> bool:
    """Whether a daemon has the data directory. Asked of the kernel: to try the lock
    would be in the way of one that starts."""
    try:
        inode = (Path(config.data_directory) / LOCK_NAME).stat().st_ino
        held = locks.read_text().splitlines()
    except OSError:
        return False
    # 1: FLOCK  ADVISORY  WRITE 4711 08:01:123456 0 EOF
    return any(
        line.split()[1] == "FLOCK" and line.split()[5].endswith(f":{inode}")
        for line in held
    )


def directory(config: Config) -> Iterator[Finding]:
    """The data directory, and its disk."""
    path = Path(config.data_directory).absolute()
    check = "data_directory"
    parent = path
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if parent.exists() and not parent.is_dir():
        yield error(check, f"a directory {path}", f"a file {parent}", "move it away")
        return
    if not os.access(parent, os.W_OK | os.X_OK):
        yield error(
            check,
            f"to write to {parent}",
            f"no permission as user {os.getuid()}",
            "give the directory to the user that the switch runs as",
        )
    elif path.exists() and path.stat().st_mode & stat.S_IWOTH:
        yield error(
            check, f"{path} closed to others", "mode "
            f"{stat.S_IMODE(path.stat().st_mode):04o}", f"chmod 0700 {path}",
        )  # fmt: skip
    else:
        yield ok(check, str(path) if path.exists() else f"{path}, not made yet")
    yield _room(parent)
    yield from _file_system(parent, is_cluster=bool(config.cluster.name))


def _room(path: Path) -> Finding:
    check = "disk of data_directory"
    room = room_at(path)
    said = f"{room.free_bytes:,} of {room.size_bytes:,} bytes free"
    if room.is_low:
        return warning(check, "room for the journal to grow", said, "make room")
    return ok(check, said)


def _file_system(path: Path, *, is_cluster: bool) -> Iterator[Finding]:
    kind = _kind_of(path.resolve())
    check = "file system of data_directory"
    if is_cluster or kind not in (*IN_MEMORY, *ELSEWHERE):
        return  # the journal is elsewhere; or nothing is known against it
    if kind in IN_MEMORY:
        got = f"{kind}, which is memory"
        yield error(check, "a disk", got, "what was answered is gone with the machine")
    else:
        yield error(
            check,
            "a local disk",
            f"{kind}, of another machine",
            "a sync that it reports need not have happened, nor a lock be one",
        )


def _kind_of(path: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that a path is on."""
    best, kind = -1, ""
    for line in mounts.read_text("utf-8", "replace").splitlines():
        place, _, about = line.partition(" - ")
        point = Path(place.split()[4].replace("\\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), about.split()[0]
    return kind


def addresses(config: Config, *, runs: bool) -> Iterator[Finding]:
    """What it listens on: free, or its own."""
    for name, link in config.links.items():
        if link.role == "listen":
            yield _listening(f"links.{name}.address", link.address, runs=runs)
    yield _listening("http.listen", config.http.listen, runs=runs)
    if config.cluster.name:
        listen = config.cluster.peer.listen
        yield _listening("cluster.peer.listen", listen, runs=runs)


def _listening(check: str, address: Address, *, runs: bool) -> Finding:
    try:
        family, _, _, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As a server would; it does not listen, so that it is in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except socket.gaierror as fault:
        got = (fault.strerror or str(fault)).lower()
        return error(check, f"{address.host} to be an address", got, "is it spelt so?")
    except OSError as fault:
        if fault.errno == errno.EADDRINUSE and runs:
            return ok(check, f"{address}, in use by the switch, which runs")
        got = why_not_listening(str(address), fault)
        return error(check, f"{address} free", got)
    if runs and address.port:
        return warning(
            check,
            f"the switch, which runs, to listen on {address}",
            "nobody",
            "`/readyz` and the log say why",
        )
    return ok(check, f"{address}, free")


def descriptors(config: Config) -> Finding:
    check = "descriptors"
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_BESIDE + sum(
        link.connections_max if link.role == "listen" else link.connections
        for link in config.links.values()
    )
    if limit != resource.RLIM_INFINITY and limit < wanted:
        return warning(
            check,
            f"{wanted} for the connections that links may have",
            f"{limit} for a process that is started from here",
            "raise LimitNOFILE, or ulimit -n; connections beyond it are refused",
        )
    return ok(check, "no limit" if limit == resource.RLIM_INFINITY else f"{limit}")
