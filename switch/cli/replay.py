"""`switch replay`."""

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
    load_codec,
    make_framing,
    number_above,
    print_json,
)

if TYPE_CHECKING:
    from switch.replay.replay import ReplayedFrame


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "replay",
        run,
        summary="send captured messages and show the answers",
        example="switch replay capture.hex --to 127.0.0.1:8583 --spec mastercard-cis",
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE.hex",
        help="a frame a line in hex, length header included; # begins a comment",
    )
    add_target(parser)
    add_spec(parser)
    add_framing(parser)
    parser.add_argument(
        "--timeout",
        type=number_above(0),
        default=5.0,
        metavar="S",
        help="how long to wait for each answer (default %(default)g)",
    )
    parser.add_argument(
        "--sign-on", action="store_true", help="sign on (0800, 001) first"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from switch.link.errors import LinkError
    from switch.replay.errors import SessionError, TrafficError

    try:
        frames = asyncio.run(_replay(arguments))
    except SessionError as error:
        raise exits.CommandError(str(error), exits.INPUT_OUTPUT) from error
    except (TrafficError, LinkError) as error:
        raise exits.CommandError(str(error)) from error
    answered = sum(frame.answered for frame in frames)
    skipped = sum(frame.skipped for frame in frames)
    sent = len(frames) - skipped
    if arguments.json:
        import msgspec

        print_json(
            {
                "sent": sent,
                "answered": answered,
                "unanswered": sent - answered,
                "skipped": skipped,
                "frames": [msgspec.to_builtins(frame) for frame in frames],
            }
        )
    else:
        more = f", {skipped} skipped (answers themselves)" if skipped else ""
        print(f"{sent} sent, {answered} answered, {sent - answered} unanswered{more}")
    return exits.OK if answered == sent else exits.NOT_SO


async def _replay(arguments: argparse.Namespace) -> "list[ReplayedFrame]":
    from switch.replay.capture import read_capture
    from switch.replay.replay import replay

    framing = make_framing(arguments.framing, arguments.inclusive)
    frames: list[ReplayedFrame] = []
    async for frame in replay(
        list(read_capture(arguments.file, framing)),
        arguments.to.host,
        arguments.to.port,
        load_codec(arguments.spec),
        framing,
        timeout_s=arguments.timeout,
        sign_on=arguments.sign_on,
    ):
        frames.append(frame)
        if not arguments.json:
            print(line_of(frame), flush=True)
    return frames


def line_of(frame: "ReplayedFrame") -> str:
    from switch.replay.response import response_text

    details = "  ".join(
        part
        for part in (
            f"line {frame.line}: {frame.mti}",
            f"STAN {frame.stan}" if frame.stan else "",
            frame.pan,
            f"amount {int(frame.amount)}" if frame.amount.isdigit() else frame.amount,
        )
        if part
    )
    if frame.skipped:
        return f"{details} → not sent: an answer itself"
    if not frame.answered:
        return f"{details} → no answer"
    code = frame.response_code
    said = f"{code} {response_text(code)}" if code else "no field 39"
    approval = f"  approval {frame.approval_code}" if frame.approval_code else ""
    return f"{details} → {frame.response_mti} {said}{approval}  {frame.time_ms:.2f} ms"
