"""What `switch` returns to the shell: the one place where exit codes are said.

0    done, and the thing asked about is so
1    done, and it is not so: verify found problems, requests stayed unanswered or were
     answered otherwise than captured
2    usage: arguments, configuration or input that cannot be used
70   a fault of this program (please report it; --debug shows where)
74   input or output failed: file, socket, standard output, journal
130  interrupted (Ctrl-C)
141  the reader of our output went away
143  terminated (SIGTERM)
"""

from typing import Final

OK: Final = 0
NOT_SO: Final = 1
USAGE: Final = 2
FAULT: Final = 70
INPUT_OUTPUT: Final = 74
INTERRUPTED: Final = 130
OUTPUT_CLOSED: Final = 141
TERMINATED: Final = 143

HELP: Final = """\
exit codes:
  0 done and so; 1 done and not so (problems found, requests unanswered);
  2 arguments or input that cannot be used; 70 fault of this program;
  74 file, socket or journal failed; 130 Ctrl-C; 143 SIGTERM
"""


class CommandError(Exception):
    """What a command says instead of a result: one line, and how to exit."""

    def __init__(self, text: str, exit_code: int = USAGE) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Terminated(BaseException):
    """SIGTERM, on its way up: like KeyboardInterrupt, not for `except Exception`."""


class OutputClosed(BaseException):
    """The reader of our output went away: the end of the work, as above."""
