"""A switch whose wall clock a test sets, in a file of milliseconds that are added:
`python -m tests.end_to_end.clocked FILE serve ...`."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from switch import clock
from switch.cli.main import main


def run() -> int:
    file = Path(sys.argv.pop(1))

    def time_ns() -> int:
        return time.time_ns() + int(file.read_text()) * 1_000_000

    # What the wall clock reads, as if somebody had set the machine's.
    module: Any = clock
    module.time = SimpleNamespace(
        time_ns=time_ns,
        clock_gettime_ns=time.clock_gettime_ns,
        CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
    )
    return main()


if __name__ == "__main__":
    sys.exit(run())
