"""Raw folders: a file for each complete run, failed replies beside them, no half-written file, no mixed settings.

    <model>_<prompt key>/NNNN.json           a reply that holds memes, with the request that it answers
    <model>_<prompt key>/failed/NNNN-k.json  the k-th reply of run NNNN that holds none, with the reason

Label, category and language are written in each file; a folder's name is for people. On disk the request (model,
prompt hash, sampling) is the key `asked`.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LABELS = ("ok", "offensive")
RUN_FILES = "[0-9][0-9][0-9][0-9]*.json"
Json = dict[str, Any]  # an object as json.loads gives it


class FolderConflictError(Exception):
    """A raw folder's files do not fit what is to be done with them; the message names the choices."""


def fingerprint(request: Json) -> str:
    """16 hex digits over everything that changes what a model answers; the run number is not part of it."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def run_name(run: int) -> str:
    return f"{run:04d}.json"


def write_json(path: Path, document: Json) -> None:
    """Write aside, then rename: a reader, and a rerun after SIGKILL, sees a whole file or none.

    OSError names the file and the remedy, as on a full disk.
    """
    aside = path.parent / f".{path.name}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        aside.write_bytes(written.encode("utf-8", "backslashreplace"))  # half an emoji stays the escape that it was
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OSError(
            f"{path} could not be written ({error.strerror}): free some space, or make the folder writable, "
            "then run this again; what was written stays"
        ) from None


def read_raw(path: Path) -> Json | None:
    """The file's document, or None when it is not one (cut short by a full disk or a power failure)."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None
    is_whole = isinstance(document, dict) and isinstance(document.get("items"), list) and "asked" in document
    return document if is_whole else None


@contextmanager
def locked(path: Path, mode: int) -> Iterator[None]:
    """Hold a lock, LOCK_EX or LOCK_SH, on a folder or on a file, which is made where it is not there.

    Raises FolderConflictError where another process holds it.
    """
    is_folder = path.is_dir()
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderConflictError(
                f"{path if is_folder else path.parent} is being written by another process; wait for it or stop it"
            ) from None
        yield
    finally:
        os.close(descriptor)


def remove_partials(folder: Path, is_ours: Callable[[int], bool]) -> None:
    """Remove what a killed process left half-written of the runs that are ours."""
    for partial in folder.rglob(".*.partial"):
        if (number := re.match(r"\.(\d+)", partial.name)) and is_ours(int(number[1])):
            partial.unlink()


def run_paths(folder: Path) -> list[Path]:
    """The folder's run files in order of their number."""
    numbered = (path for path in folder.glob(RUN_FILES) if path.stem.isdecimal())
    return sorted(numbered, key=lambda path: int(path.stem))


def finished_runs(folder: Path, request: Json) -> set[int]:
    """Numbers of the runs that are complete; one whose file is cut short counts as missing.

    Raises FolderConflictError when a file answers another request than `request` (which holds no run number).
    """
    finished = set()
    for path in run_paths(folder):
        document = read_raw(path)
        if document is None:
            continue
        if document["asked"].get("fingerprint") != fingerprint(request):
            raise FolderConflictError(_conflict(path, document["asked"], request))
        finished.add(int(path.stem))
    return finished


def _conflict(path: Path, before: Json, now: Json) -> str:
    changed = [
        f"{name} was {before.get(name)!r} and is now {value!r}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    what = "; ".join(changed) or "it carries another fingerprint"
    return (
        f"{path} was made with other settings: {what}. Mixing both would spoil the data. "
        f"Set these back, choose another output folder, or move {path.parent} away"
    )


def keep_failure(folder: Path, run: int, request: Json, failure: Json) -> None:
    """Keep a reply that cannot be used as failed/NNNN-k.json, k counting on over reruns."""
    failed = folder / "failed"
    taken = [int(path.stem.split("-")[1]) for path in failed.glob(f"{run:04d}-*.json")]
    path = failed / f"{run:04d}-{max(taken, default=0) + 1}.json"
    write_json(path, {"asked": {**request, "run": run, "fingerprint": fingerprint(request)}, **failure})
