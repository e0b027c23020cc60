"""Many jobs at once, one event loop: stops when told, when asked by Ctrl-C, or when most replies are no use."""

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from adaptive_pace import Stop, Stopped
from together_chat import StopRun

FAIR_WINDOW = 20
PLAIN_LINE_EVERY_S = 10.0
INTERRUPTED = "interrupted"


class Verdicts:
    """Counts what replies turned out to be, and stops the run when most of a window failed.

    The window runs in the order of asking: failures come back sooner than good answers, and would otherwise
    fill it alone.
    """

    def __init__(self, stop: Stop) -> None:
        self.counts: Counter[str] = Counter()
        self._stop = stop
        self._asked = self._settled = 0
        self._waiting: dict[int, str] = {}
        self._window: list[str] = []

    def ask(self) -> int:
        self._asked += 1
        return self._asked - 1

    def note(self, ticket: int, verdict: str) -> None:
        self.counts[verdict] += 1
        self._waiting[ticket] = verdict
        while self._settled in self._waiting:
            self._window = [*self._window[-FAIR_WINDOW + 1 :], self._waiting.pop(self._settled)]
            self._settled += 1
            self._judge(self._window)
        if len(self._waiting) >= 2 * FAIR_WINDOW:  # one straggler must not hide what all others came to
            self._judge(list(self._waiting.values()))

    def _judge(self, verdicts: list[str]) -> None:
        failed = Counter(verdict for verdict in verdicts if verdict != "ok")
        if len(verdicts) < FAIR_WINDOW or failed.total() * 2 <= len(verdicts):
            return
        reason, times = failed.most_common(1)[0]
        self._stop.set(
            f"{failed.total()} of the last {len(verdicts)} replies failed, most of them as {reason} "
            f"({times}); see the kept replies in failed/, then change the prompt, MODEL_ID or MAX_TOKENS"
        )

    def failures(self) -> str:
        """`2 refusal, 1 length`, the most frequent first; empty where nothing failed."""
        return ", ".join(f"{count} {verdict}" for verdict, count in self.counts.most_common() if verdict != "ok")


async def run_jobs(jobs: Iterable, work: Callable[..., Awaitable[None]], workers: int, stop: Stop) -> None:
    """Give each job to one of `workers`; returns when all are done or, once `stop` is set, nothing is in flight."""
    queue = iter(jobs)

    async def worker() -> None:
        for job in queue:
            await asyncio.sleep(0)  # lets signals in between jobs that never wait
            if stop.reason is not None:
                return
            try:
                await work(job)
            except Stopped:
                return
            except (StopRun, OSError) as fault:  # an OSError here is a file that could not be written
                stop.set(str(fault))

    with _gentle_interrupt(stop):
        await asyncio.gather(*(worker() for _ in range(workers)))


@contextmanager
def _gentle_interrupt(stop: Stop) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) lets what is in flight finish; a second one ends the process."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupted() -> None:
        print("stopping: what is in flight finishes first (again to leave at once)", file=sys.stderr, flush=True)
        stop.set(INTERRUPTED)
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, interrupted)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


class Progress:
    """A bar with rate and time left on a terminal, elsewhere a plain line now and then; a total of 0 is unknown."""

    def __init__(self, total: int, unit: str) -> None:
        self._bar = tqdm(total=total or None, unit=unit, disable=not sys.stderr.isatty(), dynamic_ncols=True)
        self._total, self._unit, self._done = total, unit, 0
        self._started = self._last_line = time.monotonic()

    def advance(self, note: str = "", count: int = 1) -> None:
        self._done += count
        self._bar.update(count)
        self._bar.set_postfix_str(note, refresh=False)
        now = time.monotonic()
        if self._bar.disable and now - self._last_line >= PLAIN_LINE_EVERY_S:
            self._last_line = now
            rate = self._done / (now - self._started)
            left = f" of {self._total:,}, {(self._total - self._done) / rate:.0f} s left" if self._total else ""
            print(f"{self._done:,} {self._unit}{left}, {rate:.1f}/s {note}", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._bar.close()
