"""OUTPUT of predict_with_ray.py: what a row of its Parquet files is, and what those say that lie there already."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

import pyarrow as pa
from pyarrow import parquet
from pyarrow.fs import FileSelector, FileSystem

from detector.meme import Evidence

Found = TypeVar("Found")

READING, SCORING = ("decode", "pixels", "ocr"), ("caption", "score")
COLUMNS = (
    "path",
    "probability",
    "label",
    "categories",
    "probability_text",
    "probability_image_text",
    "caption",
    "text",
    "unseen_frames",
    "unseen_text",
    "error",
    "milliseconds",
)
# Evidence has the columns' types; Parquet's are these. The stages are known beforehand, the categories are the model's.
ARROW_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    str | None: pa.string(),
    float: pa.float64(),
    float | None: pa.float64(),
    int | None: pa.int8(),
    dict[str, float]: pa.map_(pa.string(), pa.float64()),
}
MILLISECONDS = pa.struct([(stage, pa.float64()) for stage in (*READING, *SCORING)])
PREDICTIONS = pa.schema(
    [
        (name, MILLISECONDS if name == "milliseconds" else ARROW_TYPES[get_type_hints(Evidence)[name]])
        for name in COLUMNS
    ]
)
FILES_AT_ONCE = 16


class OtherVersion(Exception):
    """Rows of OUTPUT have other columns than this version writes; the message says which and what to do."""


def refuse_other_columns(filesystem: FileSystem, folder: str) -> None:
    """Raises OtherVersion where a file of OUTPUT lacks a column: its rows and new ones would not be of one kind.

    What cannot be read was left by a crash, and Ray removes it.
    """
    found = of_each_file(filesystem, folder, column_names)
    old = [names for names in found if names is not None and not names >= set(COLUMNS)]
    if old:
        lacking = [name for name in COLUMNS if any(name not in names for names in old)]
        raise OtherVersion(
            f"{len(old):,} of its {len(found):,} Parquet files lack {', '.join(lacking)}, another version's: "
            "rows of both would be mixed. Name another OUTPUT, or delete this one together with its .checkpoint"
        )


def column_names(file: pa.NativeFile) -> set[str] | None:
    try:
        return set(parquet.ParquetFile(file).schema_arrow.names)
    except pa.ArrowInvalid:
        return None


@dataclass
class Counts:
    """What the rows of OUTPUT come to."""

    rows: int = 0
    errors: Counter[str] = field(default_factory=Counter)  # rows by their error
    unseen: Counter[str] = field(default_factory=Counter)  # rows with unseen `frames`, and with unseen `text`


def count_rows(filesystem: FileSystem, folder: str) -> Counts:
    """Counts over all files of OUTPUT."""
    counts = Counts()
    for part in of_each_file(filesystem, folder, count_part):
        counts.rows += part.rows
        counts.errors += part.errors
        counts.unseen += part.unseen
    return counts


def count_part(file: pa.NativeFile) -> Counts:
    # Not by pyarrow's dataset: its threads outlive the scan, and with a file system of fsspec's abort at exit.
    columns = ["error", "unseen_frames", "unseen_text"]
    part = parquet.ParquetFile(file).read(columns, use_threads=False).to_pydict()
    return Counts(
        rows=len(part["error"]),
        errors=Counter(error for error in part["error"] if error),
        unseen=Counter({of: sum(share > 0 for share in part[f"unseen_{of}"]) for of in ("frames", "text")}),
    )


def of_each_file(filesystem: FileSystem, folder: str, read: Callable[[pa.NativeFile], Found]) -> list[Found]:
    """`read(opened file)` of each Parquet file of a folder; none where there is no such folder."""

    def opened(path: str) -> Found:
        with filesystem.open_input_file(path) as file:
            return read(file)

    files = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        return list(pool.map(opened, [file.path for file in files if file.extension == "parquet"]))
