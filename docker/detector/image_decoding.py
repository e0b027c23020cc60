"""Images in, upright RGB pictures of bounded size out; Pillow's decoders are the only code that reads one.

A meme may come from an attacker: only the formats below are opened (Pillow's EPS reader would start Ghostscript), a
path that is no regular file is refused before it is read, and pixels are counted before they are decoded.
"""

import io
import logging
import os
import stat
import threading
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from detector.bare_picture import bare_picture
from detector.clear_parts import on_ground
from detector.frames import frames_to_read, sketch

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF")
# The text detector works on at most this many pixels a side, so nothing is gained by keeping more.
MAX_SIDE = 2000
# A picture more than STRIP times as long as it is wide (a webtoon, a chat) is searched in pieces: it is measured by its
# shorter side, and by all its pixels.
STRIP, STRIP_SIDE, KEPT_PIXELS = 2.5, 1000, 24_000_000
# Of an animation, or of a file with pages: how many frames are read, and in how many pixels they are looked for.
MOST_FRAMES, LOOKED_AT_PIXELS = 6, 24_000_000
# Beyond this many pixels, one picture at a time is decoded: memory stays flat whatever the number of workers.
LARGE_PIXELS = 16_000_000
# What turns a picture upright, by EXIF orientation (ImageOps.exif_transpose trips over broken EXIF).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LARGE_PICTURE = threading.Lock()

Image.init()  # Pillow knows a format by name only once its plugin is loaded
ImageFile.LOAD_TRUNCATED_IMAGES = True  # a cut-off file is read as far as it goes
warnings.filterwarnings("ignore", module="PIL")  # nothing about single files belongs on stderr
logging.getLogger("PIL").setLevel(logging.CRITICAL)
Image.MAX_IMAGE_PIXELS = None  # the budget below is checked before any pixel is decoded


class UnreadableImage(Exception):
    """`reason` is one of a few fixed words that are counted, never text from the file or its path."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Frames:
    """What is to be read of a picture: one frame, or a few of an animation, or of a file's pages."""

    pictures: list[Image.Image]
    numbers: list[int]  # which frames of the file they are, counted from 0
    unseen: float = 0.0  # share of the file's frames that are like none of them, or were not looked at


def decode_image(path: str, max_pixels: int = 120_000_000, content: bytes | None = None) -> Image.Image:
    """The first frame at `path`; see decode_frames."""
    return decode_frames(path, max_pixels, content, most=1).pictures[0]


def decode_frames(
    path: str, max_pixels: int = 120_000_000, content: bytes | None = None, most: int = MOST_FRAMES
) -> Frames:
    """The first frame at `path` and up to `most` - 1 that differ; upright, RGB, clear parts laid on what contrasts.

    A frame's longer side has at most MAX_SIDE pixels, of a strip its shorter one STRIP_SIDE, in all KEPT_PIXELS.
    The file's bytes may be given as `content`, if they do not lie at a local path. Raises UnreadableImage with a
    reason: empty_path, missing, not_a_file, no_permission, unreadable, not_an_image, too_many_pixels.
    """
    with _open_file(path) if content is None else io.BytesIO(content) as file:
        try:
            return _decode(file, max_pixels, most)
        except UnreadableImage as refused:
            bare = bare_picture(file) if refused.reason == "not_an_image" else None
            if bare is None:
                raise
            return _decode(io.BytesIO(bare), max_pixels, most)


def unopened(error: OSError | ValueError) -> UnreadableImage:
    """The reason why a file could not be opened; too long a name, a NUL byte or a loop of links is `unreadable`."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UnreadableImage("missing")
    return UnreadableImage("no_permission" if isinstance(error, PermissionError) else "unreadable")


def _open_file(path: str) -> BinaryIO:
    if not path.strip():
        raise UnreadableImage("empty_path")
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise unopened(error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # a pipe, a device or a folder
        os.close(descriptor)
        raise UnreadableImage("not_a_file")
    return os.fdopen(descriptor, "rb")


def _decode(file: BinaryIO, max_pixels: int, most: int) -> Frames:
    with _open_picture(file) as picture:
        pixels = picture.width * picture.height
        if pixels > max_pixels:
            raise UnreadableImage("too_many_pixels")
        try:
            frames = 1 if most == 1 or picture.format == "MPO" else getattr(picture, "n_frames", 1)
        except Exception:  # pages that lead nowhere
            frames = 1
        looked_at = max(1, min(frames, LOOKED_AT_PIXELS // max(1, pixels)))
        try:
            with _LARGE_PICTURE if looked_at * pixels > LARGE_PIXELS else nullcontext():
                first = _upright_rgb(picture)
                return Frames([first], [0]) if frames == 1 else _differing(picture, first, frames, looked_at, most)
        except Exception as error:  # decoders of hostile files raise whatever they like
            raise UnreadableImage("not_an_image") from error


def _differing(picture: Image.Image, first: Image.Image, frames: int, looked_at: int, most: int) -> Frames:
    """Of the first `looked_at` of all `frames`, those to be read; a frame that cannot be decoded ends it."""
    pictures, sketches = [first], [sketch(first)]
    left = LOOKED_AT_PIXELS - picture.width * picture.height
    for number in range(1, looked_at):
        try:
            picture.seek(number)
            left -= picture.width * picture.height  # pages have sizes of their own
            if left < 0:
                break
            pictures.append(_upright_rgb(picture))
        except Exception:
            break
        sketches.append(sketch(pictures[-1]))
    numbers, unlike = frames_to_read(sketches, most)
    unseen = (unlike + frames - len(sketches)) / frames
    return Frames([pictures[number] for number in numbers], numbers, unseen)


def _open_picture(file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except Exception as error:
        raise UnreadableImage("not_an_image") from error


def _upright_rgb(picture: Image.Image) -> Image.Image:
    # JPEG: decode at 1/2, 1/4 or 1/8 while that is still larger than what is kept (a no-op for other formats).
    factor = max(1.0, longest_kept(*picture.size))
    picture.draft(None, (round(picture.width / factor), round(picture.height / factor)))
    picture.load()
    orientation = _orientation(picture)
    shrunk = _shrink(_eight_bits(picture))
    flat = _flat(shrunk)
    turn = UPRIGHT.get(orientation)
    return flat if turn is None else flat.transpose(turn)


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation; a picture whose EXIF is broken counts as upright."""
    try:
        return picture.getexif().get(0x0112, 1)
    except Exception:
        return 1


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Modes of 16 and 32 bits a channel scaled to 8; Pillow's own conversion clips them to white."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture, dtype=np.float32)
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    top = 65535.0 if picture.mode.startswith("I;16") else max(float(values.max()), 1.0)
    return Image.fromarray((np.clip(values / top, 0, 1) * 255).astype(np.uint8))


def _shrink(picture: Image.Image) -> Image.Image:
    factor = max(1.0, longest_kept(*picture.size))
    if factor == 1:
        return picture
    if picture.mode in ("1", "P", "PA"):  # an average of palette numbers is no colour
        picture = picture.convert("RGBA" if _has_alpha(picture) else "RGB")
    width, height = (max(1, round(side / factor)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


def longest_kept(width: int, height: int) -> float:
    """By how much a picture is too large; below 1 where it is not."""
    if max(width, height) <= STRIP * min(width, height):
        return max(width, height) / MAX_SIDE
    return max(min(width, height) / STRIP_SIDE, (width * height / KEPT_PIXELS) ** 0.5)


def _flat(picture: Image.Image) -> Image.Image:
    return on_ground(picture.convert("RGBA")) if _has_alpha(picture) else picture.convert("RGB")


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info
