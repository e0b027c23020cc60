"""Time, memory and recall of clean_dataset.py on made-up raw files.

ITEMS raw items (and a tenth of them, for growth) in files of five: random sentences of an invented vocabulary, of
which one in twenty is repeated exactly and one in twenty with one letter changed (a planted near duplicate: Jaccard
similarity of 5-grams 0.85 and more). Prints seconds, peak memory, near-duplicate recall and how time grows.

    ITEMS=1000000 python benchmarks/bench_cleaning.py
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ITEMS = int(os.environ.get("ITEMS", 100_000))
ITEMS_A_FILE, FILES_A_FOLDER, EVERY = 5, 2_000, 20
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def sentences(count: int):
    """(text, kind) in the order of writing; kind is new, repeat or near."""
    chance = random.Random(count)
    words = ["".join(chance.choices(LETTERS, k=chance.randint(2, 9))) for _ in range(20_000)]
    recent = [""] * 1_000
    for number in range(count):
        kind = {0: "repeat", 1: "near"}.get(number % EVERY, "new") if number > 2_000 else "new"
        text = " ".join(chance.choices(words, k=chance.randint(10, 24)))
        if kind != "new":
            text = chance.choice(recent)
        if kind == "near":
            place = chance.randrange(len(text))
            text = text[:place] + chance.choice(LETTERS) + text[place + 1 :]
        if kind == "new":
            recent[number % len(recent)] = text
        yield text, kind


def write_raw(root: Path, count: int) -> int:
    """Write the raw files; gives the number of planted near duplicates."""
    near, items = 0, []
    for number, (text, kind) in enumerate(sentences(count), start=1):
        near += kind == "near"
        items.append({"image": "a plain picture", "text": text, "group": f"g{number}"})
        if len(items) == ITEMS_A_FILE or number == count:
            file = (number - 1) // ITEMS_A_FILE
            folder = root / f"model_general_{file // FILES_A_FOLDER:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{file % FILES_A_FOLDER + 1:04d}.json").write_text(
                json.dumps(
                    {
                        "asked": {"model": "made/up"},
                        "label": "ok",
                        "category": "general",
                        "language": "en",
                        "source": None,
                        "items": items,
                        "reply": {},
                    }
                )
            )
            items = []
    return near


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(count: int) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        near = write_raw(Path(scratch, "raw"), count)
        started, cpu_before = time.monotonic(), cpu_seconds()
        subprocess.run(
            [sys.executable, str(REPOSITORY / "data_preparation" / "clean_dataset.py")],
            check=True,
            env={**os.environ, "RAW_ROOT": f"{scratch}/raw", "OUTPUT_DIR": f"{scratch}/dataset"},
            capture_output=True,
        )
        elapsed = time.monotonic() - started
        cpu = cpu_seconds() - cpu_before
        report = json.loads(Path(scratch, "dataset", "cleaning_report.json").read_text())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    found = report["rejected"].get("near_duplicate", 0)
    print(
        f"{count:,} items: {elapsed:.1f} s ({cpu:.1f} s of CPU), {peak:.2f} GB at most, {found:,} of {near:,} "
        f"planted near duplicates found ({found / near:.1%}), {report['rejected'].get('duplicate', 0):,} repeats",
        flush=True,
    )
    return elapsed


def main() -> None:
    small = measure(ITEMS // 10)
    large = measure(ITEMS)
    print(f"ten times the items cost {large / small:.1f} times the time")


if __name__ == "__main__":
    main()
