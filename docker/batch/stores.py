"""Where files lie: local paths, and URLs of what pyarrow knows (file, s3, gs, hdfs, abfs) or else fsspec (http, ...).

A name in a URL is taken letter for letter, without %XX, so that what a listing gives finds the same file again. Options
of pyarrow's file systems stand behind a question mark: `s3://bucket/memes?region=eu-west-1`.
"""

import io
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

from pyarrow.fs import FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem

from detector.image_decoding import UnreadableImage, unopened

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
MAGIC = re.compile(r"[*?\[]")
STORES = ("s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss")
# A picture from elsewhere is held in memory while it is decoded.
MAX_PICTURE_BYTES = 256 * 2**20
CHUNK_BYTES = 2**20


class UnusableUrl(Exception):
    """No file system is known or installed for a URL; the message says which."""


def locate(url: str) -> tuple[FileSystem, str]:
    """(file system, path inside it) of a URL or a local path; raises UnusableUrl, or OSError where none answers."""
    if not URL.match(url):
        return LocalFileSystem(), os.path.abspath(url)
    scheme = _scheme(url)
    if scheme in ("file", *STORES):
        whole, options = split_options(url)
        host, slash, path = whole.partition("://")[2].partition("/")
        filesystem, root = _of_pyarrow(f"{scheme}://{host or '/'}{options}")
        return filesystem, root.rstrip("/") + slash + path
    return _of_fsspec(url)


def split_options(url: str) -> tuple[str, str]:
    """A URL and its `?options`; the name of a file on a disk may hold a question mark."""
    if not URL.match(url) or _scheme(url) not in ("http", "https", *STORES):
        return url, ""
    whole, mark, options = url.partition("?")
    return whole, mark + options


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


@lru_cache(maxsize=64)  # to find out an S3 bucket's region costs a request
def _of_pyarrow(root: str) -> tuple[FileSystem, str]:
    try:
        return FileSystem.from_uri(root)
    except (ValueError, NotImplementedError) as error:  # ArrowInvalid is a ValueError
        raise UnusableUrl(str(error)) from error


def _of_fsspec(url: str) -> tuple[FileSystem, str]:
    from fsspec.core import url_to_fs

    try:
        filesystem, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UnusableUrl(str(error)) from error
    return PyFileSystem(FSSpecHandler(filesystem)), path


def list_files(url: str) -> list[str]:
    """All files below a folder, or those that a glob matches, sorted, each with the beginning that `url` has.

    On a local disk links to folders are followed, below a folder or a `**` each folder once, so that a loop ends.
    """
    filesystem, path = locate(url)
    view = _as_fsspec(filesystem)
    is_local = isinstance(filesystem, LocalFileSystem)
    shown, options = split_options(url)
    if view.isdir(path):
        found, shown, path = (_files_below if is_local else view.find)(path), shown.rstrip("/"), path.rstrip("/")
    else:
        found = _local_matches(path) if is_local else [name for name in view.glob(path) if not view.isdir(name)]
        shown, path = (MAGIC.split(pattern, maxsplit=1)[0] for pattern in (shown, path))
    return [shown + name[len(path) :] + options for name in sorted(found)]


def _local_matches(pattern: str) -> list[str]:
    """Files that a glob matches by fsspec's rules; its own walk takes a link to a folder for a file."""
    from fsspec.utils import glob_translate

    root = MAGIC.split(pattern, maxsplit=1)[0].rpartition("/")[0]
    depth = None if "**" in pattern else pattern.count("/") - root.count("/")
    matches = re.compile(glob_translate(pattern)).match
    return [name for name in _files_below(root or "/", depth) if matches(name)]


def _files_below(folder: str, depth: int | None = None) -> list[str]:
    """Files at most `depth` folders down, links to folders followed; without a depth, each real folder once."""
    found, waiting, seen = list[str](), deque([(folder, depth)]), set[str]()
    while waiting:
        here, left = waiting.popleft()
        real = os.path.realpath(here)
        if depth is None and real in seen:
            continue
        seen.add(real)
        folders, links = list[str](), list[str]()
        with suppress(OSError), os.scandir(here) as entries:  # what may not be listed has no files
            for entry in sorted(entries, key=lambda entry: entry.name):
                kind = found if not entry.is_dir() else links if entry.is_symlink() else folders
                kind.append(os.path.join(here, entry.name))
        if left is None or left > 1:
            further = None if left is None else left - 1
            # Links come after all that lies here itself, which so keeps its own name.
            waiting.extendleft((name, further) for name in reversed(folders))
            waiting.extend((name, further) for name in links)
    return found


def _as_fsspec(filesystem: FileSystem) -> "AbstractFileSystem":
    """fsspec's view of it, which has folders walked and globs matched."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from fsspec.implementations.local import LocalFileSystem as LocalFiles

    if isinstance(filesystem, LocalFileSystem):
        return LocalFiles()
    return filesystem.handler.fs if isinstance(filesystem, PyFileSystem) else ArrowFSWrapper(filesystem)


def fetch(url: str) -> bytes:
    """A picture's whole content; raises UnreadableImage, with `missing` only where the store says so."""
    try:
        with _open_stream(url) as stream:
            content = io.BytesIO()
            # A stream over HTTP gives what has come so far, however much is requested.
            while content.tell() <= MAX_PICTURE_BYTES and (chunk := stream.read(CHUNK_BYTES)):
                content.write(chunk)
    except (OSError, ValueError) as error:
        raise unopened(error) from error
    except Exception as error:  # UnusableUrl, and what aiohttp and other libraries raise of their own
        raise UnreadableImage("unreadable") from error
    if content.tell() > MAX_PICTURE_BYTES:
        raise UnreadableImage("unreadable")
    return content.getvalue()


def _open_stream(url: str) -> BinaryIO:
    filesystem, path = locate(url)
    if not isinstance(filesystem, PyFileSystem):
        return filesystem.open_input_stream(path)
    # pyarrow requests a picture's size first: an HTTP server that fails then counts as one without the file, and a
    # picture costs three requests. Told some size, fsspec streams the answer to a single request.
    streamed = {"block_size": 0, "size": 1} if _scheme(url) in ("http", "https") else {}
    return filesystem.handler.fs.open(path, "rb", **streamed)


def fetch_ahead(
    rows: Iterable[tuple[str, bytes | None]], pool: Executor, ahead: int
) -> Iterator[tuple[str, bytes | None]]:
    """The same (path, content), pictures at URLs fetched while up to `ahead` others before them are worked on.

    Where that fails the content stays None: opened in its turn, the picture has a second try.
    """
    coming: deque[Future[tuple[str, bytes | None]]] = deque()
    for row in rows:
        coming.append(pool.submit(_fetched, *row))
        if len(coming) > ahead:
            yield coming.popleft().result()
    yield from (future.result() for future in coming)


def _fetched(path: str, content: bytes | None) -> tuple[str, bytes | None]:
    if content is None and URL.match(path):
        try:
            content = fetch(path)
        except UnreadableImage:
            content = None
    return path, content
