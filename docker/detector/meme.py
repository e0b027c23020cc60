"""One image on its way through the detector, and what is said of it: the result line, the label, the evidence."""

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    import torch

Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class OcrLine:
    """A line of text that was read in the picture."""

    text: str
    confidence: float
    box: list[tuple[float, float]]  # four corners, x and y in pixels of the decoded picture
    engine: str = ""  # rapidocr or tesseract
    frame: int = 0  # of an animation, or of a file with pages

    # pydantic's, for whoever reads evidence
    __pydantic_config__ = {"allow_inf_nan": False}


@dataclass
class Meme:
    """One image: Reader fills `pixels` to `text`, Scorer the rest. Each may set `error` and what it took."""

    path: str
    pixels: "torch.Tensor | None" = None  # the captioner's input, float32 [3, height, width]; None: there is none
    lines: list[OcrLine] = field(default_factory=list)
    text: str = ""  # what the chat model reads: the lines without watermarks
    caption: str | None = None
    views: dict[str, float] = field(default_factory=dict)  # probability by view of scoring.json
    probability: float = math.nan  # until it is scored
    categories: dict[str, float] = field(default_factory=dict)  # P(category | harmful), where the model has categories
    unseen_frames: float = 0.0  # share of its frames that were not looked at and are like none that was
    unseen_text: float = 0.0  # share of its text that no view had room for
    error: str | None = None  # first reason why something about it fell back
    milliseconds: dict[str, float] = field(default_factory=dict)  # by stage

    def fail(self, reason: str) -> None:
        self.error = self.error or reason


class Stopwatch:
    """`with Stopwatch(meme.milliseconds, "ocr"):` adds the milliseconds spent inside."""

    def __init__(self, spent: dict[str, float], stage: str):
        self.spent, self.stage = spent, stage

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        took = 1000 * (time.perf_counter() - self.start)
        self.spent[self.stage] = round(self.spent.get(self.stage, 0) + took, 1)


def printed(probability: float) -> float:
    """The number that stands on stdout for a probability."""
    return float(f"{probability:.4f}")


def label_of(probability: float, threshold: float) -> int:
    """1 for harmful. The printed number decides, so that a reader of stdout can recompute the label."""
    return int(printed(probability) >= threshold)


def result_line(probability: float, threshold: float) -> bytes:
    """`"%.4f\\t%d\\n"`."""
    return f"{probability:.4f}\t{label_of(probability, threshold)}\n".encode()


@dataclass(kw_only=True)
class Evidence:
    """What a label rests on: a JSON line of DETAILS_PATH, a row of predict_with_ray.py's OUTPUT, the report's input.

    Whoever reads such a line checks it by these types and bounds; fields with a default may be absent there.
    """

    path: str = ""
    text: str | None = None
    ocr: list[OcrLine] = field(default_factory=list)
    caption: str | None = None
    probability_text: Probability | None = None
    probability_image_text: Probability | None = None
    probability: Probability
    label: Annotated[int, Field(ge=0, le=1)] | None = None
    categories: dict[str, Probability] = field(default_factory=dict)
    unseen_frames: Probability = 0.0
    unseen_text: Probability = 0.0
    error: str | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)

    __pydantic_config__ = {"allow_inf_nan": False}


def evidence_of(meme: Meme, threshold: float) -> Evidence:
    """The evidence of a scored meme."""
    return Evidence(
        path=meme.path,
        text=meme.text,
        ocr=[replace(line, confidence=round(line.confidence, 4)) for line in meme.lines],
        caption=meme.caption,
        probability_text=meme.views.get("text"),
        probability_image_text=meme.views.get("image_text"),
        probability=meme.probability,
        label=label_of(meme.probability, threshold),
        categories=meme.categories,
        unseen_frames=round(meme.unseen_frames, 4),
        unseen_text=round(meme.unseen_text, 4),
        error=meme.error,
        milliseconds=meme.milliseconds,
    )
