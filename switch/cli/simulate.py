"""`switch simulate`."""

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from switch.cli import exits
from switch.cli.options import (
    Subparsers,
    add_command,
    add_json,
    address,
    count_in,
    load_codec,
    load_station,
    make_framing,
    number_above,
    print_json,
)

if TYPE_CHECKING:
    from switch.link.settings import Address
    from switch.replay.scenario import Scenario, Step
    from switch.replay.simulation import Report, Simulation

PROBLEMS_SHOWN: Final = 10


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "simulate",
        run,
        summary="play a card scheme or a terminal: send a scenario, answer by rules",
        example="switch simulate docs/scenarios/purchases.toml --to 127.0.0.1:8583\n"
        "  switch simulate docs/scenarios/issuer.toml --listen 127.0.0.1:8583",
    )
    parser.add_argument(
        "scenario",
        type=Path,
        metavar="SCENARIO.toml",
        help="messages, steps, rules and faults, as docs/tools.md describes them",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--to",
        type=address,
        metavar="HOST:PORT",
        help="where the other side listens (default: the scenario's dial)",
    )
    where.add_argument(
        "--listen",
        type=address,
        metavar="HOST:PORT",
        help="where the other side connects (default: the scenario's listen)",
    )
    parser.add_argument("--spec", metavar="NAME", help="instead of the scenario's")
    parser.add_argument("--framing", metavar="NAME", help="instead of the scenario's")
    parser.add_argument(
        "--cards",
        type=Path,
        metavar="FILE",
        help="cards to draw from: CSV with the columns pan and expiry",
    )
    parser.add_argument(
        "--seed",
        type=count_in(0, 2**62),
        metavar="N",
        help="which faults and cards are drawn (default: the scenario's, or 1)",
    )
    parser.add_argument(
        "--seconds",
        type=number_above(0),
        metavar="S",
        help="end after S seconds (default: when the steps are played; with rules "
        "alone on Ctrl-C)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from switch.replay.errors import SessionError, TrafficError

    try:
        simulation, scenario = _prepare(arguments)
        where, listen = _where(arguments, scenario)
    except TrafficError as error:
        raise exits.CommandError(str(error)) from error
    sigterm = signal.getsignal(signal.SIGTERM)
    try:
        stopped_by = asyncio.run(_run(arguments, simulation, scenario, where, listen))
    except SessionError as error:
        raise exits.CommandError(str(error), exits.INPUT_OUTPUT) from error
    except TrafficError as error:
        raise exits.CommandError(str(error)) from error
    finally:
        # the event loop took it, and gave back the default
        signal.signal(signal.SIGTERM, sigterm)
    report = simulation.report()
    if arguments.json:
        import msgspec

        print_json(msgspec.to_builtins(report))
    else:
        _print(report)
    if stopped_by is not None and not report.complete:
        sys.stdout.flush()
        raise (KeyboardInterrupt if stopped_by == signal.SIGINT else exits.Terminated)()
    return exits.OK if report.ok else exits.NOT_SO


def _prepare(arguments: argparse.Namespace) -> "tuple[Simulation, Scenario]":
    import msgspec

    from switch.ledger.currencies import NUMBERS
    from switch.replay.cards import read_cards
    from switch.replay.compose import Composer
    from switch.replay.scenario import check, load_scenario
    from switch.replay.simulation import Simulation

    scenario = load_scenario(arguments.scenario)
    given = {
        name: getattr(arguments, name)
        for name in ("spec", "framing", "seed")
        if getattr(arguments, name) is not None
    }
    scenario = msgspec.structs.replace(scenario, **given)
    codec = load_codec(scenario.spec)
    composer = Composer(codec, NUMBERS, header=scenario.header)
    check(scenario, composer)
    cards = arguments.cards
    if cards is None and scenario.cards:
        cards = arguments.scenario.parent / scenario.cards
    return (
        Simulation(
            scenario,
            composer.codec,
            make_framing(scenario.framing, scenario.inclusive),
            composer,
            [] if cards is None else list(read_cards(cards)),
            load_station(scenario.spec, codec, scenario.header),
        ),
        scenario,
    )


def _where(
    arguments: argparse.Namespace, scenario: "Scenario"
) -> "tuple[Address, bool]":
    """And whether it listens there."""
    from switch.link.settings import Address

    if arguments.to is not None:
        return arguments.to, False
    if arguments.listen is not None:
        return arguments.listen, True
    if bool(scenario.dial) == bool(scenario.listen):
        raise exits.CommandError(
            f"{arguments.scenario}: expected one of dial and listen, or --to or "
            "--listen, got "
            + ("both dial and listen" if scenario.dial else "none of them")
        )
    try:
        return Address.parse(scenario.dial or scenario.listen), bool(scenario.listen)
    except ValueError as error:
        raise exits.CommandError(f"{arguments.scenario}: {error}") from None


async def _run(
    arguments: argparse.Namespace,
    simulation: "Simulation",
    scenario: "Scenario",
    where: "Address",
    listen: bool,
) -> "signal.Signals | None":
    """Which signal stopped it, if one did."""
    import asyncio

    from switch.cli.progress import progress

    stopping = asyncio.Event()
    stopped_by: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        stopped_by.append(number)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    simulation.on_listening = _say_where
    total = message_count(scenario.steps)
    with progress("simulate", total or None) as advance:
        simulation.on_progress = lambda sent: advance(sent, f"{sent:,} sent")
        await simulation.run(
            where, listen=listen, stopping=stopping, seconds=arguments.seconds
        )
    return stopped_by[0] if stopped_by else None


def message_count(steps: "list[Step]") -> int:
    """How many messages the steps send in all."""
    return sum(
        step.times * (bool(step.send) + message_count(step.steps)) for step in steps
    )


def _say_where(where: "Address") -> None:
    # for whoever waits, a script too; the output is for the result
    print(f"listening on {where}", file=sys.stderr, flush=True)


def _print(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if report.steps:
        table = Table(box=None, pad_edge=False)
        table.add_column("step")
        for title in ("sent", "answered", "as expected", "not so"):
            table.add_column(title, justify="right")
        table.add_column("response codes")
        for step in report.steps:
            counts = (step.sent, step.answered, step.as_expected, step.not_so)
            codes = ", ".join(
                f"{code or 'none'} {count}"
                for code, count in step.response_codes.most_common()
            )
            table.add_row(step.name, *(f"{count:,}" for count in counts), codes)
        console.print(table)
        latency = report.latency_ms
        print(f"latency p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms")
    answered = {rule: count for rule, count in report.rules.items() if count}
    if answered:
        said = ", ".join(f"{rule} {count}" for rule, count in answered.items())
        print(f"requests taken, by rule: {said}")
    if report.faults:
        said = ", ".join(f"{fault} {count}" for fault, count in report.faults.items())
        print(f"faults injected: {said}")
    if report.unexpected:
        print(f"answers that nobody waited for: {report.unexpected}")
    if report.doubled_differently:
        print(f"sent twice and answered in two ways: {report.doubled_differently}")
    for problem in report.problems[:PROBLEMS_SHOWN]:
        print(problem)
    more = len(report.problems[PROBLEMS_SHOWN:]) + report.problems_left_out
    if more:
        print(f"and {more} more like these; --json shows up to 100")
    if not report.complete:
        print(f"not all steps were played: {report.lost or 'stopped'}")
    print("ok" if report.ok else "not ok")
