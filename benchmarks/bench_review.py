"""What is a round of review worth? Train on the project's own data, add reviewed cases of HateCheck, train on, measure.

HateCheck (Roettger et al. 2021) is split by template: on a quarter, of templates that no reviewed case was made from,
the AUROC is measured; the rest is what a team might review. Of that so many cases are chosen by the report's queue
(docker/report/review.py) and at random, their true labels become a review.csv, add_reviews.py makes rows of it, and the
detector is trained on with them and with rows of its own data, from the same weights. With 0 reviewed it sees its own
data again: what training on gives by itself. The real scripts run.

Reads   HATECHECK_CSV (test_suite_cases.csv), BASE_DIR (a chat model; when unset make_tiny_models.py makes a small one),
        or DETECTOR_DIR (a guard model that has learnt DATASET_DIR), DATASET_DIR
Writes  stdout: a table in Markdown; OUTPUT_DIR: review_worth.png, review_worth.json, and in work/ what came of each
        training, so that a run that was ended goes on where it stood

    HATECHECK_CSV=test_suite_cases.csv DETECTOR_DIR=artifacts/guard python benchmarks/bench_review.py
"""

import csv
import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "training_pipeline"), str(ROOT / "docker")]

import numpy as np  # noqa: E402
from pydantic import DirectoryPath, Field, FilePath  # noqa: E402

from bench_hatecheck import make_base, read_cases, run, save, split_by_template  # noqa: E402
from evaluation.resampling import weighted_aurocs  # noqa: E402
from guard.script_settings import ScriptSettings  # noqa: E402
from report.review import review_queue  # noqa: E402
from report.rows import read_rows  # noqa: E402

NEVER = 10**6  # steps: no evaluation on the way, the last weights count
RESAMPLES = 2000
WAYS = ("queue", "random")
# Of the rows that are trained on with the reviewed ones, so many more for the validation that a training must have.
VALIDATION_ROWS = 40


class Settings(ScriptSettings):
    hatecheck_csv: FilePath = Field(description="HateCheck's test_suite_cases.csv")
    base_dir: DirectoryPath | None = Field(None, description="chat model to train; a tiny one is made when unset")
    detector_dir: DirectoryPath | None = Field(
        None, description="guard model that has learnt DATASET_DIR, such as artifacts/guard: no first training then"
    )
    dataset_dir: str = Field(str(ROOT / "datasets" / "v3"), description="the project's own data, folders with commas")
    output_dir: Path = Field(Path("artifacts/review"), description="folder of the results")
    reviewed: str = Field("25,50,100,200", description="how many cases are reviewed, with commas")
    draws: int = Field(2, ge=1, description="trainings of each kind: other random choices, other seeds")
    first_steps: int = Field(300, ge=1, description="steps of the first training, on the project's own data")
    own_rows: int = Field(200, ge=2, description="rows of the project's own data in every training after the first")
    epochs: float = Field(3, gt=0, description="passes over these and the reviewed rows")
    learning_rate: float = Field(2e-4, gt=0, description="of all trainings")
    batch_size: int = Field(8, ge=1, description="memes a step")
    base_bits: int = Field(16, description="bits of the frozen weights: 16 where memory allows, 4")
    llm_steps: int = Field(150, ge=1, description="training steps of the tiny model that is made")
    seed: int = Field(1, description="seed of the split, the choices and the trainings")


def main() -> None:
    settings = Settings.read(__doc__)
    started = time.monotonic()
    work = open_work(settings)
    cases = split_by_template(read_cases(settings.hatecheck_csv), settings.seed)
    pool = cases["train"] + cases["validation"]
    for name, rows in (("pool", pool), ("test", cases["test"])):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    detector = settings.detector_dir or first_detector(settings, work)
    own = own_rows(settings, work)
    order = {"queue": queue_of(detector, work)}
    results: dict[tuple[str, int], list[tuple[Path, int]]] = {}
    for way, count, draw in plan(settings):
        if way == "random":
            order["random"] = random.Random(settings.seed + draw).sample(range(len(pool)), len(pool))
        chosen = [pool[number] for number in order[way][:count]] if count else []
        found = train_on(settings, work / f"{way}-{count}-{draw}", detector, own, chosen)
        results.setdefault((way, count), []).append(found)
    report(settings, results, time.monotonic() - started)


