"""Many jobs at once in one event loop, until all are done, Ctrl-C is pressed, or most replies prove unusable."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from chat.sending import INTERRUPTED, AbortRunError, StoppedError, StopSignal, Usage
from chat.settings import ChatSettings
from chat.together_client import TogetherChat
from raw.progress import Progress

FAIR_WINDOW = 20
JobT = TypeVar("JobT")


@dataclass
class Written:
    """What a call has written so far."""

    files: int = 0
    items: int = 0
    dropped: int = 0
    lacking: int = 0  # items that were asked for and not given
    short: int = 0  # files that lack some

    def add(self, items: int, dropped: int = 0, lacking: int = 0) -> None:
        """Count one more file."""
        self.files += 1
        self.items += items
        self.dropped += dropped
        self.lacking += max(lacking, 0)
        self.short += lacking > 0


class FailureWatch:
    """Counts what replies turned out to be, and stops the run when most of a window failed.

    The window runs in the order of requests: failures come back sooner than good answers, and would otherwise fill it
    alone.
    """

    def __init__(self, stop: StopSignal) -> None:
        self.counts: Counter[str] = Counter()
        self._stop = stop
        self._requested = self._settled = 0
        self._waiting: dict[int, str] = {}
        self._window: list[str] = []

    def start(self) -> int:
        """The number of a request that is about to be sent, for `record`."""
        self._requested += 1
        return self._requested - 1

    def record(self, number: int, outcome: str) -> None:
        """Note what came of a request: `ok`, or why its reply is unusable."""
        self.counts[outcome] += 1
        self._waiting[number] = outcome
        while self._settled in self._waiting:
            self._window = [*self._window[-FAIR_WINDOW + 1 :], self._waiting.pop(self._settled)]
            self._settled += 1
            self._judge(self._window)
        if len(self._waiting) >= 2 * FAIR_WINDOW:  # one slow request must not hide that all others failed
            self._judge(list(self._waiting.values()))

    def _judge(self, outcomes: list[str]) -> None:
        failed = Counter(outcome for outcome in outcomes if outcome != "ok")
        if len(outcomes) < FAIR_WINDOW or failed.total() * 2 <= len(outcomes):
            return
        reason, times = failed.most_common(1)[0]
        self._stop.set(
            f"{failed.total()} of the last {len(outcomes)} replies failed, most of them as {reason} "
            f"({times}); see the kept replies in failed/, then change the prompt, MODEL_ID or MAX_TOKENS"
        )

    def summary(self) -> str:
        """`2 refusal, 1 length`, the most frequent first; empty where nothing failed."""
        return ", ".join(f"{count} {outcome}" for outcome, count in self.counts.most_common() if outcome != "ok")


class ChatRun:
    """One call of a script: its client, the watch over its replies, what it has written."""

    def __init__(self, settings: ChatSettings) -> None:
        self._settings, self._stop, self._usage = settings, StopSignal(), Usage()
        # None where the phrasebook answers.
        self.chat = None if settings.uses_phrasebook else TogetherChat(settings, self._stop, self._usage)
        self.failures = FailureWatch(self._stop)
        self.written = Written()

    async def finish(self, jobs: Sequence[JobT], work: Callable[[JobT], Awaitable[None]], unit: str) -> int:
        """Do every job, say on stderr what was sent and why it stopped early; gives the exit code.

        A job that wrote its file has counted it in `written`. 0: all did; 1: some are missing; 130: interrupted.
        """
        progress = Progress(len(jobs), unit)

        async def work_and_count(job: JobT) -> None:
            await work(job)
            progress.advance(self.failures.summary())

        await run_jobs(jobs, work_and_count, self._settings.max_in_flight, self._stop)
        progress.close()
        if self.chat:
            await self.chat.close()
            prices = self._settings.price_per_mtoken_in, self._settings.price_per_mtoken_out
            print(self._usage.summary(*prices), file=sys.stderr)
        if self._stop.reason:
            kept = f"stopped early, {self.written.files:,} {unit} of this call kept"
            print(f"{Path(sys.argv[0]).name}: {kept}: {self._stop.reason}", file=sys.stderr)
        return 130 if self._stop.reason == INTERRUPTED else int(self.written.files < len(jobs))


async def run_jobs(
    jobs: Iterable[JobT], work: Callable[[JobT], Awaitable[None]], workers: int, stop: StopSignal
) -> None:
    """Give each job to one of `workers`; returns when all are done or, once `stop` is set, nothing is in flight."""
    queue = iter(jobs)

    async def worker() -> None:
        for job in queue:
            await asyncio.sleep(0)  # lets signals in between jobs that never wait
            if stop.reason is not None:
                return
            try:
                await work(job)
            except StoppedError:
                return
            except (AbortRunError, OSError) as error:  # an OSError here is a file that could not be written
                stop.set(str(error))

    with _gentle_interrupt(stop):
        await asyncio.gather(*(worker() for _ in range(workers)))


@contextmanager
def _gentle_interrupt(stop: StopSignal) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) lets what is in flight finish; a second one ends the process."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupted() -> None:
        print("stopping: what is in flight finishes first (again to leave at once)", file=sys.stderr, flush=True)
        stop.set(INTERRUPTED)
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in signals:
        loop.add_signal_handler(number, interrupted)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
