"""Power losses, without pulling a plug.

`record` runs a script on a directory whose SQLite files pass through a VFS that keeps
a log of everything they ask of the disk. `crash_points` then goes through that log,
and before each operation makes directories as a power loss there could leave them:

- everything that was synced is there;
- of what was written since, nothing, or all, or a random part: each write whole, not
  at all, or in part, by sectors of 512 bytes; truncations and names likewise.

    def script(disk: Disk) -> None:
        journal = SqliteJournal.open(disk.directory, vfs=disk.vfs)
        number = journal.append(at, records)
        disk.answered((number, records))        # from here on it must never be lost

    history = record(script, tmp_path / "run")
    for crash in crash_points(history, tmp_path / "crash", seed=1):
        ...open crash.directory with the real code; crash.answered must be there...

`simulated` is the same for a script that goes on from where it is, and `leave` makes
the directory that a crash at this very moment leaves behind, also out of `Disk.fault`.

What the model takes for granted, as SQLite does: a sync that returned has reached the
disk; sectors that were not written keep their contents ("powersafe overwrite"); the
first sync of a new log or rollback journal syncs its directory, because SQLite's unix
VFS does that then; the rest of the directory's names is synced by `sync_directory`.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import apsw
import msgspec

from switch.journal import directory as data_directory
from switch.journal import released, snapshots, sqlite, wal
from tests.disks import Quiet

SECTOR_SIZE = 512
VARIANTS = ("synced", "all", "random", "random")
_SYNCS_DIRECTORY = (
    apsw.SQLITE_OPEN_WAL
    | apsw.SQLITE_OPEN_MAIN_JOURNAL
    | apsw.SQLITE_OPEN_SUPER_JOURNAL
)
_numbers = itertools.count(1)


class Operation(msgspec.Struct, frozen=True):
    """One thing that was asked of the disk, or a mark of the script."""

    kind: str  # create write truncate sync lost delete directory answered outside
    name: str = ""
    offset: int = 0
    data: bytes = b""
    flag: bool = False  # sync, delete: the directory's names too
    token: object = None

    def __str__(self) -> str:
        text = f"{self.kind} {self.name}"
        return f"{text} {self.offset}+{len(self.data)}" if self.data else text


class History(msgspec.Struct):
    initial: dict[str, bytes]
    operations: list[Operation] = []


class Crash(msgspec.Struct, frozen=True):
    directory: Path
    answered: tuple[object, ...]  # the tokens of what was answered before it
    index: int  # of the operation that never happened
    variant: str
    before: str

    def __str__(self) -> str:
        return f"crash before operation {self.index} ({self.before}), {self.variant}"


class Disk(Quiet, apsw.VFS):
    """The VFS. `fault`, when set, is called before each operation with its kind and
    the file's name, and may raise what SQLite shall get, such as apsw.FullError."""

    def __init__(self, directory: Path, history: History | None = None) -> None:
        self.vfs = f"power-loss-{next(_numbers)}"
        super().__init__(self.vfs, "")
        self.directory = directory
        files = {path.name: path.read_bytes() for path in directory.iterdir()}
        self.history = history or History(files)
        self.names = set(self.history.initial)
        for operation in self.history.operations:
            if operation.kind == "create":
                self.names.add(operation.name)
            elif operation.kind == "delete":
                self.names.discard(operation.name)
        self.fault: Callable[[str, str], None] | None = None
        self.outside: tuple[str, ...] = ()

    def answered(self, token: object) -> None:
        """The script tells that somebody outside relies on it from now on."""
        self.look_outside()
        self.log(Operation("answered", token=token))

    def look_outside(self) -> None:
        """Small files named in `outside`, which are no SQLite files, are as they are
        now."""
        for name in self.outside:
            path = self.directory / name
            if path.exists():
                self.log(Operation("outside", name, data=path.read_bytes()))

    def log(self, operation: Operation) -> None:
        self.history.operations.append(operation)

    def ask(self, kind: str, name: str) -> None:
        if self.fault is not None:
            self.fault(kind, name)

    def sync_directory(self, path: object) -> None:
        if Path(str(path)) == self.directory:
            self.log(Operation("directory"))

    def write_again(self, path: str) -> None:
        """As `wal.write_again`, which goes past SQLite."""
        self.ask("write", Path(path).name)
        data = Path(path).read_bytes()
        self.log(Operation("write", Path(path).name, data=data))
        self.log(Operation("sync", Path(path).name))

    def xOpen(self, name: Any, flags: list[int]) -> DiskFile:  # noqa: N802
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        short = Path(text).name if text else ""
        self.ask("open", short)
        file = DiskFile(self, name, short, flags)
        if short and flags[0] & apsw.SQLITE_OPEN_CREATE and short not in self.names:
            self.names.add(short)
            self.log(Operation("create", short))
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        short = Path(filename).name
        self.ask("delete", short)
        super().xDelete(filename, syncdir)
        self.names.discard(short)
        self.log(Operation("delete", short, flag=bool(syncdir)))