def open_work(settings: Settings) -> Path:
    """The folder of what is kept between runs; SystemExit where it holds what other settings made.

    More numbers and more draws add to what is there.
    """
    work = settings.output_dir / "work"
    work.mkdir(parents=True, exist_ok=True)
    told = json.dumps({name: str(value) for name, value in settings if name not in ("output_dir", "reviewed", "draws")})
    kept = work / "settings.json"
    if kept.exists() and kept.read_text(encoding="utf-8") != told:
        raise SystemExit(f"bench_review.py: {work} is of other settings: set another OUTPUT_DIR, or remove it")
    kept.write_text(told, encoding="utf-8")
    return work


def training(settings: Settings) -> dict[str, object]:
    return {
        "LEARNING_RATE": settings.learning_rate,
        "BATCH_SIZE": settings.batch_size,
        "BASE_BITS": settings.base_bits,
        "EVAL_STEPS": NEVER,
        "SAVE_STEPS": NEVER,
        "REPORT_TO": "none",
    }


def first_detector(settings: Settings, work: Path) -> Path:
    """The base trained on the project's own data, its threshold fitted there."""
    merged, fitted = work / "detector", work / "fit"
    if (fitted / "evaluation.json").exists():
        return merged
    base = settings.base_dir or make_base(work, settings.llm_steps)
    train = {"DATASET_DIR": settings.dataset_dir, "MAX_STEPS": settings.first_steps, "SEED": settings.seed}
    run("training_pipeline/train_model.py", MODEL_DIR=base, OUTPUT_DIR=work / "first", **train, **training(settings))
    run("training_pipeline/load_lora.py", MODEL_DIR=base, LORA_DIR=work / "first", OUTPUT_DIR=merged)
    fit = {"DATASET_DIR": settings.dataset_dir, "SPLIT": "validation", "OUTPUT_DIR": fitted}
    run("training_pipeline/evaluate_model.py", MODEL_DIR=merged, **fit)
    return merged


