"""The texts and groups of an evaluation set that training data must not repeat."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from raw.raw_folder import Json


def evaluation_texts(path: Path, column: str) -> tuple[list[str], set[str]]:
    """Texts of a CSV, a JSONL, or a data set saved by save_to_disk (all its splits), and what its `group` column names.

    Where the set was drawn from the same raw files, its groups also find translations and variants of its texts.
    OSError names what is wrong.
    """
    try:
        rows = [row for row in _rows(path) if row[column]]
        return [row[column] for row in rows], {row["group"] for row in rows if row.get("group")}
    except (KeyError, ValueError, TypeError) as error:
        raise OSError(
            f"DECONTAMINATE={path}: no column {column!r} could be read ({type(error).__name__}: {error}); "
            f"set DECONTAMINATE_COLUMN to the column of its texts"
        ) from None


def _rows(path: Path) -> Iterator[Json]:
    suffix = path.suffix.casefold()
    if path.is_dir():
        yield from _saved_rows(path)
        return
    with open(path, encoding="utf-8-sig", newline="") as file:
        if suffix in (".csv", ".tsv"):
            yield from csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
        else:
            yield from map(json.loads, file)


def _saved_rows(path: Path) -> Iterator[Json]:
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(str(path))
    for split in saved.values() if isinstance(saved, DatasetDict) else [saved]:
        yield from split
