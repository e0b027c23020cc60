"""The part of the work that CPUs do, for any number of threads: decode an image, read its text, prepare its caption."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from PIL import Image

from detector.captions import UnusableCaptioner, load_image_processor, model_pixels
from detector.device import quiet_libraries
from detector.image_decoding import UnreadableImage, decode_image
from detector.meme import Meme, Stopwatch
from detector.ocr import OcrEngine, meme_text
from detector.settings import DetectorSettings, UnusableSetting

if TYPE_CHECKING:
    from transformers import BlipImageProcessorPil


class Reader:
    """Reads images into memes, which Scorer then scores, here or in another process."""

    def __init__(self, ocr: OcrEngine, image_processor: "BlipImageProcessorPil", max_pixels: int):
        self.ocr = ocr
        self.image_processor = image_processor
        self.max_pixels = max_pixels
        # Of any image; computed here, so that no thread has anything left to import when the next model loads.
        self.pixels_shape: torch.Size = model_pixels(image_processor, Image.new("RGB", (2, 2))).shape

    def read(self, path: str, content: bytes | None = None) -> Meme:
        """The image at a local path, or of these bytes. Never raises: what fails becomes the meme's error."""
        meme = Meme(path)
        picture = self._decode(meme, content)
        if picture is not None:
            self._make_pixels(meme, picture)
            self._read_text(meme, picture)
        return meme

    def _decode(self, meme: Meme, content: bytes | None) -> Image.Image | None:
        try:
            with Stopwatch(meme.milliseconds, "decode"):
                return decode_image(meme.path, self.max_pixels, content)
        except UnreadableImage as unreadable:
            meme.fail(unreadable.reason)
        except Exception:  # such as MemoryError
            meme.fail("decoding_failed")
        return None

    def _make_pixels(self, meme: Meme, picture: Image.Image) -> None:
        try:
            with Stopwatch(meme.milliseconds, "pixels"):
                meme.pixels = model_pixels(self.image_processor, picture)
        except Exception:
            meme.fail("caption_failed")

    def _read_text(self, meme: Meme, picture: Image.Image) -> None:
        try:
            with Stopwatch(meme.milliseconds, "ocr"):
                meme.lines = self.ocr.read(picture)
        except Exception:
            meme.fail("ocr_failed")
        meme.text = meme_text(meme.lines)


def load_reader(settings: DetectorSettings, workers: int = 1) -> Reader:
    """A reader for `workers` threads; raises UnusableSetting. OCR loads while transformers is imported."""
    exact = settings.dtype == "float32"
    with ThreadPoolExecutor(1, thread_name_prefix="load-ocr") as loading:
        ocr = loading.submit(OcrEngine, settings.tessdata_prefix, workers, exact=exact)
        quiet_libraries()
        try:
            image_processor = load_image_processor(settings.caption_model_dir)
        except UnusableCaptioner as error:
            raise UnusableSetting(f"CAPTION_MODEL_DIR={settings.caption_model_dir}: {error}") from error
        return Reader(ocr.result(), image_processor, settings.max_megapixels * 1_000_000)
