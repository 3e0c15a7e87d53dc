"""What a figure means nothing without: the machine, the versions, the disk."""

import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import apsw

SYNC_COUNT = 300
SYNC_SIZE = 4096
MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs", "devtmpfs"}


def describe() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(_memory_kib() / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "compiler": _first_line("gcc", "--version"),
        **{name: version(name) for name in ("cardswitch", "apsw", "uvloop")},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_kib() -> int:
    return int(Path("/proc/meminfo").read_text().split()[1])


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def file_system(directory: Path) -> str:
    """The type of the file system that a directory is on."""
    directory = directory.resolve()
    best, found = -1, "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mounted = Path(before.split()[4].replace("\\040", " "))
        # Of two mounts on one place, the later one is seen.
        if directory.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, found = len(mounted.parts), after.split()[0]
    return found


def sync_latency(directory: Path) -> dict[str, float]:
    """What one durable write costs, in microseconds: behind the end of a file, which
    changes its size, and over bytes that it has, which does not."""
    path = directory / "sync-latency"
    appended = _sync_times(path, os.O_CREAT | os.O_APPEND)
    overwritten = _sync_times(path, 0)
    path.unlink()
    return {
        "append_us_p50": statistics.median(appended),
        "append_us_p99": _percentile_99(appended),
        "overwrite_us_p50": statistics.median(overwritten),
        "overwrite_us_p99": _percentile_99(overwritten),
    }


def _sync_times(path: Path, flags: int) -> list[float]:
    page = os.urandom(SYNC_SIZE)
    file = os.open(path, os.O_WRONLY | flags, 0o600)
    times = []
    for _ in range(SYNC_COUNT):
        start = time.perf_counter_ns()
        os.write(file, page)
        os.fdatasync(file)
        times.append((time.perf_counter_ns() - start) / 1000)
    os.close(file)
    return times


def _percentile_99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
