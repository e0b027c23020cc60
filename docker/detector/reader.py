"""The part of the work that CPUs do, for any number of threads: decode an image, read its text, prepare its caption."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from detector.device import quiet_libraries
from detector.image_decoding import Frames, UnreadableImage, decode_frames
from detector.meme import Meme, Stopwatch
from detector.ocr import OcrEngine, add_frame, meme_text
from detector.settings import DetectorSettings, UnusableSetting

if TYPE_CHECKING:
    import torch
    from transformers import BlipImageProcessorPil


# Levels of grey; below, a frame shows nothing.
LEAST_CONTRAST = 32


class Reader:
    """Reads images into memes, which Scorer then scores, here or in another process."""

    def __init__(self, ocr: OcrEngine, image_processor: "BlipImageProcessorPil | None", max_pixels: int):
        self.ocr = ocr
        self.image_processor = image_processor  # None: there is no captioner
        self.max_pixels = max_pixels
        # Of any image; computed here, so that no thread has anything left to import when the next model loads.
        self.pixels_shape = model_pixels(image_processor, Image.new("RGB", (2, 2))).shape if image_processor else (0,)

    def read(self, path: str, content: bytes | None = None) -> Meme:
        """The image at a local path, or of these bytes. Never raises: what fails becomes the meme's error."""
        meme = Meme(path)
        frames = self._decode(meme, content)
        if frames is not None:
            meme.unseen_frames = frames.unseen
            if self.image_processor:
                self._make_pixels(meme, frames, self.image_processor)
            self._read_text(meme, frames)
        return meme

    def _decode(self, meme: Meme, content: bytes | None) -> Frames | None:
        try:
            with Stopwatch(meme.milliseconds, "decode"):
                return decode_frames(meme.path, self.max_pixels, content)
        except UnreadableImage as unreadable:
            meme.fail(unreadable.reason)
        except Exception:  # such as MemoryError
            meme.fail("decoding_failed")
        return None

    def _make_pixels(self, meme: Meme, frames: Frames, image_processor: "BlipImageProcessorPil") -> None:
        try:
            with Stopwatch(meme.milliseconds, "pixels"):
                meme.pixels = model_pixels(image_processor, worth_a_caption(frames.pictures))
        except Exception:
            meme.fail("caption_failed")

    def _read_text(self, meme: Meme, frames: Frames) -> None:
        try:
            with Stopwatch(meme.milliseconds, "ocr"):
                for number, picture in zip(frames.numbers, frames.pictures, strict=True):
                    meme.lines = add_frame(meme.lines, self.ocr.read(picture), number)
        except Exception:
            meme.fail("ocr_failed")
        meme.text = meme_text(meme.lines)


def worth_a_caption(pictures: list[Image.Image]) -> Image.Image:
    """The first frame that is not blank; the first where all are."""
    return next((picture for picture in pictures if not is_blank(picture)), pictures[0])


def is_blank(picture: Image.Image) -> bool:
    """Of one colour, but for what a JPEG makes of it."""
    return bool(np.ptp(np.asarray(picture.convert("L")).astype(int)) < LEAST_CONTRAST)


def model_pixels(image_processor: "BlipImageProcessorPil", picture: Image.Image) -> "torch.Tensor":
    """The captioner's input for one RGB picture: float32, shape [3, height, width] of the model's image size."""
    return image_processor(images=picture, return_tensors="pt")["pixel_values"][0]


def load_reader(settings: DetectorSettings, workers: int = 1) -> Reader:
    """A reader for `workers` threads; raises UnusableSetting. OCR loads while transformers is imported."""
    exact = settings.dtype == "float32"
    with ThreadPoolExecutor(1, thread_name_prefix="load-ocr") as loading:
        ocr = loading.submit(OcrEngine, settings.tessdata_prefix, workers, exact=exact)
        quiet_libraries()
        folder = settings.caption_model_dir
        image_processor = load_image_processor(folder) if folder else None
        return Reader(ocr.result(), image_processor, settings.max_megapixels * 1_000_000)


def load_image_processor(caption_model_dir: Path) -> "BlipImageProcessorPil":
    """What makes a captioner's input of a picture, without the captioner; raises UnusableSetting."""
    from transformers import BlipImageProcessorPil

    try:
        return BlipImageProcessorPil.from_pretrained(caption_model_dir, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"CAPTION_MODEL_DIR={caption_model_dir}: no image processor of a BLIP captioning model: {error}"
        raise UnusableSetting(message) from error
