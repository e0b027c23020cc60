"""When a request may be sent, when it is sent again, when no more are; and what was sent.

Together answers 503 below and 429 above a limit that moves with the traffic it sees, so no fixed number of requests in
flight is right. `Pace` adds a little while requests succeed and cuts by a factor when some are refused, as TCP does it,
with a quick climb back to just below the last known limit (CUBIC's idea, RFC 9438): little time is lost to probing.
"""

import asyncio
import email.utils
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raw.raw_folder import Json

FIRST_CLIMB = 3.0  # added per success until the first refusal: fourfold a round trip
KEPT_AFTER_REFUSAL = 0.8
NEAR_CEILING = 0.95  # of the level that was last refused: above it, probe slowly
SLOW_PROBE = 0.25
LONGEST_BACKOFF_S = 60.0
LONGEST_QUIET_WAIT_S = 10.0
INTERRUPTED = "interrupted"  # the reason for stopping after Ctrl-C
NOTICE_EVERY_S = 60.0  # where short waits follow each other
# Refused on end for so long, and so often: waiting as told by Retry-After counts once a time, however long it is.
HOPELESS_S = 900.0
HOPELESS_REFUSALS = 10


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


class WaitNotices:
    """Says on stderr why requests wait and how long, once for all that wait for the same."""

    def __init__(self) -> None:
        self._until = self._said = float("-inf")

    def say(self, seconds: float, why: str, waited: float = 0.0) -> None:
        """A wait of `seconds` begins, `waited` seconds after the last request that was answered."""
        now = time.monotonic()
        is_known = (
            now + seconds <= self._until + 1 or seconds <= LONGEST_QUIET_WAIT_S and now < self._said + NOTICE_EVERY_S
        )
        if waited + seconds <= LONGEST_QUIET_WAIT_S or is_known:
            return
        self._until, self._said = now + seconds, now
        ends = time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
        print(f"waiting {seconds:,.0f} s, until {ends}: {why}", file=sys.stderr, flush=True)


class RefusedStreak:
    """Refusals since the last answer: after long enough, no more are waited out."""

    def __init__(self) -> None:
        self._since: float | None = None
        self.refusals = 0

    def answered(self) -> None:
        self._since, self.refusals = None, 0

    def refused(self) -> float:
        """Count one more; gives the seconds since the first."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        self.refusals += 1
        return now - self._since

    def check(self, words: str) -> None:
        """Raises AbortRunError where nothing was answered for HOPELESS_S."""
        if self._since is None or self.refusals < HOPELESS_REFUSALS or time.monotonic() - self._since < HOPELESS_S:
            return
        raise AbortRunError(
            f"nothing was answered for {HOPELESS_S / 60:.0f} minutes, every request was refused ({words}). "
            "See what the provider's pages say of your limits, then run this again, which goes on from what is written"
        )


@dataclass
class Usage:
    """What was sent and what it used, as the provider counts it."""

    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def add(self, reply: Json) -> None:
        used = reply.get("usage")
        counts = used if isinstance(used, dict) else {}
        sent, got = counts.get("prompt_tokens"), counts.get("completion_tokens")
        self.tokens_in += sent if isinstance(sent, int) else 0
        self.tokens_out += got if isinstance(got, int) else 0

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
        self._streak = RefusedStreak()
        self.notices = WaitNotices()
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
        self._streak.answered()
        if self._ceiling is None:
            step = FIRST_CLIMB
        else:
            step = (1.0 if self.limit < NEAR_CEILING * self._ceiling else SLOW_PROBE) / self.limit
        self.limit = min(self.most, self.limit + step)
        self._room.set()

    def refused(self, entered: float, retry_after: float | None, why: str = "") -> None:
        """Cut the limit, once for all requests that entered before the last cut, and pause as long as told.

        Raises AbortRunError where every request has been refused for very long.
        """
        now = time.monotonic()
        if entered > self._last_cut:
            self._ceiling = max(1.0, min(self.limit, float(self.in_flight)))
            self.limit = max(1.0, self._ceiling * KEPT_AFTER_REFUSAL)
            self._last_cut = now
            waited = self._streak.refused()
            self._streak.check(why)
            pause = backoff_seconds(self._streak.refusals - 1) if retry_after is None else retry_after
            self._paused_until = max(self._paused_until, now + pause)
            self.notices.say(self._paused_until - now, f"the provider refuses more for now ({why})", waited)
        elif retry_after is not None:
            self._paused_until = max(self._paused_until, now + retry_after)
            self.notices.say(retry_after, f"the provider refuses more for now ({why})")
