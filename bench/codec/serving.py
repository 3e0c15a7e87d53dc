"""How a contender in Python is asked: it answers the lines on its standard input.

First it says `ready` and its version. `time OPERATION SECONDS` is answered with the
nanoseconds that the operation takes, `count OPERATION TIMES` when it was done so often.
Nanoseconds are CPU time of the thread: what else the machine does moves them little.

It imports no codec: each contender does, in its own environment.
"""

import sys
import time
import timeit
from typing import Any

# A slice of time is begun with ever more repetitions until they take this part of it.
PROBE = 10


def serve(version: str, operations: dict[str, str], names: dict[str, Any]) -> None:
    """`operations`: statements by name, which see `names`. Compiled before anything is
    asked, so that what is counted is what they do and nothing else."""
    timers = {
        name: timeit.Timer(statement, timer=time.thread_time, globals=names)
        for name, statement in operations.items()
    }
    print("ready", version, flush=True)
    for line in sys.stdin:
        request, name, argument = line.rstrip("\n").split("\t")
        if request == "time":
            print(_nanoseconds(timers[name], float(argument)), flush=True)
        else:
            timers[name].timeit(int(argument))
            print("done", flush=True)


def _nanoseconds(timer: timeit.Timer, seconds: float) -> float:
    count = 1
    while (spent := timer.timeit(count)) < seconds / PROBE:
        count *= 2
    count = max(1, round(count * seconds / spent))
    return timer.timeit(count) / count * 1e9
