"""Measure a guard model on a split, with an interval, by language, category and view, beside a plain TF-IDF floor.

On the validation split (SPLIT=validation) it also fits the temperature and three thresholds (high recall, balanced,
high precision) and writes them into MODEL_DIR/scoring.json, from where the container reads them; the balanced one
decides the label. Measure on another split afterwards: figures on the rows of a fit flatter it.

An outside test set is any CSV, TSV or JSON Lines file; without a caption column the text view is scored alone, as the
container does where it has no caption. Its TF-IDF floor needs FLOOR_DATASET_DIR, the data that the model learnt from.

Reads   MODEL_DIR (16-bit or GPTQ), DATASET_DIR
Writes  OUTPUT_DIR: evaluation.json (`auroc` at its top level), predictions.jsonl (a line a row, predict.py's evidence
        format plus id, gold, language, category, group), roc.png, precision_recall.png, reliability.png

    MODEL_DIR=artifacts/llm-gptq DATASET_DIR=datasets/v3 OUTPUT_DIR=artifacts/evaluation \\
        python training_pipeline/evaluate_model.py
    MODEL_DIR=artifacts/llm-gptq DATASET_DIR=hatecheck.csv TEXT_COLUMN=test_case LABEL_COLUMN=label_gold \\
        POSITIVE_LABEL=hateful CATEGORY_COLUMN=functionality GROUP_COLUMN=templ_id OUTPUT_DIR=artifacts/hatecheck \\
        python training_pipeline/evaluate_model.py
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from result_output import claim_stdout
from script_settings import ENVIRONMENT, read_settings


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    model_dir: Path = Field(description="folder of the guard model")
    dataset_dir: Path = Field(description="data set that clean_dataset.py wrote, or a CSV, TSV or JSON Lines file")
    split: str = Field("test", description="split that is measured; validation fits scoring.json, from a file too")
    output_dir: Path = Field(description="folder that gets evaluation.json, predictions.jsonl and the plots")
    floor_dataset_dir: Path | None = Field(
        None, description="data set whose train split the TF-IDF floor learns from; DATASET_DIR's own when unset"
    )
    text_column: str = Field("text", description="column of the texts")
    label_column: str = Field("label", description="column of the labels")
    positive_label: str | None = Field(
        None, description="label that means harmful, several with commas; when unset 1, true or offensive"
    )
    image_column: str = Field("image", description="column of the captions, if there is one")
    language_column: str = Field("language", description="column of the languages, if there is one")
    category_column: str = Field("category", description="column of the categories, if there is one")
    group_column: str = Field("group", description="column of what belongs together (translations), if there is one")
    least_recall: float = Field(0.95, gt=0, le=1, description="what the high-recall threshold must find")
    least_precision: float = Field(
        0.95, gt=0, le=1, description="share of right alarms at the high-precision threshold"
    )
    bootstrap_samples: int = Field(1000, ge=100, description="resamples of groups behind each 95 % interval")
    seed: int = Field(1, description="seed of the resampling")

    @field_validator("model_dir", "dataset_dir", "floor_dataset_dir")
    @classmethod
    def is_there(cls, path: Path | None) -> Path | None:
        if path is not None and not path.exists():
            raise ValueError("is not there")
        return path


@dataclass(frozen=True)
class Scores:
    margins: list  # per row, logit(offensive) - logit(ok) by view, float32 [views]
    names: list[list[str]]  # per row, the names of its views
    scoring: dict
    cut_rows: int
    milliseconds: float  # a row


def main() -> None:
    settings = read_settings(Settings, __doc__)
    results = claim_stdout()
    if (os.cpu_count() or 1) <= 2:
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    from model_folder import check_model_folder, clear_write_faults

    check_model_folder(settings.model_dir)
    check_places(settings)
    rows, train = read_evaluation_rows(settings)
    scores = score_rows(settings.model_dir, rows)
    report = evaluate(settings, rows, train, scores)
    with clear_write_faults(settings.output_dir):
        write_outputs(settings, report, rows, scores)
    print_report(settings, report, results)


def check_places(settings: Settings) -> None:
    """SystemExit where OUTPUT_DIR, or a scoring.json that shall be fitted, cannot be written."""
    from model_folder import check_writable

    check_writable(settings.output_dir)
    if settings.split == "validation":
        if not (settings.model_dir / "scoring.json").exists():
            raise SystemExit(
                f"evaluate_model.py: {settings.model_dir} has no scoring.json to hold what is fitted; "
                "make a guard model of it with attach_policy.py"
            )
        check_writable(settings.model_dir)


def read_evaluation_rows(settings: Settings) -> tuple[list[dict], list[dict] | None]:
    """(rows of the split, rows of the train split for the floor or None)."""
    from evaluation_rows import COLUMNS, UnusableRows, read_rows

    columns = {name: getattr(settings, f"{name}_column") for name in COLUMNS}
    required = {"text", "label"} | {name for name in COLUMNS if f"{name}_column" in settings.model_fields_set}
    floor = settings.floor_dataset_dir or (settings.dataset_dir if settings.dataset_dir.is_dir() else None)
    try:
        rows = read_rows(settings.dataset_dir, settings.split, columns, required, settings.positive_label)
        if floor is None or settings.split == "train":
            return rows, None
        if floor.is_dir() and floor != settings.dataset_dir:
            return rows, read_rows(floor, "train", COLUMNS, {"text", "label"}, None)
        return rows, read_rows(floor, "train", columns, required, settings.positive_label)
    except UnusableRows as fault:
        raise SystemExit(f"evaluate_model.py: {fault}") from fault


def score_rows(model_dir: Path, rows: list[dict]) -> Scores:
    from guard_scores import encode_memes, load_scorer, view_margins
    from guard_template import asked_views, load_guard_tokenizer, read_guard_prompt

    try:
        tokenizer, scoring = load_guard_tokenizer(model_dir)
        prompt = read_guard_prompt(tokenizer, scoring)
    except ValueError as fault:
        raise SystemExit(f"evaluate_model.py: MODEL_DIR={model_dir}: {fault}") from fault
    model = load_scorer(model_dir)
    started = time.monotonic()
    memes = encode_memes(prompt, rows)
    margins = view_margins(model, prompt, memes)
    cut = sum(meme.cut_tokens > 0 for meme in memes)
    print(
        f"{len(rows)} rows scored, {cut} of them cut to 256 tokens, "
        f"{sum(not len(views) for views in margins)} without text and caption",
        file=sys.stderr,
    )
    return Scores(
        margins,
        [asked_views(prompt, row["text"], row["image"]) for row in rows],
        scoring,
        cut,
        1000 * (time.monotonic() - started) / len(rows),
    )


def evaluate(settings: Settings, rows: list[dict], train: list[dict] | None, scores: Scores) -> dict:
    """The report that evaluation.json holds; on the validation split scores.scoring gets what is fitted."""
    import numpy as np

    from evaluation_metrics import calibration_metrics, evaluation_report, floor_report
    from score_calibration import fit_scoring, probabilities_at, threshold_report

    labels = np.array([row["label"] for row in rows])
    scoring, fits = scores.scoring, settings.split == "validation"
    if fits:
        scoring.update(fit_scoring(scores.margins, labels, settings.least_recall, settings.least_precision))
    probabilities = probabilities_at(scores.margins, scoring["temperature"])
    report = evaluation_report(
        rows, view_scores(scores), probabilities, scoring["threshold"], settings.bootstrap_samples, settings.seed
    )
    floor = floor_report(train, rows, settings.seed) if train else None
    return {
        **report,
        "split": settings.split,
        "dataset": str(settings.dataset_dir),
        "model": str(settings.model_dir),
        "unscored_rows": sum(not names for names in scores.names),
        "cut_rows": scores.cut_rows,
        "temperature": scoring["temperature"],
        "fitted_on_these_rows": fits,
        "without_temperature": calibration_metrics(labels, probabilities_at(scores.margins, 1.0)),
        "at_thresholds": threshold_report(labels, probabilities, scoring.get("thresholds", {})),
        "tfidf_floor_auroc": floor["auroc"] if floor else None,
        "tfidf_floor": floor,
    }


def view_scores(scores: Scores) -> list[dict[str, float]]:
    """Per row, the probability of `offensive` by the name of the view."""
    from guard_scores import view_probabilities

    return [
        dict(zip(names, view_probabilities(margins, scores.scoring["temperature"]).tolist(), strict=True))
        for names, margins in zip(scores.names, scores.margins, strict=True)
    ]


def write_outputs(settings: Settings, report: dict, rows: list[dict], scores: Scores) -> None:
    """evaluation.json last: it says that the others, and what was fitted, are whole."""
    import numpy as np

    from evaluation_plots import draw_plots
    from model_folder import write_json, written_aside

    folder = settings.output_dir
    lines = prediction_lines(rows, scores)
    with written_aside(folder / "predictions.jsonl") as aside, aside.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    floor_scores = report["tfidf_floor"].pop("scores") if report["tfidf_floor"] else None
    curves = {"model": np.array([line["probability"] for line in lines])}
    draw_plots(
        folder,
        np.array([row["label"] for row in rows]),
        curves if floor_scores is None else {**curves, "TF-IDF floor": floor_scores},
    )
    if report["fitted_on_these_rows"]:
        write_json(settings.model_dir / "scoring.json", scores.scoring)
    write_json(folder / "evaluation.json", report)


def prediction_lines(rows: list[dict], scores: Scores) -> list[dict]:
    """predict.py's evidence, a line a row; there is no picture, so no path and nothing read from it."""
    from evaluation_metrics import verdicts
    from score_calibration import probabilities_at

    probabilities = probabilities_at(scores.margins, scores.scoring["temperature"])
    labels = verdicts(probabilities, scores.scoring["threshold"]).tolist()
    return [
        {
            "id": row["id"],
            "path": None,
            "text": row["text"],
            "ocr": [],
            "caption": row["image"],
            "probability_text": views.get("text"),
            "probability_image_text": views.get("image_text"),
            "probability": probability,
            "label": label,
            "error": None if views else "nothing_to_score",
            "milliseconds": {"score": round(scores.milliseconds, 1)},
            "gold": row["label"],
            "language": row["language"],
            "category": row["category"],
            "group": row["group"],
        }
        for row, views, probability, label in zip(
            rows, view_scores(scores), probabilities.tolist(), labels, strict=True
        )
    ]


