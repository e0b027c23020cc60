"""The card of drawn memes: what is in the folder, counted from its own tables, with a plot and six example pictures."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from drawing.pictures import OBJECTS
from raw.raw_folder import LABELS

TEMPLATE = Path(__file__).with_suffix(".md")
EXAMPLES_A_LABEL = 3
COLOURS = {"ok": "#0b6885", "offensive": "#b53c0c"}


def card_files(folder: Path, drawn_with: str) -> dict[str, bytes]:
    """README.md and composition.png for a folder with train.parquet and held_out/labels.csv; `drawn_with`: settings."""
    from datasets import Features
    from pyarrow import parquet

    with (folder / "held_out" / "labels.csv").open(encoding="utf-8", newline="") as table:
        held_out = list(csv.DictReader(table))
    train = parquet.read_table(folder / "train.parquet", columns=["language", "label"])
    names = Features.from_arrow_schema(parquet.read_schema(folder / "train.parquet"))["label"]
    kinds = Counter((row["language"], names.int2str(row["label"])) for row in train.to_pylist())
    held_out_kinds = Counter((row["language"], row["label"]) for row in held_out)
    card = TEMPLATE.read_text(encoding="utf-8").format(
        train=f"{train.num_rows:,}",
        held_out=len(held_out),
        labels=listed(row["label"] for row in held_out),
        languages=listed(row["language"] for row in held_out),
        objects=", ".join(OBJECTS),
        settings=drawn_with,
        harmless=example_table(held_out, "ok"),
        offensive=example_table(held_out, "offensive"),
    )
    return {"composition.png": composition_plot(kinds, held_out_kinds), "README.md": card.encode()}


def listed(values: Iterable[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(Counter(values).items()))


def example_table(held_out: list[dict[str, str]], label: str) -> str:
    """The first memes of a label, a language each as far as they go, as a row of pictures above their captions."""
    first: dict[str, dict[str, str]] = {}
    for row in held_out:
        if row["label"] == label:
            first.setdefault(row["language"], row)
    chosen = list(first.values())[:EXAMPLES_A_LABEL]
    lines = [
        [f"![{row['caption']}](held_out/{row['file_name']})" for row in chosen],
        ["---"] * len(chosen),
        [f"{row['language']}: {row['caption']}" for row in chosen],
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def composition_plot(train: Counter[tuple[str, str]], held_out: Counter[tuple[str, str]]) -> bytes:
    """Two panels of bars by language and label, PNG; the file holds no date and no version."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axes, kinds, title in zip(panels, (train, held_out), ("train.parquet", "held_out"), strict=True):
        languages = sorted({language for language, _ in kinds})
        bottoms = [0] * len(languages)
        for label in LABELS:
            heights = [kinds[language, label] for language in languages]
            bars = axes.bar(languages, heights, bottom=bottoms, label=label, color=COLOURS[label], width=0.7)
            axes.bar_label(bars, label_type="center", color="white", fontsize=8)
            bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
        axes.set_title(f"{title}: {sum(bottoms):,} pictures", loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=100, metadata={"Software": None})
    pyplot.close(figure)
    return written.getvalue()
