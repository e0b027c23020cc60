"""render_memes.py on a small dataset, and the sample memes that the project carries."""

import csv
import hashlib
import io
import random
import re
from collections import Counter

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from PIL import Image, ImageChops, ImageStat

import meme_text
from meme_drawing import OBJECTS, SCENES, draw_meme, named_object
from render_memes import choose_held_out
from sample_memes_card import card_files

LANGUAGES = ["en", "ms", "ta", "zh"]
TEXTS = {
    "en": "Number {n}: my bus is late, again and again",
    "zh": "第{n}个：我的巴士又迟到了，一次又一次",
    "ms": "Nombor {n}: bas saya lambat, lagi dan lagi",
    "ta": "எண் {n}: என் பேருந்து MRT போல மீண்டும் தாமதம்",
}


def fonts_are_installed() -> bool:
    try:
        meme_text.require_fonts()
    except meme_text.MissingFonts:
        return False
    return True


needs_fonts = pytest.mark.skipif(
    not fonts_are_installed(),
    reason="drawing needs Debian's fonts-noto-core, fonts-noto-cjk and fonts-noto-color-emoji",
)


def rows(prefix: str, ideas: int) -> list[dict]:
    return [
        {
            "id": f"{prefix}-{number}-{language}",
            "image": "A queue at a bus stop" if number % 2 else "A queue",
            "text": TEXTS[language].format(n=number),
            "label": number % 2,
            "language": language,
            "category": "general",
            "group": f"{prefix}-{number}",
            "source": "test",
        }
        for number in range(ideas)
        for language in LANGUAGES
    ]


@pytest.fixture
def dataset_dir(tmp_path):
    return save_dataset(tmp_path / "dataset", rows("train", 4), rows("test", 6))


def save_dataset(folder, train, test):
    text = Value("string")
    features = Features(
        {
            "id": text,
            "image": text,
            "text": text,
            "label": ClassLabel(names=["ok", "offensive"]),
            "language": text,
            "category": text,
            "group": text,
            "source": text,
        }
    )
    parts = {"train": train, "test": test}
    DatasetDict({name: Dataset.from_list(part, features=features) for name, part in parts.items()}).save_to_disk(folder)
    return folder


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def render(run_script, dataset_dir, output_dir, **settings):
    return run_script(
        "data_preparation/render_memes.py",
        {"DATASET_DIR": dataset_dir, "OUTPUT_DIR": output_dir, "TRAIN_PICTURES": 20, "HELD_OUT_PICTURES": 10}
        | settings,
    )


@needs_fonts
def test_draws_both_parts_and_the_same_ones_again(run_script, dataset_dir, tmp_path):
    output = tmp_path / "memes"
    done = render(run_script, dataset_dir, output)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b""
    names = [f"meme_{number:03d}.png" for number in range(1, 11)]
    assert {path.name for path in output.iterdir()} == {"README.md", "composition.png", "held_out", "train.parquet"}
    tables = {"stdin.csv", "labels.csv", "metadata.csv"}
    assert {path.name for path in (output / "held_out").iterdir()} == {*names, *tables}
    assert (output / "held_out" / "stdin.csv").read_text().splitlines() == names
    first = hashes(output)
    (output / "held_out" / "meme_999.png").write_bytes(b"left by an earlier, larger run")
    assert render(run_script, dataset_dir, output).returncode == 0
    assert hashes(output) == first
    assert render(run_script, dataset_dir, output, SEED=2).returncode == 0
    memes = {digest for name, digest in hashes(output).items() if name.startswith("held_out/meme_")}
    assert len(memes) == 10 and not set(first.values()) & memes


