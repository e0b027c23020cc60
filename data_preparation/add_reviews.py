"""Make a data set of what people said of scored memes: the report's review.csv and the evidence of that run.

Reads   REVIEW_PATH (the review.csv that the report's page wrote; several reviewers' with commas), DETAILS_PATH (the
        evidence of the run that was reviewed), DATASET_DIR (data sets that the rows will join)
Writes  OUTPUT_DIR: a data set as clean_dataset.py writes it (caption as image description, text as read, language by
        script and words), with README.md, composition.png, cleaning_report.json, rejected.jsonl; and labels.csv, the
        LABELS_PATH of evaluate_predictions.py for that run.

    REVIEW_PATH=review.csv DETAILS_PATH=details.jsonl DATASET_DIR=datasets/v3 OUTPUT_DIR=datasets/reviewed \\
        python data_preparation/add_reviews.py
    MODEL_DIR=... DATASET_DIR=datasets/v3,datasets/reviewed python training_pipeline/train_model.py

What repeats a text of DATASET_DIR is dropped; what resembles one shares its group, and so its split. Safe to run again:
the data set is written aside and renamed when whole; the same input changes nothing. Exits 0, or 2 when a setting or
a file is unusable, or nothing is left.
"""

import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, FilePath, model_validator

from cleaning.categories import CATEGORIES, distinct_names
from cleaning.dataset_card import REVIEWED, write_card
from cleaning.dataset_folder import OutputConflictError, check_output, folder_aside, replace_folder, write_dataset
from cleaning.joining import Joined, UnusableDataset, join_rows, read_known
from cleaning.reviews import Review, Scored, UnusableReview, joined_reviews, read_reviews, read_scored, reviewed_rows
from cleaning.rows import Rejected, Row
from raw.raw_folder import FolderConflictError
from raw.script_settings import ScriptSettings


def existing_files(value: str) -> str:
    missing = [str(path) for path in named_paths(value) if not path.is_file()]
    if missing or not named_paths(value):
        raise ValueError(f"no such file: {', '.join(missing) or 'nothing is named'}")
    return value


def existing_folders(value: str) -> str:
    missing = [str(path) for path in named_paths(value) if not path.is_dir()]
    if missing:
        raise ValueError(f"no such folder: {', '.join(missing)}")
    return value


def named_paths(value: str) -> list[Path]:
    """Paths with commas between them."""
    return [Path(name.strip()) for name in value.split(",") if name.strip()]


