"""Small pictures for the report: WebP in base64, decoded in parallel, together within a budget of bytes.

Pictures may come from attackers: the detector reads them, under the same limits as in predict.py.
"""

import base64
import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from PIL import Image

from detector.image_decoding import UnreadableImage, decode_image

QUALITY = 60
# A picture that is over its share of the budget is made smaller by steps; below the last one it would show nothing.
STEPS, LEAST_SIDE = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2), 48
AVAILABLE_CPUS = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Thumbnail:
    """`webp` is base64, empty where there is no picture, for `reason`; size: pixels of the decoded picture."""

    webp: str = ""
    size: tuple[int, int] = (0, 0)
    reason: str | None = None


def thumbnails(paths: Iterable[str], side: int, max_bytes: int, max_pixels: int) -> Iterator[Thumbnail]:
    """A thumbnail for each path, in order; each takes at most `max_bytes` as base64."""
    make: Callable[[str], Thumbnail] = partial(thumbnail, side=side, max_bytes=max_bytes, max_pixels=max_pixels)
    with ThreadPoolExecutor(AVAILABLE_CPUS, thread_name_prefix="thumbnail") as pool:
        yield from pool.map(make, paths)


def thumbnail(path: str, side: int, max_bytes: int, max_pixels: int) -> Thumbnail:
    try:
        picture = decode_image(path, max_pixels)
    except UnreadableImage as unreadable:
        return Thumbnail(reason=unreadable.reason)
    for step in STEPS:
        if step * side < LEAST_SIDE and step < 1:
            break
        encoded = base64.b64encode(as_webp(picture, round(step * side)))
        if len(encoded) <= max_bytes:
            return Thumbnail(encoded.decode(), picture.size)
    return Thumbnail(size=picture.size, reason="over_budget")


def as_webp(picture: Image.Image, side: int) -> bytes:
    """At most `side` pixels on the longer side, nothing of the file's own metadata."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    clean = Image.frombytes("RGB", small.size, small.tobytes())
    written = io.BytesIO()
    clean.save(written, "WEBP", quality=QUALITY, method=2)
    return written.getvalue()
