"""Train on HateCheck's train part by template, and measure on templates that the training never saw.

HateCheck (Roettger et al. 2021) fills each template with seven groups of people, so a random split would test on
sentences that differ from trained ones in one word. Here templates, and those that refer to one another (a negation or
a misspelling of another), stay in one part. The real scripts run: train_model.py, load_lora.py, evaluate_model.py
on the validation part (temperature and threshold), then on the held-out part, beside the TF-IDF baseline.

Reads   HATECHECK_CSV (test_suite_cases.csv), BASE_DIR (a chat model; when unset make_tiny_models.py makes a small one)
Writes  stdout: Markdown. Took 35 minutes on one busy core with SmolLM2; docs/results.md has it.

    HATECHECK_CSV=test_suite_cases.csv BASE_DIR=artifacts/smollm2 python benchmarks/bench_hatecheck.py
"""

import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "training_pipeline"))

from pydantic import DirectoryPath, Field, FilePath  # noqa: E402

from guard.script_settings import ScriptSettings  # noqa: E402

SHARES = {"test": 0.25, "validation": 0.15}  # of the cases; the rest is trained on
TRAINING = {"LEARNING_RATE": "5e-4", "LORA_R": "64", "LORA_ALPHA": "64", "BATCH_SIZE": "16", "REPORT_TO": "none"}


class Settings(ScriptSettings):
    hatecheck_csv: FilePath = Field(description="HateCheck's test_suite_cases.csv")
    base_dir: DirectoryPath | None = Field(None, description="chat model to train; a tiny one is made when unset")
    llm_steps: int = Field(150, ge=1, description="training steps of the tiny model that is made")
    epochs: float = Field(3, gt=0, description="passes over the train part")
    seed: int = Field(1, description="seed of the parts and of the training")


def main() -> None:
    settings = Settings.read(__doc__)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        parts = split_by_template(read_cases(settings.hatecheck_csv), settings.seed)
        save(parts, folder / "dataset")
        base = settings.base_dir or make_base(folder, settings.llm_steps)
        dataset = {"DATASET_DIR": folder / "dataset", "SEED": settings.seed}
        run(
            "training_pipeline/train_model.py",
            MODEL_DIR=base,
            OUTPUT_DIR=folder / "lora",
            EPOCHS=settings.epochs,
            EVAL_STEPS=100,
            SAVE_STEPS=100,
            **TRAINING,
            **dataset,
        )
        run("training_pipeline/load_lora.py", MODEL_DIR=base, LORA_DIR=folder / "lora", OUTPUT_DIR=folder / "merged")
        for split in ("validation", "test"):
            run(
                "training_pipeline/evaluate_model.py",
                MODEL_DIR=folder / "merged",
                OUTPUT_DIR=folder / split,
                SPLIT=split,
                **dataset,
            )
        report = json.loads((folder / "test" / "evaluation.json").read_text(encoding="utf-8"))
        print_result(parts, report, time.monotonic() - started)


def read_cases(path: Path) -> list[dict]:
    """Rows of the project's data set form; `group` is the component of templates that refer to one another."""
    with path.open(encoding="utf-8", newline="") as table:
        cases = list(csv.DictReader(table))
    parents: dict[str, str] = {}

    def root(template: str) -> str:
        while parents.setdefault(template, template) != template:
            template = parents[template]
        return template

    for case in cases:
        if case["ref_templ_id"]:
            parents[root(str(int(float(case["ref_templ_id"]))))] = root(case["templ_id"])
    return [
        {
            "id": case["case_id"],
            "image": None,
            "text": case["test_case"].strip(),
            "label": int(case["label_gold"] == "hateful"),
            "language": "en",
            "category": case["functionality"],
            "group": root(case["templ_id"]),
            "source": "HateCheck",
        }
        for case in cases
    ]


def split_by_template(rows: list[dict], seed: int) -> dict[str, list[dict]]:
    """Whole groups, in random order, to test and validation until each has its share, the rest to train."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    parts: dict[str, list[dict]] = {"train": [], "validation": [], "test": []}
    for group in order:
        wanting = [name for name, share in SHARES.items() if len(parts[name]) < share * len(rows)]
        parts[wanting[0] if wanting else "train"] += groups[group]
    return parts


def save(parts: dict[str, list[dict]], folder: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    columns = ("id", "image", "text", "language", "category", "group", "source")
    features = Features({**{name: Value("string") for name in columns}, "label": ClassLabel(names=["ok", "offensive"])})
    DatasetDict({name: Dataset.from_list(rows, features=features) for name, rows in parts.items()}).save_to_disk(folder)


def make_base(folder: Path, steps: int) -> Path:
    run("training_pipeline/make_tiny_models.py", OUTPUT_DIR=folder / "models", LLM_STEPS=steps, CAPTIONER_STEPS=1)
    return folder / "models" / "base-llm"


def run(script: str, **variables) -> None:
    """Run a script of the project; its results go to stderr here, where the benchmark's progress goes."""
    environment = {
        **{name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields},
        "OMP_WAIT_POLICY": "passive",
        **{name: str(value) for name, value in variables.items()},
    }
    done = subprocess.run([sys.executable, str(ROOT / script)], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-3000:]}")
    print(done.stdout, end="", file=sys.stderr, flush=True)


def print_result(parts: dict[str, list[dict]], report: dict, seconds: float) -> None:
    baseline, (low, high) = report["tfidf_baseline"], report["auroc_interval"]
    templates = {name: len({row["group"] for row in rows}) for name, rows in parts.items()}
    print("| part | cases | groups of templates | hateful |\n| --- | --- | --- | --- |")
    for name, rows in parts.items():
        print(f"| {name} | {len(rows)} | {templates[name]} | {sum(row['label'] for row in rows) / len(rows):.1%} |")
    print("\n| on the held-out templates | AUROC |\n| --- | --- |")
    print(f"| model | {report['auroc']:.4f} (95 % {low:.4f} to {high:.4f}, by group of templates) |")
    print(f"| TF-IDF baseline | {baseline['auroc']:.4f} |")
    print(
        f"| TF-IDF baseline on shuffled labels | {baseline['shuffled']['auroc_mean']:.4f} "
        f"({baseline['shuffled']['auroc_lowest']:.4f} to {baseline['shuffled']['auroc_highest']:.4f}) |"
    )
    chance = report["shuffled_control"]
    print(
        f"| model against shuffled labels | 95 % {chance['auroc_interval'][0]:.4f} to "
        f"{chance['auroc_interval'][1]:.4f}, p {chance['p_value']:.3f} |"
    )
    verdict = (
        "the model beats the TF-IDF baseline"
        if low > baseline["auroc"]
        else "the model's AUROC is above the TF-IDF baseline's, but its interval holds the baseline"
        if report["auroc"] > baseline["auroc"]
        else "this base does not beat the TF-IDF baseline"
    )
    print(f"\nOn templates that it never saw, {verdict}. {seconds:.0f} s in all.")


if __name__ == "__main__":
    main()
