"""What is drawn, and what the caption says of it."""

import random

import pytest
from PIL import ImageStat

from drawing.pictures import OBJECTS, SCENES, draw_meme, named_object


@pytest.mark.usefixtures("fonts")
def test_caption_says_what_is_drawn():
    for number, name in enumerate(OBJECTS):
        meme = draw_meme("", "en", "", (320, 320), random.Random(number), name)
        assert meme.main_object == name
        assert meme.caption.split(" and ")[0].split(" on ")[0].split(" in ")[0].endswith(f" {name}")
        assert any(meme.caption.endswith(where) for where in SCENES) or meme.caption.endswith(" background")
        assert max(ImageStat.Stat(meme.image).stddev) > 5


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("An uncle with a mug of kopi beside his cat", "cup of coffee"),
        ("Two buses at an interchange", "bus"),
        ("A busy street", None),
        ("A cat asleep on a textbook", "cat"),
        ("A tray of carrots", None),
        ("Commuters waiting on an MRT platform", "train"),
    ],
)
def test_named_object_is_the_first_whole_word(description, name):
    assert named_object(description) == name
