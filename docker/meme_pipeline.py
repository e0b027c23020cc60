"""From lines to probabilities: CPU workers decode and read text while the device captions and scores.

    reader thread --> workers: decode, pixels for the captioner, OCR --> main thread: caption, score, write in order

At most `ahead` pictures are on their way at once, so memory does not grow with the number of lines.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from image_decoding import UnreadableImage


@dataclass
class Meme:
    """One line of stdin on its way to one line of stdout."""

    path: str
    picture: Future = field(default_factory=Future)  # the captioner's pixels, or None where it does not decode
    reading: Future = field(default_factory=Future)  # list of ocr.Line
    error: str | None = None  # first reason why something about it fell back
    caption: str | None = None
    text: str = ""
    views: dict[str, float] = field(default_factory=dict)
    probability: float | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)

    def fail(self, reason: str) -> None:
        self.error = self.error or reason


class Stopwatch:
    """`with Stopwatch(meme.milliseconds, "ocr"):` adds the milliseconds spent inside."""

    def __init__(self, spent: dict[str, float], stage: str):
        self.spent, self.stage = spent, stage

    def __enter__(self):
        self.start = time.perf_counter()

    def __exit__(self, *_):
        took = 1000 * (time.perf_counter() - self.start)
        self.spent[self.stage] = round(self.spent.get(self.stage, 0) + took, 1)


class Intake:
    """Reads paths ahead of the device: bounded, in order, and stoppable from a signal handler."""

    def __init__(self, paths: Iterator[str], prepare: Callable[[Meme], None], workers: int, ahead: int):
        self._memes: queue.SimpleQueue[Meme | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(ahead)
        self._prepare = prepare
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="ocr")
        self._stopping = False
        self._thread = threading.Thread(target=self._fill, args=(paths,), name="stdin", daemon=True)
        self._thread.start()

    def _fill(self, paths: Iterator[str]) -> None:
        for path in paths:
            self._room.acquire()
            if self._stopping:
                break
            meme = Meme(path)
            self._pool.submit(self._prepare, meme)
            self._memes.put(meme)
        self._memes.put(None)

    def stop(self) -> None:
        """Take no further line; safe inside a signal handler."""
        self._stopping = True
        self._room.release()
        self._memes.put(None)  # SimpleQueue.put may be called from a signal handler

    def batches(self, batch_size: int, max_wait_seconds: float) -> Iterator[list[Meme]]:
        """Batches of what is there, at most `max_wait_seconds` after the first line of each."""
        ended = False
        while not ended and not self._stopping:
            first = self._memes.get()
            if first is None:
                return
            batch, deadline = [first], time.monotonic() + max_wait_seconds
            while len(batch) < batch_size and not ended:
                try:
                    meme = self._memes.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
                ended = meme is None
                batch += [] if ended else [meme]
            yield batch
            self._room.release(len(batch))

    def close(self) -> None:
        """Drop what nobody waits for and end the workers."""
        self._stopping = True
        self._room.release()
        self._pool.shutdown(wait=True, cancel_futures=True)


def prepare(meme: Meme, decode: Callable, pixels: Callable, pixels_ready: Callable, read: Callable) -> None:
    """On a worker: decode, make the captioner's input, read the text. Never raises; both futures are always set."""
    try:
        with Stopwatch(meme.milliseconds, "decode"):
            picture = decode(meme.path)
    except Exception as error:
        meme.fail(error.reason if isinstance(error, UnreadableImage) else "decoding_failed")
        meme.picture.set_result(None)
        meme.reading.set_result([])
        return
    steps = [(meme.picture, "pixels", pixels, "caption_failed", None), (meme.reading, "ocr", read, "ocr_failed", [])]
    # The captioner waits for its pixels first; while it still loads, the text is read in the meantime.
    for future, stage, compute, reason, otherwise in steps if pixels_ready() else reversed(steps):
        try:
            with Stopwatch(meme.milliseconds, stage):
                found = compute(picture)
        except BaseException:  # a cancelled start-up, too, must leave nobody waiting
            meme.fail(reason)
            found = otherwise
        future.set_result(found)


def caption_batch(batch: list[Meme], captions: Callable) -> None:
    """Caption every decoded picture; where a batch fails, each picture is tried alone."""
    seen = [(meme, meme.picture.result()) for meme in batch]
    seen = [(meme, pixels) for meme, pixels in seen if pixels is not None]
    for meme, caption in zip([meme for meme, _ in seen], _each(captions, [pixels for _, pixels in seen]), strict=True):
        meme.caption = caption
        if caption is None:
            meme.fail("caption_failed")


def score_batch(batch: list[Meme], suffixes_of: Callable, probabilities: Callable, fallback: float) -> None:
    """Score all views of all memes in one go and average each meme's; `fallback` where nothing could be scored."""
    asked = []
    for meme in batch:
        try:
            suffixes = suffixes_of(meme.text, meme.caption)
        except Exception:
            meme.fail("tokenizing_failed")
            continue
        asked += [(meme, view, suffix) for view, suffix in suffixes.items()]
    found = _each(probabilities, [suffix for _, _, suffix in asked])
    for (meme, view, _), probability in zip(asked, found, strict=True):
        if probability is None or not 0 <= probability <= 1:  # NaN compares false
            meme.fail("scoring_failed")
        else:
            meme.views[view] = probability
    for meme in batch:
        scored = list(meme.views.values())
        meme.probability = sum(scored) / len(scored) if scored else fallback
        if not scored:
            meme.fail("nothing_to_score")


def _each(compute: Callable[[list], list], inputs: list) -> list:
    """`compute(inputs)`; where that raises, halves, down to single inputs, whose failure is None."""
    if not inputs:
        return []
    try:
        return compute(inputs)
    except Exception:
        if len(inputs) == 1:
            return [None]
        middle = len(inputs) // 2
        return _each(compute, inputs[:middle]) + _each(compute, inputs[middle:])
