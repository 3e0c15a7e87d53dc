"""Standard output and standard error, as every command finds them.

Rule 1: what it does not take is told once, in one line, as of standard output. A
        reader that went away is no failure; an output that was closed before we began
        is one for a command that writes.
Rule 2: a character that it has no code for is written as a question mark.
Rule 3: what standard error does not take can be told nowhere, and changes nothing.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from switch.cli import exits

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STANDARD_OUTPUT: Final = 1
STANDARD_ERROR: Final = 2


class _Output(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise exits.OutputClosed from None
        except OSError as error:
            raise exits.CommandError(
                f"standard output: {error.strerror}", exits.INPUT_OUTPUT
            ) from error


class _Errors(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        with contextlib.suppress(OSError):
            return super().write(data)
        return memoryview(data).nbytes


@contextlib.contextmanager
def standard_output() -> Iterator[None]:
    """For as long as the program runs: both by the rules."""
    _occupy_descriptors()
    given, given_errors = sys.stdout, sys.stderr  # None when they are closed
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Errors(STANDARD_ERROR, "w", closefd=False)),
        encoding=None if given_errors is None else given_errors.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )
    assert given is None or isinstance(given, io.TextIOWrapper)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(STANDARD_OUTPUT, "w", closefd=False)),
        encoding=None if given is None else given.encoding,
        errors="replace",
        line_buffering=given is not None
        # as Python has it at a terminal, and with PYTHONUNBUFFERED
        and (given.line_buffering or given.write_through),
    )
    try:
        yield
    finally:
        _drop_rest()
        sys.stdout, sys.stderr = given, given_errors


def _occupy_descriptors() -> None:
    """A closed standard stream: no file that is opened later may take its number."""
    # Read only: who writes to it is told, as if it were closed still.
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= STANDARD_ERROR:
        pass
    os.close(descriptor)


def _drop_rest() -> None:
    """What it did not take would be tried again when the interpreter ends."""
    try:
        sys.stdout.flush()
    except (exits.CommandError, exits.OutputClosed):
        os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_OUTPUT)
