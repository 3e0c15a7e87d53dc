"""The `switch` command: finds the command's module, runs it, says how it ended."""

import argparse
import importlib
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Final

from switch.cli import exits

# in the order of the help
COMMAND_MODULES: Final = (
    "serve",
    "demo",
    "load",
    "send",
    "simulate",
    "replay",
    "decode",
    "accounts",
    "cards",
    "transactions",
    "tokens",
    "publish",
    "consume",
    "notify",
    "cluster",
    "journal",
    "backup",
    "keys",
    "config",
    "doctor",
    "version",
)

# Whose errors are the user's to mend, and how: their own text says it all.
EXIT_CODES: Final = {
    "switch.admin": exits.INPUT_OUTPUT,
    "switch.backup": exits.INPUT_OUTPUT,
    "switch.cluster": exits.INPUT_OUTPUT,
    "switch.config": exits.USAGE,
    "switch.imports": exits.USAGE,
    "switch.replay": exits.USAGE,
    "switch.journal": exits.INPUT_OUTPUT,
    "switch.keys": exits.INPUT_OUTPUT,
    "switch.link": exits.INPUT_OUTPUT,
    "switch.nsq": exits.INPUT_OUTPUT,
    "switch.observe": exits.INPUT_OUTPUT,
    "switch.peer": exits.INPUT_OUTPUT,
    "switch.ownership": exits.INPUT_OUTPUT,
    "switch.projection": exits.INPUT_OUTPUT,
    "switch.publish": exits.INPUT_OUTPUT,
}

# Not failures: somebody ends it.
STOPS: Final[dict[type[BaseException], int]] = {
    KeyboardInterrupt: exits.INTERRUPTED,
    exits.Terminated: exits.TERMINATED,
    exits.OutputClosed: exits.OUTPUT_CLOSED,
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switch",
        description="An authorisation switch for a card issuer.",
        epilog="try it:\n  switch demo\n\n" + exits.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--debug", action="store_true", help="show a traceback when something fails"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMAND_MODULES:
        importlib.import_module(f"switch.cli.{name}").add(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    # --debug is a word of every command, before or after its name
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    previous = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        exit_code = _run(given, debug)
        sys.stdout.flush()
        return exit_code
    except BaseException as error:  # noqa: BLE001  the outermost place: nothing above
        return _report(_first_of(error), debug)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(given: Sequence[str], debug: bool) -> int:
    try:
        parsed = build_parser().parse_args(given)
    except SystemExit as end:
        # argparse: 0 after --help, 2 after a usage error it has already printed
        return end.code if isinstance(end.code, int) else exits.USAGE
    parsed.debug = debug
    exit_code: int = parsed.run(parsed)
    return exit_code


def _first_of(error: BaseException) -> BaseException:
    """Of tasks that failed together: the one that ended the others."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _report(error: BaseException, debug: bool) -> int:
    if type(error) in STOPS:
        if str(error):
            _tell(f"interrupted: {error}")
        return STOPS[type(error)]
    if debug:
        traceback.print_exception(error)
    if isinstance(error, exits.CommandError):
        text, exit_code = str(error), error.exit_code
    elif isinstance(error, OSError):
        text, exit_code = describe_os_error(error), exits.INPUT_OUTPUT
    elif (known := _exit_code_of(error)) is not None:
        text, exit_code = str(error), known
    else:
        text = f"{type(error).__name__}: {error} (--debug shows where)"
        exit_code = exits.FAULT
    _tell(" ".join(text.split()))
    return exit_code


def _tell(line: str) -> None:
    print(f"switch: {line}", file=sys.stderr)


def _exit_code_of(error: BaseException) -> int | None:
    """By the package that raised it; None for what no package of ours means to."""
    for kind in type(error).__mro__:
        package = ".".join(kind.__module__.split(".")[:2])
        if package in EXIT_CODES:
            return EXIT_CODES[package]
    return None


def describe_os_error(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def _raise_terminated(_number: int, _frame: FrameType | None) -> None:
    raise exits.Terminated
