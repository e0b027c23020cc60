"""Labelled rows, from a data set of this project or from any CSV, TSV or JSON Lines file with texts and labels."""

import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from guard.template import Meme

HARMFUL = {"1", "true", "offensive"}
HARMLESS = {"0", "false", "ok"}
# Where each field of a row stands in a data set of this project.
COLUMNS = {name: name for name in ("text", "label", "image", "language", "category", "group")} | {"target": "category"}
REQUIRED = frozenset({"text", "label"})
TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson")


class MemeRow(Meme):
    id: str
    language: str | None
    category: str | None
    group: str  # a meme and its translations share one


class UnusableRows(Exception):
    """The data set cannot be used; the message names what is wrong and the remedy."""


def read_rows(
    path: Path,
    split: str,
    columns: Mapping[str, str] = COLUMNS,
    required: Set[str] = REQUIRED,
    positive_label: str | None = None,
    negative_label: str | None = None,
) -> list[MemeRow]:
    """The rows of one split (of all rows, where `path` is a table), empty cells as None, an empty text as "".

    `columns` names the column of each field but id; one that is absent gives None, unless it is in `required`. A row
    whose label is empty is left out, and counted on stderr. A split may be empty, a table may not. Raises UnusableRows.
    """
    table = read_saved_split(path, split) if path.is_dir() else read_table(path)
    where = f"{path}, {split}" if path.is_dir() else str(path)
    if not table and path.is_dir():
        return []  # a split of a small data set that is to join others; both labels are asked of all of them together
    if not table:
        raise UnusableRows(f"{where} has no rows")
    absent = [name for name in COLUMNS if name in required and columns[name] not in table[0]]
    if absent:
        is_ours = path.is_dir() and columns == COLUMNS
        variables = ", ".join(f"{name.upper()}_COLUMN" for name in absent)
        raise UnusableRows(
            f"{where} has no column {', '.join(columns[name] for name in absent)}; its columns are "
            f"{', '.join(map(str, table[0]))}; {'make it with clean_dataset.py' if is_ours else f'set {variables}'}"
        )
    labelled = [(number, row) for number, row in enumerate(table) if as_text(row.get(columns["label"]))]
    if len(labelled) < len(table):
        print(f"{where}: {len(table) - len(labelled)} of {len(table)} rows left out: no label", file=sys.stderr)
    labels = binary_labels(
        [str(as_text(row[columns["label"]])) for _, row in labelled], positive_label, negative_label, path
    )
    unnamed_group = f"{path.name}, {split} row" if path.is_dir() else f"{path.name}, row"
    return [
        meme_row(row, columns, label, number, unnamed_group)
        for (number, row), label in zip(labelled, labels, strict=True)
    ]


def meme_row(
    row: Mapping[str, Any], columns: Mapping[str, str], label: int, number: int, unnamed_group: str
) -> MemeRow:
    found = {name: as_text(row.get(columns[name])) for name in columns}
    return {
        "id": as_text(row.get("id")) or str(number),
        "text": found["text"] or "",
        "image": found["image"],
        "label": label,
        "language": found["language"],
        "category": found["category"],
        "target": found["target"],
        "group": found["group"] or f"{unnamed_group} {number}",
    }


