"""Lines read the right way up: what is doubtful is read once more upside down, and the surer reading counts.

A line upside down comes out of the recogniser as nonsense of which it is half sure, the same line turned as words of
which it is quite sure. Lines on their side are laid down first, so that they are either the right way up or not.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# RapidOCR lays boxes down that are so many times as high as they are wide.
LAID_DOWN = 1.5
# Below this a line may be upside down: of 70 lines that were, none was read with more, of 70 upright ones three were.
DOUBTED = 0.93
# Characters to a stretch as long as the line is high: Chinese has one, Latin two, Tamil read as nonsense next to none,
# of which the recogniser may be quite sure.
LEAST_DENSITY = 0.7
# A single line is turned for a reading as sure as this, and surer by so much.
SURE, SURER = 0.85, 0.05

Recognise = Callable[[list[np.ndarray]], list[tuple[str, float]]]


class Reading(NamedTuple):
    crop: np.ndarray  # [height, width, 3], as it was read
    text: str
    confidence: float
    turned: bool  # upside down

    @property
    def worth(self) -> float:
        """The confidence, where there are letters enough for the line's length."""
        height, width = self.crop.shape[:2]
        return 0.0 if has_few_letters(self.text, width / height) else self.confidence


def has_few_letters(text: str, width_in_heights: float) -> bool:
    """Far fewer characters than the line's length has room for: what Tamil does to RapidOCR."""
    return len("".join(text.split())) < LEAST_DENSITY * width_in_heights


def read_crops(recognise: Recognise, crops: list[np.ndarray]) -> list[Reading]:
    """A reading of each crop. Where most of them are upside down, so is the picture, and all are read that way."""
    if not crops:
        return []
    readings = [Reading(crop, *read, False) for crop, read in zip(crops, recognise(crops), strict=True)]
    doubted = [number for number, reading in enumerate(readings) if reading.confidence < DOUBTED]
    turned = _turned(recognise, readings, doubted)
    surer = {
        number: reading
        for number, reading in turned.items()
        if reading.worth >= max(SURE, readings[number].confidence + SURER)
    }
    if not surer:
        return readings
    widths = [crop.shape[1] for crop in crops]
    if sum(widths[number] for number in surer) <= sum(widths) / 2:
        return [surer.get(number, reading) for number, reading in enumerate(readings)]
    turned |= _turned(recognise, readings, [number for number in range(len(crops)) if number not in turned])
    return [
        turned[number] if turned[number].worth >= reading.worth - SURER else reading
        for number, reading in enumerate(readings)
    ]


def _turned(recognise: Recognise, readings: list[Reading], numbers: list[int]) -> dict[int, Reading]:
    crops = [np.ascontiguousarray(readings[number].crop[::-1, ::-1]) for number in numbers]
    read = recognise(crops) if crops else []
    return {number: Reading(crop, *found, True) for number, crop, found in zip(numbers, crops, read, strict=True)}


def reading_direction(box: np.ndarray, turned: bool) -> float:
    """The angle along which a line is read, in degrees from x towards y; `box` are its corners, top left first.

    crop_line lays an upright box down with its top to the left.
    """
    across, down = box[1] - box[0], box[3] - box[0]
    along = down if np.linalg.norm(down) >= LAID_DOWN * np.linalg.norm(across) else across
    return float(np.degrees(np.arctan2(along[1], along[0]))) + 180 * turned
