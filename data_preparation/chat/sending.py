"""When a request may be sent, when it is sent again, when no more are; and what was sent.

Together answers 503 below and 429 above a limit that moves with the traffic it sees, so no fixed number of requests in
flight is right. `Pace` adds a little while requests succeed and cuts by a factor when some are refused, as TCP does it,
with a quick climb back to just below the last known limit (CUBIC's idea, RFC 9438): little time is lost to probing.
"""

import asyncio
import email.utils
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raw.raw_folder import Json

FIRST_CLIMB = 3.0  # added per success until the first refusal: fourfold a round trip
KEPT_AFTER_REFUSAL = 0.8
NEAR_CEILING = 0.95  # of the level that was last refused: above it, probe slowly
SLOW_PROBE = 0.25
LONGEST_BACKOFF_S = 60.0


class RequestFailedError(Exception):
    """A request without a usable answer: why in one word, the detail, the seconds to wait where the server tells."""

    def __init__(self, reason: str, detail: str, retry_after: float | None = None) -> None:
        super().__init__(reason, detail, retry_after)
        self.reason, self.detail, self.retry_after = reason, detail, retry_after


class AbortRunError(Exception):
    """Every further request would fail as this one did; the message ends in the remedy."""


class StoppedError(Exception):
    """The run is being stopped: what has not been sent is not sent any more."""


class StopSignal:
    """Set once, with the reason; whoever sleeps through it wakes up with StoppedError."""

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
            raise StoppedError(self.reason)

    async def sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._event.wait(), timeout=max(seconds, 0))
        except TimeoutError:
            return
        self.check()


@dataclass
class Usage:
    """What was sent and what it used, as the provider counts it."""

    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def add(self, reply: Json) -> None:
        used = reply.get("usage") or {}
        self.tokens_in += used.get("prompt_tokens") or 0
        self.tokens_out += used.get("completion_tokens") or 0

    def requests_line(self) -> str:
        return f"{self.requests:,} requests ({self.retries:,} retries, {self.rate_limited:,} rate-limited)"

    def summary(self, price_in: float | None, price_out: float | None) -> str:
        """One line; prices are per million tokens, in whatever currency they were given."""
        line = f"{self.requests_line()}, {self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        if price_in is None and price_out is None:
            return line
        return f"{line}, cost {(self.tokens_in * (price_in or 0) + self.tokens_out * (price_out or 0)) / 1e6:.4f}"


def backoff_seconds(attempt: int, first: float = 0.5) -> float:
    """Exponential backoff with jitter: `attempt` counts from 0; half to all of first * 2**attempt seconds."""
    return min(LONGEST_BACKOFF_S, first * 2 ** min(attempt, 30)) * random.uniform(0.5, 1.0)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds from Retry-After-Ms, or from Retry-After as a number or an HTTP date; None where there is neither."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return max(0.0, float(headers.get(name, "")) / unit)
        except ValueError:
            continue
    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


class Pace:
    """How many requests may be in flight (`limit`), and the pauses between them; every request enters and leaves."""

    def __init__(self, start: int, most: int, stop: StopSignal) -> None:
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

    def refused(self, entered: float, retry_after: float | None) -> None:
        """Cut the limit, once for all requests that entered before the last cut, and pause as long as told."""
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
