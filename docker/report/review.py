"""What the page needs to be reviewed: which pictures are worth a look first, and the keys that say what they are."""

import hashlib
import json
from itertools import chain, zip_longest
from string import ascii_lowercase

from detector.meme import label_of
from report.rows import Row

# What a person may say of a picture, by key. `b` shows a blurred picture, so no category takes it.
LABEL_KEYS = {"harmful": "1", "harmless": "2", "unsure": "3"}
BLUR_KEY = "b"


def category_keys(categories: list[str]) -> dict[str, str]:
    """Category to a key of its own: the first letter of the word that is free, else of the alphabet, else none."""
    keys: dict[str, str] = {}
    for category in categories:
        letters = filter(str.isalpha, category.casefold() + ascii_lowercase)
        keys[category] = next((letter for letter in letters if letter not in {BLUR_KEY, *keys.values()}), "")
    return keys


def review_queue(rows: list[Row], threshold: float) -> list[int]:
    """Positions of all rows in the order of their worth to a reviewer.

    By turns the one whose probability is closest to the threshold, and the one whose views lie furthest apart on
    either side of it. What has neither text nor caption is last: a verdict on it would teach the detector nothing.
    """
    seen = [number for number, row in enumerate(rows) if not is_blank(row)]
    uncertain = sorted(seen, key=lambda number: abs(rows[number].probability - threshold))
    gaps = {number: gap for number in seen if (gap := views_gap(rows[number], threshold))}
    turns = chain.from_iterable(zip_longest(uncertain, sorted(gaps, key=lambda number: -gaps[number])))
    return list(dict.fromkeys([*(number for number in turns if number is not None), *range(len(rows))]))


def is_blank(row: Row) -> bool:
    """True where the evidence says that the chat model was given nothing to read."""
    return row.evidence is not None and not f"{row.evidence.text or ''}{row.evidence.caption or ''}".strip()


def views_gap(row: Row, threshold: float) -> float:
    """How far the two views lie apart where the threshold parts them, else 0."""
    if not row.evidence or row.evidence.probability_text is None or row.evidence.probability_image_text is None:
        return 0.0
    text, image_text = row.evidence.probability_text, row.evidence.probability_image_text
    return abs(text - image_text) if label_of(text, threshold) != label_of(image_text, threshold) else 0.0


def run_id(rows: list[Row]) -> str:
    """16 hex digits that tell this run from others in what a browser keeps; labels and threshold are no part of it."""
    told = [[row.path, row.name, row.evidence and row.evidence.text, row.probability] for row in rows]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
