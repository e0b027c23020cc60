"""What the workers of predict_with_ray.py do by themselves; test_predict_with_ray.py has them at work."""

import pickle

import pytest

from batch.actors import SickDevice, refuse_sick_device
from detector.meme import Meme
from detector.settings import DetectorSettings


def test_actors_get_frozen_settings_with_absolute_paths_and_nothing_of_the_script(models, tmp_path, monkeypatch):
    class Settings(DetectorSettings):
        output: str = "predictions"

    (tmp_path / "llm").mkdir()
    monkeypatch.chdir(tmp_path)
    shared = Settings(llm_dir="llm", caption_model_dir=models["CAPTION_MODEL_DIR"], threshold=0.25)
    monkeypatch.setenv("THRESHOLD", "0.75")  # a worker's own environment changes nothing
    sent = pickle.loads(pickle.dumps(shared.for_another_process()))
    assert type(sent) is DetectorSettings and sent.threshold == 0.25 and sent.batch_size == 32
    assert sent.llm_dir == tmp_path / "llm" and sent.tessdata_prefix is None
    with pytest.raises(ValueError, match="frozen"):
        sent.threshold = 0.5


def test_a_device_that_fails_every_picture_stops_the_run_and_one_bad_picture_does_not():
    def meme(picture, caption, views):
        return Meme("a.png", pixels=picture, caption=caption, views=views)

    well, failed, unread = meme("pixels", "a cat", {"text": 0.5}), meme("pixels", None, {}), meme(None, None, {})
    for batch in ([well, failed], [failed, unread], [unread, unread], [well]):
        refuse_sick_device(batch)
    for batch in ([failed, failed], [failed, unread, failed], [meme("pixels", "a cat", {})] * 2):
        with pytest.raises(SickDevice, match="none of 2 pictures"):
            refuse_sick_device(batch)


def test_without_a_captioner_what_was_read_tells_a_device_that_fails():
    read, wordless = Meme("a.png", text="hello"), Meme("b.png")
    refuse_sick_device([read, wordless])
    with pytest.raises(SickDevice, match="none of 2 pictures"):
        refuse_sick_device([read, wordless, read])
