"""The tiny captioner, trained once for all tests on the project's own pictures (about two minutes on one core)."""

import csv

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, BlipForConditionalGeneration

from tiny.captioner import (
    STEPS,
    augmented,
    caption_ids,
    main_object_accuracy,
    names_first,
    new_processor,
    train_captioner,
)


@pytest.fixture(scope="module")
def samples(repo):
    return repo / "datasets" / "sample_memes"


@pytest.fixture(scope="module")
def trained(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioner")
    return folder, train_captioner(samples / "train.parquet", folder)


def test_names_the_main_object_of_half_the_held_out_memes(trained, samples):
    assert main_object_accuracy(trained[0], samples / "held_out") >= 0.5


def test_folder_is_a_hugging_face_captioner(trained):
    folder, metrics = trained
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert metrics["steps"] == STEPS and metrics["loss"] < 0.6
    assert metrics["parameters"] < 2_000_000
    loaded, info = BlipForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert type(AutoProcessor.from_pretrained(folder)).__name__ == "BlipProcessor"
    assert loaded.config.text_config.bos_token_id == AutoProcessor.from_pretrained(folder).tokenizer.bos_token_id


def test_captions_need_no_prompt_and_end_by_themselves(trained, samples):
    model = BlipForConditionalGeneration.from_pretrained(trained[0]).eval()
    processor = AutoProcessor.from_pretrained(trained[0])
    with open(samples / "held_out" / "labels.csv", newline="", encoding="utf-8") as file:
        files = [samples / "held_out" / row["file_name"] for row in csv.DictReader(file)][:8]
    inputs = processor(images=[Image.open(file).convert("RGB") for file in files], return_tensors="pt")
    ids = model.generate(**inputs)
    assert (ids == processor.tokenizer.sep_token_id).any(dim=1).all()
    for caption in processor.batch_decode(ids, skip_special_tokens=True):
        assert caption.startswith(("a ", "an ")) and "[" not in caption
        assert " on a" in caption or " in a room" in caption


def test_captions_begin_where_generation_begins_and_lose_nothing():
    captions = ["a red car on a beach", "an orange cat and a hot cup of coffee on a blue striped background"]
    tokenizer = new_processor(captions).tokenizer
    ids = caption_ids(tokenizer, captions)
    assert tokenizer.convert_ids_to_tokens(ids[:, 0]) == ["[DEC]", "[DEC]"]
    assert (ids == tokenizer.sep_token_id).sum(dim=1).tolist() == [1, 1]
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == captions


def test_augmented_pictures_are_the_same_pictures_moved():
    torch.manual_seed(0)
    spot = torch.zeros(16, 3, 32, 32)
    spot[:, :, 16, 16] = 1
    moved = augmented(spot)
    assert moved.shape == spot.shape
    assert (moved.sum(dim=(1, 2, 3)) == 3).all()  # neither lost nor doubled
    assert len({tuple(picture[0].nonzero()[0].tolist()) for picture in moved}) > 8


@pytest.mark.parametrize(
    ("caption", "main_object", "right"),
    [
        ("a red car and a blue bird on a beach", "car", True),
        ("a red car and a blue bird on a beach", "bird", False),
        ("a hot cup of coffee in a room", "cup of coffee", True),
        ("a high pile of books on a road at night", "pile of books", True),
        ("a blue scar on a beach", "car", False),
        ("", "car", False),
    ],
)
def test_names_first_takes_the_first_object_only(caption, main_object, right):
    assert names_first(caption, main_object) is right
