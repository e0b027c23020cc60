"""The text of a meme: RapidOCR finds and reads the lines, Tesseract re-reads those that look like Tamil.

RapidOCR's wheel carries its own models (English, Chinese, Malay; no Tamil), so nothing is fetched. Four departures
from RapidOCR as shipped, each measured by benchmarks/bench_ocr.py: OpenVINO runs the networks, text is looked for in a
smaller picture (faster, fewer finds in the background), lines are read one by one (no padding), and lost spaces are
put back.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ocr_network import OcrNetwork, import_openvino
from tamil_ocr import TamilReader, tamil_folder, tamil_letters, tamil_share

# Text is looked for at this many pixels on the longer side; a small picture is at most doubled.
SEARCH_SIDE, LARGEST_GROWTH = 736, 2.0
# Below this confidence a line is not text that RapidOCR knows: it is re-read as Tamil, then kept or dropped.
UNSURE = 0.85
KEPT_CONFIDENCE = 0.7
# Characters to a stretch as long as the line is high: Chinese has one, Latin two, Tamil read as nonsense next to none.
LEAST_DENSITY = 0.7
TAMIL_CONFIDENCE, TAMIL_SHARE, TAMIL_LETTERS = 0.4, 0.6, 3
# In a picture that has a line of Tamil the others are likely Tamil, too: what RapidOCR doubts may be read with little
# confidence, what it is sure of ("6T60T") only with much.
AMONG_TAMIL_DOUBTED, AMONG_TAMIL_SURE, AMONG_TAMIL_LETTERS = 0.1, 0.7, 2
# Between two letters the recogniser prefers "nothing" to a space that it half sees: from here on it is a space.
LEAST_SPACE = 0.02
WATERMARK = re.compile(
    r"^\W*(made (with|on|in) .*|(www\.)?(imgflip|memegenerator|quickmeme|makeameme|9gag|memecenter|mematic)"
    r"(\.(com|net|org))?)\W*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Line:
    text: str
    confidence: float
    box: list[list[int]]  # four corners, x and y in pixels of the decoded picture
    engine: str  # rapidocr or tesseract
    watermark: bool = False


class MemeReader:
    """Reads pictures for any number of threads: `workers` of them at once, each picture on `threads` cores."""

    def __init__(self, tessdata_prefix: Path | None = None, workers: int = 1, threads: int = 1, exact: bool = False):
        import_openvino()  # before RapidOCR does
        from rapidocr import EngineType, RapidOCR

        self.engine = RapidOCR(
            params={
                # Every line is wanted, with its confidence: Tamil comes out of this engine as doubtful nonsense.
                "Global.text_score": 0.0,
                "Global.use_cls": False,
                "Global.log_level": "error",
                "Rec.rec_batch_num": 1,
                "Det.engine_type": EngineType.OPENVINO,
                "Rec.engine_type": EngineType.OPENVINO,
                "EngineConfig.openvino.inference_num_threads": workers * threads,
            }
        )
        self.engine(words_on_white("Hello"))  # loads its models now, so that the first picture does not wait
        for part in (self.engine.text_det, self.engine.text_rec):
            part.session = OcrNetwork(part.session.model, workers, threads, exact)
        self.engine.text_det.get_preprocess = lambda: SearchSize()
        self.engine.text_rec.postprocess_op = SpaceKeeper(self.engine.text_rec.postprocess_op)
        folder = tamil_folder(tessdata_prefix)
        self.tamil = TamilReader(folder) if folder else None

    def read(self, picture: Image.Image) -> list[Line]:
        """Lines in reading order; an RGB picture in, an empty list where it has no text."""
        pixels = np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])
        found = list(self._find_and_read(pixels))
        lines = [self._line(*find) for find in found]
        if any(line.engine == "tesseract" for line in lines):
            lines = [self._among_tamil(line, crop) for line, (crop, *_) in zip(lines, found, strict=True)]
        return [mark_watermark(line) for line in lines if line.text and _is_sure(line)]

    def _find_and_read(self, pixels: np.ndarray):
        """(crop, box, text, confidence) of each find, those that read as nothing too: RapidOCR itself drops them."""
        from rapidocr.main import RapidOCRError
        from rapidocr.utils.process_img import map_boxes_to_original

        sized, changes = self.engine.preprocess_img(pixels)
        try:
            crops, found = self.engine.detect_and_crop(sized, changes)
        except RapidOCRError:  # no text at all
            return []
        read = self.engine.recognize_txt(crops)
        boxes = map_boxes_to_original(found.boxes.astype(np.float32), changes, *pixels.shape[:2])
        return zip(crops, boxes, read.txts, read.scores, strict=True)

    def _line(self, crop: np.ndarray, box: np.ndarray, text: str, confidence: float) -> Line:
        line = Line(
            " ".join(text.replace("_", " ").split()), float(confidence), np.rint(box).astype(int).tolist(), "rapidocr"
        )
        if self.tamil is None or not looks_unread(line, crop.shape[1] / crop.shape[0]):
            return line
        return self._as_tamil(line, crop, TAMIL_LETTERS, TAMIL_CONFIDENCE)

    def _among_tamil(self, line: Line, crop: np.ndarray) -> Line:
        if line.engine == "tesseract":
            return line
        least = AMONG_TAMIL_DOUBTED if line.confidence < UNSURE else AMONG_TAMIL_SURE
        return self._as_tamil(line, crop, AMONG_TAMIL_LETTERS, least)

    def _as_tamil(self, line: Line, crop: np.ndarray, least_letters: int, least_confidence: float) -> Line:
        text, confidence = self.tamil.read(Image.fromarray(np.ascontiguousarray(crop[:, :, ::-1])))
        if tamil_letters(text) < least_letters or tamil_share(text) < TAMIL_SHARE or confidence < least_confidence:
            return line
        return Line(text, confidence, line.box, "tesseract")


class SearchSize:
    """Makes the text detector's input: float32 [1, 3, height, width], sides a multiple of 32, values -1..1."""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        import cv2

        height, width = pixels.shape[:2]
        scale = min(SEARCH_SIDE / max(height, width), LARGEST_GROWTH)
        size = [max(32, round(side * scale / 32) * 32) for side in (width, height)]
        shrunk = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        return (shrunk.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]


