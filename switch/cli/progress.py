"""A bar for long work, drawn on standard error and only at a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

        def advance(done: float, words: str) -> None:
            bar.update(task, completed=done, words=words)
            bar.refresh()

        yield advance
