"""The data sets as they are committed: what datasets/README.md promises of them."""

import csv
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy
import pytest
from datasets import load_from_disk

from chat.phrasebook_source import load_phrasebook
from cleaning.categories import CATEGORIES
from cleaning.near_duplicates import repeats_of, signatures
from cleaning.rows import text_key
from conftest import bare_environment
from generate_data import PROMPT_KEYS

REPOSITORY = Path(__file__).resolve().parents[2]
DATASETS = REPOSITORY / "datasets"
LEAST_ROWS = {"v1": 1_216, "v2": 2_734, "v3": 6_318, "v4": 6_234, "v5": 8_639}


@cache
def rows_of(name):
    return [{**row, "split": split} for split, rows in load_from_disk(str(DATASETS / name)).items() for row in rows]


@pytest.mark.parametrize("name", LEAST_ROWS)
def test_there_are_enough_rows_of_both_labels_in_every_language(name):
    rows = rows_of(name)
    assert len(rows) >= LEAST_ROWS[name]
    languages = {"en"} if name == "v1" else {"en", "zh", "ms", "ta"}
    assert {row["language"] for row in rows} == languages
    for language in languages:
        labels = [row["label"] for row in rows if row["language"] == language]
        assert 0.4 < numpy.mean(labels) < 0.6
    assert sum(path.stat().st_size for path in (DATASETS / name).rglob("*")) < 4_000_000, "the repository stays light"


def test_v3_has_every_key_and_the_hard_harmless_cases(repo):
    rows = rows_of("v3")
    assert {row["id"].split("/")[0].split("phrasebook_")[1] for row in rows} == set(PROMPT_KEYS)
    about_groups = {row["group"] for row in rows if not row["label"] and not row["group"].startswith("everyday")}
    assert len(about_groups) > 200


@pytest.mark.parametrize("name", LEAST_ROWS)
def test_each_group_is_attacked_and_spoken_of_in_every_language(name):
    rows, groups = rows_of(name), set(CATEGORIES.split(",")) - {"other"}
    for language in {row["language"] for row in rows}:
        found = {(row["category"], row["label"]) for row in rows if row["language"] == language}
        assert {category for category, label in found if label} == groups
        areas = {key.rsplit("_", 1)[0] for key in PROMPT_KEYS if key.endswith("_ok")}
        assert groups <= {category for category, label in found if not label} <= groups | areas


@pytest.mark.parametrize("name", LEAST_ROWS)
def test_no_text_is_there_twice_and_none_nearly(name):
    rows = rows_of(name)
    assert len({text_key(row) for row in rows}) == len(rows)
    for language in {row["language"] for row in rows}:
        texts = [row["text"] for row in rows if row["language"] == language]
        assert repeats_of(signatures(texts, len(texts), language), 0, 0.8) == {}


