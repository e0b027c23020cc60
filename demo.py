"""The whole pipeline, from a prompt key to a score on pictures, with small models and no network.

Runs the very scripts that a user runs, one after another, with their environment variables and no private switches.
A stage that is done already is kept by its script, so a second run reuses what is there.

    make demo            # or: .venv/bin/python demo.py
    SHUFFLE_LABELS=1 OUTPUT_DIR=artifacts/demo-shuffled .venv/bin/python demo.py      # control: AUROC near 0.5
    DATASET_DIR=datasets/v3 OUTPUT_DIR=artifacts/demo-v3 .venv/bin/python demo.py     # a data set that is there
"""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OUTPUT_DIR = Path(os.environ.pop("OUTPUT_DIR", "artifacts/demo"))
DATASET_DIR = os.environ.pop("DATASET_DIR", None)  # not for the scripts: each gets its own
SAMPLES = ROOT / "datasets" / "sample_memes" / "held_out"
OK_KEYS = "general_ok,Singapore_ok,Singlish_ok,Reddit_ok"
OFFENSIVE_KEYS = (
    "general_offensive,Singapore_offensive,Singlish_offensive,Reddit_offensive,"
    "religious_racial_offensive,age_gender_sexual_offensive,"
    "socioeconomic_illnesses_disabilities_offensive"
)


def stages(output: Path, dataset_dir: str | None = None) -> list[tuple[str, str, dict, str]]:
    """(name, script, settings, what it writes below `output`) in the order of the pipeline."""
    dataset, base, quantised = dataset_dir or output / "dataset", output / "base-llm", output / "llm-gptq"
    evaluate = "training_pipeline/evaluate_model.py"
    return [
        *([] if dataset_dir else data_stages(output)),
        ("make tiny models", "training_pipeline/make_tiny_models.py", {"OUTPUT_DIR": output}, "base-llm captioner"),
        (
            "train",
            "training_pipeline/train_model.py",
            {"MODEL_DIR": base, "DATASET_DIR": dataset, "OUTPUT_DIR": output / "lora", **TINY_TRAINING},
            "lora",
        ),
        (
            "merge",
            "training_pipeline/load_lora.py",
            {"MODEL_DIR": base, "LORA_DIR": output / "lora", "OUTPUT_DIR": output / "merged"},
            "merged",
        ),
        (
            "evaluate 16-bit",
            evaluate,
            {"MODEL_DIR": output / "merged", "DATASET_DIR": dataset, "OUTPUT_DIR": output / "evaluation-merged"},
            "evaluation-merged",
        ),
        (
            "quantise",
            "training_pipeline/quantize_model.py",
            {"MODEL_DIR": output / "merged", "DATASET_DIR": dataset, "OUTPUT_DIR": quantised},
            "llm-gptq",
        ),
        (
            "calibrate",
            evaluate,
            {
                "MODEL_DIR": quantised,
                "DATASET_DIR": dataset,
                "SPLIT": "validation",
                "OUTPUT_DIR": output / "calibration",
            },
            "calibration",
        ),
        (
            "evaluate 4-bit",
            evaluate,
            {"MODEL_DIR": quantised, "DATASET_DIR": dataset, "OUTPUT_DIR": output / "evaluation-gptq"},
            "evaluation-gptq",
        ),
        (
            "predict",
            "docker/predict.py",
            {"LLM_DIR": quantised, "CAPTION_MODEL_DIR": output / "captioner", "DETAILS_PATH": output / "details.jsonl"},
            "predictions.tsv details.jsonl",
        ),
        (
            "report",
            "docker/evaluate_predictions.py",
            {
                "INPUT_PATH": output / "stdin.csv",
                "PREDICTIONS_PATH": output / "predictions.tsv",
                "LABELS_PATH": SAMPLES / "labels.csv",
                "DETAILS_PATH": output / "details.jsonl",
                "OUTPUT_DIR": output / "report",
            },
            "report",
        ),
    ]


def data_stages(output: Path) -> list[tuple[str, str, dict, str]]:
    """From prompt keys to the data set."""
    raw, offline = output / "raw", {"MODEL_ID": "offline/phrasebook"}
    # Every idea of the phrasebook about once: 530 harmless ones under 4 keys and 390 offensive ones under 7.
    # A tenth and a seventh of the ideas for validation and test: 5 % of 920 would be too few to measure on. None of the
    # ideas that the sample pictures were drawn from is trained on.
    split = {
        "VALIDATION_FRACTION": 0.10,
        "TEST_FRACTION": 0.15,
        "DECONTAMINATE": SAMPLES / "labels.csv",
        "DECONTAMINATE_GROUPS": 1,
    }
    return [
        (
            "generate harmless",
            "data_preparation/generate_data.py",
            {**offline, "PROMPT_KEY": OK_KEYS, "NUM_RUNS": 28, "OUTPUT_ROOT": raw},
            "raw",
        ),
        (
            "generate offensive",
            "data_preparation/generate_data.py",
            {**offline, "PROMPT_KEY": OFFENSIVE_KEYS, "NUM_RUNS": 14, "OUTPUT_ROOT": raw},
            "raw",
        ),
        (
            "translate",
            "data_preparation/translate_data.py",
            {
                **offline,
                "LANGUAGE": "Chinese,Malay,Tamil",
                "DIR_NAME": ",".join(
                    str(raw / f"phrasebook_{key}") for key in f"{OK_KEYS},{OFFENSIVE_KEYS}".split(",")
                ),
            },
            "raw",
        ),
        (
            "clean",
            "data_preparation/clean_dataset.py",
            {"RAW_ROOT": raw, "OUTPUT_DIR": output / "dataset", **split},
            "dataset",
        ),
    ]


