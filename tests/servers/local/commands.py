"""up, status, down.

Rule 1: `up` is the parent of all processes, and the kernel ends them with it, however
        it ends. So `down` asks it; what it finds beside that, it ends itself.
Rule 2: the exit code of `up` is 0 when all that was sent was answered, repeats got the
        first answer again, and the journal verifies.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from switch.cli import exits
from switch.cluster_store import open_cluster
from switch.config import load
from switch.replay.bank import Bank, make_bank
from tests.servers.common import ROOT, ServerError
from tests.servers.local.layout import Place, config_of, plan_of
from tests.servers.local.machines import SWITCH, Machines
from tests.servers.local.processes import SUPERVISOR, Processes, end, left_over
from tests.servers.local.traffic import Traffic
from tests.servers.local.view import Scene, View, make_view
from tests.servers.local.watching import Watching

SEED = 1
TICK_SECONDS = 0.1
DOWN_SECONDS_MAX = 90.0
READY_SECONDS_MAX = 300.0
READY = "the cluster is ready"


class Stopped(BaseException):
    """SIGTERM or SIGHUP, on its way up."""


# -- up


def up(arguments: argparse.Namespace) -> int:
    place = Place(arguments.directory.absolute())
    place.directory.mkdir(parents=True, exist_ok=True)
    if arguments.detach:
        return _up_in_the_background(place)
    _listen_for_the_end()
    with _alone(place):
        data = place.data(keep=arguments.keep)
        if not arguments.keep:
            shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True, exist_ok=True)
        try:
            return _up(place, data, arguments)
        except (KeyboardInterrupt, Stopped):
            say("stopped before it was ready")
            return exits.INTERRUPTED
        finally:
            Processes(place.processes).forget()
            if not arguments.keep:
                shutil.rmtree(data, ignore_errors=True)


def _up(place: Place, data: Path, arguments: argparse.Namespace) -> int:
    plan = plan_of(data, node_count=arguments.nodes, small=arguments.small)
    say(
        f"starting {plan.cassandra_count} Cassandra, {plan.etcd_count} etcd, Kafka, "
        f"NSQ and {plan.node_count} nodes, in {data}"
    )
    machines = Machines(place, data, plan, arguments.shards, say)
    try:
        machines.start_servers()
        machines.start_nodes()
        bank = _import_bank(machines, data)
        say(READY)
        traffic = asyncio.run(_show(machines, bank, arguments))
        # The event loop gave back the default.
        _listen_for_the_end()
        say("stopping the nodes")
        machines.stop_nodes()
        verdict = json.loads(machines.run("journal", "verify", "--json"))
        return _conclude(traffic, verdict)
    finally:
        say("stopping the servers")
        machines.close()


def _import_bank(machines: Machines, data: Path) -> Bank:
    # Kept data has the cards of the day that it was made on.
    file = data / "day"
    if not file.exists():
        file.write_text(datetime.datetime.now(datetime.UTC).date().isoformat())
    bank = make_bank(SEED, datetime.date.fromisoformat(file.read_text()))
    for what, path in zip(("accounts", "cards"), bank.write(data), strict=True):
        options = ("--skip-existing", "--json")
        done = json.loads(machines.run(what, "import", str(path), *options))
        say(f"{what}: {done['imported']} imported, {done['existing']} were there")
    return bank


async def _show(
    machines: Machines, bank: Bank, arguments: argparse.Namespace
) -> Traffic:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)

    traffic = Traffic(bank, machines.plan.of_nodes, rate=arguments.rate)
    config = load(machines.config, {}).config
    async with open_cluster(config) as cluster:
        watching = Watching(machines.nodes, cluster)
        await watching.look()
        view = make_view(Scene(machines, watching, traffic.terminals))
        view.open()
        tasks = [
            asyncio.create_task(traffic.play()),
            asyncio.create_task(watching.run()),
            asyncio.create_task(_tick(view)),
        ]
        try:
            waiting = asyncio.create_task(stopping.wait())
            done, _ = await asyncio.wait(
                {waiting, *tasks},
                timeout=arguments.seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                task.result()
        finally:
            for task in (waiting, *tasks):
                task.cancel()
            await asyncio.gather(waiting, *tasks, return_exceptions=True)
            view.close()
    return traffic


async def _tick(view: View) -> None:
    while True:
        view.tick()
        await asyncio.sleep(TICK_SECONDS)


def _conclude(traffic: Traffic, verdict: dict[str, Any]) -> int:
    tallies = [terminal.tally for terminal in traffic.terminals]
    lost = sum(terminal.times_lost for terminal in traffic.terminals)
    for terminal in traffic.terminals:
        print(f"{terminal.name}: {terminal.tally.summary()}")
    same = sum(tally.repeats_same for tally in tallies)
    other = sum(tally.repeats_other for tally in tallies)
    print(f"repeats that got the first answer again: {same} of {same + other}")
    if lost:
        print(f"connections lost: {lost}")
    print(
        f"journal verify: {'ok' if verdict['ok'] else 'NOT ok'}, {verdict['entries']} "
        f"entries, {verdict['accounts']} accounts"
    )
    for problem in verdict["problems"]:
        print(f"  {problem}")
    # What a node that was killed had in hand is not answered; that is no fault.
    answered = lost or all(tally.answered == tally.asked for tally in tallies)
    so = verdict["ok"] and answered and not other
    return exits.OK if so else exits.NOT_SO


def _up_in_the_background(place: Place) -> int:
    words = [word for word in sys.argv[1:] if word not in ("-d", "--detach")]
    with place.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.local", *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + READY_SECONDS_MAX
    shown = 0
    while time.monotonic() < until:
        lines = place.log.read_text("utf-8", "replace").splitlines(keepends=True)
        # The last one may be half written.
        whole = [line.rstrip() for line in lines if line.endswith("\n")]
        for line in whole[shown:]:
            say(line)
        shown = len(whole)
        if READY in whole:
            print(f"it goes on in the background, and says so in {place.log}")
            print("scripts/cluster status shows it, scripts/cluster down ends it")
            return exits.OK
        if process.poll() is not None:
            return process.returncode
        time.sleep(TICK_SECONDS)
    say(f"not ready after {READY_SECONDS_MAX:g} s: see {place.log}")
    end_supervisor(place)
    return exits.INPUT_OUTPUT


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Raises ServerError when another one runs."""
    processes = Processes(place.processes)
    with place.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = processes.supervisor()
            pid = "" if found is None else f", process {found.pid}"
            raise ServerError(
                f"a cluster runs already{pid}: `scripts/cluster down` stops it"
            ) from None
        left = [record.name for record in processes.all() if record.is_running]
        if left:
            raise ServerError(
                f"{', '.join(left)} of an earlier run: `scripts/cluster down` ends them"
            )
        processes.forget()
        processes.add(SUPERVISOR, os.getpid())
        yield