@pytest.mark.parametrize("name", LEAST_ROWS)
def test_no_group_is_in_two_splits(name):
    splits = {}
    for row in rows_of(name):
        splits.setdefault(row["group"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert {row["split"] for row in rows_of(name)} == {"train", "validation", "test"}


def test_no_training_text_of_one_is_measured_on_in_another():
    texts = {
        trained: {row["text"] for name in LEAST_ROWS for row in rows_of(name) if (row["split"] == "train") == trained}
        for trained in (True, False)
    }
    assert not texts[True] & texts[False]


@pytest.mark.parametrize("name", LEAST_ROWS)
def test_nothing_that_a_held_out_picture_says_is_in_it(name):
    with open(DATASETS / "sample_memes" / "held_out" / "labels.csv", encoding="utf-8", newline="") as table:
        held_out = list(csv.DictReader(table))
    assert not {row["text"] for row in held_out} & {row["text"] for row in rows_of(name)}
    assert not {row["group"] for row in held_out} & {row["group"] for row in rows_of(name)}


def test_group_names_alone_tell_little(repo):
    """Five folds by group over all of v3; where no name occurs, that is what the classifier sees."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    slots = load_phrasebook(repo / "data_preparation" / "phrasebook").slots
    names = {
        language: re.compile(
            "|".join(
                sorted(
                    (
                        re.escape(filling[language])
                        for slot, fillings in slots.items()
                        if slot.endswith("_group")
                        for filling in fillings
                    ),
                    key=len,
                    reverse=True,
                )
            ),
            re.IGNORECASE,
        )
        for language in ("en", "zh", "ms", "ta")
    }
    rows = rows_of("v3")
    seen = [
        dict.fromkeys((found.casefold() for found in names[row["language"]].findall(row["text"])), 1) for row in rows
    ]
    assert 0.5 < numpy.mean([bool(found) for found in seen]) < 0.95, "the names are found"
    classifier = make_pipeline(DictVectorizer(), LogisticRegression(max_iter=1_000))
    labels, groups = [row["label"] for row in rows], [row["group"] for row in rows]
    scores = cross_val_predict(classifier, seen, labels, groups=groups, cv=GroupKFold(5), method="predict_proba")[:, 1]
    assert roc_auc_score(labels, scores) < 0.60


@pytest.mark.parametrize("name", ["v1", "v4", "v5"])
def test_the_commands_of_the_readme_rebuild_it_byte_for_byte(tmp_path, name):
    readme = (DATASETS / "README.md").read_text(encoding="utf-8")
    commands = re.search(rf"^{name}:\n\n```sh\n(.*?)```", readme, re.DOTALL | re.MULTILINE)[1]
    commands = commands.replace("OUTPUT_DIR=datasets/", f"OUTPUT_DIR={tmp_path}/").replace("artifacts/", f"{tmp_path}/")
    environment = bare_environment({"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
    built = subprocess.run(["bash", "-ec", commands], cwd=REPOSITORY, env=environment, capture_output=True, timeout=300)
    assert built.returncode == 0, built.stderr.decode()[-2000:]

    def files(folder):
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    rebuilt, shipped = files(tmp_path / name), files(DATASETS / name)
    assert rebuilt.keys() == shipped.keys()
    assert [name for name in shipped if rebuilt[name] != shipped[name]] == []


def test_sets_of_v5_keep_both_labels_and_neither_length_nor_picture_tells_them(repo):
    from sklearn.metrics import roc_auc_score

    labels = {}
    for row in rows_of("v5"):
        labels.setdefault(row["group"], set()).add(row["label"])
    assert len(labels) > 380 and numpy.mean([len(found) == 2 for found in labels.values()]) > 0.98
    harmful = [row["label"] for row in rows_of("v5")]
    longest = roc_auc_score(harmful, [-len(row["text"]) for row in rows_of("v5")])
    pictured = roc_auc_score(harmful, [len(row["image"]) for row in rows_of("v5")])
    assert longest < 0.65 and 0.4 < pictured < 0.6


def test_twins_of_v4_say_both_things_about_the_same(repo):
    """A group of the second phrasebook has both labels, unless cleaning dropped one side."""
    labels = {}
    for row in rows_of("v4"):
        labels.setdefault(row["group"], set()).add(row["label"])
    assert len(labels) > 450 and numpy.mean([len(found) == 2 for found in labels.values()]) > 0.95


def test_the_check_set_is_balanced_and_shares_no_text_with_what_is_trained_on():
    lines = (DATASETS / "crosscheck" / "crosscheck.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({row["id"] for row in rows}) == len(rows) == 640
    for language in ("en", "zh", "ms", "ta"):
        texts = [row for row in rows if row["language"] == language]
        assert sum(row["label"] for row in texts) == 80 and len(texts) == 160
        trained = [row["text"] for name in LEAST_ROWS for row in rows_of(name) if row["language"] == language]
        both = trained + [row["text"] for row in texts]
        repeats = repeats_of(signatures(both, len(both), language), len(trained), 0.8)
        assert not [later for later, earlier in repeats.items() if earlier < len(trained) <= later]


@pytest.mark.parametrize("name", LEAST_ROWS)
def test_cards_show_composition_variety_and_examples(name):
    card = (DATASETS / name / "README.md").read_text(encoding="utf-8")
    for told in ("composition.png", "distinct 3-grams", "Intended use, and harms", "license:"):
        assert told in card
    assert card.split("## Samples")[1].count("\n| ") >= 6 + 2
    report = json.loads((DATASETS / name / "cleaning_report.json").read_text(encoding="utf-8"))
    assert report["items_read"] == report["rows"] + sum(report["rejected"].values()) and report["rows"] == len(
        rows_of(name)
    )