def as_text(value: object) -> str | None:
    """A cell as text; None where it is empty, missing or NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return text if text.strip() else None


def saved_splits(folder: Path) -> list[str]:
    """Names of the splits of a saved data set; none where a single split was saved by itself."""
    from datasets import DatasetDict

    dataset = load_saved(folder)
    return list(dataset) if isinstance(dataset, DatasetDict) else []


def read_saved_split(folder: Path, split: str) -> list[dict[str, Any]]:
    """One split of a saved data set, class labels as their names; all of a split that was saved by itself."""
    from datasets import ClassLabel, DatasetDict

    dataset = load_saved(folder)
    if isinstance(dataset, DatasetDict):
        if split not in dataset:
            raise UnusableRows(f"{folder} has no {split} split; it has {', '.join(dataset)}")
        dataset = dataset[split]
    names = {name: feature.names for name, feature in dataset.features.items() if isinstance(feature, ClassLabel)}
    return [
        {**row, **{column: class_name(row[column], of_column) for column, of_column in names.items()}}
        for row in dataset.to_list()
    ]


def load_saved(folder: Path) -> Any:
    """A DatasetDict, or a Dataset; UnusableRows where the folder holds neither."""
    from datasets import load_from_disk

    try:
        return load_from_disk(str(folder))
    except (FileNotFoundError, ValueError) as error:
        raise UnusableRows(
            f"{folder} is no saved data set ({error}); set DATASET_DIR to one that clean_dataset.py "
            f"wrote (evaluate_model.py reads {', '.join(TABLE_ENDINGS)} files, too)"
        ) from None
    except IndexError:  # how the library answers a split that was saved without rows
        raise UnusableRows(f"{folder} has a split without rows; make it anew with clean_dataset.py") from None


def class_name(number: int | None, names: list[str]) -> str | None:
    """The name of a class label; None for one that is missing, which `datasets` also writes as -1."""
    return names[number] if number is not None and 0 <= number < len(names) else None


def read_table(path: Path) -> list[dict[str, Any]]:
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
    except UnicodeDecodeError as error:
        raise UnusableRows(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise UnusableRows(f"{path} cannot be read as {ending[1:].upper()}: {error}") from None


def json_row(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UnusableRows(f"{path}, line {number}, is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise UnusableRows(f"{path}, line {number}, is no JSON object of columns")
    return row


def binary_labels(values: list[str], positive_label: str | None, negative_label: str | None, path: Path) -> list[int]:
    """1 for the harmful label (or labels, with commas), 0 for the harmless; how they were written does not matter.

    One label beside POSITIVE_LABEL is the harmless one; of several, NEGATIVE_LABEL must say which. UnusableRows where a
    label cannot be placed. Says on stderr how many rows each has, where the user named them.
    """
    folded = [folded_label(value) for value in values]
    counts = Counter(folded)
    seen = ", ".join(f"{value} ({count})" for value, count in counts.most_common(8))
    positive, negative = label_names(positive_label) or HARMFUL, label_names(negative_label)
    if positive_label and not positive & set(counts):
        raise UnusableRows(f"POSITIVE_LABEL={positive_label} is no label of {path}, which has {seen}")
    others = set(counts) - positive
    if not negative:
        negative = others if positive_label and len(others) == 1 else HARMLESS
    if unplaced := sorted(others - negative):
        raise UnusableRows(
            f"{path} has labels {seen}: POSITIVE_LABEL={positive_label} leaves open what {', '.join(unplaced)} mean; "
            "name the harmless ones in evaluate_model.py's NEGATIVE_LABEL"
            if positive_label
            else f"{path} has labels {seen}, not 0 and 1 or ok and offensive; evaluate_model.py's POSITIVE_LABEL says "
            "which of them means harmful"
        )
    if positive_label:
        placed = (
            f"{value} {count:,} {'harmful' if value in positive else 'harmless'}" for value, count in counts.items()
        )
        print(f"labels of {path}: {', '.join(placed)}", file=sys.stderr)
    return [int(value in positive) for value in folded]


def folded_label(value: str) -> str:
    """ " Not  Hateful" as "not hateful": one label, however its cells were typed."""
    return " ".join(value.casefold().split())


def label_names(setting: str | None) -> set[str]:
    return {folded_label(name) for name in (setting or "").split(",") if name.strip()}


def check_both_labels(rows: list[MemeRow], where: str) -> None:
    labels = {row["label"] for row in rows}
    if len(labels) < 2:
        raise UnusableRows(
            f"{where} has {len(rows)} rows of label {labels or 'none'}; both labels (0 ok, 1 offensive) are needed"
        )


def of_languages(rows: list[MemeRow], languages: str) -> list[MemeRow]:
    """The rows in one of `languages`, with commas; all of them where that is empty."""
    wanted = {language.strip() for language in languages.split(",") if language.strip()}
    return [row for row in rows if not wanted or row["language"] in wanted]


def with_content(rows: list[MemeRow], where: str) -> list[MemeRow]:
    """The rows that have a text or a caption; the others are counted on stderr."""
    kept = [row for row in rows if row["text"] or row["image"]]
    if len(kept) < len(rows):
        print(
            f"{where}: {len(rows) - len(kept)} of {len(rows)} rows left out: neither text nor caption", file=sys.stderr
        )
    return kept
