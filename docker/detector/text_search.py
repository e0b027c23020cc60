"""Where lines of text are: RapidOCR's detector on the whole picture, or on tiles of one that is long.

A webtoon or a chat, shrunk as a whole to what the detector works on, has no letter left. Tiles overlap by more than a
line is high; what two of them found of a line becomes one box.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

# Text is looked for at this many pixels on the longer side; a small picture is at most doubled.
SEARCH_SIDE, LARGEST_GROWTH = 736, 2.0
# A picture is cut where it is longer than LONGEST times its shorter side; tiles are TILE times as long as wide.
LONGEST, TILE, OVERLAP = 2.5, 1.25, 0.25
# However thin a strip is.
MOST_TILES = 64
# Two boxes of neighbouring tiles are one line where so much of the smaller one lies in the other.
SAME_BOX = 0.5
# Pixels by which two finds of one line differ.
SLACK = 6
# A picture full of specks has no text; of more boxes than this the largest are read.
MOST_LINES = 1000
# OpenCV warps no larger picture than 32,767 pixels a side; beside a line it needs a few of them.
MARGIN = 16


class SearchSize:
    """Makes the text detector's input: float32 [1, 3, height, width], sides a multiple of 32, values -1..1."""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        import cv2

        height, width = pixels.shape[:2]
        scale = min(SEARCH_SIDE / max(height, width), LARGEST_GROWTH)
        size = [max(32, round(side * scale / 32) * 32) for side in (width, height)]
        shrunk = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        return (shrunk.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]


def find_boxes(detector: Any, pixels: np.ndarray) -> list[np.ndarray]:
    """Four corners [4, 2] (x, y) of each line, float32, in no order; `detector` is RapidOCR's.

    `pixels` are [height, width, 3].
    """
    tall = pixels.shape[0] >= pixels.shape[1]
    joined: list[np.ndarray] = []
    last: list[np.ndarray] = []
    for start, end in tiles(*pixels.shape[:2]):
        tile = pixels[start:end] if tall else pixels[:, start:end]
        boxes = detector(np.ascontiguousarray(tile)).boxes
        found = (
            []
            if boxes is None
            else list(boxes.astype(np.float32) + np.array([0, start] if tall else [start, 0], np.float32))
        )
        apart, last = _join(last, found, across=not tall)
        joined += apart
    return sorted(joined + last, key=lambda box: -float(np.ptp(box, axis=0).prod()))[:MOST_LINES]


def tiles(height: int, width: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each along the longer side; one where the picture is not long."""
    short, long = sorted((height, width))
    if long <= LONGEST * short:
        yield 0, long
        return
    length = max(round(TILE * short), SEARCH_SIDE, -(-long // MOST_TILES))
    step = round(length * (1 - OVERLAP))
    count = max(1, -(-(long - length) // step) + 1)
    for number in range(count):
        start = round(number * max(0, long - length) / max(1, count - 1))
        yield start, min(long, start + length)


def _join(before: list[np.ndarray], found: list[np.ndarray], across: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(boxes of the tile before that end there, boxes of this tile, grown by what the tile before had of them)."""
    apart = []
    for box in before:
        same = next((number for number, other in enumerate(found) if _is_same_line(box, other, across)), None)
        if same is None:
            apart.append(box)
        else:
            found[same] = _together(box, found[same])
    return apart, found


def _is_same_line(box: np.ndarray, other: np.ndarray, across: bool) -> bool:
    least, most = np.maximum(box.min(0), other.min(0)), np.minimum(box.max(0), other.max(0))
    shared = np.maximum(0, most - least)
    sizes = [np.ptp(corners, axis=0) for corners in (box, other)]
    if across:  # a line is cut into pieces that share little more than the tiles do
        return bool(shared[0] > 0 and shared[1] > SAME_BOX * min(size[1] for size in sizes))
    return bool(shared.prod() > SAME_BOX * min(size.prod() for size in sizes))


def _together(box: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The larger one, where it holds the other; else an upright box around both."""
    small, large = sorted((box, other), key=lambda corners: float(np.ptp(corners, axis=0).prod()))
    slack = min(SLACK, 0.2 * np.ptp(small, axis=0).min())
    if (small.min(0) >= large.min(0) - slack).all() and (small.max(0) <= large.max(0) + slack).all():
        return large
    (left, top), (right, bottom) = np.minimum(small.min(0), large.min(0)), np.maximum(small.max(0), large.max(0))
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def crop_line(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The line straightened, [height, width, 3]; one that stands upright is laid down, its top to the left."""
    from rapidocr.utils.process_img import get_rotate_crop_image

    left, top = np.maximum(0, np.floor(box.min(0)).astype(int) - MARGIN)
    right, bottom = np.ceil(box.max(0)).astype(int) + MARGIN
    around = np.ascontiguousarray(pixels[top:bottom, left:right])
    return get_rotate_crop_image(around, (box - np.array([left, top])).astype(np.float32))
