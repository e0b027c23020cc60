"""Reads raw files and makes candidate rows of them: normalised and checked one by one, each reject with its reason."""

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from filecmp import cmp
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TypedDict

from cleaning.categories import listed_category
from cleaning.stage_directions import without_stage_directions
from raw.raw_folder import LABELS, FolderConflictError, Json
from raw.refusals import is_refusal
from raw.text_checks import SCRIPT_SHARES, has_expected_script, letters_only

RAW_FILE = re.compile(r"\d{4,}\.json")
INVISIBLE = re.compile(r"[\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
# Joiners stay where they change what is seen: after a Tamil virama and inside emoji sequences.
IDLE_JOINER = re.compile(r"(?<![\u0bcd\ufe0f\u2190-\u2bff\U0001f000-\U0001faff])[\u200c\u200d]")
WRAPPING_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」", "『": "』", "«": "»"}


class Row(TypedDict):
    """A meme in text, with the columns of the data set; `id` is <raw file below its root, no suffix>#<item>."""

    id: str
    image: str  # description, English
    text: str
    label: str
    language: str
    category: str  # the group that it attacks or is about, where that is known, else its prompt key's area
    group: str
    source: str  # model


@dataclass(frozen=True)
class Rejected:
    """An item that makes no row, with the reason."""

    entry: Json
    reason: str


def normalise(text: str) -> str:
    """One line of visible text: plain letters for fancy ones, no stage directions, no quotes around the whole."""
    text = _plain_letters(text)
    text = IDLE_JOINER.sub("", INVISIBLE.sub("", text))
    text = " ".join(without_stage_directions(text).split())
    while len(text) > 1 and WRAPPING_QUOTES.get(text[0]) == text[-1] and not _quoted_apart(text):
        text = text[1:-1].strip()
    return text


def _plain_letters(text: str) -> str:
    """NFKC for letters and digits only: elsewhere it would break Chinese punctuation, fractions and ellipses."""
    if text.isascii() or unicodedata.is_normalized("NFKC", text):
        return text
    plain = "".join(
        unicodedata.normalize("NFKC", character)
        if unicodedata.category(character) in ("Lu", "Ll", "Lo", "Lm", "Nd", "Zs")
        else character
        for character in text
    )
    return unicodedata.normalize("NFC", plain)


def _quoted_apart(text: str) -> bool:
    """True for `"a" and "b"`, whose first and last quote belong to different quotations."""
    inner = text[1:-1]
    return text[-1] in inner or text[0] in inner


def raw_paths(roots: list[Path], skipped: Path) -> Iterator[tuple[str, Path]]:
    """(path below its root, path) of every NNNN.json in an order that does not depend on which root holds it.

    Passes over failed/, hidden folders and the folder `skipped`. Copies of a file count once.

    Raises FolderConflictError where two roots hold different files of one name.
    """
    merged = merge(*(_sorted_paths(root, skipped) for root in roots))
    for (folder, _, name), found in groupby(merged, key=itemgetter(0)):
        path, *copies = (path for _, path in found)
        for copy in copies:
            if not cmp(path, copy, shallow=False):
                raise FolderConflictError(
                    f"{path} and {copy} have one name and differ, as when two machines made the same run: "
                    "remove one of them with its translations, or rename its folders"
                )
        yield Path(*folder, name).as_posix(), path


def _sorted_paths(root: Path, skipped: Path) -> Iterator[tuple[tuple[tuple[str, ...], int, str], Path]]:
    """((folders, length of the name, name), path): a folder's own files by number, then its subfolders."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(
            name
            for name in subfolders
            if name != "failed" and not name.startswith(".") and Path(folder, name).resolve() != skipped.resolve()
        )
        for name in sorted(filter(RAW_FILE.fullmatch, names), key=lambda name: (len(name), name)):
            yield (Path(folder).relative_to(root).parts, len(name), name), Path(folder, name)


def read_file(path: Path) -> tuple[Json | None, str]:
    """The raw document, or None with what is wrong with it."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (ValueError, OSError) as error:
        return None, f"unreadable: {type(error).__name__}"
    if not isinstance(document, dict) or not isinstance(document.get("items"), list):
        return None, "it holds no list of items"
    if document.get("label") not in LABELS:
        return None, f"label is {document.get('label')!r}"
    if document.get("language") not in SCRIPT_SHARES:
        return None, f"language is {document.get('language')!r}"
    return document, ""


def rows_of(
    document: Json, name: str, longest_text: int, longest_image: int, categories: list[str]
) -> Iterator[Row | Rejected]:
    """A row for each item that passes the checks, with text and image normalised; the others as Rejected.

    `name` is the file's path below the raw root without its suffix, and makes the rows' ids. What an item says of its
    category counts where `categories` has it.
    """
    source = model_source(document)
    for index, item in enumerate(document["items"]):
        said = item.get("category") if isinstance(item, dict) else None
        row: Row = {
            "id": f"{name}#{index}",
            "image": "",
            "text": "",
            "label": document["label"],
            "language": document["language"],
            "category": listed_category(said, categories) or str(document.get("category")),
            "group": "",
            "source": source,
        }
        if not isinstance(item, dict) or not all(isinstance(item.get(field), str) for field in ("image", "text")):
            yield Rejected({**row, "image": None, "text": None, "group": None, "item": item}, "malformed")
            continue
        row["image"], row["text"] = normalise(item["image"]), normalise(item["text"])
        row["group"] = str(item.get("group") or row["id"])
        reason = rejection_reason(row, longest_text, longest_image)
        yield Rejected({**row}, reason) if reason else row


def rejection_reason(row: Row, longest_text: int, longest_image: int) -> str | None:
    """One word on why the row is no data, or None."""
    if not any(map(str.isalnum, row["text"])) or not any(map(str.isalnum, row["image"])):
        return "empty"
    if len(row["text"]) > longest_text or len(row["image"]) > longest_image:
        return "over_long"
    if is_refusal(row["text"]) or is_refusal(row["image"]):
        return "refusal"
    if not has_expected_script(row["text"], row["language"]):
        return "wrong_script"
    return None


def model_source(document: Json) -> str:
    """The model that wrote the text, and for a translation the one that translated it."""
    request, original = document.get("asked") or {}, document.get("source") or {}
    model = str(request.get("model"))
    return f"{original.get('model')} > {model}" if original else model


def text_key(row: Row) -> int:
    """64 bits that are the same for texts of a language that differ in case, spaces and punctuation only."""
    written = f"{row['language']}:{letters_only(row['text'])}"
    return int.from_bytes(hashlib.blake2b(written.encode(), digest_size=8).digest())


def split_of(group: str, seed: int, test_fraction: float, validation_fraction: float) -> str:
    """Decided by a hash of the group alone: added data moves no row, a bigger TEST_FRACTION only adds to test."""
    position = int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8]) / 2**64
    if position < test_fraction:
        return "test"
    return "validation" if position >= 1 - validation_fraction else "train"
