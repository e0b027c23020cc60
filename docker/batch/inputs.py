"""INPUT of predict_with_ray.py as a Ray Data source: rows of (path, content), read in parts all over the cluster.

A folder, a glob and a text file give paths, which the readers open; a Parquet table gives paths or the pictures
themselves. Ray's own readers are not used, since its checkpoint wants the key as a column of what is read: here that
is always `path`, whatever a table calls it, and a table without one has its rows numbered.
"""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet
from ray.data import DataContext, Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from batch.stores import UnusableUrl, list_files, locate, split_options

ROWS = pa.schema([("path", pa.string()), ("content", pa.binary())])  # content is null where `path` is to be opened
PICTURES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif"}
TABLES = {".parquet", ".pq"}
PATHS_A_PART = 10_000
# Rows of a table that are in memory at once while it is read: they hold whole pictures.
ROWS_AT_ONCE = 64
# No path holds it, so that a line is one column whatever else stands in it.
NO_DELIMITER = "\x1f"


class UnusableSource(Exception):
    """INPUT cannot be read, or not be understood; the message says why and what to do."""


class PictureSource(Datasource):
    """Rows of ROWS, each part read by a task of its own."""

    def __init__(self, parts: list[Callable[[], Iterator[pa.Table]]]):
        super().__init__()
        self.parts = parts

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(part, unknown, ROWS, per_task_row_limit) for part in self.parts]

    def estimate_inmemory_data_size(self) -> int | None:
        return None


def open_source(url: str, path_column: str | None, bytes_column: str | None) -> PictureSource:
    """The rows of INPUT, listed but not read; raises UnusableSource."""
    try:
        return _open_source(url, path_column, bytes_column)
    except UnusableUrl as error:
        raise UnusableSource(f"no file system for it: {error}") from error
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise UnusableSource(f"cannot be read: {error}") from error


def _open_source(url: str, path_column: str | None, bytes_column: str | None) -> PictureSource:
    filesystem, path = locate(url)
    info = filesystem.get_file_info(path)
    if info.is_file and _suffix(url) not in PICTURES | TABLES:
        return _path_source(_lines(url))
    files = [url] if info.is_file else [name for name in list_files(url) if not _name(name).startswith((".", "_"))]
    pictures = [name for name in files if _suffix(name) in PICTURES]
    tables = [name for name in files if _suffix(name) in TABLES]
    if pictures and tables:
        raise UnusableSource(
            f"holds {len(pictures):,} pictures and {len(tables):,} Parquet files: give a glob of one "
            "kind, such as memes/*.png"
        )
    if tables:
        content, key = choose_columns(_schema(tables[0]), path_column, bytes_column)
        return PictureSource([partial(_table_rows, table, content, key) for table in tables])
    if not pictures:
        raise UnusableSource(f"no pictures ({' '.join(sorted(PICTURES))}) and no Parquet files are there")
    return _path_source(pa.array([_utf8(name) for name in pictures]))


def _path_source(paths: pa.Array) -> PictureSource:
    paths = pc.unique(paths)  # a path is a key: twice in a list is once in OUTPUT
    # A slice is pickled with all that it is a slice of; what `take` gives is not.
    parts = [
        paths.take(pa.array(range(start, min(start + PATHS_A_PART, len(paths)))))
        for start in range(0, len(paths), PATHS_A_PART)
    ]
    if not parts:
        raise UnusableSource("no path stands in it")
    return PictureSource([partial(_listed_rows, part) for part in parts])


def _listed_rows(paths: pa.Array) -> Iterator[pa.Table]:
    yield pa.Table.from_arrays([paths, pa.nulls(len(paths), pa.binary())], schema=ROWS)


def _lines(url: str) -> pa.Array:
    """Lines of a text file without blank ones; what is not UTF-8 is written \\xNN (and such a path is not found)."""
    filesystem, path = locate(url)
    with filesystem.open_input_stream(path) as stream:
        start = stream.read(4096)
    if b"\0" in start:
        raise UnusableSource("is neither Parquet nor a picture by its name, and no text file of paths")
    with filesystem.open_input_stream(path) as stream:
        table = csv.read_csv(
            stream,
            csv.ReadOptions(column_names=["path"]),
            csv.ParseOptions(delimiter=NO_DELIMITER, quote_char=False, double_quote=False),
            csv.ConvertOptions(column_types={"path": pa.binary()}),
        )
    lines = table["path"].combine_chunks()
    # A byte order mark belongs to no name; lists that were put together have several.
    lines = pa.array([line.removeprefix(BOM_UTF8) for line in lines.to_pylist()], pa.binary())
    try:
        return lines.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([line.decode("utf-8", "backslashreplace") for line in lines.to_pylist()])


