"""A line is read the way up of which the recogniser is surer; the lines of a turned picture go together."""

import numpy as np
import pytest

from detector.turned_text import read_crops, reading_direction


class Recogniser:
    """Crops are [2, 10, 3], all of one number: what the line is in `known`; turned ones are seen by their edge."""

    def __init__(self, *known: tuple[tuple[str, float], tuple[str, float]]):
        self.known, self.read = known, 0

    def crops(self) -> list[np.ndarray]:
        made = []
        for number in range(len(self.known)):
            crop = np.full((2, 10, 3), number, np.uint8)
            crop[0, 0] = 99
            made.append(crop)
        return made

    def __call__(self, crops):
        self.read += len(crops)
        return [self.known[crop[0, 5, 0]][int(crop[0, 0, 0] != 99)] for crop in crops]


def texts(*known) -> tuple[list[str], list[bool], int]:
    recogniser = Recogniser(*known)
    readings = read_crops(recogniser, recogniser.crops())
    return [reading.text for reading in readings], [reading.turned for reading in readings], recogniser.read


SURE, NONSENSE = ("HELLO", 0.99), ("OTTEH", 0.75)


def test_lines_of_which_it_is_sure_are_read_once():
    assert texts((SURE, NONSENSE), (SURE, NONSENSE)) == (["HELLO"] * 2, [False] * 2, 2)
    assert texts() == ([], [], 0)


def test_a_picture_upside_down_is_read_so_even_where_a_line_reads_both_ways():
    noon, dim = (("NOON", 0.96), ("NOON", 0.95)), (("uoou", 0.8), ("noon", 0.82))
    found = texts(*[(NONSENSE, SURE)] * 4, noon, dim, (("SOSOSOSO", 0.9), ("OSOSOSOS", 0.2)))
    assert found[:2] == (["HELLO"] * 4 + ["NOON", "noon", "SOSOSOSO"], [True] * 6 + [False])


def test_one_line_upside_down_is_read_alone():
    assert texts((NONSENSE, SURE), (SURE, NONSENSE), (SURE, NONSENSE))[:2] == (["HELLO"] * 3, [True, False, False])


def test_a_line_that_comes_out_all_but_empty_is_not_turned_for_it():
    """Tamil upside down is nothing to the recogniser, of which it may be quite sure."""
    assert texts((NONSENSE, ("r", 0.99)), (NONSENSE, ("   ", 1.0)))[:2] == (["OTTEH"] * 2, [False] * 2)


def test_what_is_unsure_both_ways_stays():
    assert texts((NONSENSE, ("O", 0.8)), (NONSENSE, NONSENSE))[:2] == (["OTTEH"] * 2, [False] * 2)


@pytest.mark.parametrize(
    ("size", "turned", "direction"),
    [((90, 20), False, 0), ((90, 20), True, 180), ((20, 90), False, 90), ((20, 90), True, 270)],
)
def test_a_line_is_read_along_its_longer_side(size, turned, direction):
    width, height = size
    box = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    assert reading_direction(box, turned) == direction
