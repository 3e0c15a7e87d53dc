"""Logs: plain lines for people, JSON for programs, and never card data.

Rule 1: whoever logs names what happened and passes values as fields; it passes no
        account holder's data to begin with.
Rule 2: what slips through all the same (a library's error text) is masked here, on the
        finished line: anything that could be a card number, and any long run of digits,
        which is what a message or a track looks like in a dump.
Rule 3: no line breaks inside a line, so that a peer cannot forge one.
Rule 4: a peer that misbehaves thousands of times a second writes a bounded number of
        lines; the next one says how many were left out.
Rule 5: `in_background`, nobody waits for a line to be written: a file whose disk is
        busy with commits takes a millisecond, a terminal that was stopped for ever.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Literal, TextIO

LogFormat = Literal["auto", "plain", "json"]

ROOT = "switch"
# Of one event of one logger: enough to see a pattern, too few to fill a disk.
LINES_PER_SECOND_MAX = 20
# Lines that wait to be written in the background.
WAITING_MAX = 10_000

_CARD_DIGITS_MIN, _CARD_DIGITS_MAX = 12, 19
_DIGIT_RUN = re.compile(r"[0-9](?:[ -]?[0-9]){11,}")
_FIELDS = "switch_fields"

# What lines go through since `set_up`. What it leaves out costs no record of it.
_sampler: Sampler | None = None


def event(
    logger: logging.Logger,
    level: int,
    text: str,
    /,
    *,
    error: BaseException | None = None,
    **fields: object,
) -> None:
    """Logs that `text` happened; `text` is constant, what varies is in `fields`.

    `error` is logged with its traceback.
    """
    if not logger.isEnabledFor(level):
        return
    if _sampler is not None and level < logging.CRITICAL:
        left_out = _sampler.admit(logger.name, text)
        if left_out is None:
            return
        if left_out:
            fields["left_out"] = left_out
    logger.log(level, text, extra={_FIELDS: fields}, exc_info=error)


def mask_digits(text: str) -> str:
    """The text without card numbers and without long runs of digits."""
    return _DIGIT_RUN.sub(_mask_run, text)


def _mask_run(match: re.Match[str]) -> str:
    run = match[0]
    digits = run.replace(" ", "").replace("-", "")
    if len(digits) > _CARD_DIGITS_MAX:
        return f"[{len(digits)} digits]"
    if len(digits) >= _CARD_DIGITS_MIN and _has_check_digit(digits):
        return f"[card ..{digits[-4:]}]"
    return run


def _has_check_digit(digits: str) -> bool:
    """Luhn, ISO/IEC 7812-1 annex B."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (index % 2 + 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


