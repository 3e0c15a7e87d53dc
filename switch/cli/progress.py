"""A bar for long work, drawn on standard error and only at a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

# Drawing takes longer than many a piece of work.
DRAWN_SECONDS_MIN: Final = 0.1

# how much is done, in the unit of the total; and a few words beside the bar
Advance = Callable[[float, str], None]


@contextmanager
def progress(
    title: str, total: float | None, *, wanted: bool = True
) -> Iterator[Advance]:
    """`total` None: how long it takes is not known."""
    if not wanted or not sys.stderr.isatty():
        yield lambda done, words: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}"),
        console=Console(stderr=True),
        transient=True,
        # the work may hold the interpreter for a while: it draws, not a thread
        auto_refresh=False,
    )
    with bar:
        task = bar.add_task(title, total=total, words="")
        drawn_at = 0.0

        def advance(done: float, words: str) -> None:
            nonlocal drawn_at
            now = time.monotonic()
            if now - drawn_at < DRAWN_SECONDS_MIN:
                return
            drawn_at = now
            bar.update(task, completed=done, words=words)
            bar.refresh()

        yield advance
