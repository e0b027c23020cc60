"""Clean raw folders into a data set: checked, deduplicated, split by group, with its card and its rejects.

Reads   every NNNN.json below RAW_ROOT (but failed/), as generate_data.py and the translate scripts wrote them. The
        shards of several machines, copied together or given with commas, are one: the same files, the same data set.
Writes  OUTPUT_DIR: a Hugging Face DatasetDict (train, validation, test) for load_from_disk, README.md (its card),
        composition.png, cleaning_report.json, rejected.jsonl (every dropped item with its reason).
        Row: id, image, text, label (ClassLabel ok, offensive), language, category, group, source.

    RAW_ROOT=artifacts/raw OUTPUT_DIR=artifacts/dataset python data_preparation/clean_dataset.py

Safe to run again: the data set is written aside and renamed when whole; the same input changes nothing. Exits 0,
or 2 when a setting is unusable or nothing is left.
"""

import errno
import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt, model_validator
from pydantic_settings import BaseSettings

from script_settings import ENVIRONMENT, read_settings

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def raw_roots(value: str) -> str:
    """Folders by commas, none of them inside another."""
    roots = {name.strip(): Path(name.strip()).resolve() for name in value.split(",") if name.strip()}
    for name, root in roots.items():
        if not root.is_dir():
            raise ValueError(f"{name} is no folder; RAW_ROOT takes folders below which generate_data.py wrote")
        outer = [other for other, path in roots.items() if other != name and root.is_relative_to(path)]
        if outer:
            raise ValueError(f"{name} lies in {outer[0]}, whose files would count twice; name one of the two")
    if not roots:
        raise ValueError("names no folder")
    return ",".join(roots)


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    raw_root: Annotated[str, AfterValidator(raw_roots)] = Field(
        ".",
        description="folder below which all raw folders are read; several with commas are read as if copied together",
    )
    output_dir: Path = Field(Path("dataset"), description="folder of the data set; an earlier one is replaced whole")
    seed: int = Field(1, description="seed of the split")
    validation_fraction: float = Field(0.05, ge=0, lt=1, description="share of the groups that goes to validation")
    test_fraction: float = Field(0.05, ge=0, lt=1, description="share of the groups that goes to test")
    near_duplicate_threshold: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Jaccard similarity of character n-grams from which the later text is dropped; "
        "1 keeps all but exact repeats",
    )
    same_group_threshold: float = Field(
        0.6, gt=0, le=1, description="similarity from which English texts share a group, so that no split parts them"
    )
    max_text_characters: PositiveInt = Field(400, description="longest text of a meme")
    max_image_characters: PositiveInt = Field(600, description="longest image description")
    decontaminate: Path | None = Field(
        None,
        description="evaluation set (CSV, JSONL, or a saved data set) whose texts "
        "are dropped with their near duplicates and all that shares a group with one, "
        "such as translations",
    )
    decontaminate_column: str = Field("text", description="column of the evaluation set that holds its texts")
    decontaminate_groups: bool = Field(
        False,
        description="1 also drops every group that the evaluation set's `group` "
        "column names; right where it was drawn from these very raw files",
    )
    licence: str = Field("apache-2.0", description="licence named in the data set's card")

    @model_validator(mode="after")
    def usable_paths(self):
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("VALIDATION_FRACTION and TEST_FRACTION leave nothing to train on: lower them")
        if self.decontaminate is not None and not self.decontaminate.exists():
            raise ValueError(f"DECONTAMINATE={self.decontaminate} is not there: set it to a CSV, a JSONL or a data set")
        if self.output_dir.is_file():
            raise ValueError(f"OUTPUT_DIR={self.output_dir} is a file: set it to a folder")
        return self


def main() -> int:
    settings = read_settings(Settings, __doc__)
    from dataset_folder import OutputConflict, check_output, folder_aside, replace_folder
    from raw_folder import FolderConflict

    output = settings.output_dir.resolve()
    try:
        check_output(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        with folder_aside(output) as aside:
            outcome = clean(settings, aside)
            if outcome is None:
                return 2
            same = replace_folder(aside / "dataset", output)
    except (OutputConflict, FolderConflict, OSError) as fault:
        remedy = f": free some space for {settings.output_dir}" if getattr(fault, "errno", 0) in DISK_IS_FULL else ""
        print(f"clean_dataset.py: {fault}{remedy}", file=sys.stderr)
        return 2
    rows, rejected = outcome
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.most_common())
    print(
        f"{'unchanged:' if same else 'wrote'} {rows:,} rows {'in' if same else 'to'} {settings.output_dir} "
        f"({rejected.total():,} dropped{': ' + reasons if reasons else ''})"
    )
    return 0


