"""A data set's card and the picture of its composition, from what was saved and what cleaning counted."""

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cleaning.dataset_folder import REPORT, SPLITS
from raw.raw_folder import LABELS, Json

if TYPE_CHECKING:
    from datasets import DatasetDict

MEASURED_ROWS = 50_000  # of each language, for variety: its sets of n-grams grow with the text
LEAST_SAMPLES = 6

CARD = """---
license: {licence}
task_categories: [text-classification]
language: [{codes}]
tags: [hateful-memes, content-moderation, {tag}]
---

# Memes in text: harmless and offensive

{rows:,} rows: an English image description, the text on the meme, and whether a moderator should let it pass (`ok`) or
take it down (`offensive`). Load it with `datasets.load_from_disk`.

## Composition

![Rows by language, label and split](composition.png)

{tables}

## Variety

Measured on at most {measured:,} rows a language. More rows of the same sentence are not more data: see how many
3-grams (of words; of characters in Chinese) are distinct, and how common the most common opening (first three) is.

{variety}

## How it was made

{how}

Settings: {settings}

## Intended use, and harms

For training and testing classifiers that help moderators, for research on them, and for nothing else. The `offensive`
rows say hateful things about groups of people; they were written to be recognised. Do not publish them as memes, do
not train a generator on them, and do not judge a person by such a classifier's answer alone. {caution}

## Samples

{samples}
"""


@dataclass(frozen=True)
class Origin:
    """Where a data set's rows come from, in the words of its card; `how` is filled with what was counted."""

    tag: str
    how: str
    caution: str


GENERATED = Origin(
    "synthetic",
    """\
Written by the models in the table above (`offline/phrasebook` is the project's own collection of written sentences
with slots; `a > b` was written by a and translated by b), then cleaned by `data_preparation/clean_dataset.py`: of
{items_read:,} items in {files_read:,} files, {dropped:,} were dropped ({rejected}); `rejected.jsonl` keeps each
with its reason. Near duplicates are texts of a language whose character n-grams have a Jaccard similarity of about
{near} or more. A meme, its variants, its translations and English texts that resemble it ({same} or more) share a
`group`; a hash of the group and the seed decides its split, so a group never crosses a split. `category` is the
group that a meme attacks (`offensive`) or is about (`ok`) where its item names one of CATEGORIES ({unlisted:,} items
name something else), and the area of its prompt where it does not.""",
    "Synthetic text is\nsimpler than what people post: measure on real data before relying on a score.",
)
REVIEWED = Origin(
    "reviewed",
    """\
People said of memes that the detector had scored whether they are harmful, and about whom; texts are as they were
read in the pictures, descriptions are the captioner's. `data_preparation/add_reviews.py` made rows of that: of
{items_read:,} memes in {files_read:,} review(s), {dropped:,} were dropped ({rejected}); `rejected.jsonl` keeps each
with its reason, `labels.csv` what was said. Near duplicates are texts of a language whose character n-grams have a
Jaccard similarity of about {near} or more, in these rows or in the data sets that they were to join. Texts that
resemble each other ({same} or more) share a `group`, that of a data set where it has one, and with it the split.""",
    "People chose what to\nreview, often what the detector was unsure of: the rows are no sample of what is posted.",
)


