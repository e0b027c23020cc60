"""Long pictures are searched in tiles that overlap, and a line that two tiles saw is one box."""

from types import SimpleNamespace

import numpy as np
import pytest

from detector.text_search import MOST_LINES, MOST_TILES, OVERLAP, TILE, crop_line, find_boxes, tiles


@pytest.mark.parametrize("size", [(600, 600), (600, 1500), (1500, 600), (1, 1), (2, 2)])
def test_a_picture_that_is_not_long_is_one_tile(size):
    assert list(tiles(*size)) == [(0, max(size))]


@pytest.mark.parametrize(
    "size", [(12_800, 800), (800, 12_800), (24_000, 1000), (2600, 1000), (10, 20_000), (1, 9_000_000)]
)
def test_tiles_cover_a_long_one_and_overlap_and_their_number_grows_with_its_length(size):
    found = list(tiles(*size))
    assert found[0][0] == 0 and found[-1][1] == max(size) and len(found) <= 2 * MOST_TILES
    for (start, end), (following, _) in zip(found, found[1:], strict=False):
        assert start < following <= end - OVERLAP * min(size)
    assert len(found) <= 1 + max(size) / (TILE * min(size) * (1 - OVERLAP)) + 1


def detector(lines: list[tuple[int, int, int, int]], height: int, width: int):
    """Finds of each line (left, top, right, bottom) what a tile has of it; and a picture whose pixels are numbered."""

    def detect(tile: np.ndarray) -> SimpleNamespace:
        top, left = divmod(int(tile[0, 0, 0]), width)
        boxes = []
        for line in lines:
            x0, x1 = (min(max(x - left, 0), tile.shape[1]) for x in (line[0], line[2]))
            y0, y1 = (min(max(y - top, 0), tile.shape[0]) for y in (line[1], line[3]))
            if x1 - x0 >= 4 and y1 - y0 >= 4:
                boxes.append([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        return SimpleNamespace(boxes=np.array(boxes, np.float32) if boxes else None)

    numbers = np.arange(height * width, dtype=np.int64).reshape(height, width, 1)
    return detect, numbers


def found_by(lines, height, width) -> list[tuple[int, ...]]:
    boxes = find_boxes(*detector(lines, height, width))
    return sorted((*map(int, box.min(0)), *map(int, box.max(0))) for box in boxes)


def test_each_line_of_a_tall_picture_is_one_box():
    lines = sorted((20 + step % 50, step, 300 + step % 77, step + 30) for step in range(10, 7900, 43))
    assert found_by(lines, 8000, 400) == lines


def test_of_more_lines_than_a_picture_can_have_the_largest_are_kept():
    large, specks = (
        (10, 5, 200, 60),
        [(4 * n % 396, 70 + n // 99 * 5, 4 * n % 396 + 4, 74 + n // 99 * 5) for n in range(1500)],
    )
    found = found_by([large, *specks], 400, 400)
    assert len(found) == MOST_LINES and large in found


def test_a_line_across_a_wide_picture_is_one_box_however_many_tiles_it_crosses():
    lines = sorted([(10, 20, 7800, 60), (300, 100, 900, 140), (1000, 100, 3000, 140), (40, 300, 80, 330)])
    assert found_by(lines, 400, 8000) == lines


def test_letters_higher_than_the_overlap_are_one_box_around_both_parts():
    assert found_by([(40, 500, 360, 960)], 4000, 400) == [(40, 500, 360, 960)]


def test_a_crop_is_the_same_wherever_the_line_is():
    picture = np.zeros((40_000, 60, 3), np.uint8)  # OpenCV warps nothing of this size
    picture[39_900:39_920, 10:50] = np.arange(40)[None, :, None]
    box = np.array([[10, 39_900], [49, 39_900], [49, 39_919], [10, 39_919]], np.float32)
    assert (crop_line(picture, box)[5:15, 5:30] == crop_line(picture[39_880:], box - [0, 39_880])[5:15, 5:30]).all()
    assert crop_line(picture, box).shape == (19, 39, 3)
