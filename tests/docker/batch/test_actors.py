"""What the workers of predict_with_ray.py do by themselves; test_predict_with_ray.py has them at work."""

import pytest

from meme_pipeline import Meme
from ray_stages import SickDevice, refuse_sick_device


def test_a_device_that_fails_every_picture_stops_the_run_and_one_bad_picture_does_not():
    def meme(picture, caption, views):
        made = Meme("a.png", caption=caption, views=views)
        made.picture.set_result(picture)
        return made

    well, failed, unread = meme("pixels", "a cat", {"text": 0.5}), meme("pixels", None, {}), meme(None, None, {})
    for batch in ([well, failed], [failed, unread], [unread, unread], [well]):
        refuse_sick_device(batch)
    for batch in ([failed, failed], [failed, unread, failed], [meme("pixels", "a cat", {})] * 2):
        with pytest.raises(SickDevice, match="none of 2 pictures"):
            refuse_sick_device(batch)
