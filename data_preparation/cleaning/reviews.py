"""What people said of scored memes: review.csv of the report, and the evidence of the run that it is about.

A picture's path (a text's id, where a run had no pictures) ties the two together.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cleaning.rows import Rejected, Row
from raw.raw_folder import Json
from raw.text_checks import language_of

LABELS = {"harmful": "offensive", "harmless": "ok"}
UNSURE = "unsure"
NAMED = 3  # of what is wrong, so many are named
SOURCE = "review"


class UnusableReview(Exception):
    """The message names the file, what is wrong with it, and the remedy."""


@dataclass(frozen=True)
class Review:
    label: str  # harmful, harmless, unsure
    category: str  # empty where nobody gave one
    time: str  # ISO 8601, so that later ones sort last; may be empty


@dataclass(frozen=True)
class Scored:
    """What the detector read of a meme, as far as a data set wants to know."""

    path: str  # as written, undecodable bytes as surrogates
    text: str
    caption: str
    language: str | None
    category: str | None
    group: str | None


def read_reviews(path: Path, categories: list[str]) -> dict[str, Review]:
    """By path; where one file names a path twice, the later time counts. Raises UnusableReview."""
    with path.open(encoding="utf-8-sig", newline="") as table:
        reader = csv.DictReader(table)
        missing = {"path", "label"} - set(reader.fieldnames or ())
        if missing:
            raise UnusableReview(
                f"REVIEW_PATH={path} lacks the column(s) {', '.join(sorted(missing))}; it must be a review.csv that "
                "the report wrote: path,label,category,time"
            )
        try:
            lines = [(reader.line_num, {name: (value or "") for name, value in line.items()}) for line in reader]
        except (UnicodeDecodeError, csv.Error) as error:
            raise UnusableReview(f"REVIEW_PATH={path} is no CSV in UTF-8 ({error}); save it as that") from None
    reviews: dict[str, Review] = {}
    wrong = []
    for number, line in lines:
        found = Review(*(line.get(name, "").strip().casefold() for name in ("label", "category", "time")))
        if not line["path"]:
            wrong.append(f"line {number} names no path")
        elif found.label not in {*LABELS, UNSURE}:
            wrong.append(f"line {number} has label {line['label']!r}, which is none of {', '.join(LABELS)}, {UNSURE}")
        elif found.category and found.category not in categories:
            wrong.append(f"line {number} has category {line['category']!r}, which is none of CATEGORIES")
        elif line["path"] not in reviews or reviews[line["path"]].time <= found.time:
            reviews[line["path"]] = found
    if wrong:
        raise UnusableReview(f"REVIEW_PATH={path}: {listed(wrong)}; mend these lines, or write the file anew")
    return reviews


def joined_reviews(files: list[dict[str, Review]]) -> dict[str, Review | None]:
    """One review a path, of all reviewers; None where they call it harmful and harmless. Unsure is no opinion."""
    by_path: dict[str, list[Review]] = defaultdict(list)
    for reviews in files:
        for path, review in reviews.items():
            by_path[path].append(review)
    joined: dict[str, Review | None] = {}
    for path, found in by_path.items():
        labels = {review.label for review in found} - {UNSURE}
        label = labels.pop() if labels else UNSURE
        agreed = sorted((review for review in found if review.label == label), key=lambda review: review.time)
        category = next((review.category for review in reversed(agreed) if review.category), "")
        joined[path] = None if labels else Review(label, category, agreed[-1].time)
    return joined


def read_scored(path: Path) -> dict[str, list[Scored]]:
    """What was read of each meme, by its path as the report shows it; several where a path was scored several times.

    Raises UnusableReview.
    """
    scored: dict[str, list[Scored]] = defaultdict(list)
    wrong = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            found = scored_meme(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            wrong.append(f"line {number}")
            continue
        scored[valid_unicode(found.path)].append(found)
    if wrong:
        raise UnusableReview(
            f"DETAILS_PATH={path}: {listed(wrong)} holds no evidence; it must be what predict.py wrote with "
            "DETAILS_PATH set, or evaluate_model.py's predictions.jsonl"
        )
    return scored


def scored_meme(record: Json) -> Scored:
    """Of a line of evidence; ValueError, TypeError, KeyError or AttributeError where it is none."""
    path = record.get("path") or record["id"]
    text, caption = (valid_unicode(record[name] or "") for name in ("text", "caption"))
    known = [record.get(name) or None for name in ("language", "category", "group")]
    if not isinstance(path, str) or not all(isinstance(value, str | None) for value in known):
        raise ValueError("no evidence")
    return Scored(path, text, caption, *known)


def reviewed_rows(
    reviews: dict[str, Review | None], scored: dict[str, list[Scored]], where: Path
) -> Iterator[Row | Rejected]:
    """A row for each reviewed meme, in the order of the run, or the reason why it makes none.

    Raises UnusableReview where a review is about no meme of the run.
    """
    unknown = [repr(path) for path in reviews if path not in scored]
    if unknown:
        raise UnusableReview(
            f"REVIEW_PATH names {len(unknown):,} memes that DETAILS_PATH={where} does not know: {listed(unknown)}; "
            "give the evidence of the very run that was reviewed"
        )
    for path, memes in scored.items():
        if path in reviews:
            yield reviewed_row(path, memes, reviews[path])


def reviewed_row(path: str, memes: list[Scored], review: Review | None) -> Row | Rejected:
    meme = memes[0]
    row: Row = {
        "id": path,
        "image": meme.caption,
        "text": meme.text,
        "label": LABELS.get(review.label, "") if review else "",
        "language": meme.language or language_of(meme.text),
        "category": (review.category if review else "") or meme.category or "",
        "group": meme.group or path,
        "source": SOURCE,
    }
    if review is None:
        return Rejected({**row}, "reviewers_disagree")
    if review.label == UNSURE:
        return Rejected({**row}, "unsure")
    if any((other.text, other.caption) != (meme.text, meme.caption) for other in memes):
        return Rejected({**row}, "path_read_differently")
    return row


def valid_unicode(text: str) -> str:
    """The same text with lone surrogates as replacement characters, as the report writes paths."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def listed(errors: list[str]) -> str:
    more = len(errors) - NAMED
    return "; ".join(errors[:NAMED]) + (f"; and {more:,} more" if more > 0 else "")
