"""datasets/sample_memes as it is committed: its files, its tables and its card agree."""

import csv
import io
import re
from collections import Counter

from datasets import load_dataset
from PIL import Image, ImageChops

from cleaning.categories import CATEGORIES
from drawing.pictures import OBJECTS
from drawing.sample_memes_card import card_files


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_carried_samples_are_what_their_card_says(repo):
    samples = repo / "datasets" / "sample_memes"
    assert sum(path.stat().st_size for path in samples.rglob("*") if path.is_file()) < 8e6
    memes = read_csv(samples / "held_out" / "labels.csv")
    names = [meme["file_name"] for meme in memes]
    assert (samples / "held_out" / "stdin.csv").read_text().splitlines() == names
    assert sorted(names) == sorted(path.name for path in (samples / "held_out").glob("*.png"))
    assert len(memes) == 60 and len({meme["group"] for meme in memes}) == 60
    assert all(meme["group"].startswith(meme["category"]) for meme in memes if not meme["group"].startswith("everyday"))
    assert {meme["category"] for meme in memes if meme["label"] == "offensive"} == set(CATEGORIES.split(",")) - {
        "other"
    }
    assert all(count in (7, 8) for count in Counter((meme["label"], meme["language"]) for meme in memes).values())
    for meme in memes:
        with Image.open(samples / "held_out" / meme["file_name"]) as picture:
            assert 320 <= picture.width <= 600 and 300 <= picture.height <= 480
        assert meme["object"] in OBJECTS and meme["object"] in meme["caption"]


def test_the_card_is_that_of_the_tables_beside_it(repo):
    """Counts, plot and six pictures come from the carried files; drawing anew is not needed to hold them."""
    samples = repo / "datasets" / "sample_memes"
    card = (samples / "README.md").read_text(encoding="utf-8")
    files = card_files(samples, re.search(r"drawn with (`.*?`)", card)[1])
    assert files["README.md"].decode() == card
    with Image.open(io.BytesIO(files["composition.png"])) as drawn, Image.open(samples / "composition.png") as carried:
        assert drawn.size == carried.size and ImageChops.difference(drawn, carried).getbbox() is None
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", card)
    labels = {meme["file_name"]: meme for meme in read_csv(samples / "held_out" / "labels.csv")}
    examples = [labels[picture.removeprefix("held_out/")] for picture in pictures if picture != "composition.png"]
    assert [meme["label"] for meme in examples] == ["ok"] * 3 + ["offensive"] * 3
    assert card.index("<details>") < card.index(examples[3]["file_name"])


def test_the_carried_samples_load_as_their_card_says(repo, tmp_path):
    samples, cache = repo / "datasets" / "sample_memes", str(tmp_path)
    train = load_dataset("parquet", data_files=str(samples / "train.parquet"), split="train", cache_dir=cache)
    held_out = load_dataset("imagefolder", data_dir=str(samples / "held_out"), split="train", cache_dir=cache)
    assert train.num_rows == 2000 and train[0]["image"].size == (128, 128)
    columns = {"image", "caption", "text", "label", "language", "category", "group", "object"}
    assert set(held_out.column_names) == columns
    assert held_out.num_rows == 60 and held_out[0]["image"].size[0] >= 320
    assert not set(train["text"]) & set(held_out["text"])
