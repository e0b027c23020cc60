"""Which frames of an animation are worth reading: the first, and those in which something new stands.

Each frame is reduced to a sketch of a few thousand cells. A frame is new by the cells that changed and have structure
in it, as letters have: a frame that went blank is not new, one in which words appeared is.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

CELLS, PIXELS_A_CELL = 64, 4
# Levels of grey (0 to 255): by which a cell changed, and of mean difference between neighbours where it has structure.
CHANGED, STRUCTURED = 16, 4
# Fewer changed cells than a short word has in small letters: the frame says what another one says.
ALIKE = 12


class Sketch(NamedTuple):
    grey: np.ndarray  # int16 [CELLS, CELLS], mean of each cell
    structured: np.ndarray  # bool [CELLS, CELLS]


def sketch(picture: Image.Image) -> Sketch:
    """The cells of an RGB picture."""
    side = CELLS * PIXELS_A_CELL
    grey = np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.int16)
    across = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    down = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    return Sketch(_cells(grey).astype(np.int16), _cells(across + down) > STRUCTURED)


def _cells(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(CELLS, PIXELS_A_CELL, CELLS, PIXELS_A_CELL).mean(axis=(1, 3))


def newness(frame: Sketch, known: Sketch) -> int:
    """Cells of `frame` that have structure and are not as in `known`."""
    return int(((np.abs(frame.grey - known.grey) > CHANGED) & frame.structured).sum())


def frames_to_read(sketches: list[Sketch], most: int) -> tuple[list[int], int]:
    """(at most `most` frames, in their order; how many of the others are like none of them)."""
    chosen = [0]
    left = [newness(frame, sketches[0]) for frame in sketches]
    while len(chosen) < most and max(left) >= ALIKE:
        chosen.append(left.index(max(left)))
        left = [min(least, newness(frame, sketches[chosen[-1]])) for least, frame in zip(left, sketches, strict=True)]
    return sorted(chosen), sum(least >= ALIKE for least in left)