def write_card(folder: Path, report: Json, licence: str, origin: Origin = GENERATED) -> None:
    """Write README.md, composition.png and the report, which gets the variety, into the data set's folder."""
    from datasets import load_from_disk

    saved = load_from_disk(str(folder))
    report["variety"] = variety(saved)
    (folder / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    counts = report["counts"]
    counted = {
        "items_read": report["items_read"],
        "files_read": report["files_read"],
        "dropped": sum(report["rejected"].values()),
        "rejected": ", ".join(f"{count:,} {reason}" for reason, count in report["rejected"].items()) or "none",
        "unlisted": report.get("unlisted_categories", {}).get("items", 0),
        "near": report["settings"]["near_duplicate_threshold"],
        "same": report["settings"]["same_group_threshold"],
    }
    (folder / "README.md").write_text(
        CARD.format(
            licence=licence,
            tag=origin.tag,
            codes=", ".join(sorted(counts["language"])),
            rows=report["rows"],
            tables=_tables(counts),
            measured=MEASURED_ROWS,
            variety=_variety_table(report["variety"]),
            how=origin.how.format(**counted),
            caution=origin.caution,
            settings=", ".join(f"`{name.upper()}={value}`" for name, value in report["settings"].items()),
            samples=_samples(saved, len(counts["language"]) * len(counts["label"])),
        ),
        encoding="utf-8",
    )
    _draw(folder / "composition.png", counts["split, language, label"])


def variety(saved: "DatasetDict") -> dict[str, dict[str, float]]:
    """By language: rows measured, share of distinct 3-grams, share of the most common opening."""
    measured: defaultdict[str, _Measured] = defaultdict(_Measured)
    for split in saved.values():
        for batch in split.select_columns(["language", "text"]).iter(batch_size=10_000):
            for language, text in zip(batch["language"], batch["text"], strict=True):
                measured[language].add(language, text)
    return {
        language: {
            "rows": found.rows,
            "distinct_3grams": round(len(found.distinct) / max(1, found.trigrams), 4),
            "most_common_opening": round(max(found.openings.values(), default=0) / max(1, found.rows), 4),
        }
        for language, found in sorted(measured.items())
    }


@dataclass
class _Measured:
    """What was counted of one language's first MEASURED_ROWS texts."""

    rows: int = 0
    trigrams: int = 0
    distinct: set[int] = field(default_factory=set)  # hashes of trigrams
    openings: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def add(self, language: str, text: str) -> None:
        if self.rows == MEASURED_ROWS:
            return
        units = (
            [unit for unit in text if unit.isalnum()]
            if language == "zh"
            else re.sub(r"[^\w\s\u0b80-\u0bff]", " ", text.casefold()).split()
        )
        trigrams = list(zip(units, units[1:], units[2:], strict=False))
        self.rows += 1
        self.trigrams += len(trigrams)
        self.distinct.update(hash(trigram) for trigram in trigrams)
        self.openings[tuple(units[:3])] += 1


def _variety_table(measured: dict[str, dict[str, float]]) -> str:
    lines = ["| language | rows measured | distinct 3-grams | most common opening |", "| --- | ---: | ---: | ---: |"]
    for language, found in measured.items():
        shares = f"{found['distinct_3grams']:.1%} | {found['most_common_opening']:.1%}"
        lines.append(f"| {language} | {found['rows']:,} | {shares} |")
    return "\n".join(lines)


def _tables(counts: dict[str, dict[str, int]]) -> str:
    blocks = []
    for name in ("split", "label", "language", "source"):
        lines = [f"| {name} | rows |", "| --- | ---: |"]
        lines += [f"| {value} | {count:,} |" for value, count in counts[name].items()]
        blocks.append("\n".join(lines))
    blocks.insert(-1, _category_table(counts["category"], counts["category, label"]))
    return "\n\n".join(blocks)


def _category_table(categories: dict[str, int], by_label: dict[str, int]) -> str:
    lines = [f"| category | {' | '.join(LABELS)} |", f"| --- |{' ---: |' * len(LABELS)}"]
    for category in categories:
        cells = (f"{by_label.get(f'{category}, {label}', 0):,}" for label in LABELS)
        lines.append(f"| {category or '(none)'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _samples(saved: "DatasetDict", kinds: int) -> str:
    """The first training rows of each language and label: one each, or as many as make LEAST_SAMPLES."""
    lines: list[str] = []
    seen: Counter[tuple[str, int]] = Counter()
    names = saved["train"].features["label"].names
    for batch in saved["train"].select(range(min(len(saved["train"]), MEASURED_ROWS))).iter(batch_size=10_000):
        for language, label, image, text in zip(
            *(batch[name] for name in ("language", "label", "image", "text")), strict=True
        ):
            if seen[language, label] < -(-LEAST_SAMPLES // kinds):
                seen[language, label] += 1
                cells = (language, names[label], image, text)
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(["| language | label | image | text |", "| --- | --- | --- | --- |", *sorted(lines)])


def _draw(path: Path, counts: dict[str, int]) -> None:
    """Bars by language and label, stacked by split; the file holds no date and no version."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    keys = sorted({tuple(name.split(", ")[1:]) for name in counts})
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    bottoms = [0] * len(keys)
    for split in SPLITS:
        heights = [counts.get(", ".join((split, *key)), 0) for key in keys]
        axes.bar([" ".join(key) for key in keys], heights, bottom=bottoms, label=split)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    axes.set_ylabel("rows")
    axes.set_title("Rows by language, label and split")
    axes.tick_params(axis="x", rotation=45)
    axes.legend()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    pyplot.close(figure)
