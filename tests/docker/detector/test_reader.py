"""A stage that fails on an image costs that stage and that image, nothing else; nothing is ever raised."""

import io

import pytest
import torch
from PIL import Image

from detector.image_decoding import Frames, UnreadableImage
from detector.meme import OcrLine
from detector.reader import Reader, load_reader, worth_a_caption
from detector.settings import DetectorSettings, UnusableSetting

LINES = [OcrLine("hello", 0.99, [(0, 0)]), OcrLine("imgflip.com", 0.99, [(0, 9)])]
PIXELS = torch.zeros(3, 4, 4)


class FakeOcr:
    def __init__(self, error: Exception | None = None):
        self.error = error

    def read(self, picture):
        if self.error:
            raise self.error
        return LINES


class FakeImageProcessor:
    error: Exception | None = None

    def __call__(self, images, return_tensors):
        if self.error:
            raise self.error
        return {"pixel_values": [PIXELS]}


@pytest.mark.parametrize(
    ("decode_fails", "pixels_fail", "read_fails", "reason"),
    [
        (UnreadableImage("missing"), None, None, "missing"),
        (MemoryError(), None, None, "decoding_failed"),
        (None, ValueError(), None, "caption_failed"),
        (None, None, RuntimeError(), "ocr_failed"),
        (None, ValueError(), RuntimeError(), "caption_failed"),
        (None, None, None, None),
    ],
)
def test_what_fails_is_the_memes_error_and_the_rest_is_there(
    monkeypatch, decode_fails, pixels_fail, read_fails, reason
):
    def decode(*_):
        if decode_fails:
            raise decode_fails
        return Frames([Image.new("RGB", (2, 2))], [0])

    monkeypatch.setattr("detector.reader.decode_frames", decode)
    reader = Reader(FakeOcr(read_fails), FakeImageProcessor(), max_pixels=100)
    reader.image_processor.error = pixels_fail
    meme = reader.read("x.png")
    assert (meme.path, meme.error) == ("x.png", reason)
    assert (meme.pixels is None) == bool(decode_fails or pixels_fail)
    assert (meme.lines, meme.text) == (([], "") if decode_fails or read_fails else (LINES, "hello"))


def test_bytes_are_read_as_the_file_is_and_large_ones_are_refused(caption_model_dir, llm_dir, memes_dir):
    settings = DetectorSettings(
        llm_dir=llm_dir, caption_model_dir=caption_model_dir, dtype="float32", max_megapixels=1, _env_file=None
    )
    reader = load_reader(settings)
    path = memes_dir / "0.png"
    read, given = reader.read(str(path)), reader.read("anything", path.read_bytes())
    assert read.text == given.text == "HELLO WORLD"
    assert torch.equal(read.pixels, given.pixels) and read.pixels.shape == reader.pixels_shape == (3, 32, 32)
    assert list(read.milliseconds) == ["decode", "pixels", "ocr"]
    reader.max_pixels = 100
    assert reader.read(str(path)).error == "too_many_pixels"


def test_words_of_later_frames_are_read_once_and_what_is_not_is_said(llm_dir, draw_meme):
    reader = load_reader(DetectorSettings(llm_dir=llm_dir, dtype="float32", _env_file=None))
    texts = ["HELLO WORLD", "HELLO WORLD\nKOPI TIME", "HELLO WORLD\nKOPI TIME", "APA KHABAR"]
    frames = [Image.new("RGB", (320, 240)), *(draw_meme(text) for text in texts)]
    meme = reader.read("meme", animation(frames))
    assert meme.error is None and meme.unseen_frames == 0
    assert meme.text == "HELLO WORLD KOPI TIME APA KHABAR"
    assert 0 < meme.lines[0].frame <= meme.lines[1].frame < meme.lines[2].frame
    many = [draw_meme(f"{number} {number} {number}", colour=(20 * number, 90, 90)) for number in range(1, 11)]
    meme = reader.read("meme", animation(many))
    assert len({line.frame for line in meme.lines}) == 6 and meme.unseen_frames == pytest.approx(0.4)


def animation(frames) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def test_the_captioner_sees_the_first_frame_that_is_not_blank(draw_meme):
    blank, shown = Image.new("RGB", (9, 9), "teal"), draw_meme("HELLO")
    assert worth_a_caption([blank, shown, draw_meme("BYE")]) is shown
    assert worth_a_caption([blank, blank]) is blank


def test_a_folder_without_a_captioner_is_named(llm_dir, tmp_path):
    settings = DetectorSettings(llm_dir=llm_dir, caption_model_dir=tmp_path)
    with pytest.raises(UnusableSetting, match=f"CAPTION_MODEL_DIR={tmp_path}: no image processor"):
        load_reader(settings)