class DiskFile(Quiet, apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, short: str, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self.disk = disk
        self.short = short
        # Temporary files have no name and survive nothing.
        self.syncs_directory = bool(flags[0] & _SYNCS_DIRECTORY)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self.disk.ask("read", self.short)
        return super().xRead(amount, offset)

    def log(self, operation: Operation) -> None:
        if self.short:
            self.disk.log(operation)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self.disk.ask("write", self.short)
        super().xWrite(data, offset)
        self.log(Operation("write", self.short, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self.disk.ask("truncate", self.short)
        super().xTruncate(newsize)
        self.log(Operation("truncate", self.short, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        try:
            self.disk.ask("sync", self.short)
        except apsw.Error:
            # The kernel may forget what it could not write; no later sync has it.
            self.log(Operation("lost", self.short))
            raise
        # The real disk need not be waited for: nothing depends on it here.
        self.log(Operation("sync", self.short, flag=self.syncs_directory))
        self.syncs_directory = False


def failing(
    kind: str, name: str, error: type[apsw.Error], skip: int = 0
) -> Callable[[str, str], None]:
    """A fault for the (skip + 1)-th operation of this kind on this file, and later."""
    left = skip

    def fault(operation: str, file: str) -> None:
        nonlocal left
        if (operation, file) == (kind, name):
            left -= 1
            if left < 0:
                raise error("scripted")

    return fault


def record(
    script: Callable[[Disk], None], directory: Path, *, outside: tuple[str, ...] = ()
) -> History:
    """Runs the script. What is in `directory` before it counts as synced. `outside`
    names files that the script writes past SQLite, such as `released`: a crash
    leaves each as it was at the last `answered`, or older, or away."""
    with simulated(directory, outside=outside) as disk:
        script(disk)
    return disk.history


@contextmanager
def simulated(
    directory: Path,
    *,
    outside: tuple[str, ...] = (),
    history: History | None = None,
) -> Iterator[Disk]:
    """With the history of the process before, what that did not sync is not synced
    yet; without one, all that is there is."""
    directory.mkdir(parents=True, exist_ok=True)
    disk = Disk(directory, history)
    disk.outside = outside
    modules = (data_directory, released, snapshots, sqlite)
    with ExitStack() as stack:
        stack.callback(disk.unregister)
        for module in modules:
            stack.enter_context(
                mock.patch.object(module, "sync_directory", disk.sync_directory)
            )
        stack.enter_context(mock.patch.object(wal, "write_again", disk.write_again))
        yield disk


class _File:
    """A file's contents: what is synced, what was asked since, and what a process that
    reads it now would get."""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = durable
        self.pending: list[Operation] = []
        self.current = bytearray(durable)

    def take(self, operation: Operation) -> None:
        self.pending.append(operation)
        _apply(self.current, operation)

    def contents(self, variant: str, chance: random.Random) -> bytes:
        if variant == "all":
            return bytes(self.current)
        if variant == "synced" or not self.pending:
            return self.durable
        data = bytearray(self.durable)
        for operation in self.pending:
            if chance.random() < 0.5:
                _apply(data, operation)
            elif chance.random() < 0.5:
                _apply_torn(data, operation, chance)
        return bytes(data)

    def sync(self) -> None:
        data = bytearray(self.durable)
        for operation in self.pending:
            _apply(data, operation)
        self.durable = bytes(data)
        self.pending = []


def _apply(data: bytearray, operation: Operation) -> None:
    if operation.kind == "truncate":
        del data[operation.offset :]
        return
    end = operation.offset + len(operation.data)
    data.extend(bytes(max(0, end - len(data))))
    data[operation.offset : end] = operation.data


def _apply_torn(data: bytearray, operation: Operation, chance: random.Random) -> None:
    if operation.kind == "truncate":
        return
    offset, rest = operation.offset, operation.data
    while rest:
        size = SECTOR_SIZE - offset % SECTOR_SIZE
        if chance.random() < 0.5:
            _apply(data, Operation("write", "", offset, rest[:size]))
        offset, rest = offset + size, rest[size:]


class _Model:
    """The disk after some operations: names are synced apart from contents."""

    def __init__(self, initial: dict[str, bytes]) -> None:
        self.now = {name: _File(data) for name, data in initial.items()}
        self.durable_names = dict(self.now)
        self.outside: dict[str, list[bytes]] = {}
        self.answered: list[object] = []

    def step(self, operation: Operation) -> None:
        match operation.kind:
            case "create":
                self.now[operation.name] = _File()
            case "write" | "truncate":
                self.now[operation.name].take(operation)
            case "lost":
                self.now[operation.name].pending = []
            case "sync":
                self.now[operation.name].sync()
                if operation.flag:
                    self.durable_names = dict(self.now)
            case "delete":
                self.now.pop(operation.name, None)
                if operation.flag:
                    self.durable_names = dict(self.now)
            case "directory":
                self.durable_names = dict(self.now)
            case "outside":
                self.outside.setdefault(operation.name, [b""]).append(operation.data)
            case "answered":
                self.answered.append(operation.token)
            case _:
                raise AssertionError(operation)

    def write_to(self, directory: Path, variant: str, chance: random.Random) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o700)
        for name in sorted({*self.now, *self.durable_names}):
            file = self.durable_names.get(name)
            if file is not self.now.get(name) and (
                variant == "all" or (variant == "random" and chance.random() < 0.5)
            ):
                file = self.now.get(name)
            if file is not None:
                (directory / name).write_bytes(file.contents(variant, chance))
        for name, versions in self.outside.items():
            data = versions[-1] if variant == "all" else chance.choice(versions)
            if data:
                (directory / name).write_bytes(data)
                (directory / name).chmod(0o600)


def crash_points(
    history: History,
    directory: Path,
    *,
    seed: int,
    variants: tuple[str, ...] = VARIANTS,
    every: int = 1,
) -> Iterator[Crash]:
    """A crash before each (or only before `every` so many) operations on the disk, and
    one after the last, in all variants. `directory` is made anew for each; the seed
    makes the whole sequence repeatable."""
    chance = random.Random(seed)
    model = _Model(history.initial)
    boundary = 0
    end = Operation("end")
    for index, operation in enumerate([*history.operations, end]):
        if operation.kind not in ("answered", "outside"):
            if boundary % every == 0 or operation is end:
                for variant in variants:
                    model.write_to(directory, variant, chance)
                    yield Crash(
                        directory,
                        tuple(model.answered),
                        index,
                        variant,
                        str(operation),
                    )
            boundary += 1
        if operation is not end:
            model.step(operation)


def leave(disk: Disk, directory: Path, variant: str, chance: random.Random) -> None:
    """Makes `directory` as a crash at this moment leaves it: "all" is what a killed
    process leaves, the other variants a power loss."""
    if variant == "all":
        disk.look_outside()
    model = _Model(disk.history.initial)
    for operation in disk.history.operations:
        model.step(operation)
    model.write_to(directory, variant, chance)
