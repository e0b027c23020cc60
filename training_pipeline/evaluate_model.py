"""Measure a guard model on a split, with an interval, by language and category, beside a plain TF-IDF floor.

Reads   MODEL_DIR (16-bit or GPTQ), DATASET_DIR
Writes  OUTPUT_DIR/evaluation.json (`auroc` at its top level) and OUTPUT_DIR/predictions.jsonl (a line a row)

    MODEL_DIR=artifacts/llm-gptq DATASET_DIR=datasets/v3 OUTPUT_DIR=artifacts/evaluation \\
        python training_pipeline/evaluate_model.py
"""

import json
import os
from pathlib import Path

from pydantic import DirectoryPath, Field
from pydantic_settings import BaseSettings

from result_output import claim_stdout
from script_settings import ENVIRONMENT, read_settings


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    model_dir: DirectoryPath = Field(description="folder of the guard model")
    dataset_dir: DirectoryPath = Field(description="folder of the data set that clean_dataset.py wrote")
    split: str = Field("test", description="split that is measured")
    output_dir: Path = Field(description="folder that gets evaluation.json and predictions.jsonl")
    bootstrap_samples: int = Field(1000, ge=100, description="resamples of groups behind the 95 % interval")
    seed: int = Field(1, description="seed of the resampling")


def main() -> None:
    settings = read_settings(Settings, __doc__)
    results = claim_stdout()
    if (os.cpu_count() or 1) <= 2:
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    splits = read_evaluation_splits(settings)
    rows = splits[settings.split]
    views = score_rows(settings.model_dir, rows)
    report = evaluate(rows, [scores.mean() for scores in views], splits, settings)
    write_outputs(settings, report, rows, views)
    low, high = report["auroc_interval"]
    print(f"{settings.split}: AUROC {report['auroc']:.4f} (95 % {low:.4f} to {high:.4f}, {report['groups']} groups, "
          f"{report['rows']} rows); TF-IDF floor {report['tfidf_floor_auroc']:.4f}", file=results)
    for language, scores in report["by_language"].items():
        print(f"  {language}: AUROC {scores['auroc']:.4f} ({scores['rows']} rows)", file=results)


def read_evaluation_splits(settings: Settings) -> dict[str, list[dict]]:
    from datasets import load_from_disk

    dataset = load_from_disk(str(settings.dataset_dir))
    if settings.split not in dataset:
        raise SystemExit(f"evaluate_model.py: SPLIT={settings.split} is not in {settings.dataset_dir}, "
                         f"which has {', '.join(dataset)}")
    splits = {name: dataset[name].to_list() for name in {"train", settings.split} & set(dataset)}
    labels = {row["label"] for row in splits[settings.split]}
    if labels != {0, 1}:
        raise SystemExit(f"evaluate_model.py: the {settings.split} split has labels {sorted(labels)} in "
                         f"{len(splits[settings.split])} rows; AUROC needs both (0 ok, 1 offensive)")
    return splits


def score_rows(model_dir: Path, rows: list[dict]) -> list:
    from guard_scores import encode_memes, load_scorer, score_memes
    from guard_template import load_guard_tokenizer, read_guard_prompt

    tokenizer, scoring = load_guard_tokenizer(model_dir)
    prompt = read_guard_prompt(tokenizer, scoring)
    return score_memes(load_scorer(model_dir), prompt, encode_memes(prompt, rows), scoring["temperature"])


def evaluate(rows: list[dict], probabilities: list[float], splits: dict, settings: Settings) -> dict:
    import numpy as np
    from sklearn.metrics import (
        accuracy_score,
        average_precision_score,
        brier_score_loss,
        f1_score,
        log_loss,
        roc_auc_score,
    )

    from tfidf_floor import tfidf_floor

    labels, scores = np.array([row["label"] for row in rows]), np.array(probabilities)
    groups = np.array([row.get("group") or row["id"] for row in rows])
    return {
        "auroc": float(roc_auc_score(labels, scores)),
        "auroc_interval": bootstrap_interval(labels, scores, groups, settings),
        "average_precision": float(average_precision_score(labels, scores)),
        "accuracy": float(accuracy_score(labels, scores >= 0.5)),
        "f1": float(f1_score(labels, scores >= 0.5)),
        "log_loss": float(log_loss(labels, np.clip(scores, 1e-7, 1 - 1e-7))),
        "brier": float(brier_score_loss(labels, scores)),
        "tfidf_floor_auroc": tfidf_floor(splits, settings.split) if "train" in splits else None,
        "rows": len(rows), "groups": len(set(groups)), "split": settings.split,
        "by_language": metrics_by("language", rows, labels, scores),
        "by_category": metrics_by("category", rows, labels, scores),
    }


def bootstrap_interval(labels, scores, groups, settings: Settings) -> list[float]:
    """95 % interval of the AUROC, resampling groups: a meme's translations are not independent observations."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(settings.seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    aurocs = []
    while len(aurocs) < settings.bootstrap_samples:
        chosen = np.concatenate([members[index] for index in random.integers(len(members), size=len(members))])
        if len(set(labels[chosen])) == 2:
            aurocs.append(roc_auc_score(labels[chosen], scores[chosen]))
    return [float(bound) for bound in np.percentile(aurocs, [2.5, 97.5])]


def metrics_by(column: str, rows: list[dict], labels, scores) -> dict:
    """AUROC and rows for each value of a column; a value with one label only has no AUROC."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    values = np.array([row[column] for row in rows])
    report = {}
    for value in sorted(set(values)):
        chosen = values == value
        both = len(set(labels[chosen])) == 2
        auroc = float(roc_auc_score(labels[chosen], scores[chosen])) if both else None
        report[str(value)] = {"auroc": auroc, "rows": int(chosen.sum())}
    return report


def write_outputs(settings: Settings, report: dict, rows: list[dict], views: list) -> None:
    """predictions.jsonl first; evaluation.json last, it says that both are whole."""
    from model_folder import write_json

    settings.output_dir.mkdir(parents=True, exist_ok=True)
    aside = settings.output_dir / ".predictions.jsonl.unfinished"
    with aside.open("w", encoding="utf-8") as lines:
        for row, scores in zip(rows, views, strict=True):
            lines.write(json.dumps({
                "id": row["id"], "text": row["text"], "caption": row["image"], "language": row["language"],
                "category": row["category"], "gold": row["label"],
                "probability_text": float(scores[0]) if len(scores) == 2 else None,
                "probability_image_text": float(scores[-1]), "probability": float(scores.mean()),
            }, ensure_ascii=False) + "\n")
    aside.replace(settings.output_dir / "predictions.jsonl")
    write_json(settings.output_dir / "evaluation.json", report)


if __name__ == "__main__":
    main()
