"""datasets/v1, v2 and v3 as they are committed: what datasets/README.md promises of them."""

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
from cleaning.near_duplicates import repeats_of, signatures
from cleaning.rows import text_key
from conftest import bare_environment
from generate_data import PROMPT_KEYS

REPOSITORY = Path(__file__).resolve().parents[2]
DATASETS = REPOSITORY / "datasets"
LEAST_ROWS = {"v1": 1_216, "v2": 2_734, "v3": 6_318}


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
    assert {f"{row['category']}_{('ok', 'offensive')[row['label']]}" for row in rows} == set(PROMPT_KEYS)
    about_groups = {row["group"] for row in rows if not row["label"] and not row["group"].startswith("everyday")}
    assert len(about_groups) > 200


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


def test_the_commands_of_the_readme_rebuild_v1_byte_for_byte(tmp_path):
    readme = (DATASETS / "README.md").read_text(encoding="utf-8")
    commands = re.search(r"^v1:\n\n```sh\n(.*?)```", readme, re.DOTALL | re.MULTILINE)[1]
    commands = commands.replace("OUTPUT_DIR=datasets/", f"OUTPUT_DIR={tmp_path}/").replace("artifacts/", f"{tmp_path}/")
    environment = bare_environment({"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
    built = subprocess.run(["bash", "-ec", commands], cwd=REPOSITORY, env=environment, capture_output=True, timeout=300)
    assert built.returncode == 0, built.stderr.decode()[-2000:]

    def files(folder):
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    rebuilt, shipped = files(tmp_path / "v1"), files(DATASETS / "v1")
    assert rebuilt.keys() == shipped.keys()
    assert [name for name in shipped if rebuilt[name] != shipped[name]] == []


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
