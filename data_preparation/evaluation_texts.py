"""The texts of an evaluation set that training data must not repeat."""

import csv
import json
from pathlib import Path


def evaluation_texts(path: Path, column: str) -> list[str]:
    """Texts of a CSV, a JSONL, or a data set saved by save_to_disk (all its splits); OSError names what is wrong."""
    try:
        if path.is_dir():
            return _saved_texts(path, column)
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file) if path.suffix.casefold() in (".csv", ".tsv") else map(json.loads, file)
            if path.suffix.casefold() == ".tsv":
                rows = csv.DictReader(file, delimiter="\t")
            return [row[column] for row in rows if row[column]]
    except (KeyError, ValueError, TypeError) as fault:
        raise OSError(f"DECONTAMINATE={path}: no column {column!r} could be read ({type(fault).__name__}: {fault}); "
                      f"set DECONTAMINATE_COLUMN to the column of its texts") from None


def _saved_texts(path: Path, column: str) -> list[str]:
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(str(path))
    splits = saved.values() if isinstance(saved, DatasetDict) else [saved]
    return [text for split in splits for text in split[column] if text]