class Sampler(logging.Filter):
    """At most so many lines a second of each event, and of each logger of a library,
    as many at once; counts what it leaves out."""

    def __init__(
        self,
        lines_per_second_max: int = LINES_PER_SECOND_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._clock = clock
        # A flood that goes on gets a line now and then: all of a second's at its
        # beginning would be a pause of milliseconds for everybody.
        self._interval = 1 / lines_per_second_max
        self._ahead_max = (lines_per_second_max - 1) * self._interval
        # Our texts are constants: there are not many. A library's may be made of what
        # a peer sent, and then each would be another.
        self._events: dict[tuple[str, str], _Sampled] = {}

    def admit(self, name: str, text: str) -> int | None:
        """How many were left out since the last line; None: this one is, too."""
        now = self._clock()
        sampled = self._events.setdefault((name, text), _Sampled(now))
        if sampled.paid_until > now + self._ahead_max + self._interval / 2:
            sampled.left_out += 1
            return None
        sampled.paid_until = max(sampled.paid_until, now) + self._interval
        left_out, sampled.left_out = sampled.left_out, 0
        return left_out

    def filter(self, record: logging.LogRecord) -> bool:
        if hasattr(record, _FIELDS) or record.levelno >= logging.CRITICAL:
            return True  # an event is admitted before there is a record of it
        is_ours = record.name.partition(".")[0] == ROOT
        left_out = self.admit(record.name, str(record.msg) if is_ours else "")
        if left_out:
            setattr(record, _FIELDS, {"left_out": left_out})
        return left_out is not None


class _Sampled:
    """What was said of an event: its lines are paid for until then."""

    __slots__ = ("left_out", "paid_until")

    def __init__(self, now: float) -> None:
        self.paid_until = now
        self.left_out = 0


def _at(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, _FIELDS, {})
    return fields


class PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix(ROOT + ".")
        parts = [_at(record), f"{record.levelname.lower():7}", f"{name}:"]
        parts.append(_one_line(record.getMessage()))
        parts += [f"{key}={_quoted(value)}" for key, value in _fields(record).items()]
        line = mask_digits(" ".join(parts[1:]))
        trace = "" if not record.exc_info else self.formatException(record.exc_info)
        indented = "".join(f"\n    {part}" for part in mask_digits(trace).splitlines())
        return f"{parts[0]} {line}{indented}"


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        content = {
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": mask_digits(record.getMessage()),
        }
        for key, value in _fields(record).items():
            # A number stays a number: a counter is no card.
            plain = isinstance(value, int | float) or value is None
            content.setdefault(key, value if plain else mask_digits(str(value)))
        if record.exc_info:
            content["trace"] = mask_digits(self.formatException(record.exc_info))
        return json.dumps({"at": _at(record)} | content, ensure_ascii=True)


def _one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


def _quoted(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and " " not in text and '"' not in text:
        return text
    return json.dumps(text)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that setting up twice replaces it and leaves others alone."""


class _WaitingLines(QueueHandler):
    """Formats a line and leaves it to the thread that writes."""

    lost = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self.lost:
                fields = {_FIELDS: {"lines": self.lost}}
                told = logging.makeLogRecord(
                    {"name": __name__, "levelno": logging.WARNING}
                    | {"levelname": "WARNING", "msg": "lines were lost"}
                    | fields
                )
                self.queue.put_nowait(self.prepare(told))
                self.lost = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self.lost += 1


class _Writer(QueueListener):
    def __init__(self, lines: queue.Queue[Any], handler: logging.Handler) -> None:
        super().__init__(lines, handler)
        self._lines = lines

    def enqueue_sentinel(self) -> None:
        self._lines.put(None)  # when there is room; the base class would not wait


@contextmanager
def in_background() -> Iterator[None]:
    """Lines are written by a thread; those that wait are written at the end. To be
    entered after `set_up`."""
    root = logging.getLogger()
    (direct,) = (each for each in root.handlers if isinstance(each, _Handler))
    lines: queue.Queue[Any] = queue.Queue(WAITING_MAX)
    waiting = _WaitingLines(lines)
    waiting.setFormatter(direct.formatter)
    waiting.addFilter(direct.filters[0])
    writer = _Writer(lines, logging.StreamHandler(direct.stream))
    writer.start()
    root.removeHandler(direct)
    root.addHandler(waiting)
    try:
        yield
    finally:
        root.removeHandler(waiting)
        root.addHandler(direct)
        writer.stop()


def set_up(
    level: str = "info", log_format: LogFormat = "auto", stream: TextIO | None = None
) -> None:
    """Every logger of the process writes through here, libraries from warnings up."""
    global _sampler
    stream = sys.stderr if stream is None else stream
    plain = log_format == "plain" or (log_format == "auto" and stream.isatty())
    handler = _Handler(stream)
    handler.setFormatter(PlainFormatter() if plain else JsonFormatter())
    _sampler = Sampler()
    handler.addFilter(_sampler)
    root = logging.getLogger()
    for existing in list(root.handlers):
        if isinstance(existing, _Handler):
            root.removeHandler(existing)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.upper())
    # It tells what a peer sent that is no HTTP, with a traceback.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
