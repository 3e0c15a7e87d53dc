"""`switch load`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from switch.cli import exits
from switch.cli.options import (
    Subparsers,
    add_command,
    add_framing,
    add_json,
    add_spec,
    add_target,
    count_in,
    load_codec,
    load_station,
    make_framing,
    number_above,
    print_figures,
    print_json,
)

if TYPE_CHECKING:
    from switch.replay.load import LoadPlan, LoadResult, LoadRun


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "load",
        run,
        summary="send authorisation requests and measure the answers",
        example="switch load --to 127.0.0.1:8583 --cards cards.csv --connections 4 "
        "--window 64 --seconds 10",
    )
    add_target(parser)
    parser.add_argument(
        "--cards",
        type=Path,
        required=True,
        metavar="FILE",
        help="cards to pay with: CSV with the columns pan,account,expiry,status",
    )
    parser.add_argument("--connections", type=count_in(1, 1024), default=1, metavar="N")
    parser.add_argument(
        "--window",
        type=count_in(1, 65536),
        default=64,
        metavar="W",
        help="requests outstanding on each connection (default %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=number_above(0),
        default=10.0,
        metavar="S",
        help="how long to send (default %(default)g)",
    )
    parser.add_argument(
        "--rate",
        type=number_above(0),
        default=0.0,
        metavar="R",
        help="requests a second, each with its latency from the moment it was due "
        "(default: as many as the windows let through)",
    )
    _add_details(parser)
    add_spec(parser)
    add_framing(parser)
    add_json(parser)


def _add_details(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--grace",
        type=number_above(0),
        default=2.0,
        metavar="S",
        help="how long to wait for the last answers (default %(default)g)",
    )
    parser.add_argument(
        "--seed",
        type=count_in(0, 2**62),
        default=1,
        metavar="N",
        help="which cards and amounts are drawn (default %(default)s)",
    )
    parser.add_argument(
        "--amount-max",
        type=count_in(1, 2**32 - 1),
        default=500,
        metavar="N",
        help="largest amount, in minor units (default %(default)s)",
    )
    parser.add_argument(
        "--currency",
        default="978",
        type=_currency,
        metavar="CODE",
        help="currency of the requests, ISO 4217 letters or digits (default EUR)",
    )
    parser.add_argument(
        "--no-sign-on",
        dest="sign_on",
        action="store_false",
        help="send requests without an 0800 before them",
    )


def run(arguments: argparse.Namespace) -> int:
    from switch.link.errors import LinkError
    from switch.replay.errors import SessionError, TrafficError
    from switch.replay.load import LoadRun

    plan = _plan(arguments)
    make_framing(arguments.framing, arguments.inclusive)
    try:
        codec = load_codec(plan.spec)
        load_run = LoadRun(plan, codec, load_station(plan.spec, codec))
    except (TrafficError, LinkError, ValueError) as error:
        raise exits.CommandError(str(error)) from error
    try:
        load_run.connect()
        return _measure(load_run, arguments.json)
    except SessionError as error:
        raise exits.CommandError(str(error), exits.INPUT_OUTPUT) from error
    except ValueError as error:
        raise exits.CommandError(str(error)) from error
    finally:
        load_run.close()


def _plan(arguments: argparse.Namespace) -> "LoadPlan":
    from switch.replay.load import LoadPlan

    return LoadPlan(
        host=arguments.to.host,
        port=arguments.to.port,
        cards=arguments.cards,
        connections=arguments.connections,
        window=arguments.window,
        seconds=arguments.seconds,
        rate=arguments.rate,
        spec=arguments.spec,
        framing=arguments.framing,
        inclusive=arguments.inclusive,
        seed=arguments.seed,
        amount_max=arguments.amount_max,
        currency=arguments.currency,
        grace_seconds=arguments.grace,
        sign_on=arguments.sign_on,
    )


def _measure(load_run: "LoadRun", as_json: bool) -> int:
    from switch.cli.progress import progress

    plan = load_run.plan
    stopped: BaseException | None = None
    with progress("load", plan.seconds) as advance:

        def show(elapsed_s: float) -> None:
            answered = load_run.traffic.answered
            advance(elapsed_s, f"{answered:,} answered, {answered / elapsed_s:,.0f}/s")

        try:
            load_run.run(show)
        except (KeyboardInterrupt, exits.Terminated) as stop:
            # what was measured up to now is worth showing
            stopped = stop
    result = load_run.result()
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(result))
    else:
        _print(result)
    if stopped is not None:
        raise stopped
    if result.faults:
        raise exits.CommandError("; ".join(result.faults), exits.NOT_SO)
    return exits.OK if result.complete else exits.NOT_SO


def _print(result: "LoadResult") -> None:
    from switch.replay.response import code_label

    latency = result.latency_ms
    rows = {
        "sent": f"{result.sent:,}",
        "answered": f"{result.answered:,}",
        "approved": f"{result.approved:,}",
        "declined": f"{result.declined:,}",
        "unanswered": f"{result.unanswered:,}",
        "unexpected": f"{result.unexpected:,}",
        "answered a second": f"{result.answered_per_second:,.0f}",
        "latency p50": f"{latency.p50:.3f} ms",
        "latency p99": f"{latency.p99:.3f} ms",
        "latency p99.9": f"{latency.p999:.3f} ms",
        "latency max": f"{latency.max:.3f} ms",
    }
    if result.rate:
        rows["due but not sent"] = f"{result.overdue:,}"
    for code, count in result.response_codes.items():
        rows[code_label(code)] = f"{count:,}"
    print_figures(rows)


def _currency(text: str) -> str:
    if text.isascii() and text.isdigit() and len(text) == 3:
        return text
    from switch.ledger.currencies import NUMBERS

    if text.upper() not in NUMBERS:
        raise argparse.ArgumentTypeError(f"expected an ISO 4217 code, got {text!r}")
    return f"{NUMBERS[text.upper()]:03d}"
