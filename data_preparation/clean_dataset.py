"""Clean raw folders into a data set: checked, deduplicated, split by group, with its card and its rejects.

Reads   every NNNN.json below RAW_ROOT (but failed/), as generate_data.py and the translate scripts wrote them. The
        shards of several machines, copied together or given with commas, are one: the same files, the same data set.
Writes  OUTPUT_DIR: a Hugging Face DatasetDict (train, validation, test) for load_from_disk, README.md (its card),
        composition.png, cleaning_report.json, rejected.jsonl (every dropped item with its reason).
        Row: id, image, text, label (ClassLabel ok, offensive), language, category, group, source. The category is
        the group that a meme attacks (offensive) or is about (ok), where its item names one of CATEGORIES, else the
        area of its prompt key.

    RAW_ROOT=artifacts/raw OUTPUT_DIR=artifacts/dataset python data_preparation/clean_dataset.py

Safe to run again: the data set is written aside and renamed when whole; the same input changes nothing. Exits 0,
or 2 when a setting is unusable or nothing is left.
"""

import errno
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from cleaning.candidates import Candidates
from cleaning.categories import CATEGORIES, MOST_NAMED, distinct_names, told_counts, unlisted_categories
from cleaning.dataset_card import write_card
from cleaning.dataset_folder import OutputConflictError, check_output, folder_aside, replace_folder, write_dataset
from cleaning.evaluation_texts import evaluation_texts
from cleaning.rows import Row, raw_paths, read_file, rows_of, split_of
from raw.progress import Progress
from raw.raw_folder import FolderConflictError
from raw.script_settings import ScriptSettings

if TYPE_CHECKING:
    from array import array

    import numpy

    from cleaning.near_duplicates import Groups

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


