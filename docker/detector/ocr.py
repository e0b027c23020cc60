"""The text of a meme: RapidOCR finds and reads the lines, Tesseract re-reads those that look like Tamil.

RapidOCR's wheel carries its own models (English, Chinese, Malay; no Tamil), so nothing is fetched. Departures from
RapidOCR as shipped, each measured by benchmarks/bench_ocr.py: OpenVINO runs the networks, text is looked for in a
smaller picture (faster, fewer finds in the background), or in tiles of a long one, lines are read one by one (no
padding), upside down where that is surer, lost spaces are put back, and lines are put into reading order.
"""

import re
import sys
import threading
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detector.meme import OcrLine
from detector.reading_order import reading_order
from detector.tamil_ocr import TamilReader, tamil_folder, tamil_letters, tamil_share
from detector.text_search import SearchSize, crop_line, find_boxes
from detector.turned_text import Reading, has_few_letters, read_crops, reading_direction

# Below this confidence a line is not text that RapidOCR knows: it is re-read as Tamil, then kept or dropped.
UNSURE = 0.85
KEPT_CONFIDENCE = 0.7
TAMIL_CONFIDENCE, TAMIL_SHARE, TAMIL_LETTERS = 0.4, 0.6, 3
# Confidence times share of Tamil: from here on a line is upright; a line upside down is worth so much more turned.
TAMIL_UPRIGHT, TAMIL_SURER = 0.6, 0.15
# In a picture that has a line of Tamil the others are likely Tamil, too: what RapidOCR doubts may be read with little
# confidence, what it is sure of ("6T60T") only with much.
AMONG_TAMIL_DOUBTED, AMONG_TAMIL_SURE, AMONG_TAMIL_LETTERS = 0.1, 0.7, 2
# Between two letters the recogniser prefers "nothing" to a space that it half sees: from here on it is a space.
LEAST_SPACE = 0.02
# OpenVINO prepares itself anew for each shape that it meets, 40 ms an image where every line has a width of its own:
# widths come in steps. Steps of 64 lost a tenth of the words.
WIDTH_STEP = 32
# What two frames say: each Chinese character is a word; how much of two lines is alike if they are one.
WORD = re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+")
SAME_LINE = 0.85
WATERMARK = re.compile(
    r"^\W*(made (with|on|in) .*|(www\.)?(imgflip|memegenerator|quickmeme|makeameme|9gag|memecenter|mematic)"
    r"(\.(com|net|org))?)\W*$",
    re.IGNORECASE,
)


