"""Memory that runs out while a request is decided: the request is answered 96 and has
never been, and what comes when there is memory again goes on from there."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

# A process of its own, whose memory the kernel bounds. The bound leaves room for what
# Python needs from moment to moment, and none for the shard's table of transactions,
# which is larger by then and grows by a quarter of itself.
PROGRAM = """
import resource

from tests.unit.link.in_memory import CARDS, Switch, fields, opening

MIB = 1 << 20
ROOM = 2 * MIB
ALL_THERE_IS = resource.getrlimit(resource.RLIMIT_AS)[1]
BATCH = 500
PREPARED = 100_000


def bound(size):
    resource.setrlimit(resource.RLIMIT_AS, (size, ALL_THERE_IS))


def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def seen(switch):
    (state,) = switch.states
    return (
        state.sequence, state.transaction_count, state.last_at, switch.account(),
        switch.group.pending,
    )


def purchase(stan):
    return fields("0100", stan, amount=1)


accounts = {"main": (826, 10**9, 0)}
switch = Switch(shard_count=1, entries=opening(1, accounts, [CARDS["active"]]))
line = switch.connect()
stan = 0
while stan < PREPARED:
    line.send(*(purchase(number) for number in range(stan, stan + BATCH)))
    switch.settle()
    line.transport.writes.clear()
    switch.committed.clear()
    stan += BATCH
assert switch.counters.faults == 0

bound(used() + ROOM)
while True:
    before = seen(switch)
    (reply,) = switch.ask(line, purchase(stan))
    line.transport.writes.clear()
    if reply[39] == "96":
        break
    stan += 1
assert switch.counters.faults == 1
assert seen(switch) == before
assert not line.connection.ending

# As long as there is no more, each new one is refused, and what is known is answered.
switch.committed.clear()
codes = [reply[39] for reply in switch.ask(line, purchase(stan), purchase(stan - 1))]
assert codes == ["96", "00"], codes
assert seen(switch) == before
assert switch.committed == []

bound(ALL_THERE_IS)
line.transport.writes.clear()
asked = [purchase(number) for number in range(stan, stan + 3)]
codes = [reply[39] for reply in switch.ask(line, *asked)]
assert codes == ["00"] * 3, codes
assert switch.account().held == before[3].held + 3
numbers = [entry.sequence for _, entry in switch.entries()]
assert numbers == [before[0] + 1, before[0] + 2, before[0] + 3], numbers
print("went on at", stan)
"""


def test_a_request_for_which_there_is_no_memory_never_was():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("went on at"), done.stderr
