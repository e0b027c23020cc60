"""Progress on stderr: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts what is done of `total`, with rate and time left; a total of 0 means that it is unknown."""

    def __init__(self, total: int, unit: str) -> None:
        self._bar = tqdm(total=total or None, unit=unit, disable=not sys.stderr.isatty(), dynamic_ncols=True)
        self._total, self._unit, self._done = total, unit, 0
        self._started = self._last_line = time.monotonic()

    def advance(self, note: str = "", count: int = 1) -> None:
        """Count `count` more as done; `note` is shown behind the numbers."""
        self._done += count
        self._bar.update(count)
        self._bar.set_postfix_str(note, refresh=False)
        now = time.monotonic()
        if self._bar.disable and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            rate = self._done / (now - self._started)
            left = f" of {self._total:,}, {(self._total - self._done) / rate:.0f} s left" if self._total else ""
            line = f"{self._done:,} {self._unit}{left}, {rate:.1f}/s {note}"
            print(line.rstrip(), file=sys.stderr, flush=True)

    def close(self) -> None:
        self._bar.close()
