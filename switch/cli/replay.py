"""`switch replay`."""

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from switch.cli import exits
from switch.cli.options import (
    Subparsers,
    add_answers,
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
    import iso8583
    from switch.cli.progress import Advance
    from switch.link._framing import Framing
    from switch.replay.captures import Capture
    from switch.replay.replay import Replay, ReplayPlan
    from switch.replay.report import ReplayedFrame, ReplayReport
    from switch.replay.rewriting import Rewriter

NONE: Final = "none"


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "replay",
        run,
        summary="send captured messages and compare the answers",
        example="switch replay capture.hex --to 127.0.0.1:8583 --spec mastercard-cis\n"
        "  switch replay port8583.pcap --to 127.0.0.1:8583 --fresh --ignore 38",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the capture")
    add_target(parser)
    add_spec(parser)
    add_framing(parser)
    _add_capture(parser)
    _add_pace(parser)
    _add_changes(parser)
    _add_reports(parser)


def _add_capture(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how the capture is read")
    group.add_argument(
        "--format",
        choices=("hex", "base64", "binary", "pcap", "pcapng", "jpos"),
        help="a frame a line in hex or base64 (# begins a comment), frames one behind "
        "the other, network packets, or a jPOS log (default: by its content)",
    )
    group.add_argument(
        "--capture-framing",
        metavar="NAME",
        help=f"length headers in the capture, if not --framing; {NONE}: lines without",
    )
    group.add_argument(
        "--port",
        type=count_in(1, 65535),
        metavar="N",
        help="of a network capture, only this port, where the switch listened "
        "(default: whoever listened)",
    )
    group.add_argument(
        "--switch-dials",
        action="store_true",
        help="in a network capture the switch dialled, and the scheme listened",
    )


def _add_pace(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how fast")
    paces = group.add_mutually_exclusive_group()
    paces.add_argument(
        "--speed",
        type=_speed,
        metavar="1x|10x|max",
        help="by the captured times, so many times as fast; max: as fast as the "
        "answers come (default)",
    )
    paces.add_argument(
        "--rate", type=number_above(0), metavar="R", help="requests a second"
    )
    group.add_argument(
        "--window",
        type=count_in(1, 65536),
        metavar="W",
        help="requests outstanding on each connection (default 1; with a pace 4096)",
    )
    group.add_argument(
        "--loop",
        type=count_in(1, 1_000_000),
        default=1,
        metavar="N",
        help="how often the capture is sent (default %(default)s)",
    )
    group.add_argument(
        "--connections",
        type=count_in(1, 1024),
        default=64,
        metavar="N",
        help="connections at most, each for one of the capture (default %(default)s)",
    )
    add_answers(group)


def _add_changes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is changed on the way")
    group.add_argument(
        "--fresh",
        action="store_true",
        help="new numbers in fields 7, 11 and 37, and field 90 of reversals to match",
    )
    group.add_argument(
        "--cards",
        type=Path,
        metavar="FILE",
        help="send other cards: CSV with the columns from,to, for field 2 and tracks; "
        "a message with a card that is not in it is not sent",
    )


def _add_reports(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is told")
    group.add_argument(
        "--ignore",
        type=_fields,
        default=frozenset(),
        metavar="FIELDS",
        help="fields of the answers that may differ from the capture, such as 38,7",
    )
    group.add_argument(
        "--show",
        type=count_in(0, 100_000),
        default=100,
        metavar="N",
        help="how many exchanges are listed, and again as many that did not go as "
        "captured (default %(default)s)",
    )
    group.add_argument(
        "--html", type=Path, metavar="FILE", help="write the report as a web page too"
    )
    add_json(parser)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    if not text.endswith("x"):
        raise argparse.ArgumentTypeError(f"expected 1x, 10x or max, got {text!r}")
    return number_above(0)(text[:-1])


def _fields(text: str) -> frozenset[int]:
    return frozenset(count_in(2, 128)(field) for field in text.split(","))


def run(arguments: argparse.Namespace) -> int:
    from switch.link.errors import LinkError
    from switch.replay.captures import Capture, ReadOptions
    from switch.replay.errors import SessionError, TrafficError

    codec = load_codec(arguments.spec)
    framing = make_framing(arguments.framing, arguments.inclusive)
    options = ReadOptions(
        codec=codec, port=arguments.port, switch_dials=arguments.switch_dials
    )
    try:
        rewriter = _rewriter(arguments)
        with Capture.open(arguments.file, options, arguments.format) as capture:
            return _replay(arguments, capture, codec, framing, rewriter)
    except SessionError as error:
        raise exits.CommandError(str(error), exits.INPUT_OUTPUT) from error
    except (TrafficError, LinkError) as error:
        raise exits.CommandError(str(error)) from error


def _rewriter(arguments: argparse.Namespace) -> "Rewriter":
    from switch.replay.cards import read_card_map
    from switch.replay.rewriting import Rewriter

    cards = None if arguments.cards is None else read_card_map(arguments.cards)
    return Rewriter(fresh=arguments.fresh, cards=cards)


def _replay(
    arguments: argparse.Namespace,
    capture: "Capture",
    codec: "iso8583.Codec",
    framing: "Framing",
    rewriter: "Rewriter",
) -> int:
    from switch.cli.progress import progress
    from switch.replay.replay import Replay

    plan = _plan(arguments)
    station = load_station(arguments.spec, codec)
    replay = Replay(plan, codec, framing, rewriter, station)
    stopped: BaseException | None = None
    with progress("replay", capture.size * plan.loops) as advance:
        try:
            _send(replay, capture, _capture_framing(arguments, framing), advance)
        except (KeyboardInterrupt, exits.Terminated) as stop:
            # what was compared up to now is worth showing
            stopped = stop
    if not replay.sent and stopped is None:
        raise exits.CommandError(_why_nothing(capture, replay, arguments.spec))
    report = replay.report(capture.notes)
    _tell(arguments, capture, report)
    if stopped is not None:
        raise stopped
    if report.faults:
        raise exits.CommandError("; ".join(report.faults), exits.NOT_SO)
    return exits.OK if report.complete else exits.NOT_SO


def _plan(arguments: argparse.Namespace) -> "ReplayPlan":
    from switch.replay.replay import ReplayPlan

    return ReplayPlan(
        host=arguments.to.host,
        port=arguments.to.port,
        speed=arguments.speed,
        rate=arguments.rate,
        loops=arguments.loop,
        window=arguments.window,
        connections_max=arguments.connections,
        timeout_s=arguments.timeout,
        sign_on=arguments.sign_on,
        ignored=arguments.ignore,
        shown_max=arguments.show,
    )


def _capture_framing(
    arguments: argparse.Namespace, framing: "Framing"
) -> "Framing | None":
    name = arguments.capture_framing
    if name is None:
        return framing
    return None if name == NONE else make_framing(name, arguments.inclusive)


def _send(
    replay: "Replay", capture: "Capture", framing: "Framing | None", advance: "Advance"
) -> None:
    import asyncio

    def show(loop: int, sent: int) -> None:
        advance(loop * capture.size + capture.position, f"{sent:,} sent")

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate, task)
        await replay.run(lambda: capture.frames(framing), show)

    is_terminated = False

    def terminate(task: "asyncio.Task[None]") -> None:
        nonlocal is_terminated
        is_terminated = True
        task.cancel()

    before = signal.getsignal(signal.SIGTERM)
    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        if is_terminated:
            raise exits.Terminated from None
        raise
    finally:
        # the loop takes its own handler away, and leaves none
        signal.signal(signal.SIGTERM, before)


def _why_nothing(capture: "Capture", replay: "Replay", spec: str) -> str:
    report = replay.report(capture.notes)
    said = f"{capture.name} ({capture.format.name}: {capture.why}): expected requests"
    if report.unmapped:
        return f"{said} with cards of --cards, got {report.unmapped} with others"
    if report.unreadable:
        return f"{said} of {spec}, got {report.unreadable} others: {report.faults[0]}"
    if replay.turned_round:
        return (
            f"{said} to the switch, got {replay.turned_round} from it; --port says "
            "where it listened, --switch-dials that it did not"
        )
    notes = "; ".join(f"{count} {what}" for what, count in report.notes.items())
    return f"{said}, got none" + (f" ({notes})" if notes else "")


# -- the report


def _tell(
    arguments: argparse.Namespace, capture: "Capture", report: "ReplayReport"
) -> None:
    if arguments.html is not None:
        from switch.replay.page import page

        about = (
            f"{capture.name} ({capture.format.name}) to {arguments.to.host} port "
            f"{arguments.to.port}, {arguments.spec}"
        )
        arguments.html.write_text(
            page("Replay", about, report), encoding="utf-8", newline="\n"
        )
    if arguments.json:
        import msgspec

        print_json({"complete": report.complete, **msgspec.to_builtins(report)})
        return
    for frame in report.frames:
        print("\n    ".join(lines_of(frame)))
    if report.frames:
        print()
    _print_figures(report)


def lines_of(frame: "ReplayedFrame") -> list[str]:
    from switch.replay.response import response_text

    details = "  ".join(
        part
        for part in (
            f"{frame.place}: {frame.mti}",
            f"STAN {frame.stan}" if frame.stan else "",
            frame.pan,
            f"amount {int(frame.amount)}" if frame.amount.isdigit() else frame.amount,
        )
        if part
    )
    if frame.outcome == "unanswered":
        return [f"{details} → no answer"]
    code = frame.response_code
    said = f"{code} {response_text(code)}" if code else "no field 39"
    approval = f"  approval {frame.approval_code}" if frame.approval_code else ""
    return [
        f"{details} → {frame.response_mti} {said}{approval}  {frame.time_ms:.2f} ms",
        *(
            f"field {each.field}: captured "
            f"{each.captured or 'none'}, got {each.got or 'none'}"
            for each in frame.differences
        ),
    ]


def _print_figures(report: "ReplayReport") -> None:
    from switch.replay.page import figures
    from switch.replay.response import code_label

    latency = report.latency_ms
    rows = {name: f"{count:,}" for name, count in figures(report).items()}
    rows |= {f"field {f} differs": f"{n:,}" for f, n in report.different_fields.items()}
    rows |= {code_label(code): f"{n:,}" for code, n in report.response_codes.items()}
    if report.answered:
        rows |= {
            "latency p50": f"{latency.p50:.3f} ms",
            "latency p99": f"{latency.p99:.3f} ms",
            "latency max": f"{latency.max:.3f} ms",
        }
    if report.late_ms_max:
        rows["late by at most"] = f"{report.late_ms_max:.3f} ms"
    print_figures(rows)
