"""An event loop whose clock is a number, and whose processes can hang and die.

Code that awaits only what the loop gives it runs here as it is, and alike every time:
callbacks are run in the order in which they were due, and time passes when nothing is.

A task that is created inside `process.context` belongs to that process, and so does all
that it creates. Each of its callbacks, which is each piece between two awaits, is one
step. A process that hangs is not run until it goes on; a dead one never is.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

_process: contextvars.ContextVar[ScriptedProcess | None] = contextvars.ContextVar(
    "process", default=None
)


class ScriptedProcess:
    """`at_step` maps the number of a step to what happens instead of it."""

    def __init__(self, loop: ScriptedLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.steps = 0
        self.at_step: dict[int, Callable[[], None]] = {}
        self.is_dead = False
        self.context = contextvars.copy_context()
        self.context.run(_process.set, self)
        self._held: list[asyncio.Handle] | None = None

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.context.run(self.loop.create_task, coroutine)

    def die(self) -> None:
        self.is_dead = True
        self._held = None

    def hang(self, seconds: float) -> None:
        if self._held is None and not self.is_dead:
            self._held = []
            self.loop.in_the_world(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._held is not None:
            self.loop.ready.extend(self._held)
            self._held = None

    def runs(self, handle: asyncio.Handle) -> bool:
        """Whether this step is taken now."""
        if self.is_dead:
            return False
        if self._held is None:
            self.steps += 1
            happens = self.at_step.pop(self.steps, None)
            if happens is not None:
                happens()
        if self._held is not None:
            self._held.append(handle)
            return False
        return not self.is_dead


class ScriptedLoop(asyncio.AbstractEventLoop):
    """`tolerated`: what a task may end with and nobody looks at; anything else is a
    fault of the run."""

    def __init__(self, tolerated: tuple[type[BaseException], ...] = ()) -> None:
        self.tolerated = (*tolerated, asyncio.CancelledError)
        self.ready: deque[asyncio.Handle] = deque()
        self.faults: list[BaseException] = []
        self._now = 0.0
        # A handle with None is a process's; a callback and its arguments, the world's.
        self._timers: list[tuple[float, int, Any, tuple[Any, ...] | None]] = []
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[Any]] = []
        self._world = contextvars.copy_context()

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle, None))
        return handle

    def in_the_world(
        self, delay: float, callback: Callable[..., object], *args: Any
    ) -> None:
        """As `call_later`, whatever becomes of the process that asks for it."""
        when = self._now + delay
        heapq.heappush(self._timers, (when, next(self._numbers), callback, args))

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **options)
        self._tasks.append(task)
        task.add_done_callback(self._done, context=self._world)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            fault = task.exception()
            if fault is not None and not isinstance(fault, self.tolerated):
                self.faults.append(fault)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        fault = context.get("exception")
        self.faults.append(fault or AssertionError(context["message"]))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Until `main` is done, or something fails."""
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done() and not self.faults:
                if self.ready:
                    self._step(self.ready.popleft())
                else:
                    self._pass_time()
            if self.faults:
                raise self.faults[0]
            return task.result()
        finally:
            self._abandon()
            asyncio._set_running_loop(None)

    def _pass_time(self) -> None:
        assert self._timers, "everybody waits for nothing"
        when, _, what, args = heapq.heappop(self._timers)
        if when > self._now:
            self._now = when
        if args is None:
            self._step(what)
        else:
            what(*args)

    def _step(self, handle: asyncio.Handle) -> None:
        if handle._cancelled:
            return
        parts: Any = handle
        process = parts._context.get(_process)
        if process is None or process.runs(handle):
            try:
                parts._context.run(parts._callback, *parts._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as fault:  # noqa: BLE001 -- whatever it is, it is one
                self.faults.append(fault)

    def _abandon(self) -> None:
        """What is still waiting ends without a word."""
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                task.get_coro().close()
        self._tasks.clear()
        self._timers.clear()
        self.ready.clear()
