"""Raw folders: one complete file a run, failures kept beside, nothing torn and nothing mixed.

    <model>_<prompt key>/NNNN.json          a reply that became data, with what was asked
    <model>_<prompt key>/failed/NNNN-k.json the k-th reply of run NNNN that did not, with its reason

Label, category and language stand inside each file; a folder's name is for people.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

RUN_FILES = "[0-9][0-9][0-9][0-9]*.json"


class FolderConflict(Exception):
    """A raw folder holds something that must not be mixed with this run; the message names the choices."""


def fingerprint(asked: dict) -> str:
    """16 hex digits over everything that changes what a model answers; the run number is not part of it."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def run_name(run: int) -> str:
    return f"{run:04d}.json"


def write_json(path: Path, document: dict) -> None:
    """Write aside, then rename: a reader, and a rerun after SIGKILL, sees a whole file or none.

    OSError names the file and the remedy, as on a full disk.
    """
    aside = path.parent / f".{path.name}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(aside, path)
    except OSError as fault:
        aside.unlink(missing_ok=True)
        raise OSError(
            f"{path} could not be written ({fault.strerror}): free some space, or make the folder writable, "
            "then run this again; what was written stays"
        ) from None


def read_raw(path: Path) -> dict | None:
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

    Raises FolderConflict where another process is in the way.
    """
    is_folder = path.is_dir()
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderConflict(
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


def finished_runs(folder: Path, asked: dict) -> set[int]:
    """Numbers of the runs that are complete; a torn file is set aside as missing.

    Raises FolderConflict when a file was asked for otherwise than `asked` (which holds no run number).
    """
    finished = set()
    for path in run_paths(folder):
        document = read_raw(path)
        if document is None:
            continue
        if document["asked"].get("fingerprint") != fingerprint(asked):
            raise FolderConflict(_conflict(path, document["asked"], asked))
        finished.add(int(path.stem))
    return finished


def _conflict(path: Path, before: dict, now: dict) -> str:
    changed = [
        f"{name} was {before.get(name)!r} and is now {value!r}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    what = "; ".join(changed) or "it carries another fingerprint"
    return (
        f"{path} was asked for otherwise: {what}. Mixing both would spoil the data. "
        f"Set these back, choose another output folder, or move {path.parent} away"
    )


def keep_failure(folder: Path, run: int, asked: dict, failure: dict) -> Path:
    """Keep a reply that is no data as failed/NNNN-k.json, k counting on over reruns."""
    failed = folder / "failed"
    taken = [int(path.stem.split("-")[1]) for path in failed.glob(f"{run:04d}-*.json")]
    path = failed / f"{run:04d}-{max(taken, default=0) + 1}.json"
    write_json(path, {"asked": {**asked, "run": run, "fingerprint": fingerprint(asked)}, **failure})
    return path
