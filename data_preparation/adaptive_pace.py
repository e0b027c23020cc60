"""How many requests may be in flight: grown while they succeed, cut once a burst of refusals, paused when told to.

Together answers 503 below and 429 above a limit that moves with the traffic it sees, so no fixed number is right.
Additive increase, multiplicative decrease, as TCP does it, with a quick climb back to just below the last known limit
(CUBIC's idea, RFC 9438): the time lost to probing stays small.
"""

import asyncio
import random
import time
from collections.abc import Callable

FIRST_CLIMB = 3.0  # added per success until the first refusal: fourfold a round trip
KEPT_AFTER_REFUSAL = 0.8
NEAR_CEILING = 0.95  # of the level that was last refused: above it, probe slowly
SLOW_PROBE = 0.25
LONGEST_BACKOFF_S = 60.0


class Stopped(Exception):
    """The run is being stopped: what has not been sent is not sent any more."""


class Stop:
    """Set once, with the reason; whoever sleeps through it wakes up with Stopped."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._event = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    def set(self, reason: str) -> None:
        self.reason = self.reason or reason
        self._event.set()
        for listener in self._listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def check(self) -> None:
        if self.reason is not None:
            raise Stopped(self.reason)

    async def sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._event.wait(), timeout=max(seconds, 0))
        except TimeoutError:
            return
        self.check()


def backoff_seconds(attempt: int, first: float = 0.5, longest: float = LONGEST_BACKOFF_S) -> float:
    """Exponential backoff with jitter: `attempt` counts from 0; half to all of first * 2**attempt seconds."""
    return min(longest, first * 2 ** min(attempt, 30)) * random.uniform(0.5, 1.0)


class Pace:
    """The gate that every request passes; `limit` is how many may be behind it at once."""

    def __init__(self, start: int, most: int, stop: Stop) -> None:
        self.limit = float(min(start, most))
        self.most = most
        self.in_flight = 0
        self._stop = stop
        self._ceiling: float | None = None
        self._last_cut = float("-inf")
        self._paused_until = float("-inf")
        self._bursts_in_a_row = 0
        self._room = asyncio.Event()
        stop.listen(self._room.set)

    async def enter(self) -> float:
        """Wait for room and for the end of any pause; gives the moment of entry for `refused`."""
        while True:
            self._stop.check()
            pause = self._paused_until - time.monotonic()
            if pause > 0:
                await self._stop.sleep(pause)
            elif self.in_flight < int(self.limit):
                self.in_flight += 1
                return time.monotonic()
            else:
                self._room.clear()
                await self._room.wait()

    def leave(self) -> None:
        self.in_flight -= 1
        self._room.set()

    def succeeded(self) -> None:
        self._bursts_in_a_row = 0
        if self._ceiling is None:
            step = FIRST_CLIMB
        else:
            step = (1.0 if self.limit < NEAR_CEILING * self._ceiling else SLOW_PROBE) / self.limit
        self.limit = min(self.most, self.limit + step)
        self._room.set()

    def refused(self, entered: float, retry_after: float | None) -> float:
        """Cut the limit, once for all requests that entered before the last cut; gives the pause in seconds."""
        now = time.monotonic()
        if entered > self._last_cut:
            self._ceiling = max(1.0, min(self.limit, float(self.in_flight)))
            self.limit = max(1.0, self._ceiling * KEPT_AFTER_REFUSAL)
            self._last_cut = now
            self._bursts_in_a_row += 1
            if retry_after is None:
                self._paused_until = max(self._paused_until, now + backoff_seconds(self._bursts_in_a_row - 1))
        if retry_after is not None:
            self._paused_until = max(self._paused_until, now + retry_after)
        return max(0.0, self._paused_until - now)