class OcrEngine:
    """Reads pictures for any number of threads: `workers` of them at once, each picture on `threads` cores."""

    def __init__(self, tessdata_prefix: Path | None = None, workers: int = 1, threads: int = 1, exact: bool = False):
        import_openvino()  # before RapidOCR does
        from rapidocr import EngineType, RapidOCR

        params: dict[str, Any] = {
            # Every line is wanted, with its confidence: Tamil comes out of this engine as doubtful nonsense.
            "Global.text_score": 0.0,
            "Global.use_cls": False,
            "Global.log_level": "error",
            "Rec.rec_batch_num": 1,
            "Det.engine_type": EngineType.OPENVINO,
            "Rec.engine_type": EngineType.OPENVINO,
            "EngineConfig.openvino.inference_num_threads": workers * threads,
        }
        # Parts of it are replaced below.
        self.rapidocr = cast(Any, RapidOCR(params=params))
        self.rapidocr(words_on_white("Hello"))  # loads its models now, so that the first picture does not wait
        for part in (self.rapidocr.text_det, self.rapidocr.text_rec):
            part.session = OcrNetwork(part.session.model, workers, threads, exact)
        self.rapidocr.text_det.get_preprocess = SearchSize
        self.rapidocr.text_rec.postprocess_op = SpaceKeeper(self.rapidocr.text_rec.postprocess_op)
        folder = tamil_folder(tessdata_prefix)
        self.tamil = TamilReader(folder) if folder else None

    def read(self, picture: Image.Image) -> list[OcrLine]:
        """Lines in reading order; an RGB picture in, an empty list where it has no text."""
        pixels = np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])
        boxes = find_boxes(self.rapidocr.text_det, pixels)
        readings = read_crops(self._recognise, [crop_line(pixels, box) for box in boxes])
        readings = self._tamil_upright(readings)
        lines = [self._line(reading, box) for reading, box in zip(readings, boxes, strict=True)]
        if any(line.engine == "tesseract" for line in lines):
            lines = [self._among_tamil(line, reading.crop) for line, reading in zip(lines, readings, strict=True)]
        angles = [reading_direction(box, reading.turned) for box, reading in zip(boxes, readings, strict=True)]
        kept = [n for n, line in enumerate(lines) if line.text and _is_sure(line, readings[n], angles[n])]
        grey = np.asarray(picture.convert("L"))
        order = reading_order([boxes[number] for number in kept], [angles[number] for number in kept], grey)
        return [lines[kept[place]] for place in order]

    def _recognise(self, crops: list[np.ndarray]) -> list[tuple[str, float]]:
        read = self.rapidocr.recognize_txt(crops)
        return list(zip(read.txts, read.scores, strict=True))

    def _tamil_upright(self, readings: list[Reading]) -> list[Reading]:
        """The same; what RapidOCR cannot read is turned where the longest line of it is Tamil upside down."""
        unread = [reading for reading in readings if reading.worth < UNSURE]
        if self.tamil is None or not unread:
            return readings
        longest = max(unread, key=lambda reading: reading.crop.shape[1])
        turned = longest.crop[::-1, ::-1]
        upright = self._tamil_worth(longest.crop)
        if upright >= TAMIL_UPRIGHT or self._tamil_worth(turned) <= upright + TAMIL_SURER:
            return readings
        return [
            reading._replace(crop=reading.crop[::-1, ::-1], turned=not reading.turned)
            if reading.worth < UNSURE
            else reading
            for reading in readings
        ]

    def _tamil_worth(self, crop: np.ndarray) -> float:
        assert self.tamil is not None
        text, confidence = self.tamil.read(Image.fromarray(np.ascontiguousarray(crop[:, :, ::-1])))
        return confidence * tamil_share(text) if tamil_letters(text) >= TAMIL_LETTERS else 0.0

    def _line(self, reading: Reading, box: np.ndarray) -> OcrLine:
        corners = [(x, y) for x, y in np.rint(box).astype(int).tolist()]
        text = " ".join(reading.text.replace("_", " ").split())
        line = OcrLine(text, float(reading.confidence), corners, "rapidocr")
        if not looks_unread(line, reading.crop.shape[1] / reading.crop.shape[0]):
            return line
        return self._as_tamil(line, reading.crop, TAMIL_LETTERS, TAMIL_CONFIDENCE)

    def _among_tamil(self, line: OcrLine, crop: np.ndarray) -> OcrLine:
        if line.engine == "tesseract":
            return line
        least = AMONG_TAMIL_DOUBTED if line.confidence < UNSURE else AMONG_TAMIL_SURE
        return self._as_tamil(line, crop, AMONG_TAMIL_LETTERS, least)

    def _as_tamil(self, line: OcrLine, crop: np.ndarray, least_letters: int, least_confidence: float) -> OcrLine:
        if self.tamil is None:
            return line
        text, confidence = self.tamil.read(Image.fromarray(np.ascontiguousarray(crop[:, :, ::-1])))
        if tamil_letters(text) < least_letters or tamil_share(text) < TAMIL_SHARE or confidence < least_confidence:
            return line
        return OcrLine(text, confidence, line.box, "tesseract")


