"""One run of predict.py: models loaded side by side, lines taken in, results and evidence written in order."""

import json
import logging
import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures import Executor, Future
from functools import partial

from image_decoding import decode_image
from meme_pipeline import Intake, Meme, Stopwatch, caption_batch, prepare, score_batch
from ocr import MemeReader, meme_text
from result_stream import line_to_path, read_lines, result_line, write_whole
from scoring_prompt import view_suffixes

BATCHES_AHEAD = 4
AVAILABLE_CPUS = len(os.sched_getaffinity(0))
TERMINATED = 128 + signal.SIGTERM


class ScoringSession:
    """Takes lines in from the start: OCR of the first pictures runs while the models load."""

    def __init__(self, settings, results: int, loading: Executor):
        self.settings = settings
        self.results = results
        self.started = time.monotonic()
        self.terminated = False
        self.captioner: Future = Future()
        self.reader: Future = loading.submit(load_reader, settings)
        work = partial(
            prepare,
            decode=partial(decode_image, max_pixels=settings.max_megapixels * 1_000_000),
            pixels=lambda picture: self.captioner.result().pixels(picture),
            pixels_ready=self.captioner.done,
            read=lambda picture: self.reader.result().read(picture),
        )
        paths = (line_to_path(line) for line in read_lines())
        self.intake = Intake(paths, work, settings.ocr_workers or AVAILABLE_CPUS, BATCHES_AHEAD * settings.batch_size)

    def run(self) -> int:
        """Score stdin to its end; returns the exit status."""
        settings = self.settings
        signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            scorer = self._load_models()
            threshold = scorer.prompt.threshold if settings.threshold is None else settings.threshold
            report = Report(settings.progress_seconds, self.started)
            with Evidence(settings.details_path) as evidence:
                self._score_all(scorer, threshold, report, evidence)
        except BrokenPipeError:  # the reader of our results is gone: nobody is left to tell
            return 0
        finally:
            self.captioner.cancel()  # frees workers that wait for a captioner that failed to load
            self.intake.close()
        report.summary()
        if self.terminated:
            return TERMINATED
        return int(settings.strict and report.failed > 0)

    def _load_models(self):
        """Captioner, then chat model, in this thread: transformers' lazy imports must not race one another."""
        settings, costs = self.settings, {}
        with Stopwatch(costs, "libraries"):
            quiet_libraries()
            from captions import UnusableCaptioner, load_captioner
            from guard_scorer import load_scorer
            from precision import pick_device, pick_dtype
        device = pick_device(settings.device)
        dtype = pick_dtype(device, settings.dtype)
        with Stopwatch(costs, "captioner"):
            try:
                captioner = load_captioner(settings.caption_model_dir, device, dtype, settings.max_caption_tokens)
            except UnusableCaptioner as error:
                raise UnusableSetting(f"CAPTION_MODEL_DIR={settings.caption_model_dir}: {error}") from error
            self.captioner.set_result(captioner)
        with Stopwatch(costs, "chat model"):
            scorer = load_scorer(settings.llm_dir, device, dtype, settings.tokens_a_row, settings.gptq_backend)
        with Stopwatch(costs, "waiting for OCR"):
            self.reader.result()
        spent = ", ".join(f"{stage} {took / 1000:.1f} s" for stage, took in costs.items())
        print(
            f"predict.py: models in {dtype} on {device}; ready after {time.monotonic() - self.started:.1f} s ({spent})",
            file=sys.stderr,
            flush=True,
        )
        return scorer

    def _score_all(self, scorer, threshold: float, report: "Report", evidence: "Evidence") -> None:
        settings = self.settings
        for batch in self.intake.batches(settings.batch_size, settings.max_wait_ms / 1000):
            self._score(batch, scorer)
            write_whole(self.results, b"".join(result_line(meme.probability, threshold) for meme in batch))
            evidence.write(batch, threshold)
            report.count(batch)

    def _score(self, batch: list[Meme], scorer) -> None:
        with Stopwatch(shared := {}, "caption"):
            caption_batch(batch, self.captioner.result().captions)
        for meme in batch:
            meme.text = meme_text(meme.reading.result())
        with Stopwatch(shared, "score"):
            score_batch(
                batch, partial(self._suffixes, scorer), scorer.probabilities, self.settings.fallback_probability
            )
        for meme in batch:
            meme.milliseconds.update({stage: round(took / len(batch), 1) for stage, took in shared.items()})

    def _suffixes(self, scorer, text: str, caption: str | None) -> dict[str, list[int]]:
        return view_suffixes(scorer.prompt, text, caption, self.settings.max_text_tokens)

    def _on_sigterm(self, *_) -> None:
        self.terminated = True
        self.intake.stop()


