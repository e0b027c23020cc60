"""The text of a meme: RapidOCR finds and reads the lines, Tesseract re-reads those that look like Tamil.

RapidOCR's wheel carries its own models (English, Chinese, Malay; no Tamil), so nothing is fetched.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tamil_ocr import TamilReader, tamil_folder, tamil_share

# Below this confidence a line is not text that RapidOCR knows: it is re-read as Tamil, then kept or dropped.
UNSURE = 0.85
KEPT_CONFIDENCE = 0.5
TAMIL_CONFIDENCE = 0.4
TAMIL_SHARE = 0.6
WATERMARK = re.compile(
    r"^\W*(made (with|on|in) .*|(www\.)?(imgflip|memegenerator|quickmeme|makeameme|9gag|memecenter|mematic)"
    r"(\.(com|net|org))?)\W*$", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    text: str
    confidence: float
    box: list[list[int]]  # four corners, x and y in pixels of the decoded picture
    engine: str  # rapidocr or tesseract
    watermark: bool = False


class MemeReader:
    """Reads pictures; one instance serves any number of threads."""

    def __init__(self, tessdata_prefix: Path | None = None, threads: int = 1):
        from rapidocr import RapidOCR

        self.engine = RapidOCR(params={
            # Every line is wanted, with its confidence: Tamil comes out of this engine as doubtful nonsense.
            "Global.text_score": 0.0, "Global.use_cls": False, "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        })
        folder = tamil_folder(tessdata_prefix)
        self.tamil = TamilReader(folder) if folder else None

    def warm_up(self) -> None:
        """Load the models, so that the first picture does not wait for them."""
        self.engine(np.full((64, 64, 3), 255, dtype=np.uint8))

    def read(self, picture: Image.Image) -> list[Line]:
        """Lines in reading order; an RGB picture in, an empty list where it has no text."""
        from rapidocr.utils.process_img import get_rotate_crop_image

        pixels = np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])
        found = self.engine(pixels)
        lines = []
        for text, confidence, box in zip(found.txts or (), found.scores or (), _boxes(found), strict=True):
            line = Line(text.strip(), float(confidence), np.rint(box).astype(int).tolist(), "rapidocr")
            if confidence < UNSURE and self.tamil is not None:
                crop = get_rotate_crop_image(pixels, np.asarray(box, dtype=np.float32))
                line = self._as_tamil(line, Image.fromarray(crop[:, :, ::-1]))
            lines.append(line)
        return [mark_watermark(line) for line in lines if line.text and line.confidence >= _least(line)]

    def _as_tamil(self, line: Line, crop: Image.Image) -> Line:
        text, confidence = self.tamil.read(crop)
        if tamil_share(text) < TAMIL_SHARE or confidence < TAMIL_CONFIDENCE:
            return line
        return Line(text, confidence, line.box, "tesseract")


def meme_text(lines: list[Line]) -> str:
    """What the scorer reads: the lines without watermarks, in one line of text."""
    return " ".join(line.text for line in lines if not line.watermark)


def mark_watermark(line: Line) -> Line:
    return Line(line.text, line.confidence, line.box, line.engine, bool(WATERMARK.match(line.text)))


def _boxes(found) -> np.ndarray:
    return found.boxes if found.boxes is not None else np.zeros((0, 4, 2))


def _least(line: Line) -> float:
    return KEPT_CONFIDENCE if line.engine == "rapidocr" else TAMIL_CONFIDENCE