class OcrNetwork:
    """Stands in for RapidOCR's own session, which only one thread may use.

    `workers` calls run side by side, each on `threads` threads. Where the CPU multiplies in bfloat16, OpenVINO does
    unless `exact` (some three times faster than onnxruntime here; bench_ocr.py finds no words lost by it).
    """

    def __init__(self, model: Any, workers: int, threads: int, exact: bool):
        openvino = import_openvino()
        self.compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "NUM_STREAMS": workers,
                "INFERENCE_NUM_THREADS": workers * threads,
                # Two processes would pin themselves to the same cores.
                "ENABLE_CPU_PINNING": False,
                **({"INFERENCE_PRECISION_HINT": "f32"} if exact else {}),
            },
        )
        self._thread = threading.local()

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The output for `pixels`, float32 [pictures, 3, height, width]; valid until this thread's next call."""
        if not hasattr(self._thread, "request"):
            self._thread.request = self.compiled.create_infer_request()
        missing = -pixels.shape[-1] % WIDTH_STEP
        self._thread.request.infer([np.pad(pixels, ((0, 0), (0, 0), (0, 0), (0, missing)))])
        return self._thread.request.get_output_tensor().data


def import_openvino() -> ModuleType:
    """OpenVINO without its model converter, which reports every import to an analytics service on the internet."""
    # Importing it raises ImportError, which OpenVINO expects.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # None: Python's way to forbid it
    import openvino

    return openvino


class SpaceKeeper:
    """RapidOCR's CTC decoder, told to take a space where the network half sees one ("HELLOWORLD")."""

    def __init__(self, decode: Any):
        self.decode = decode
        self.space = decode.character.index(" ")

    def __call__(self, scores: np.ndarray, return_word_box: bool = False, **ratios: Any) -> Any:
        """`scores`: probabilities, shape [lines, steps, characters]; character 0 is "nothing"."""
        scores = scores.copy()
        scores[(scores.argmax(axis=2) == 0) & (scores[:, :, self.space] > LEAST_SPACE), self.space] = 1.0
        return self.decode(scores, return_word_box, **ratios)


def words_on_white(text: str) -> np.ndarray:
    """A small picture with the text in black, RGB."""
    picture = Image.new("RGB", (200, 60), "white")
    ImageDraw.Draw(picture).text((10, 10), text, font=ImageFont.load_default(30), fill="black")
    return np.asarray(picture)


def looks_unread(line: OcrLine, width_in_heights: float) -> bool:
    """Doubtful, or with few letters: what Tamil does to RapidOCR."""
    return line.confidence < UNSURE or has_few_letters(line.text, width_in_heights)


def add_frame(known: list[OcrLine], read: list[OcrLine], frame: int) -> list[OcrLine]:
    """`known` and what `read`, the lines of a later frame, says beyond them.

    A line that stays is kept once, one that grows (as if typed) in its last form.
    """
    together, earlier = list(known), len(known)
    for line in (replace(line, frame=frame) for line in read):
        if any(_says(other.text, line.text) for other in together[:earlier]):
            continue
        shorter = next((number for number in range(earlier) if _says(line.text, together[number].text)), None)
        if shorter is None:
            together.append(line)
        else:
            together[shorter] = line
    return together


def _says(text: str, other: str) -> bool:
    """Whether `text` has the words of `other` in it, but for a letter or two that were misread."""
    words, others = (f" {' '.join(WORD.findall(said.casefold()))} " for said in (text, other))
    return others in words or SequenceMatcher(None, words, others).ratio() > SAME_LINE


def meme_text(lines: list[OcrLine]) -> str:
    """What the chat model reads: the lines without watermarks, in one line of text."""
    return " ".join(line.text for line in lines if not WATERMARK.match(line.text))


def _is_sure(line: OcrLine, reading: Reading, angle: float) -> bool:
    """What runs down, up or backwards is most often no text: RapidOCR has to be sure of it."""
    if line.engine == "tesseract":
        return True
    return line.confidence >= KEPT_CONFIDENCE if np.cos(np.radians(angle)) > 0.5 else reading.worth >= UNSURE
