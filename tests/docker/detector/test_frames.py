"""Frames are chosen by what is new in them, and what is left out is counted."""

import pytest
from PIL import Image

from detector.frames import frames_to_read, newness, sketch


@pytest.fixture
def sketch_of(draw_meme):
    return lambda text: sketch(draw_meme(text) if text else Image.new("RGB", (320, 240), (70, 120, 90)))


def test_words_that_appear_are_new_and_a_picture_that_goes_blank_is_not(sketch_of):
    assert newness(sketch_of("HI"), sketch_of("")) > 12
    assert newness(sketch_of(""), sketch_of("HI")) == 0
    assert newness(sketch_of("HI"), sketch_of("HI")) == 0


@pytest.mark.parametrize(
    ("texts", "most", "chosen", "unlike"),
    [
        (["HELLO"], 4, [0], 0),
        (["", "", "HELLO", "HELLO", ""], 4, [0, 2], 0),
        (["HELLO", "HELLO", "BYE", "HELLO", "KOPI"], 4, [0, 2, 4], 0),
        (["HELLO", "", "", ""], 4, [0], 0),
        (["1111", "2222", "3333", "2222"], 1, [0], 3),
    ],
)
def test_frames_that_say_the_same_are_read_once(sketch_of, texts, most, chosen, unlike):
    assert frames_to_read([sketch_of(text) for text in texts], most) == (chosen, unlike)
