"""When to look again: something was released, or some time has passed."""

import asyncio
from contextlib import suppress

# It is woken at most so often, so it looks once more after that: what was released
# meanwhile is there then.
WAKE_SECONDS_MIN = 0.002
# If a wake-up got lost.
POLL_SECONDS = 0.05


class Waker:
    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        self._fire()
        if self._again is None:
            loop = asyncio.get_running_loop()
            self._again = loop.call_later(1.5 * WAKE_SECONDS_MIN, self._wake_again)

    async def wait(self, seconds: float = POLL_SECONDS) -> None:
        """Until something was released, at most `seconds`."""
        # Not wait_for: before Python 3.12 that may swallow a cancellation.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()

    def _wake_again(self) -> None:
        self._again = None
        self._fire()

    def _fire(self) -> None:
        # Whoever waits now; who comes later waits for the next one.
        self._event.set()
        self._event = asyncio.Event()