@needs_fonts
def test_held_out_memes_come_from_the_test_split_evenly(run_script, dataset_dir, tmp_path):
    render(run_script, dataset_dir, tmp_path / "memes", HELD_OUT_PICTURES=16)
    memes = read_csv(tmp_path / "memes" / "held_out" / "labels.csv")
    assert Counter((meme["label"], meme["language"]) for meme in memes) == {
        (label, language): 2 for label in ("ok", "offensive") for language in LANGUAGES
    }
    assert {meme["group"].split("-")[0] for meme in memes} == {"test"}
    assert all(count in (2, 3) for count in Counter(meme["group"] for meme in memes).values())
    assert all(meme["object"] == "bus" for meme in memes if meme["label"] == "offensive")  # their descriptions name it
    train = load_dataset(
        "parquet",
        data_files=str(tmp_path / "memes" / "train.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert len(train) == 20 and set(train.column_names) == {"image", "caption", "text", "label", "language"}
    assert {picture.size for picture in train["image"]} == {(128, 128)}
    assert set(train["text"]) <= {row["text"] for row in rows("train", 4)}


@needs_fonts
def test_refuses_a_dataset_whose_groups_cross_the_splits(run_script, tmp_path):
    done = render(run_script, save_dataset(tmp_path / "dataset", rows("same", 4), rows("same", 2)), tmp_path / "memes")
    assert done.returncode != 0
    assert b"2 groups both in train and in test" in done.stderr
    assert not (tmp_path / "memes").exists()


def test_refuses_bad_settings_by_name(run_script, tmp_path):
    done = run_script("data_preparation/render_memes.py", {"DATASET_DIR": tmp_path / "none", "TRAIN_PICTURES": 0})
    assert done.returncode == 2
    assert b"DATASET_DIR" in done.stderr and b"TRAIN_PICTURES=0" in done.stderr


def test_missing_fonts_are_named_with_their_packages(tmp_path):
    with pytest.raises(meme_text.MissingFonts) as missing:
        meme_text.require_fonts(tmp_path)
    assert "apt-get install fonts-noto-cjk fonts-noto-color-emoji fonts-noto-core" in str(missing.value)
    assert str(tmp_path / "truetype/noto/NotoSansTamil-Bold.ttf") in str(missing.value)


@needs_fonts
@pytest.mark.parametrize("language", LANGUAGES)
def test_lines_stay_inside_the_picture_and_lose_no_text(language):
    text = " ".join(TEXTS[language].format(n=number) for number in range(2))
    for block in meme_text.lay_out(text, language, (320, 320), "both", 40):
        assert max(meme_text.line_width(line, language, block.pixels) for line in block.lines) <= 320
        assert 0 <= block.top and block.top + block.depth <= 320
    blocks = meme_text.lay_out(text, language, (320, 320), "both", 40)
    written = "".join("".join(block.lines) for block in blocks)
    assert written.replace(" ", "") == text.replace(" ", "")


@needs_fonts
def test_tamil_is_shaped_and_no_letter_is_a_box():
    tamil = meme_text.font("tamil", 40)
    assert tamil.getlength("கோ") != tamil.getlength("க") + tamil.getlength("ோ")  # a vowel sign around its consonant
    box = tamil.getmask("A").getbbox()
    runs = meme_text._runs("MRT-ல் 4", "ta", 40)
    assert [run for run, _ in runs] == ["MRT-", "ல்", " 4"]
    assert all(face.getmask(run).getbbox() != box for run, face in runs)


@needs_fonts
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


def test_choose_held_out_takes_what_there_is():
    few = [{"id": str(n), "label": "ok", "language": "en", "group": f"g{n % 2}"} for n in range(4)]
    assert len(choose_held_out(few, 10, seed=1)) == 4
    assert {row["group"] for row in choose_held_out(few, 2, seed=1)} == {"g0", "g1"}


def test_the_carried_samples_are_what_their_card_says(repo):
    samples = repo / "datasets" / "sample_memes"
    assert sum(path.stat().st_size for path in samples.rglob("*") if path.is_file()) < 8e6
    memes = read_csv(samples / "held_out" / "labels.csv")
    names = [meme["file_name"] for meme in memes]
    assert (samples / "held_out" / "stdin.csv").read_text().splitlines() == names
    assert sorted(names) == sorted(path.name for path in (samples / "held_out").glob("*.png"))
    assert len(memes) == 60 and len({meme["group"] for meme in memes}) == 60
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
    assert {"image", "caption", "text", "label", "language", "group", "object"} == set(held_out.column_names)
    assert held_out.num_rows == 60 and held_out[0]["image"].size[0] >= 320
    assert not set(train["text"]) & set(held_out["text"])
