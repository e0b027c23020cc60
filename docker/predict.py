"""Score memes: image paths in on stdin, one `probability<TAB>label` line out for each, in order.

Reads   stdin: one image path a line; LLM_DIR: a guard model folder (16-bit or GPTQ); CAPTION_MODEL_DIR: a BLIP folder
        (without one, pictures are judged by their text alone).
Writes  stdout: exactly one "%.4f\\t%d\\n" for every line of stdin, flushed batch by batch, and nothing else;
        stderr: progress and a summary; DETAILS_PATH, when set: the evidence for each image as a JSON line.

    ls memes/*.png | LLM_DIR=llm-gptq CAPTION_MODEL_DIR=captioner python docker/predict.py > predictions.tsv

A line that cannot be scored (no such file, not an image, ...) still gets its line, FALLBACK_PROBABILITY; the exit
status is 0 all the same, unless STRICT=1. SIGTERM finishes the batch in hand and exits 143. No network is used.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from pydantic import Field

from detector.device import compile_nothing, go_offline, keep_freed_memory
from detector.meme import Meme, Stopwatch, evidence_of, result_line
from detector.prompt import check_scoring
from detector.settings import DetectorSettings, UnusableSetting
from detector.stream import ReadAhead, take_stdout, write_whole

# Images that are read while others are scored, in batches.
BATCHES_AHEAD = 4
TERMINATED = 128 + signal.SIGTERM


class Settings(DetectorSettings):
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    max_wait_ms: float = Field(20, ge=0, le=60_000, description="longest wait for a batch to fill, milliseconds")
    ocr_workers: int = Field(
        0, ge=0, le=256, description="threads that decode images and read text; 0 is one for each CPU"
    )
    strict: bool = Field(False, description="1: exit 1 if any line fell back, wholly or in one stage")
    details_path: Path | None = Field(None, description="write each image's evidence here, a JSON line each")
    progress_seconds: float = Field(10, gt=0, description="seconds between two progress lines on stderr")


def main() -> int:
    settings = Settings.read(__doc__)
    go_offline()
    compile_nothing()
    keep_freed_memory()
    try:
        results = take_stdout()
    except OSError:
        say("standard output is closed, nothing to do")
        return 1
    try:
        check_scoring(settings)
        with EvidenceFile(settings.details_path) as evidence:
            return score_lines(settings, results, evidence)
    except UnusableSetting as unusable:
        say(str(unusable))
        return 2


def score_lines(settings: Settings, results: int, evidence: "EvidenceFile") -> int:
    """Score stdin to its end; returns the exit status. The first images are read while the models load."""
    from detector.reader import load_reader
    from detector.scorer import load_scorer

    started, costs = time.monotonic(), dict[str, float]()
    workers = settings.ocr_workers or len(os.sched_getaffinity(0))
    lines = ReadAhead(workers, BATCHES_AHEAD * settings.batch_size)
    signal.signal(signal.SIGTERM, lines.stop)
    try:
        with Stopwatch(costs, "libraries and OCR"):
            reader = load_reader(settings, workers)
        if reader.ocr.tamil is None:
            say("no tam.traineddata found, Tamil is off (apt install tesseract-ocr-tam, or set TESSDATA_PREFIX)")
        if not settings.caption_model_dir:
            say("no CAPTION_MODEL_DIR: pictures are judged by their text alone")
        lines.start(reader)
        scorer = load_scorer(settings, settings.device, costs)
        spent = ", ".join(f"{stage} {took / 1000:.1f} s" for stage, took in costs.items())
        precision = f"{scorer.chat_model.model.dtype} on {scorer.chat_model.model.device}".removeprefix("torch.")
        say(f"models in {precision}; ready after {time.monotonic() - started:.1f} s ({spent})")
        progress = Progress(settings.progress_seconds, started)
        for memes in lines.batches(settings.batch_size, settings.max_wait_ms / 1000):
            scorer.score(memes)
            write_whole(results, b"".join(result_line(meme.probability, scorer.threshold) for meme in memes))
            evidence.write(memes, scorer.threshold)
            progress.count(memes)
    except BrokenPipeError:  # the reader of our results is gone: nobody is left to tell
        return 0
    finally:
        lines.close()
    progress.summary()
    return TERMINATED if lines.stopped else int(settings.strict and progress.failed > 0)


class EvidenceFile:
    """DETAILS_PATH: a JSON line an image; a disk that fails costs the evidence, never the results."""

    def __init__(self, path: Path | None):
        # A path that is not UTF-8 holds surrogates; written as \udcXX they are valid JSON and read back the same.
        try:
            self.file = open(path, "w", encoding="utf-8", errors="backslashreplace") if path else None
        except OSError as error:
            raise UnusableSetting(f"DETAILS_PATH={path}: {error.strerror}; name a file that can be written") from None

    def __enter__(self) -> "EvidenceFile":
        return self

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.file.close()

    def write(self, memes: list[Meme], threshold: float) -> None:
        if not self.file:
            return
        try:
            for meme in memes:
                self.file.write(json.dumps(asdict(evidence_of(meme, threshold)), ensure_ascii=False) + "\n")
            self.file.flush()
        except OSError as error:
            say(f"DETAILS_PATH ends here: {error.strerror}")
            self.file = None


class Progress:
    """Counts on stderr: a line now and then, a summary at the end, nothing about single images."""

    def __init__(self, every_seconds: float, started: float):
        self.every_seconds = every_seconds
        self.ready = self.last = time.monotonic()
        self.start_up_seconds = self.ready - started
        self.done = 0
        self.reasons: Counter[str] = Counter()
        self.unseen: Counter[str] = Counter()

    @property
    def failed(self) -> int:
        return self.reasons.total()

    def count(self, memes: list[Meme]) -> None:
        self.done += len(memes)
        self.reasons.update(meme.error for meme in memes if meme.error)
        self.unseen["frames"] += sum(meme.unseen_frames > 0 for meme in memes)
        self.unseen["text"] += sum(meme.unseen_text > 0 for meme in memes)
        if time.monotonic() - self.last >= self.every_seconds:
            self.last = time.monotonic()
            self._say("")

    def summary(self) -> None:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())
        unseen = "".join(f"; {count:,} with unseen {part}" for part, count in self.unseen.items() if count)
        self._say(f" ({reasons})" if reasons else "", f"{unseen}; start-up {self.start_up_seconds:.1f} s")

    def _say(self, reasons: str, end: str = "") -> None:
        rate = self.done / max(1e-9, time.monotonic() - self.ready)
        say(f"{self.done:,} lines done, {self.failed:,} failed{reasons}, {rate:.1f} images/s{end}")


def say(message: str) -> None:
    print(f"predict.py: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