def own_rows(settings: Settings, work: Path) -> Path:
    """OWN_ROWS rows of the project's own data, as a data set that each training after the first sees again."""
    from datasets import load_from_disk

    folder, draw = work / "own", random.Random(settings.seed)
    if not folder.exists():
        parts: dict[str, list[dict]] = {}
        for split, count in (("train", settings.own_rows), ("validation", VALIDATION_ROWS)):
            rows = [row for name in settings.dataset_dir.split(",") for row in load_from_disk(name.strip())[split]]
            halves = ([row for row in rows if row["label"] == label] for label in (0, 1))
            parts[split] = [row for half in halves for row in draw.sample(half, min(count // 2, len(half)))]
        save(parts, folder)
    return folder


def queue_of(detector: Path, work: Path) -> list[int]:
    """Positions in the pool in the order of the report's queue, at the detector's own threshold."""
    if not (work / "pool" / "predictions.jsonl").exists():
        measure(detector, work / "pool.jsonl", work / "pool")
    threshold = json.loads((detector / "scoring.json").read_text(encoding="utf-8"))["threshold"]
    return review_queue(read_rows(None, None, None, work / "pool" / "predictions.jsonl"), threshold)


def measure(model: Path, table: Path, folder: Path) -> None:
    run("training_pipeline/evaluate_model.py", MODEL_DIR=model, DATASET_DIR=table, OUTPUT_DIR=folder)


def plan(settings: Settings) -> Iterator[tuple[str, int, int]]:
    """(way, how many, which draw) of every training; none reviewed is no choice, so it has one way."""
    for draw in range(settings.draws):
        yield "queue", 0, draw
        for count in numbers(settings):
            for way in WAYS:
                yield way, count, draw


def numbers(settings: Settings) -> list[int]:
    return sorted({int(count) for count in settings.reviewed.split(",")})


def train_on(settings: Settings, folder: Path, detector: Path, own: Path, chosen: list[dict]) -> tuple[Path, int]:
    """(predictions on the held-out templates, rows that came of the review) of the detector trained on."""
    predictions, draw = folder / "test" / "predictions.jsonl", int(folder.name.rsplit("-", 1)[1])
    rows = review(folder, own, chosen) if chosen else 0
    if not predictions.exists():
        run(
            "training_pipeline/train_model.py",
            MODEL_DIR=detector,
            DATASET_DIR=f"{own},{folder / 'reviewed'}" if chosen else own,
            OUTPUT_DIR=folder / "lora",
            EPOCHS=settings.epochs,
            SEED=settings.seed + draw,
            **training(settings),
        )
        run(
            "training_pipeline/load_lora.py", MODEL_DIR=detector, LORA_DIR=folder / "lora", OUTPUT_DIR=folder / "merged"
        )
        measure(folder / "merged", folder.parent / "test.jsonl", folder / "test")
        shutil.rmtree(folder / "merged")
    return predictions, rows


def review(folder: Path, own: Path, chosen: list[dict]) -> int:
    """Write review.csv of the chosen cases' true labels, and have add_reviews.py make rows of it; gives how many."""
    made = folder / "reviewed" / "cleaning_report.json"
    if not made.exists():
        folder.mkdir(exist_ok=True)
        with (folder / "review.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["path", "label", "category", "time"])
            for case in chosen:
                table.writerow([case["id"], ("harmless", "harmful")[case["label"]], "", "2026-01-01T00:00:00Z"])
        run(
            "data_preparation/add_reviews.py",
            REVIEW_PATH=folder / "review.csv",
            DETAILS_PATH=folder.parent / "pool" / "predictions.jsonl",
            DATASET_DIR=own,
            OUTPUT_DIR=folder / "reviewed",
            VALIDATION_FRACTION=0,
            TEST_FRACTION=0,
        )
    return json.loads(made.read_text(encoding="utf-8"))["rows"]


def report(settings: Settings, results: dict[tuple[str, int], list[tuple[Path, int]]], spent: float) -> None:
    """The table on stdout; the same figures and a plot in OUTPUT_DIR."""
    drawn = {kind: resampled([path for path, _ in found], settings.seed) for kind, found in results.items()}
    none = drawn["queue", 0]
    labels, groups, _ = scores_of(results["queue", 0][0][0])
    print(f"AUROC on {len(labels)} cases of {len(set(groups))} held-out groups of templates, with 95 % by group.\n")
    print("| reviewed | rows of them | queue | at random | queue minus random | queue minus none |")
    print("| ---: | ---: | --- | --- | --- | --- |")
    print(f"| 0 | 0 | {told(none)} | | | |")
    for count in numbers(settings):
        queue, chance = (drawn[way, count] for way in WAYS)
        rows = " and ".join(f"{np.mean([rows for _, rows in results[way, count]]):.0f}" for way in WAYS)
        print(f"| {count} | {rows} | {told(queue)} | {told(chance)} | {told(queue - chance)} | {told(queue - none)} |")
    print(f"\n{settings.draws} training(s) of each kind, their mean; {spent:.0f} s.")
    figures = {
        f"{way} {count}": {"auroc": found[0], "interval": bounds(found)} for (way, count), found in drawn.items()
    }
    (settings.output_dir / "review_worth.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    draw_worth(settings, drawn)


def resampled(predictions: list[Path], seed: int) -> np.ndarray:
    """Mean AUROC of the trainings: first on the cases themselves, then on RESAMPLES draws of whole groups of templates.

    The draws are the same for all trainings, so that differences can be taken draw by draw. Shape [1 + RESAMPLES].
    """
    labels, groups, _ = scores_of(predictions[0])
    names, member = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    counts = np.concatenate([np.ones((1, len(labels)), int), drawn[:, member]])
    return np.mean(
        [weighted_aurocs(scores_of(path)[2], counts * labels, counts * (1 - labels)) for path in predictions], axis=0
    )


def scores_of(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, groups, probabilities) of predictions.jsonl, each of shape [rows]."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple(np.array([line[name] for line in lines]) for name in ("gold", "group", "probability"))


def bounds(aurocs: np.ndarray) -> list[float]:
    return [float(bound) for bound in np.nanpercentile(aurocs[1:], [2.5, 97.5])]


def told(aurocs: np.ndarray) -> str:
    low, high = bounds(aurocs)
    return f"{aurocs[0]:.4f} ({low:.4f} to {high:.4f})"


def draw_worth(settings: Settings, drawn: dict[tuple[str, int], np.ndarray]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts = numbers(settings)
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    none = drawn["queue", 0]
    axes.axhline(none[0], color="grey", linestyle="--", label="none reviewed, trained on all the same")
    for way, side, name in zip(WAYS, (-1, 1), ("chosen by the queue", "chosen at random"), strict=True):
        values = np.array([drawn[way, count][0] for count in counts])
        low, high = np.array([bounds(drawn[way, count]) for count in counts]).T
        places = np.arange(len(counts)) + 0.06 * side
        axes.errorbar(places, values, yerr=[values - low, high - values], fmt="o-", capsize=3, label=name)
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    axes.set_xlabel("cases reviewed")
    axes.set_ylabel("AUROC on held-out templates (95 %)")
    axes.legend()
    figure.savefig(settings.output_dir / "review_worth.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