# -- status


def status(arguments: argparse.Namespace) -> int:
    place = Place(arguments.directory.absolute())
    records = Processes(place.processes).all()
    if not records:
        print("no cluster runs; `scripts/cluster up` starts one")
        return exits.NOT_SO
    width = max(len(record.name) for record in records)
    for record in records:
        state = f"pid {record.pid}" if record.is_running else "ended"
        print(f"{record.name:<{width}}  {state:<12} {record.where}".rstrip())
    files = [config_of(data, 1) for data in (place.fresh, place.kept)]
    configs = [file for file in files if file.exists()]
    running = [record.name for record in records if record.is_running]
    if SUPERVISOR not in running:
        print("`scripts/cluster up` has ended: `scripts/cluster down` ends the rest")
    if not configs or not any(name.startswith("etcd") for name in running):
        return exits.NOT_SO
    newest = max(configs, key=lambda path: path.stat().st_mtime)
    print(flush=True)
    command = [*SWITCH, "cluster", "status", "--config", str(newest)]
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        return done.returncode
    return exits.OK if len(running) == len(records) else exits.NOT_SO


# -- down


def down(arguments: argparse.Namespace) -> int:
    place = Place(arguments.directory.absolute())
    was_there = end_supervisor(place)
    processes = Processes(place.processes)
    places = (place.fresh, place.kept)
    known = (record for record in processes.all() if record.is_running)
    # What nobody wrote down is looked for when the others have ended.
    for record in itertools.chain(known, *map(left_over, places)):
        say(f"{record.name} (pid {record.pid}) {end(record)}")
        was_there = True
    processes.forget()
    for data in places if arguments.remove else (place.fresh,):
        if data.exists():
            shutil.rmtree(data)
            say(f"{data} removed")
            was_there = True
    if place.kept.exists():
        say(f"{place.kept} is kept: `scripts/cluster up --keep` goes on with it")
    if not was_there:
        say("nothing was running")
    return exits.OK


def end_supervisor(place: Place) -> bool:
    """It stops all that it started, in order. Whether there was one."""
    processes = Processes(place.processes)
    record = processes.supervisor()
    if record is None:
        return False
    others = [
        each.name
        for each in processes.all()
        if each.is_running and each.name != SUPERVISOR
    ]
    say(f"asking `scripts/cluster up` (pid {record.pid}) to stop")
    record.signal(signal.SIGTERM)
    if record.has_ended_within(DOWN_SECONDS_MAX):
        print(f"it has stopped, and with it {', '.join(others) or 'nothing'}")
    else:
        record.signal(signal.SIGKILL)
        record.has_ended_within(DOWN_SECONDS_MAX)
        print(f"killed, for it did not stop within {DOWN_SECONDS_MAX:g} s")
    return True


def say(line: str) -> None:
    if line:
        print(line, flush=True)


def _listen_for_the_end() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)


def _stop(_number: int, _frame: object) -> None:
    raise Stopped
