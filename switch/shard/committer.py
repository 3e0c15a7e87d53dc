"""The thread that waits for the disk, so that the loop does not.

One commit is in flight at a time; what gathers meanwhile is the next one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from switch.journal.port import Journal, ShardRecord
from switch.shard.commit_times import CommitTimes

Submission = tuple[int, list[ShardRecord]]


class Committer:
    """Writes commits to the journal and says on the loop what became of each.

    `committed(number)` and `failed(error)` are called through `call_soon_threadsafe`.
    After a failure nothing more is written: whether the failed commit is there is
    settled by opening the journal again.
    """

    def __init__(
        self,
        journal: Journal,
        call_soon_threadsafe: Callable[..., object],
    ) -> None:
        self._journal = journal
        self._call = call_soon_threadsafe
        self._queue: queue.SimpleQueue[Submission | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name="switch-commit", daemon=True
        )
        self._committed: Callable[[int], object] | None = None
        self._failed: Callable[[Exception], object] | None = None
        self.times = CommitTimes()

    def start(
        self,
        committed: Callable[[int], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._committed = committed
        self._failed = failed
        self._thread.start()

    def submit(self, at: int, records: list[ShardRecord]) -> None:
        self._queue.put((at, records))

    def stop(self) -> None:
        """Returns when what was submitted is settled."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        assert self._committed is not None
        assert self._failed is not None
        while (submission := self._queue.get()) is not None:
            at, records = submission
            started = time.perf_counter()
            try:
                number = self._journal.append(at, records)
                self._call(self._committed, number)
                self.times.count(time.perf_counter() - started, records)
                self._journal.tend()
            except Exception as error:  # noqa: BLE001 -- whatever it is, say so
                self._call(self._failed, error)
                return