def clean(settings: Settings, aside: Path) -> tuple[int, Counter] | None:
    """The whole road in a folder aside; gives the number of rows and the rejected by reason."""
    from dataset_card import write_card
    from dataset_folder import write_dataset
    from spooled_rows import Spool

    dataset = aside / "dataset"
    dataset.mkdir()
    with open(dataset / "rejected.jsonl", "w", encoding="utf-8") as rejects:
        spool = Spool(aside / "candidates.jsonl", rejects)
        bad_files, files, items = read_candidates(settings, spool)
        groups = keep_distinct(settings, spool)
    if not spool.kept:
        print(
            f"clean_dataset.py: nothing is left of {items:,} items in {files:,} files below {settings.raw_root}: set "
            f"RAW_ROOT to where generate_data.py wrote ({dict(spool.rejected)})",
            file=sys.stderr,
        )
        return None
    summary = write_dataset(dataset, lambda: finished_rows(settings, spool, groups), settings.seed)
    report = {
        "files_read": files,
        "files_refused": bad_files,
        "items_read": items,
        "rows": spool.kept,
        "rejected": dict(sorted(spool.rejected.items())),
        **summary,
        "settings": {name: str(value) for name, value in settings if name not in ("raw_root", "output_dir")},
    }
    assert items == spool.kept + spool.rejected.total(), "items read must be rows and rejects"
    (dataset / "cleaning_report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    write_card(dataset, report, settings.licence)
    return spool.kept, spool.rejected


def read_candidates(settings: Settings, spool) -> tuple[int, int, int]:
    """First pass: what can be told of an item alone, exact repeats, and texts that carry both labels."""
    from job_runner import Progress
    from meme_rows import raw_paths, read_file, rows_of, text_key

    bad_files = files = items = 0
    progress = Progress(0, "items")
    roots = [Path(name) for name in settings.raw_root.split(",")]
    for name, path in raw_paths(roots, settings.output_dir):
        document, fault = read_file(path)
        if document is None:
            bad_files += 1
            spool.refuse_file(name, fault)
            continue
        files += 1
        progress.advance(count=len(document["items"]))
        for row, reason in rows_of(
            document, name.removesuffix(".json"), settings.max_text_characters, settings.max_image_characters
        ):
            items += 1
            if reason:
                spool.reject(row, reason)
            else:
                spool.add(row, text_key(row))
    progress.close()
    spool.close()
    return bad_files, files, items


def keep_distinct(settings: Settings, spool):
    """Second pass, by language: drop label conflicts, held-out texts, and all but the first of near repeats; then what
    shares a group with a held-out text, which is its translation or variant.

    Gives the groups, tied where their texts repeat or resemble each other.
    """
    from evaluation_texts import evaluation_texts
    from near_duplicates import Groups, repeats_of, signatures

    groups = Groups()
    for group, number in spool.repeats:
        groups.tie(group, spool.row(number)["group"])
    contaminated: set[int] = set()
    held_out, held_out_groups = [], set()
    if settings.decontaminate:
        held_out, held_out_groups = evaluation_texts(settings.decontaminate, settings.decontaminate_column)
    for language in spool.languages:
        numbers = spool.undisputed(language)
        texts = chain(held_out, (row["text"] for row in spool.rows_at(numbers)))
        hashes = signatures(texts, len(held_out) + len(numbers), language)
        like = repeats_of(hashes, len(held_out), settings.near_duplicate_threshold)
        for position, number in enumerate(numbers, start=len(held_out)):
            if position not in like:
                spool.keep(number)
            elif like[position] < len(held_out):
                spool.reject(spool.row(number), "in_evaluation_set")
                contaminated.add(number)
            else:
                row, first = spool.row(number), spool.row(numbers[like[position] - len(held_out)])
                spool.reject({**row, "like": first["id"]}, "near_duplicate")
                groups.tie(row["group"], first["group"])
        if language == "en":
            tie_similar(settings, spool, groups, hashes[len(held_out) :], numbers)
    if settings.decontaminate_groups:
        roots = {groups.root(group) for group in held_out_groups}
        contaminated |= {number for number, row in spool.rows() if groups.root(row["group"]) in roots}
    spool.drop_groups_of(contaminated, "group_in_evaluation_set")
    return groups


def tie_similar(settings: Settings, spool, groups, hashes, numbers) -> None:
    """English texts that resemble each other share a group, and so do all their translations."""
    import numpy

    from near_duplicates import similar_pairs

    for earlier, later in similar_pairs(hashes, numpy.arange(len(hashes)), settings.same_group_threshold).tolist():
        one, other = numbers[earlier], numbers[later]
        if not spool.same_group(one, other):
            groups.tie(spool.row(one)["group"], spool.row(other)["group"])


def finished_rows(settings: Settings, spool, groups) -> Iterator[tuple[str, dict]]:
    """(split, row) of all that was kept, in the order of the raw files."""
    from meme_rows import split_of

    for number, row in spool.rows():
        if spool.is_kept(number):
            group = groups.root(row["group"])
            split = split_of(group, settings.seed, settings.test_fraction, settings.validation_fraction)
            yield split, {**row, "group": group}


if __name__ == "__main__":
    sys.exit(main())