class SpaceKeeper:
    """RapidOCR's CTC decoder, told to take a space where the network half sees one ("HELLOWORLD")."""

    def __init__(self, decode):
        self.decode = decode
        self.space = decode.character.index(" ")

    def __call__(self, scores: np.ndarray, return_word_box: bool = False, **ratios):
        """`scores`: probabilities, shape [lines, steps, characters]; character 0 is "nothing"."""
        scores = scores.copy()
        scores[(scores.argmax(axis=2) == 0) & (scores[:, :, self.space] > LEAST_SPACE), self.space] = 1.0
        return self.decode(scores, return_word_box, **ratios)


def words_on_white(text: str) -> np.ndarray:
    picture = Image.new("RGB", (200, 60), "white")
    ImageDraw.Draw(picture).text((10, 10), text, font=ImageFont.load_default(30), fill="black")
    return np.asarray(picture)


def looks_unread(line: Line, width_in_heights: float) -> bool:
    """Doubtful, or far fewer characters than the line's length has room for: what Tamil does to RapidOCR."""
    return line.confidence < UNSURE or len(line.text.replace(" ", "")) < LEAST_DENSITY * width_in_heights


def meme_text(lines: list[Line]) -> str:
    """What the scorer reads: the lines without watermarks, in one line of text."""
    return " ".join(line.text for line in lines if not line.watermark)


def mark_watermark(line: Line) -> Line:
    return Line(line.text, line.confidence, line.box, line.engine, bool(WATERMARK.match(line.text)))


def _is_sure(line: Line) -> bool:
    return line.engine == "tesseract" or line.confidence >= KEPT_CONFIDENCE