def load_reader(settings) -> MemeReader:
    reader = MemeReader(
        settings.tessdata_prefix, settings.ocr_workers or AVAILABLE_CPUS, exact=settings.dtype == "float32"
    )
    if reader.tamil is None:
        print(
            "predict.py: no tam.traineddata found, Tamil is off (apt install tesseract-ocr-tam, or set "
            "TESSDATA_PREFIX)",
            file=sys.stderr,
            flush=True,
        )
    return reader


def quiet_libraries() -> None:
    """No progress bars and start-up warnings of the libraries on stderr; their errors still come through."""
    for name in ("transformers", "torchao", "torch.utils._pytree", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


class UnusableSetting(Exception):
    """A setting whose fault shows only when it is used; the message names it and the remedy."""


class Evidence:
    """DETAILS_PATH: a JSON line an image; a disk that fails costs the evidence, never the results."""

    def __init__(self, path):
        # A path that is not UTF-8 holds surrogates; written as \udcXX they are valid JSON and read back the same.
        try:
            self.file = open(path, "w", encoding="utf-8", errors="backslashreplace") if path else None
        except OSError as error:
            raise UnusableSetting(f"DETAILS_PATH={path}: {error.strerror}; name a file that can be written") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.file:
            self.file.close()

    def write(self, batch: list[Meme], threshold: float) -> None:
        if not self.file:
            return
        try:
            self.file.writelines(json.dumps(evidence(meme, threshold), ensure_ascii=False) + "\n" for meme in batch)
            self.file.flush()
        except OSError as error:
            print(f"predict.py: DETAILS_PATH ends here: {error.strerror}", file=sys.stderr, flush=True)
            self.file = None


def evidence(meme: Meme, threshold: float) -> dict:
    """What a verdict rests on; `error` is the first reason why something fell back, or null."""
    return {
        "path": meme.path,
        "text": meme.text,
        "ocr": [
            {"text": line.text, "confidence": round(line.confidence, 4), "box": line.box, "engine": line.engine}
            for line in meme.reading.result()
        ],
        "caption": meme.caption,
        "probability_text": meme.views.get("text"),
        "probability_image_text": meme.views.get("image_text"),
        "probability": meme.probability,
        "label": int(round(meme.probability, 4) >= threshold),
        "error": meme.error,
        "milliseconds": meme.milliseconds,
    }


class Report:
    """Counts on stderr: a progress line now and then, a summary at the end, nothing about single images."""

    def __init__(self, every_seconds: float, started: float):
        self.every_seconds = every_seconds
        self.started = self.last = time.monotonic()
        self.start_up_seconds = self.started - started
        self.done = 0
        self.reasons: Counter[str] = Counter()

    @property
    def failed(self) -> int:
        return sum(self.reasons.values())

    def count(self, batch: list[Meme]) -> None:
        self.done += len(batch)
        self.reasons.update(meme.error for meme in batch if meme.error)
        if time.monotonic() - self.last >= self.every_seconds:
            self.last = time.monotonic()
            self._print("")

    def summary(self) -> None:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())
        self._print(f" ({reasons})" if reasons else "", f"; start-up {self.start_up_seconds:.1f} s")

    def _print(self, reasons: str, end: str = "") -> None:
        seconds = max(1e-9, time.monotonic() - self.started)
        print(
            f"predict.py: {self.done:,} lines done, {self.failed:,} failed{reasons}, "
            f"{self.done / seconds:.1f} images/s{end}",
            file=sys.stderr,
            flush=True,
        )