def _utf8(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _schema(url: str) -> pa.Schema:
    filesystem, path = locate(url)
    with filesystem.open_input_file(path) as file:
        return parquet.read_schema(file)


def choose_columns(
    schema: pa.Schema, path_column: str | None, bytes_column: str | None
) -> tuple[str | None, str | None]:
    """(column of the pictures' bytes, or None; column of their paths, or None where rows are numbered).

    Bytes are the only column of that type: binary, or a struct with binary `bytes`, as `datasets` writes pictures.
    Paths are the column `path`, or, where there are no bytes, the only column of text. Raises UnusableSource.
    """
    for variable, column in (("PATH_COLUMN", path_column), ("BYTES_COLUMN", bytes_column)):
        if column and column not in schema.names:
            raise UnusableSource(f"has no column {column} ({variable}): it has {', '.join(schema.names)}")
    content = bytes_column or _only(schema, _holds_bytes, "BYTES_COLUMN")
    if content and not _holds_bytes(schema.field(content).type):
        raise UnusableSource(f"column {content} (BYTES_COLUMN) holds {schema.field(content).type}, not bytes")
    key = path_column or ("path" if "path" in schema.names else None)
    if not key and not content:
        key = _only(schema, _is_text, "PATH_COLUMN")
    if not key and not content:
        raise UnusableSource(f"has no column of paths or of bytes: it has {', '.join(schema.names)}")
    if key and not _is_text(schema.field(key).type):
        raise UnusableSource(f"column {key} (PATH_COLUMN) holds {schema.field(key).type}, not text")
    return content, key


def _only(schema: pa.Schema, fits: Callable[[pa.DataType], bool], variable: str) -> str | None:
    names = [field.name for field in schema if fits(field.type)]
    if len(names) > 1:
        raise UnusableSource(f"has several columns that may be it ({', '.join(names)}): name one by {variable}")
    return names[0] if names else None


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _table_rows(url: str, content: str | None, key: str | None) -> Iterator[pa.Table]:
    """Rows of a Parquet file; the key of a row without one is `<file>#<row>`, counted from 0.

    `datasets` writes a picture as {bytes, path}, and leaves bytes null where the path is to be opened: that path is the
    row's key then, whatever else the row is called.
    """
    filesystem, path = locate(url)
    first = 0
    with parquet.ParquetFile(filesystem.open_input_file(path), pre_buffer=True) as table:
        columns = [column for column in (content, key) if column]
        for batch in table.iter_batches(ROWS_AT_ONCE if content else PATHS_A_PART, columns=columns):
            keys = [batch[key].cast(pa.string())] if key else []
            numbered = pa.array([_utf8(f"{url}#{first + row}") for row in range(len(batch))])
            pictures, opened = _contents(batch, content)
            paths = pc.coalesce(opened, *keys, numbered)
            yield pa.Table.from_arrays([paths, pictures], schema=ROWS)
            first += len(batch)


def _contents(batch: pa.RecordBatch, content: str | None) -> tuple[pa.Array, pa.Array]:
    """(bytes of each row's picture or null, path that is to be opened in their place or null)."""
    nothing = pa.nulls(len(batch), pa.string())
    if content is None:
        return pa.nulls(len(batch), pa.binary()), nothing
    column = batch[content]
    if not pa.types.is_struct(column.type):
        return column.cast(pa.binary()), nothing
    pictures = pc.struct_field(column, "bytes").cast(pa.binary())
    if not any(field.name == "path" and _is_text(field.type) for field in column.type):
        return pictures, nothing
    return pictures, pc.if_else(pc.is_null(pictures), pc.struct_field(column, "path").cast(pa.string()), nothing)


def _name(url: str) -> str:
    return PurePosixPath(split_options(url)[0]).name


def _suffix(url: str) -> str:
    return PurePosixPath(split_options(url)[0]).suffix.lower()
