"""What is trained on and measured on: several data sets as one, checked, their labels shuffled for a control run."""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from evaluation.resampling import shuffle_by_group
from memes.rows import MemeRow, UnusableRows, check_both_labels, of_languages, read_rows, saved_splits, with_content

REQUIRED = frozenset({"image", "text", "label", "language", "group"})
TRAINED_SPLITS = ("train", "validation")


def read_splits(
    dataset_dirs: list[Path], shuffle_labels: bool, seed: int, languages: str = ""
) -> dict[str, list[MemeRow]]:
    """Rows by split of all folders together; UnusableRows, with the remedy, where training makes no sense.

    A training row whose group is in another folder's validation or test split is left out, and counted on stderr: what
    is measured on must not be trained on. `shuffle_labels` deals the labels of train and validation out anew, group by
    group. `languages`, with commas, leaves out the rows of all others.
    """
    splits: dict[str, list[MemeRow]] = {}
    for folder in dataset_dirs:
        names = saved_splits(folder)
        if not set(TRAINED_SPLITS) <= set(names):
            raise UnusableRows(f"{folder} lacks a train or a validation split; make it with clean_dataset.py")
        for name in names:
            rows = with_content(read_rows(folder, name, required=REQUIRED), f"{folder}, {name}")
            splits.setdefault(name, []).extend(of_languages(rows, languages))
    held_out = {row["group"] for name, rows in splits.items() if name != "train" for row in rows}
    kept = [row for row in splits["train"] if row["group"] not in held_out]
    if len(kept) < len(splits["train"]):
        print(
            f"{len(splits['train']) - len(kept)} training rows left out: their groups are held out in another folder",
            file=sys.stderr,
        )
    splits["train"] = kept
    for name in TRAINED_SPLITS:
        check_both_labels(splits[name], f"the {name} split")
        print(f"{name}: {balance(splits[name])}", file=sys.stderr)
    return with_shuffled_labels(splits, seed) if shuffle_labels else splits


def balance(rows: list[MemeRow]) -> str:
    """How many rows, and how labels and languages are balanced."""
    languages = Counter(row["language"] or "unknown" for row in rows)
    listed = ", ".join(f"{count} {language}" for language, count in sorted(languages.items()))
    return f"{len(rows)} rows, {sum(row['label'] for row in rows) / len(rows):.1%} offensive; {listed}"


def with_shuffled_labels(splits: dict[str, list[MemeRow]], seed: int) -> dict[str, list[MemeRow]]:
    """The control: labels dealt out anew among the groups, as evaluate_model.py's controls do.

    Validation too: a best checkpoint that is chosen by true labels would have learnt from them.
    """
    shuffled = dict(splits)
    for number, name in enumerate(TRAINED_SPLITS):
        labels = np.array([row["label"] for row in splits[name]])
        groups = np.array([row["group"] for row in splits[name]])
        labels = shuffle_by_group(labels, groups, np.random.default_rng(seed + number))
        shuffled[name] = [
            MemeRow(**{**row, "label": int(label)}) for row, label in zip(splits[name], labels, strict=True)
        ]
    return shuffled


def rows_fingerprint(splits: dict[str, list[MemeRow]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(splits):
        for row in splits[name]:
            target = row.get("target") if row["label"] else None  # of harmless rows it teaches nothing
            digest.update(json.dumps([name, row["text"], row["image"], row["label"], target]).encode())
    return digest.hexdigest()[:16]
