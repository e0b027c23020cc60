"""Lines in the order in which people read them; a layout is drawn as text, a letter for each line, where it stands."""

import random

import numpy as np
import pytest

from detector.reading_order import main_direction, reading_order

WIDTH, HEIGHT = 20, 30  # pixels of a character of a layout


def lines_of(layout: str) -> list[tuple[str, np.ndarray]]:
    """(name, box) of each run of one letter: "aaa" is a line three characters wide."""
    found = []
    for row, text in enumerate(layout.strip("\n").split("\n")):
        start = 0
        while start < len(text):
            end = start
            while end < len(text) and text[end] == text[start]:
                end += 1
            if text[start] not in " |-":
                left, right, top, bottom = start * WIDTH, end * WIDTH, row * HEIGHT + 2, (row + 1) * HEIGHT - 2
                box = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
                found.append((text[start], box))
            start = end
    return found


def read(layout: str, angle: float = 0.0, grey=None) -> str:
    """The letters in reading order, of lines that come in any order; all turned by `angle` degrees."""
    lines = random.Random(3).sample(found := lines_of(layout), len(found))
    turn = np.radians(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    boxes = [(box @ rotation.T + 2000).astype(np.float32) if angle else box for _, box in lines]
    return "".join(lines[place][0] for place in reading_order(boxes, [angle] * len(boxes), grey))


ONE_COLUMN = """
   aaaaaaaaa
    bbbbbbb


  cccccccccccc
   dddd
"""
COLUMNS = """
aaaaaaaa    dddddddd
bbbbbbb     eeeeeee
cccccccc    fffffff
"""
THREE_UNDER_A_TITLE = """
   aaaaaaaaaaaaaaaaaaaaaaaaaaa
          bbbbbbbbb

cccccccc    eeeeeeee   gggggggg
ddddddd     fffffff    hhhh
"""
COLUMNS_OF_PARAGRAPHS = """
aaaaaaaaa      eeeeeeee
bbbbbbb        fffffff


ccccccccc      gggggggg
dddddd         hhhhhhh
"""
PANELS = """
aaaaaaaa      cccccccc
bbbbbb        ddddddd





eeeeeeee      gggggggg
ffffff        hhhh
"""
ROWS_IN_PIECES = """
aaaa      bbbbbbbb




 cccccc     ddddddd
"""
PIECES_OVER_A_WHOLE = """
 aaaaaa bbbbbb
cccccccccccccccc
  ddddd eeeee
"""
CHAT = """
aaaa

               bbbbbb
               ccc

dddd

                 eeee

ffff
"""
BESIDE_PICTURES = """
                 aaaaaaaa
                 bbbbbb



                 cccccccc
                 dddd
"""
UNEVEN_COLUMNS = """
aaaaaaaa
bbbbbbbb    eeeeeeee
cccccccc    ffffff
dddddd
"""


@pytest.mark.parametrize("angle", [0, 4, -4, 10, -10, 90, -90, 180, 176, 95])
@pytest.mark.parametrize(
    "layout",
    [
        ONE_COLUMN,
        COLUMNS,
        THREE_UNDER_A_TITLE,
        COLUMNS_OF_PARAGRAPHS,
        PANELS,
        ROWS_IN_PIECES,
        PIECES_OVER_A_WHOLE,
        CHAT,
        BESIDE_PICTURES,
        UNEVEN_COLUMNS,
    ],
)
def test_letters_come_in_alphabetical_order_however_the_picture_is_turned(layout, angle):
    letters = read(layout, angle)
    assert letters == "".join(sorted(letters))


def framed(layout: str, column: int | None = None, row: int | None = None) -> np.ndarray:
    """A white page of the layout's size with a line drawn down a column, or across a row."""
    rows = layout.strip("\n").split("\n")
    page = np.full((len(rows) * HEIGHT, max(map(len, rows)) * WIDTH), 255, np.uint8)
    if column is not None:
        page[:, column * WIDTH : column * WIDTH + 4] = 0
    if row is not None:
        page[row * HEIGHT : row * HEIGHT + 4] = 0
    return page


def test_a_frame_decides_where_space_does_not():
    """What is far apart in a column stays together on its side of a line; what is near below it does not."""
    assert read(PANELS, grey=framed(PANELS)) == "abcdefgh"
    assert read(PANELS, grey=framed(PANELS, column=11)) == "abefcdgh"
    assert read(PANELS, grey=framed(PANELS, column=11, row=4)) == "abcdefgh"
    assert read(CHAT, grey=framed(CHAT, column=10)) == "adfbce"
    assert read(COLUMNS_OF_PARAGRAPHS, grey=framed(COLUMNS_OF_PARAGRAPHS, row=3)) == "abefcdgh"
    assert read(COLUMNS_OF_PARAGRAPHS, grey=framed(COLUMNS_OF_PARAGRAPHS, column=12)) == "abcdefgh"


def test_the_direction_is_that_of_the_long_lines():
    boxes = [box for _, box in lines_of(COLUMNS)]
    assert main_direction(boxes, [3, 3, 4, 3, 3, 90]) == pytest.approx(3)
    assert main_direction(boxes, [179, -179, 180, 181, 178, 0]) % 360 == pytest.approx(180, abs=1)
    assert main_direction(boxes, [92] * 6) == pytest.approx(92)


def test_nothing_or_one_line_is_in_order():
    assert reading_order([], []) == []
    assert reading_order([np.zeros((4, 2), np.float32)], [0.0]) == [0]


def test_a_page_of_a_thousand_lines_is_in_order():
    lines = [(number, 1 + number % 7 + 50 * (number % 13 == 0)) for number in range(1000)]
    corners = [[[9, 30 * n], [9 + 40 * w, 30 * n], [9 + 40 * w, 30 * n + 22], [9, 30 * n + 22]] for n, w in lines]
    boxes = [np.array(box, np.float32) for box in reversed(corners)]
    assert reading_order(boxes, [0.0] * 1000) == list(range(999, -1, -1))


def test_boxes_that_cannot_be_cut_apart_are_all_there_once():
    chance = np.random.default_rng(4)
    boxes = []
    for _ in range(60):
        left, top, width, height = chance.integers(0, 400), chance.integers(0, 400), *chance.integers(5, 200, 2)
        corners = [[left, top], [left + width, top], [left + width, top + height], [left, top + height]]
        boxes.append(np.array(corners, np.float32))
    assert sorted(reading_order(boxes, [0.0] * 60, np.zeros((600, 600), np.uint8))) == list(range(60))
