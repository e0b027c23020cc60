"""A run of predict.py that never was: the sample memes' pictures and labels with made-up scores, and hostile rows."""

import csv
import json
import random
from pathlib import Path

SCRIPT_TEXT = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'><!--<script>"
HOSTILE_NAME = "<img src=x onerror=window.hacked=1>&quot;\u202e.png"
# Where the box of every made-up line lies in its picture, in thousandths.
BOX = (100, 50, 900, 50, 900, 200, 100, 200)


def sample_memes(repo: Path) -> list[dict]:
    """Without the categories of labels.csv: tests give their own."""
    folder = repo / "datasets" / "sample_memes" / "held_out"
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as table:
        rows = [{name: row[name] for name in row if name != "category"} for row in csv.DictReader(table)]
    return [row | {"path": str(folder / row["file_name"])} for row in rows]


def evidence(path: str, text: str, caption: str | None, views: tuple[float, float], size=(1000, 1000), **more) -> dict:
    """A line of DETAILS_PATH, as predict.py writes it."""
    corners = [[round(size[0] * x / 1000), round(size[1] * y / 1000)] for x, y in zip(BOX[::2], BOX[1::2], strict=True)]
    probability = sum(views) / 2
    return {
        "path": path,
        "text": text,
        "caption": caption,
        "probability_text": views[0],
        "probability_image_text": views[1],
        "probability": probability,
        "label": int(round(probability, 4) >= 0.5),
        "error": None,
        "ocr": [{"text": text, "confidence": 0.97, "box": corners, "engine": "rapidocr"}] if text else [],
        "milliseconds": {"decode": 3.1, "ocr": 280.4, "caption": 61.0, "score": 12.7},
    } | more


def made_up_views(harmful: bool, draws: random.Random) -> tuple[float, float]:
    first = draws.betavariate(3.6, 2.2) if harmful else draws.betavariate(1.8, 3.8)
    return round(first, 4), round(min(1.0, max(0.0, first + draws.gauss(0, 0.12))), 4)


def meme_evidence(memes: list[dict]) -> list[dict]:
    from PIL import Image

    draws, lines = random.Random(7), []
    for meme in memes:
        with Image.open(meme["path"]) as picture:
            lines.append(
                evidence(
                    meme["path"],
                    meme["text"],
                    meme["caption"],
                    made_up_views(meme["label"] == "offensive", draws),
                    picture.size,
                )
            )
    return lines


def with_categories(lines: list[dict]) -> list[dict]:
    """The same evidence from a model that has categories; by turns, and the last is never the most probable one."""
    names = ("race", "religion", "health", "other")
    return [
        line | {"categories": {name: 0.7 if name == names[number % 3] else 0.1 for name in names}}
        for number, line in enumerate(lines)
    ]


def hostile_evidence(folder: Path) -> list[dict]:
    """A meme that reads as a script, one that is not there, and one whose caption failed."""
    from PIL import Image

    hostile = folder / HOSTILE_NAME
    Image.new("RGB", (120, 90), (180, 40, 90)).save(hostile)
    return [
        evidence(str(hostile), SCRIPT_TEXT, SCRIPT_TEXT, (0.91, 0.93), (120, 90)),
        evidence(
            str(folder / "gone.png"),
            "",
            None,
            (0.5, 0.5),
            error="missing",
            probability_text=None,
            probability_image_text=None,
            milliseconds={},
        ),
        evidence(
            str(hostile), "wah lau eh", None, (0.4, 0.4), (120, 90), error="caption_failed", probability_image_text=None
        ),
    ]


def write_run(folder: Path, lines: list[dict], labels: list[dict]) -> dict[str, str]:
    """stdin.csv, predictions.tsv, labels.csv and details.jsonl; returns the settings that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    printed = [f"{line['probability']:.4f}\t{line['label']}" for line in lines]
    files = {
        "INPUT_PATH": ("stdin.csv", [line["path"] for line in lines]),
        "PREDICTIONS_PATH": ("predictions.tsv", printed),
        "DETAILS_PATH": ("details.jsonl", [json.dumps(line, ensure_ascii=False) for line in lines]),
    }
    for name, content in files.values():
        (folder / name).write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, ["file_name", "label", "language", "category", "group"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(labels)
    return {variable: str(folder / name) for variable, (name, _) in files.items()} | {
        "LABELS_PATH": str(folder / "labels.csv"),
        "OUTPUT_DIR": str(folder / "report"),
    }
