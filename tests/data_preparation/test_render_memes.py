"""render_memes.py on a small dataset."""

import csv
import hashlib
from collections import Counter

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset

from render_memes import choose_held_out

LANGUAGES = ["en", "ms", "ta", "zh"]
TEXTS = {
    "en": "Number {n}: my bus is late, again and again",
    "zh": "第{n}个：我的巴士又迟到了，一次又一次",
    "ms": "Nombor {n}: bas saya lambat, lagi dan lagi",
    "ta": "எண் {n}: என் பேருந்து MRT போல மீண்டும் தாமதம்",
}


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


@pytest.mark.usefixtures("fonts")
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


@pytest.mark.usefixtures("fonts")
def test_held_out_memes_come_from_the_test_split_evenly(run_script, dataset_dir, tmp_path):
    render(run_script, dataset_dir, tmp_path / "memes", HELD_OUT_PICTURES=16)
    memes = read_csv(tmp_path / "memes" / "held_out" / "labels.csv")
    assert Counter((meme["label"], meme["language"]) for meme in memes) == {
        (label, language): 2 for label in ("ok", "offensive") for language in LANGUAGES
    }
    assert {meme["group"].split("-")[0] for meme in memes} == {"test"}
    assert {meme["category"] for meme in memes} == {"general"}
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


@pytest.mark.usefixtures("fonts")
def test_refuses_a_dataset_whose_groups_cross_the_splits(run_script, tmp_path):
    done = render(run_script, save_dataset(tmp_path / "dataset", rows("same", 4), rows("same", 2)), tmp_path / "memes")
    assert done.returncode != 0
    assert b"2 groups both in train and in test" in done.stderr
    assert not (tmp_path / "memes").exists()


def test_refuses_bad_settings_by_name(run_script, tmp_path):
    done = run_script("data_preparation/render_memes.py", {"DATASET_DIR": tmp_path / "none", "TRAIN_PICTURES": 0})
    assert done.returncode == 2
    assert b"DATASET_DIR" in done.stderr and b"TRAIN_PICTURES=0" in done.stderr


def test_choose_held_out_takes_what_there_is():
    few = [{"id": str(n), "label": "ok", "language": "en", "group": f"g{n % 2}"} for n in range(4)]
    assert len(choose_held_out(few, 10, seed=1)) == 4
    assert {row["group"] for row in choose_held_out(few, 2, seed=1)} == {"g0", "g1"}
