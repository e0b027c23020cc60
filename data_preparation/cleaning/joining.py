"""Rows that are to join data sets: what repeats theirs is dropped, what resembles it shares its group and split."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cleaning.rows import Rejected, Row, split_of
from raw.raw_folder import LABELS

if TYPE_CHECKING:
    from cleaning.near_duplicates import Groups

# A group that is held out in any data set is held out: what is measured on must not be trained on.
HELD_OUT_FIRST = ("test", "validation", "train")


@dataclass
class KnownRows:
    """The rows of the data sets that are there already."""

    texts: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)  # language to (text, label, group)
    splits: dict[str, str] = field(default_factory=dict)  # group to the split that holds it


class UnusableDataset(Exception):
    """A data set that rows should join cannot be read; the message names it and the remedy."""


def read_known(folders: list[Path]) -> KnownRows:
    """All splits of saved data sets of this project; raises UnusableDataset."""
    from datasets import DatasetDict, load_from_disk

    known = KnownRows()
    for folder in folders:
        try:
            saved = load_from_disk(str(folder))
            if not isinstance(saved, DatasetDict):
                raise ValueError("it is a single split")
            for split in [name for name in HELD_OUT_FIRST if name in saved]:
                columns = saved[split].select_columns(["text", "label", "language", "group"])
                for row in columns:
                    member = (row["text"] or "", LABELS[row["label"]], row["group"])
                    known.texts.setdefault(row["language"], []).append(member)
                    held = known.splits.setdefault(row["group"], split)
                    known.splits[row["group"]] = min(held, split, key=HELD_OUT_FIRST.index)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UnusableDataset(
                f"DATASET_DIR={folder} is no data set of the usual form ({type(error).__name__}: {error}); name "
                "folders that clean_dataset.py or this script wrote"
            ) from None
    return known


@dataclass
class Joined:
    """Rows that are to join, each kept or with the reason why not, and the groups that all of them belong to."""

    rows: list[Row]
    reasons: dict[int, tuple[str, str]]  # position of a dropped row to (reason, id or text of what it repeats)
    groups: "Groups"
    homes: dict[str, str]  # root of a group to the group of a data set that it is tied to
    splits: dict[str, str]  # of the data sets' groups

    def group_of(self, row: Row) -> str:
        root = self.groups.root(row["group"])
        return self.homes.get(root, root)

    def kept(self, seed: int, test_fraction: float, validation_fraction: float) -> Iterator[tuple[str, Row]]:
        """(split, row) of what is kept: the split of the group that it shares, else one by a hash of its own."""
        for number, row in enumerate(self.rows):
            if number not in self.reasons:
                group = self.group_of(row)
                split = self.splits.get(group) or split_of(group, seed, test_fraction, validation_fraction)
                yield split, {**row, "group": group}

    def dropped(self) -> Iterator[Rejected]:
        for number, (reason, like) in sorted(self.reasons.items()):
            yield Rejected({**self.rows[number], "like": like}, reason)


def join_rows(rows: list[Row], known: KnownRows, near_duplicate: float, same_group: float) -> Joined:
    """Compare rows with the known ones of their language and with one another.

    near_duplicate, same_group: Jaccard similarities of character n-grams from which a row repeats another, or shares
    its group. A row without text is compared by its description.
    """
    from cleaning.near_duplicates import Groups

    groups = Groups()
    reasons: dict[int, tuple[str, str]] = {}
    for language in dict.fromkeys(row["language"] for row in rows):
        own = [number for number, row in enumerate(rows) if row["language"] == language]
        reasons |= compare(rows, own, known.texts.get(language, []), language, near_duplicate, same_group, groups)
    homes: dict[str, str] = {}
    for group in sorted(known.splits, key=lambda group: (HELD_OUT_FIRST.index(known.splits[group]), group)):
        homes.setdefault(groups.root(group), group)
    return Joined(rows, reasons, groups, homes, known.splits)


def compare(
    rows: list[Row],
    own: list[int],
    known: list[tuple[str, str, str]],
    language: str,
    near_duplicate: float,
    same_group: float,
    groups: "Groups",
) -> dict[int, tuple[str, str]]:
    """Reasons to drop rows of one language (positions `own`), as in Joined; ties groups that resemble each other.

    Of rows that repeat each other the first is kept, and none where their labels differ.
    """
    import numpy

    from cleaning.near_duplicates import repeats_of, signatures, similar_pairs

    texts = [text for text, _, _ in known] + [rows[number]["text"] or rows[number]["image"] for number in own]
    labels = [label for _, label, _ in known] + [rows[number]["label"] for number in own]
    names = [group for _, _, group in known] + [rows[number]["group"] for number in own]
    hashes = signatures(texts, len(texts), language)
    pairs = similar_pairs(hashes, numpy.arange(len(texts)), min(near_duplicate, same_group))
    for one, other in pairs[pairs[:, 1] >= len(known)].tolist():
        groups.tie(names[one], names[other])
    reasons: dict[int, tuple[str, str]] = {}
    for later, earlier in repeats_of(hashes, len(known), near_duplicate).items():
        is_known, agree = earlier < len(known), labels[earlier] == labels[later]
        first = texts[earlier] if is_known else rows[own[earlier - len(known)]]["id"]
        if is_known:
            reason = "in_dataset" if agree else "contradicts_dataset"
        else:
            reason = "near_duplicate" if agree else "label_conflict"
        reasons[own[later - len(known)]] = (reason, first)
        if reason == "label_conflict":
            reasons.setdefault(own[earlier - len(known)], (reason, rows[own[later - len(known)]]["id"]))
    return reasons