class Settings(ScriptSettings):
    """What to clean, how strictly, and where to."""

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
    categories: Annotated[str, AfterValidator(distinct_names)] = Field(
        CATEGORIES,
        description="categories that an item may name, with commas; where it names none, its prompt key's area stands",
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
    def usable_paths(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("VALIDATION_FRACTION and TEST_FRACTION leave nothing to train on: lower them")
        if self.decontaminate is not None and not self.decontaminate.exists():
            raise ValueError(f"DECONTAMINATE={self.decontaminate} is not there: set it to a CSV, a JSONL or a data set")
        if self.output_dir.is_file():
            raise ValueError(f"OUTPUT_DIR={self.output_dir} is a file: set it to a folder")
        return self


def main() -> int:
    settings = Settings.read(__doc__)
    output = settings.output_dir.resolve()
    try:
        check_output(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        with folder_aside(output) as aside:
            outcome = clean(settings, aside)
            if outcome is None:
                return 2
            same = replace_folder(aside / "dataset", output)
    except (OutputConflictError, FolderConflictError, OSError) as error:
        remedy = f": free some space for {settings.output_dir}" if getattr(error, "errno", 0) in DISK_IS_FULL else ""
        print(f"clean_dataset.py: {error}{remedy}", file=sys.stderr)
        return 2
    rows, rejected = outcome
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.most_common())
    print(
        f"{'unchanged:' if same else 'wrote'} {rows:,} rows {'in' if same else 'to'} {settings.output_dir} "
        f"({rejected.total():,} dropped{': ' + reasons if reasons else ''})"
    )
    return 0


def clean(settings: Settings, aside: Path) -> tuple[int, Counter[str]] | None:
    """Make the data set in a folder aside; gives the number of rows and the rejected by reason, None without rows."""
    dataset = aside / "dataset"
    dataset.mkdir()
    with open(dataset / "rejected.jsonl", "w", encoding="utf-8") as rejects:
        candidates = Candidates(aside / "candidates.jsonl", rejects)
        unlisted = read_candidates(settings, candidates)
        groups = keep_distinct(settings, candidates)
    if not candidates.kept:
        print(
            f"clean_dataset.py: nothing is left of {candidates.items_read:,} items in {candidates.files_read:,} files "
            f"below {settings.raw_root}: set RAW_ROOT to where generate_data.py wrote ({dict(candidates.rejected)})",
            file=sys.stderr,
        )
        return None
    report = {
        "files_read": candidates.files_read,
        "files_refused": candidates.files_refused,
        "items_read": candidates.items_read,
        "rows": candidates.kept,
        "rejected": dict(sorted(candidates.rejected.items())),
        "unlisted_categories": {"items": unlisted.total(), "most_common": dict(unlisted.most_common(MOST_NAMED))},
        **write_dataset(dataset, finished_rows(settings, candidates, groups), settings.seed),
        "settings": {name: str(value) for name, value in settings if name not in ("raw_root", "output_dir")},
    }
    assert candidates.items_read == candidates.kept + candidates.rejected.total(), "items read must be rows and rejects"
    write_card(dataset, report, settings.licence)
    return candidates.kept, candidates.rejected


def read_candidates(settings: Settings, candidates: Candidates) -> Counter[str]:
    """First pass: what can be told of an item alone, exact repeats, and texts that carry both labels.

    Gives the categories that items name and CATEGORIES does not, each with its count, and says so on stderr.
    """
    progress = Progress(0, "items")
    roots = [Path(name) for name in settings.raw_root.split(",")]
    categories = settings.categories.split(",")
    unlisted: Counter[str] = Counter()
    for name, path in raw_paths(roots, settings.output_dir):
        document, error = read_file(path)
        if document is None:
            candidates.reject_file(name, error)
            continue
        id_prefix, limits = name.removesuffix(".json"), (settings.max_text_characters, settings.max_image_characters)
        candidates.read_items(rows_of(document, id_prefix, *limits, categories))
        unlisted.update(unlisted_categories(document["items"], categories))
        progress.advance(count=len(document["items"]))
    progress.close()
    candidates.close()
    if unlisted:
        print(
            f"clean_dataset.py: {unlisted.total():,} items name a category that CATEGORIES does not have, and keep "
            f"their prompt key's area: {told_counts(unlisted)}",
            file=sys.stderr,
        )
    return unlisted


def keep_distinct(settings: Settings, candidates: Candidates) -> "Groups":
    """Second pass, by language: drop label conflicts, held-out texts, and all but the first of near repeats; then what
    shares a group with a held-out text, which is its translation or variant.

    Gives the groups, tied where their texts repeat or resemble each other.
    """
    from cleaning.near_duplicates import Groups  # here, because numpy waits until the settings are checked

    groups = Groups()
    for group, number in candidates.repeats:
        groups.tie(group, candidates.row(number)["group"])
    held_out: list[str] = []
    held_out_groups: set[str] = set()
    if settings.decontaminate:
        held_out, held_out_groups = evaluation_texts(settings.decontaminate, settings.decontaminate_column)
    contaminated: set[int] = set()
    for language in candidates.languages:
        contaminated |= keep_distinct_of(settings, candidates, groups, language, held_out)
    if settings.decontaminate_groups:
        roots = {groups.root(group) for group in held_out_groups}
        contaminated |= {number for number, row in candidates.rows() if groups.root(row["group"]) in roots}
    candidates.drop_groups_of(contaminated, "group_in_evaluation_set")
    return groups


def keep_distinct_of(
    settings: Settings, candidates: Candidates, groups: "Groups", language: str, held_out: list[str]
) -> set[int]:
    """Keep the language's distinct rows and tie the groups of the others; gives the numbers of held-out texts."""
    from cleaning.near_duplicates import repeats_of, signatures

    numbers = candidates.undisputed(language)
    texts = chain(held_out, (row["text"] for row in candidates.rows_at(numbers)))
    hashes = signatures(texts, len(held_out) + len(numbers), language)
    like = repeats_of(hashes, len(held_out), settings.near_duplicate_threshold)
    contaminated = set()
    for position, number in enumerate(numbers, start=len(held_out)):
        if position not in like:
            candidates.keep(number)
        elif like[position] < len(held_out):
            candidates.reject_number(number, "in_evaluation_set")
            contaminated.add(number)
        else:
            first = candidates.row(numbers[like[position] - len(held_out)])
            candidates.reject_number(number, "near_duplicate", like=first["id"])
            groups.tie(candidates.row(number)["group"], first["group"])
    if language == "en":
        tie_similar(settings, candidates, groups, hashes[len(held_out) :], numbers)
    return contaminated


def tie_similar(
    settings: Settings, candidates: Candidates, groups: "Groups", hashes: "numpy.ndarray", numbers: "array[int]"
) -> None:
    """English texts that resemble each other share a group, and so do all their translations."""
    import numpy

    from cleaning.near_duplicates import similar_pairs

    for earlier, later in similar_pairs(hashes, numpy.arange(len(hashes)), settings.same_group_threshold).tolist():
        one, other = numbers[earlier], numbers[later]
        if not candidates.same_group(one, other):
            groups.tie(candidates.row(one)["group"], candidates.row(other)["group"])


def finished_rows(settings: Settings, candidates: Candidates, groups: "Groups") -> Iterator[tuple[str, Row]]:
    """(split, row) of all that was kept, in the order of the raw files."""
    for number, row in candidates.rows():
        if candidates.is_kept(number):
            group = groups.root(row["group"])
            split = split_of(group, settings.seed, settings.test_fraction, settings.validation_fraction)
            yield split, {**row, "group": group}


if __name__ == "__main__":
    sys.exit(main())
