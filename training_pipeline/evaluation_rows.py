"""Rows to measure on, from a data set of this project or from any CSV, TSV or JSON Lines file with texts and labels."""

import csv
import json
import math
import sys
from collections import Counter
from pathlib import Path

HARMFUL = {"1", "true", "offensive"}
HARMLESS = {"0", "false", "ok"}
# Where each field of a row stands in a data set of this project.
COLUMNS = {name: name for name in ("text", "label", "image", "language", "category", "group")}
TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson")


class UnusableRows(Exception):
    """The data set cannot be measured on; the message names what is wrong and the remedy."""


def read_rows(
    path: Path,
    split: str,
    columns: dict[str, str],
    required: set[str],
    positive_label: str | None,
    both_labels: bool = True,
) -> list[dict]:
    """Rows with id, text, image (caption or None), label (0 or 1), language, category (or None) and group.

    `columns` names the column of each of these but id; one that is absent gives None, unless it is in `required`. A row
    whose label is empty is left out, and counted on stderr. Raises UnusableRows, for a single label where both must be.
    """
    table = read_saved_split(path, split) if path.is_dir() else read_table(path)
    if not table:
        raise UnusableRows(f"{path} has no rows" + (f" in its {split} split" if path.is_dir() else ""))
    absent = [
        f"{name.upper()}_COLUMN={columns[name]}"
        for name in columns
        if name in required and columns[name] not in table[0]
    ]
    if absent:
        raise UnusableRows(f"{path} has no {', no '.join(absent)}; its columns are {', '.join(map(str, table[0]))}")
    labelled = [(number, row) for number, row in enumerate(table) if as_text(row.get(columns["label"]))]
    if len(labelled) < len(table):
        print(f"{path}: {len(table) - len(labelled)} of {len(table)} rows left out: no label", file=sys.stderr)
    labels = binary_labels([as_text(row[columns["label"]]) for _, row in labelled], positive_label, path)
    if both_labels and len(set(labels)) < 2:
        raise UnusableRows(
            f"{path} has {len(labels)} rows of one label, {set(labels) or 'none'}; AUROC needs both (0 ok, 1 offensive)"
        )
    return [evaluation_row(number, row, columns, label) for (number, row), label in zip(labelled, labels, strict=True)]


def evaluation_row(number: int, row: dict, columns: dict[str, str], label: int) -> dict:
    found = {name: as_text(row.get(columns[name])) for name in columns}
    identity = as_text(row.get("id")) or str(number)
    return {
        "id": identity,
        "text": found["text"] or "",
        "image": found["image"],
        "label": label,
        "language": found["language"],
        "category": found["category"],
        "group": found["group"] or f"row {number}",
    }


def as_text(value) -> str | None:
    """A cell as text; None where it is empty, missing or NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return text if text.strip() else None


def read_saved_split(folder: Path, split: str) -> list[dict]:
    """One split of a data set saved by `datasets`, class labels as their names."""
    from datasets import ClassLabel, DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(folder))
    except (FileNotFoundError, ValueError) as fault:
        raise UnusableRows(
            f"{folder} is no saved data set ({fault}); set DATASET_DIR to one that clean_dataset.py "
            f"wrote, or to a {', '.join(TABLE_ENDINGS)} file"
        ) from None
    except IndexError:  # how the library answers a split that was saved without rows
        raise UnusableRows(f"{folder} has a split without rows; make it anew with clean_dataset.py") from None
    if isinstance(dataset, DatasetDict):
        if split not in dataset:
            raise UnusableRows(f"SPLIT={split} is not in {folder}, which has {', '.join(dataset)}")
        dataset = dataset[split]
    names = {name: feature for name, feature in dataset.features.items() if isinstance(feature, ClassLabel)}
    return [
        {**row, **{name: feature.int2str(row[name]) for name, feature in names.items() if row[name] is not None}}
        for row in dataset.to_list()
    ]


def read_table(path: Path) -> list[dict]:
    """All rows of a CSV, TSV or JSON Lines file, cells as they stand there."""
    ending = path.suffix.casefold()
    if ending not in TABLE_ENDINGS:
        raise UnusableRows(f"{path} is no {', '.join(TABLE_ENDINGS)} file and no folder")
    csv.field_size_limit(2**31 - 1)  # the default stops at 131,072 characters
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            if ending in (".csv", ".tsv"):
                return list(csv.DictReader(lines, delimiter="," if ending == ".csv" else "\t"))
            return [json_row(line, number, path) for number, line in enumerate(lines, start=1) if line.strip()]
    except UnicodeDecodeError as fault:
        raise UnusableRows(f"{path} is not UTF-8 (byte {fault.start}); save it as UTF-8") from None
    except csv.Error as fault:
        raise UnusableRows(f"{path} cannot be read as {ending[1:].upper()}: {fault}") from None


def json_row(line: str, number: int, path: Path) -> dict:
    try:
        row = json.loads(line)
    except ValueError as fault:
        raise UnusableRows(f"{path}, line {number}, is not JSON: {fault}") from None
    if not isinstance(row, dict):
        raise UnusableRows(f"{path}, line {number}, is no JSON object of columns")
    return row


def binary_labels(values: list[str], positive_label: str | None, path: Path) -> list[int]:
    """1 for the harmful label (or labels, with commas), 0 for every other."""
    counts = Counter(values)
    seen = ", ".join(f"{value} ({count})" for value, count in counts.most_common(8))
    if positive_label:
        positive = {name.strip() for name in positive_label.split(",")}
        if not positive & set(counts):
            raise UnusableRows(f"POSITIVE_LABEL={positive_label} is no label of {path}, which has {seen}")
        return [int(value in positive) for value in values]
    unknown = {value for value in counts if value.casefold() not in HARMFUL | HARMLESS}
    if unknown:
        raise UnusableRows(f"{path} has labels {seen}; set POSITIVE_LABEL to the one that means harmful")
    return [int(value.casefold() in HARMFUL) for value in values]