def print_report(settings: Settings, report: dict, results) -> None:
    low, high = report["auroc_interval"]
    floor = report["tfidf_floor"]
    beside = (
        f"TF-IDF floor {floor['auroc']:.4f} (on shuffled labels {floor['shuffled']['auroc_mean']:.4f})"
        if floor
        else "no TF-IDF floor without FLOOR_DATASET_DIR"
    )
    print(
        f"{settings.split}: AUROC {report['auroc']:.4f} (95 % {low:.4f} to {high:.4f}, {report['groups']} groups, "
        f"{report['rows']} rows); {beside}",
        file=results,
    )
    print(
        f"  average precision {report['average_precision']:.4f}, accuracy {report['accuracy']:.4f}, "
        f"F1 {report['f1']:.4f}, log-loss {report['log_loss']:.4f}, Brier {report['brier']:.4f}, "
        f"calibration error {report['expected_calibration_error']:.4f}",
        file=results,
    )
    control = report["shuffled_control"]
    low, high = control["auroc_interval"]
    print(f"  against shuffled labels: AUROC 95 % {low:.4f} to {high:.4f}, p {control['p_value']:.4f}", file=results)
    for language, found in report["by_language"].items():
        if found["auroc"] is not None:
            print(f"  {language}: AUROC {found['auroc']:.4f} ({found['rows']} rows)", file=results)
    if report["fitted_on_these_rows"]:
        listed = ", ".join(
            f"{name} {found['threshold']:.4f} (precision {found['precision']:.2f}, recall {found['recall']:.2f})"
            for name, found in report["at_thresholds"].items()
        )
        print(
            f"  wrote into {settings.model_dir}/scoring.json: temperature {report['temperature']:.4f}; thresholds "
            f"{listed}",
            file=results,
        )


if __name__ == "__main__":
    main()