# A model of 2.4 million parameters starts from far less than a 7B one: wider adapters, a higher rate, more dropout.
# Chosen on the validation split, where a third epoch added nothing.
TINY_TRAINING = {
    "EPOCHS": 2,
    "LEARNING_RATE": 1e-3,
    "LORA_R": 64,
    "LORA_ALPHA": 64,
    "LORA_DROPOUT": 0.2,
    "BATCH_SIZE": 16,
    "EVAL_STEPS": 75,
    "SAVE_STEPS": 75,
}


def main() -> None:
    output = ROOT / OUTPUT_DIR
    output.mkdir(parents=True, exist_ok=True)
    images = [str(SAMPLES / name) for name in (SAMPLES / "stdin.csv").read_text(encoding="utf-8").split()]
    (output / "stdin.csv").write_text("\n".join(images) + "\n", encoding="utf-8")
    rows = run_stages(stages(OUTPUT_DIR, DATASET_DIR), images, output)
    print_summary(rows, images, output)


def run_stages(plan: list[tuple[str, str, dict, str]], images: list[str], output: Path) -> list[tuple[str, str, str]]:
    """Run the stages one after another; (name, what it wrote, seconds) of each. SystemExit where one fails."""
    rows = []
    for number, (name, script, settings, wrote) in enumerate(plan, start=1):
        print(f"\n[{number}/{len(plan)}] {name}: {script}", flush=True)
        seconds = run_stage(script, settings, images, output)
        rows.append((name, " ".join(str(OUTPUT_DIR / part) for part in wrote.split()), f"{seconds:.0f}"))
    return rows


def run_stage(script: str, settings: dict, images: list[str], output: Path) -> float:
    """Run one script; its stderr goes to a log beside the artifacts. Returns seconds; SystemExit where it fails."""
    started = time.monotonic()
    log = output / "logs" / f"{Path(script).stem}.log"
    log.parent.mkdir(exist_ok=True)
    is_predict = script == "docker/predict.py"
    # Threads that wait should sleep: where cores are shared, spinning made a training step four times as long.
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ, **{name: str(value) for name, value in settings.items()}}
    with log.open("a", encoding="utf-8") as stderr:
        finished = subprocess.run(
            [sys.executable, script],
            cwd=ROOT,
            env=environment,
            stderr=stderr,
            stdout=subprocess.PIPE,
            input="\n".join(images) if is_predict else "",
            text=True,
        )
    if finished.returncode:
        print("".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-15:]), file=sys.stderr)
        raise SystemExit(f"{script} failed with exit code {finished.returncode}; its log is {log}")
    if is_predict:
        aside = output / ".predictions.tsv.unfinished"
        aside.write_text(finished.stdout, encoding="utf-8")
        aside.replace(output / "predictions.tsv")
    else:
        print(finished.stdout, end="", flush=True)
    return time.monotonic() - started


def print_summary(rows: list[tuple], images: list[str], output: Path) -> None:
    predictions = (output / "predictions.tsv").read_text(encoding="utf-8").splitlines()
    print("\nPredictions for datasets/sample_memes/held_out (probability of harm, label):")
    for image, prediction in zip(images, predictions, strict=True):
        print(f"  {Path(image).name}\t{prediction}")
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    print("\nstage".ljust(widths[0] + 3) + "wrote".ljust(widths[1] + 2) + "seconds")
    for name, wrote, seconds in rows:
        print(f"{name:<{widths[0]}}  {wrote:<{widths[1]}}  {seconds:>7}")
    print(f"{'total':<{widths[0]}}  {'':<{widths[1]}}  {sum(int(row[2]) for row in rows):>7}")
    print(f"\nThe pictures, what was read in them and how they were judged: {OUTPUT_DIR / 'report' / 'report.html'}")
    print(f"On the pictures of the sample memes: AUROC {sample_auroc(images, predictions):.4f} ({len(images)} memes)")
    merged, quantised = (
        json.loads((output / f"evaluation-{kind}" / "evaluation.json").read_text(encoding="utf-8"))
        for kind in ("merged", "gptq")
    )
    print(
        f"Test AUROC: {merged['auroc']:.4f} in 16 bits, {quantised['auroc']:.4f} in 4 bits; "
        f"TF-IDF baseline {merged['tfidf_auroc']:.4f} ({merged['rows']} rows, {merged['groups']} groups)"
    )


def sample_auroc(images: list[str], predictions: list[str]) -> float:
    from sklearn.metrics import roc_auc_score

    with (SAMPLES / "labels.csv").open(encoding="utf-8", newline="") as table:
        gold = {row["file_name"]: row["label"] == "offensive" for row in csv.DictReader(table)}
    return roc_auc_score([gold[Path(image).name] for image in images], [float(line.split()[0]) for line in predictions])


if __name__ == "__main__":
    main()
