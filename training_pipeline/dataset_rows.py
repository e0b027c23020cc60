"""Data sets in, rows to train on out: several folders as one, checked, with their labels shuffled on request."""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from group_resampling import shuffle_by_group

COLUMNS = ("image", "text", "label", "language", "group")
TRAINED_SPLITS = ("train", "validation")


def read_splits(dataset_dirs: list[Path], shuffle_labels: bool, seed: int) -> dict[str, list[dict]]:
    """Rows by split of all folders together; SystemExit naming the remedy where training makes no sense.

    A training row whose group is in another folder's validation or test split is left out, and counted on stderr: what
    is measured on must not be trained on. `shuffle_labels` deals the labels of train and validation out anew, group by
    group.
    """
    splits: dict[str, list[dict]] = {}
    for folder in dataset_dirs:
        for name, rows in read_folder(folder).items():
            splits.setdefault(name, []).extend(rows)
    held_out = {row["group"] for name, rows in splits.items() if name != "train" for row in rows}
    kept = [row for row in splits["train"] if row["group"] not in held_out]
    if len(kept) < len(splits["train"]):
        print(
            f"{len(splits['train']) - len(kept)} training rows left out: their groups are held out in another folder",
            file=sys.stderr,
        )
    splits["train"] = kept
    for name in TRAINED_SPLITS:
        check_labels(name, splits[name])
    return with_shuffled_labels(splits, seed) if shuffle_labels else splits


def read_folder(folder: Path) -> dict[str, list[dict]]:
    """Rows of one saved data set by split; those without label, or without text and image description, are left out.

    An empty image description is None, as at inference: such a row has the text view alone.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(folder))
    except (FileNotFoundError, ValueError) as fault:
        raise SystemExit(f"{folder} is no saved data set ({fault}); make one with clean_dataset.py") from None
    except IndexError:  # how the library answers a split that was saved without rows
        raise SystemExit(f"{folder} has a split without rows; make it anew with clean_dataset.py") from None
    if not isinstance(dataset, DatasetDict) or not set(TRAINED_SPLITS) <= set(dataset):
        raise SystemExit(f"{folder} lacks a train or a validation split; make it with clean_dataset.py")
    splits = {}
    for name, table in dataset.items():
        missing = set(COLUMNS) - set(table.column_names)
        if missing:
            raise SystemExit(
                f"{folder}: the {name} split lacks the column {', '.join(sorted(missing))}; make it with "
                "clean_dataset.py"
            )
        rows = table.select_columns(list(COLUMNS)).to_list()
        splits[name] = [
            {**row, "image": row["image"] if (row["image"] or "").strip() else None}
            for row in rows
            if isinstance(row["text"], str) and (row["text"] + (row["image"] or "")).strip() and row["label"] in (0, 1)
        ]
        if len(splits[name]) < len(rows):
            print(
                f"{folder}: {len(rows) - len(splits[name])} of {len(rows)} {name} rows left out: no text or no label",
                file=sys.stderr,
            )
    return splits


def check_labels(name: str, rows: list[dict]) -> None:
    """Say how the labels and languages are balanced; SystemExit where one label is missing."""
    labels = Counter(row["label"] for row in rows)
    if set(labels) != {0, 1}:
        raise SystemExit(
            f"the {name} split has {len(rows)} rows of labels {sorted(labels)}; both labels (0 ok, "
            "1 offensive) are needed"
        )
    languages = ", ".join(
        f"{count} {language}" for language, count in sorted(Counter(row["language"] for row in rows).items())
    )
    print(f"{name}: {len(rows)} rows, {labels[1] / len(rows):.1%} offensive; {languages}", file=sys.stderr)


def with_shuffled_labels(splits: dict[str, list[dict]], seed: int) -> dict[str, list[dict]]:
    """The control: labels dealt out anew among the groups, as evaluate_model.py's controls do.

    Validation too: choosing the best checkpoint by true labels would let them in.
    """
    shuffled = dict(splits)
    for number, name in enumerate(TRAINED_SPLITS):
        labels, groups = (np.array([row[column] for row in splits[name]]) for column in ("label", "group"))
        labels = shuffle_by_group(labels, groups, np.random.default_rng(seed + number))
        shuffled[name] = [{**row, "label": int(label)} for row, label in zip(splits[name], labels, strict=True)]
    return shuffled


def rows_fingerprint(splits: dict[str, list[dict]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(splits):
        for row in splits[name]:
            digest.update(json.dumps([name, row["text"], row["image"], row["label"]]).encode())
    return digest.hexdigest()[:16]
