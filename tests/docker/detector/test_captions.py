"""Batched greedy captions equal those of the library's `generate`, one picture at a time."""

import pytest
from PIL import Image

from detector.captions import load_captioner
from detector.reader import load_image_processor, model_pixels


@pytest.fixture(scope="module")
def captioner(caption_model_dir):
    return load_captioner(caption_model_dir, "cpu", "float32", max_new_tokens=12)


@pytest.fixture(scope="module")
def pixels_of(caption_model_dir):
    image_processor = load_image_processor(caption_model_dir)
    return lambda picture: model_pixels(image_processor, picture)


@pytest.fixture(scope="module")
def pictures(draw_meme):
    return [
        draw_meme(text, (90, 60), colour)
        for text, colour in (
            ("A", (255, 0, 0)),
            ("", (0, 0, 0)),
            ("ZZ", (0, 255, 9)),
            ("", (255, 255, 255)),
            ("M", (9, 9, 255)),
        )
    ]


def test_batched_captions_equal_generate(captioner, pixels_of, caption_model_dir, pictures):
    from transformers import BlipForConditionalGeneration, BlipProcessor

    model = BlipForConditionalGeneration.from_pretrained(caption_model_dir)
    processor = BlipProcessor.from_pretrained(caption_model_dir)
    plain = []
    for picture in pictures:
        inputs = processor(images=picture, return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False, num_beams=1)
        plain.append(processor.decode(tokens[0], skip_special_tokens=True).strip())
    assert len(set(plain)) > 1, "the captions must differ for this test to mean anything"
    assert captioner.captions([pixels_of(picture) for picture in pictures]) == plain


def test_a_picture_of_one_pixel_is_captioned(captioner, pixels_of):
    assert isinstance(captioner.captions([pixels_of(Image.new("RGB", (1, 1)))])[0], str)
