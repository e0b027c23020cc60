"""A data set's folder: written aside by the `datasets` library, then moved into place whole."""

import fcntl
import filecmp
import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cleaning.rows import Row
from raw.raw_folder import LABELS, Json, locked

if TYPE_CHECKING:
    from datasets import Features
    from datasets.arrow_writer import ArrowWriter

SPLITS = ("train", "validation", "test")
REPORT = "cleaning_report.json"
COLUMNS = tuple(Row.__annotations__)
ROWS_A_BATCH = 10_000
SHARD_BYTES = 500_000_000


class OutputConflictError(Exception):
    """OUTPUT_DIR holds something that is not ours to replace."""


def check_output(output: Path) -> None:
    """Put back what an interrupted replacement left, and refuse a folder that holds something else."""
    earlier = _earlier(output)
    if earlier.exists():
        shutil.rmtree(earlier) if output.exists() else earlier.rename(output)
    if output.is_dir() and any(output.iterdir()) and not (output / REPORT).exists():
        raise OutputConflictError(
            f"OUTPUT_DIR={output} holds something that is no data set of this script: set OUTPUT_DIR to a new folder"
        )


@contextmanager
def folder_aside(output: Path) -> Iterator[Path]:
    """An empty folder beside `output`, kept from other processes; one left by a killed run is emptied first."""
    aside = output.parent / f".{output.name}.partial"
    aside.mkdir(exist_ok=True)
    with locked(aside, fcntl.LOCK_EX):
        for left in aside.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield aside
        finally:
            shutil.rmtree(aside)


def replace_folder(written: Path, output: Path) -> bool:
    """Put `written` in the place of `output`; True, and nothing touched, where both hold the same."""
    if _same_files(written, output):
        return True
    earlier = _earlier(output)
    if output.exists():
        output.rename(earlier)
    written.rename(output)
    shutil.rmtree(earlier, ignore_errors=True)
    return False


def _earlier(output: Path) -> Path:
    return output.parent / f".{output.name}.earlier"


def _same_files(one: Path, other: Path) -> bool:
    names = [
        sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        for folder in (one, other)
    ]
    return names[0] == names[1] and not any(filecmp.cmpfiles(one, other, names[0], shallow=False)[1:])


def write_dataset(folder: Path, rows: Iterator[tuple[str, Row]], seed: int) -> Json:
    """Save all splits below `folder`; gives the counts by split, label, language, category and source, and a digest.

    The same rows give the same bytes: file names, fingerprints and row order hold nothing of the time or the machine.
    """
    from datasets import ClassLabel, Features, Value

    features = Features(
        {name: ClassLabel(names=list(LABELS)) if name == "label" else Value("string") for name in COLUMNS}
    )
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    digests = _write_tables(folder.parent, features, rows, counts)
    _save(folder, features, digests)
    return {
        "seed": seed,
        "rows_sha256": hashlib.sha256("".join(digests.values()).encode()).hexdigest(),
        "counts": {name: dict(sorted(counter.items())) for name, counter in counts.items()},
    }


def _write_tables(
    aside: Path, features: "Features", rows: Iterator[tuple[str, Row]], counts: dict[str, Counter[str]]
) -> dict[str, str]:
    """One Arrow file a split; gives a digest of each split's rows."""
    from datasets.arrow_writer import ArrowWriter

    writers = {split: ArrowWriter(features=features, path=str(aside / f"{split}.arrow")) for split in SPLITS}
    digests = {split: hashlib.sha256() for split in SPLITS}
    pending: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for split, row in rows:
        pending[split].append(row)
        digests[split].update(json.dumps(row, sort_keys=True).encode())
        counts["label"][row["label"]] += 1
        counts["language"][row["language"]] += 1
        counts["category"][row["category"]] += 1
        counts["category, label"][f"{row['category']}, {row['label']}"] += 1
        counts["source"][row["source"]] += 1
        counts["split"][split] += 1
        counts["split, language, label"][f"{split}, {row['language']}, {row['label']}"] += 1
        if len(pending[split]) == ROWS_A_BATCH:
            _flush(writers[split], pending[split])
    for split, writer in writers.items():
        _flush(writer, pending[split])
        writer.finalize()
    return {split: digest.hexdigest() for split, digest in digests.items()}


def _flush(writer: "ArrowWriter", rows: list[Row]) -> None:
    if rows:
        columns: dict[str, list[object]] = {name: [dict(row)[name] for row in rows] for name in COLUMNS}
        writer.write_batch(columns)
        rows.clear()


def _save(folder: Path, features: "Features", digests: dict[str, str]) -> None:
    from datasets import Dataset, DatasetDict, DatasetInfo, disable_progress_bars

    disable_progress_bars()
    splits = {}
    for split, digest in digests.items():
        path = folder.parent / f"{split}.arrow"
        table = Dataset.from_file(str(path), info=DatasetInfo(features=features), split=split)
        table._fingerprint = digest[:16]  # else made of file times, and saved
        splits[split] = table
    # Left to itself, datasets 5.2 saves an empty split as no file at all and then cannot load it.
    shards = {split: table.data.nbytes // SHARD_BYTES + 1 for split, table in splits.items()}
    DatasetDict(splits).save_to_disk(str(folder), num_shards=shards)
    for split in SPLITS:
        (folder.parent / f"{split}.arrow").unlink()
