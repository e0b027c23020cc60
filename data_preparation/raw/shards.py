"""SHARD=i/n: several machines share the runs of a folder without talking to each other.

Run r, and every translation of it, belongs to shard (r - 1) mod n + 1: its number alone decides, so no two shards
request the same, and their files can be copied together. A shard leaves an empty file `.shard-<i>-of-<n>` in each
folder. It is the lock by which shards write to one folder side by side, and it tells a later call with another n, or
none, that other machines may hold files of this folder, which it would otherwise pay for again.
"""

import fcntl
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from raw.raw_folder import FolderConflictError, locked, remove_partials

WHOLE = "1/1"


def known_shard(value: str) -> str:
    match = re.fullmatch(r"\s*([0-9]{1,4})\s*/\s*([0-9]{1,4})\s*", value)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(
            "not a shard; set SHARD to i/n with i from 1 to n, such as 1/4, 2/4, 3/4 and 4/4 on four machines"
        )
    return f"{int(match[1])}/{int(match[2])}"


def owns(shard: str, run: int) -> bool:
    index, count = _parts(shard)
    return (run - 1) % count == index - 1


@contextmanager
def hold_runs(folder: Path, shard: str) -> Iterator[None]:
    """Lock this shard's runs of the folder against other processes, so that no request is paid for twice.

    Raises FolderConflictError where another process has some of them, or where files of this shard may lie on a
    machine whose folder was not copied here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as locks:
        locks.enter_context(locked(folder, fcntl.LOCK_EX if shard == WHOLE else fcntl.LOCK_SH))
        _check_gathered(folder, shard)
        if shard != WHOLE:
            _lock_shard(folder, shard, locks)
        remove_partials(folder, lambda run: owns(shard, run))
        yield


def _lock_shard(folder: Path, shard: str, locks: ExitStack) -> None:
    mark = _mark(folder, shard)
    is_new = not mark.exists()
    locks.enter_context(locked(mark, fcntl.LOCK_EX))
    try:  # own lock first: of two that overlap and start at once, each sees the other's
        for other in _shards_of(folder) - {shard}:
            if _overlap(shard, other):
                with locked(_mark(folder, other), fcntl.LOCK_SH):
                    pass
    except FolderConflictError:
        if is_new:
            mark.unlink()
        raise


def _check_gathered(folder: Path, shard: str) -> None:
    """What shards of another division have got must be here before the runs are divided anew."""
    here = _shards_of(folder)
    divisions = {count for _, count in map(_parts, here)}
    away = [
        f"{index}/{count}"
        for count in sorted(divisions)
        for index in range(1, count + 1)
        if f"{index}/{count}" not in here | {shard} and _overlap(f"{index}/{count}", shard)
    ]
    if away:
        raise FolderConflictError(
            f"{folder} holds SHARD={', '.join(sorted(here))}, and runs that SHARD={shard} would request may lie on the "
            f"machine of SHARD={away[0]}{f' and {len(away) - 1} more' if len(away) > 1 else ''}: copy their folders "
            f"into this one first, hidden files too, or set SHARD as it was. Where they were never made, remove "
            f"{folder}/.shard-*"
        )


def _overlap(one: str, other: str) -> bool:
    (index, count), (other_index, other_count) = _parts(one), _parts(other)
    return (index - other_index) % math.gcd(count, other_count) == 0


def _shards_of(folder: Path) -> set[str]:
    marks = (re.fullmatch(r"\.shard-(\d+)-of-(\d+)", path.name) for path in folder.glob(".shard-*"))
    return {f"{mark[1]}/{mark[2]}" for mark in marks if mark}


def _mark(folder: Path, shard: str) -> Path:
    return folder / ".shard-{}-of-{}".format(*_parts(shard))


def _parts(shard: str) -> tuple[int, int]:
    index, count = shard.split("/")
    return int(index), int(count)
