"""`python -m tests.simulation.many`: seeds of a simulation by the hundred thousand.

It uses all cores, and goes on where it was ended: how far it came is in a file, which
counts as long as the source is the same. What failed is named there, and at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
SOURCES = ("switch", "iso8583", "ext", "tests/simulation")
PIECE = 100
SAY_SECONDS = 10.0
STORY_LINES = 40


class Progress(msgspec.Struct):
    """`done`: all seeds up to it ran."""

    source: str
    done: int = 0
    seconds: float = 0.0
    failed: list[int] = []


def run_journal(seed: int) -> None:
    from tests.simulation.journal_world import World

    world = World(seed)
    try:
        world.run()
    except BaseException:
        print(f"seed {seed}:", *world.story[-STORY_LINES:], sep="\n", file=sys.stderr)
        raise


def run_ownership(seed: int) -> None:
    from tests.simulation.ownership import World

    World(seed).run()


WORLDS: dict[str, Callable[[int], None]] = {
    "journal": run_journal,
    "ownership": run_ownership,
}


def run_piece(world: str, seeds: Sequence[int]) -> list[int]:
    """Those that failed."""
    failed = []
    for seed in seeds:
        try:
            WORLDS[world](seed)
        except Exception as error:  # noqa: BLE001 -- whatever it was, it was seen
            print(f"seed {seed}: {error!r}", file=sys.stderr, flush=True)
            failed.append(seed)
    return failed


def digest_of_source() -> str:
    found = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py*")):
            if path.suffix in (".py", ".pyx", ".pxd"):
                found.update(path.read_bytes())
    return found.hexdigest()


def load(file: Path, source: str) -> Progress:
    """From its beginning, when it is of another source, or none."""
    if file.exists():
        progress = msgspec.json.decode(file.read_bytes(), type=Progress)
        if progress.source == source:
            return progress
    return Progress(source)


def save(file: Path, progress: Progress) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_bytes(msgspec.json.encode(progress))
    draft.replace(file)


def pieces(first: int, last: int) -> Iterator[range]:
    for at in range(first, last + 1, PIECE):
        yield range(at, min(at + PIECE, last + 1))


class Run:
    def __init__(self, world: str, last: int, processes: int, file: Path) -> None:
        self.progress = load(file, digest_of_source())
        self._world = world
        self._last = last
        self._processes = processes
        self._file = file
        self._said_at = self._began_at = time.monotonic()
        self._seconds_before = self.progress.seconds
        self._first = self.progress.done + 1

    def go(self) -> None:
        if self._processes == 1:
            for piece in pieces(self._first, self._last):
                self._done(piece, run_piece(self._world, piece))
            return
        # As many under way as keep all busy: their results come in order.
        waiting: list[tuple[range, Future[list[int]]]] = []
        with ProcessPoolExecutor(self._processes) as pool:
            for piece in pieces(self._first, self._last):
                waiting.append((piece, pool.submit(run_piece, self._world, piece)))
                if len(waiting) > 2 * self._processes:
                    done, failed = waiting.pop(0)
                    self._done(done, failed.result())
            for done, failed in waiting:
                self._done(done, failed.result())

    def _done(self, piece: range, failed: list[int]) -> None:
        self.progress.failed += failed
        self.progress.done = piece[-1]
        elapsed = time.monotonic() - self._began_at
        self.progress.seconds = self._seconds_before + elapsed
        save(self._file, self.progress)
        if time.monotonic() - self._said_at > SAY_SECONDS or piece[-1] == self._last:
            self._said_at = time.monotonic()
            rate = (piece[-1] - self._first + 1) / elapsed
            print(
                f"{self._world}: {piece[-1]:,} of {self._last:,} seeds,"
                f" {rate:.0f} a second, {len(self.progress.failed)} failed",
                file=sys.stderr, flush=True,
            )  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.many", description=__doc__
    )
    parser.add_argument("world", choices=list(WORLDS))
    parser.add_argument("--seeds", type=int, default=100_000, metavar="N")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--directory", type=Path, default=ROOT / ".cache/simulation")
    options = parser.parse_args(words)
    file = options.directory / f"{options.world}.json"
    run = Run(options.world, options.seeds, options.processes, file)
    run.go()
    print(json.dumps(msgspec.to_builtins(run.progress)))
    return 1 if run.progress.failed else 0


if __name__ == "__main__":
    sys.exit(main())