class Settings(ScriptSettings):
    review_path: Annotated[str, AfterValidator(existing_files)] = Field(
        description="review.csv that the report wrote; those of several reviewers with commas, the newest of each"
    )
    details_path: FilePath = Field(
        description="evidence of the run that was reviewed: predict.py's DETAILS_PATH, or evaluate_model.py's "
        "predictions.jsonl"
    )
    dataset_dir: Annotated[str, AfterValidator(existing_folders)] = Field(
        "", description="data sets that the rows will join, with commas: their texts are not repeated"
    )
    output_dir: Path = Field(Path("reviewed"), description="folder of the data set; an earlier one is replaced whole")
    categories: Annotated[str, AfterValidator(distinct_names)] = Field(
        CATEGORIES, description="categories that a review may name, with commas; CATEGORIES of evaluate_predictions.py"
    )
    seed: int = Field(1, description="seed of the split")
    validation_fraction: float = Field(0.05, ge=0, lt=1, description="share of the new groups that goes to validation")
    test_fraction: float = Field(0.05, ge=0, lt=1, description="share of the new groups that goes to test")
    near_duplicate_threshold: float = Field(
        0.8, gt=0, le=1, description="Jaccard similarity of character n-grams from which a text repeats another"
    )
    same_group_threshold: float = Field(
        0.6, gt=0, le=1, description="similarity from which texts share a group, so that no split parts them"
    )
    licence: str = Field("other", description="licence named in the data set's card")

    @model_validator(mode="after")
    def usable(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("VALIDATION_FRACTION and TEST_FRACTION leave nothing to train on: lower them")
        if self.output_dir.is_file():
            raise ValueError(f"OUTPUT_DIR={self.output_dir} is a file: set it to a folder")
        return self


def main() -> int:
    settings = Settings.read(__doc__)
    output = settings.output_dir.resolve()
    try:
        check_output(output)
        scored = read_scored(settings.details_path)
        candidates = list(reviewed_rows(read_all_reviews(settings), scored, settings.details_path))
        joined = join(settings, [row for row in candidates if not isinstance(row, Rejected)])
        rejected = [row for row in candidates if isinstance(row, Rejected)] + list(joined.dropped())
        reasons = Counter(row.reason for row in rejected)
        if len(joined.reasons) == len(joined.rows):
            raise UnusableReview(f"nothing is left of {len(candidates):,} reviews ({dict(reasons)})")
        output.parent.mkdir(parents=True, exist_ok=True)
        with folder_aside(output) as aside:
            write_folder(settings, aside, joined, rejected)
            write_labels(aside / "dataset" / "labels.csv", joined, scored)
            same = replace_folder(aside / "dataset", output)
    except (UnusableReview, UnusableDataset, OutputConflictError, FolderConflictError, OSError) as error:
        print(f"add_reviews.py: {error}", file=sys.stderr)
        return 2
    told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    print(
        f"{'unchanged:' if same else 'wrote'} {len(joined.rows) - len(joined.reasons):,} rows {'in' if same else 'to'} "
        f"{settings.output_dir} ({len(rejected):,} dropped{': ' + told if told else ''}); labels.csv: "
        f"{len(joined.rows):,} labels"
    )
    return 0


def read_all_reviews(settings: Settings) -> dict[str, Review | None]:
    """One review a path, None where reviewers disagree; raises UnusableReview."""
    categories = settings.categories.split(",")
    return joined_reviews([read_reviews(path, categories) for path in named_paths(settings.review_path)])


def join(settings: Settings, rows: list[Row]) -> Joined:
    """The rows beside the data sets that they will join; OUTPUT_DIR itself, written by an earlier run, is none."""
    folders = [path for path in named_paths(settings.dataset_dir) if path.resolve() != settings.output_dir.resolve()]
    known = read_known(folders)
    joined = join_rows(rows, known, settings.near_duplicate_threshold, settings.same_group_threshold)
    blank = [number for number, row in enumerate(rows) if not f"{row['text']}{row['image']}".strip()]
    joined.reasons.update({number: ("empty", "") for number in blank})
    return joined


def write_folder(settings: Settings, aside: Path, joined: Joined, rejected: list[Rejected]) -> None:
    """The data set, its card and its rejects, in `aside`/dataset."""
    folder = aside / "dataset"
    folder.mkdir()
    with open(folder / "rejected.jsonl", "w", encoding="utf-8") as rejects:
        for row in rejected:
            rejects.write(json.dumps({"reason": row.reason, **row.entry}, ensure_ascii=False) + "\n")
    report = {
        "files_read": len(named_paths(settings.review_path)),
        "items_read": len(joined.rows) + len(rejected) - len(joined.reasons),
        "rows": len(joined.rows) - len(joined.reasons),
        "rejected": dict(sorted(Counter(row.reason for row in rejected).items())),
        **write_dataset(
            folder, joined.kept(settings.seed, settings.test_fraction, settings.validation_fraction), settings.seed
        ),
        "settings": {name: str(value) for name, value in settings if not name.endswith(("_path", "_dir"))},
    }
    write_card(folder, report, settings.licence, REVIEWED)


def write_labels(path: Path, joined: Joined, scored: dict[str, list[Scored]]) -> None:
    """All that was called harmful or harmless, dropped from the data set or not: to measure on, repeats count.

    Paths as the run had them, undecodable bytes too.
    """
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file_name", "label", "language", "category", "group"])
        for row in joined.rows:
            meme = scored[row["id"]][0]
            table.writerow([meme.path, row["label"], row["language"], row["category"], joined.group_of(row)])


if __name__ == "__main__":
    sys.exit(main())
