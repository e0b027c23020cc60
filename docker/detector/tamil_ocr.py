"""Tesseract's Tamil for single text lines; the library comes with tesserocr, the language data from Debian."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from tesserocr import PyTessBaseAPI

TESSDATA_FOLDERS = (
    "/usr/share/tesseract-ocr/5/tessdata",
    "/usr/share/tesseract-ocr/4.00/tessdata",
    "/usr/share/tessdata",
    "/usr/local/share/tessdata",
)
# Tesseract's LSTM reads lines of some 36 pixels; text blown up beyond that gains nothing.
LINE_HEIGHT = 56
BORDER = 10
SURE = 0.9
BRIGHT = 200
LEAST_CONTRAST = 16  # grey levels; of blank paper Tesseract reads letters all the same


def tamil_folder(tessdata_prefix: Path | None) -> Path | None:
    """Folder that holds tam.traineddata: `tessdata_prefix` (or its tessdata/), else the usual places, else None."""
    named = [tessdata_prefix, tessdata_prefix / "tessdata"] if tessdata_prefix else []
    for folder in [*named, *map(Path, TESSDATA_FOLDERS)]:
        if (folder / "tam.traineddata").is_file():
            return folder
    return None


def tamil_letters(text: str) -> int:
    """Number of Tamil letters and signs."""
    return sum("\u0b80" <= character <= "\u0bff" for character in text)


def tamil_share(text: str) -> float:
    """Share of Tamil letters and signs among the characters that are not spaces."""
    return tamil_letters(text) / max(1, sum(not character.isspace() for character in text))


class TamilReader:
    """One Tesseract a thread, kept alive between lines (starting one costs as much as reading ten lines)."""

    def __init__(self, folder: Path):
        # Tesseract's own OpenMP threads only slow down single lines; read by its library when it is loaded.
        os.environ.setdefault("OMP_THREAD_LIMIT", "1")
        self.folder = folder
        self._thread = threading.local()

    def read(self, crop: Image.Image) -> tuple[str, float]:
        """(text, confidence 0..1) of one line; the better of its bright strokes alone and the picture as it is."""
        grey = line_on_paper(crop)
        if np.ptp(np.asarray(grey)) < LEAST_CONTRAST:
            return "", 0.0
        best = self._read(bright_strokes(grey))
        if best[1] < SURE:  # dark letters, or none that Tesseract knows
            best = max(best, self._read(grey), key=lambda reading: reading[1] * tamil_share(reading[0]))
        return best

    def _read(self, grey: Image.Image) -> tuple[str, float]:
        api = self._api()
        api.SetImage(grey)
        # Zero-width non-joiners only steer a font; Tesseract puts one behind every virama.
        text = " ".join(api.GetUTF8Text().replace("\u200c", "").split())
        return text, max(0, api.MeanTextConf()) / 100

    def _api(self) -> "PyTessBaseAPI":
        if not hasattr(self._thread, "api"):
            from tesserocr import OEM, PSM, PyTessBaseAPI

            self._thread.api = PyTessBaseAPI(path=str(self.folder), lang="tam", psm=PSM.SINGLE_LINE, oem=OEM.LSTM_ONLY)
            self._thread.api.SetVariable("debug_file", "/dev/null")
        return self._thread.api


def line_on_paper(crop: Image.Image) -> Image.Image:
    """Grey line of LINE_HEIGHT pixels with a border of its own edge colour."""
    grey = crop.convert("L")
    width = min(4000, max(8, round(grey.width * LINE_HEIGHT / max(1, grey.height))))
    pixels = np.asarray(grey.resize((width, LINE_HEIGHT), Image.Resampling.BICUBIC))
    return Image.fromarray(np.pad(pixels, BORDER, mode="edge"))


def bright_strokes(grey: Image.Image) -> Image.Image:
    """Black text on white from the usual meme style: white letters with a dark outline, on white paper too."""
    import cv2

    bright = (np.asarray(grey) > BRIGHT).astype(np.uint8)
    edge = np.zeros(bright.shape, dtype=bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    if bright[edge].mean() > 0.5:  # the paper is as bright as the letters: what hangs together with the edge is paper
        _, part = cv2.connectedComponents(bright, connectivity=4)
        bright[np.isin(part, np.unique(part[edge & (bright == 1)]))] = 0
    return Image.fromarray(np.where(bright == 1, 0, 255).astype(np.uint8))
