"""Measure a run of predict.py against labels, and draw it as one page that people can look at.

Reads   INPUT_PATH (the image paths that went into predict.py, one a line) and PREDICTIONS_PATH (its stdout);
        LABELS_PATH, when known: a CSV with file_name,label and, if it has them, language,category,group;
        DETAILS_PATH, when kept: the evidence that predict.py wrote. For a data set of texts: DETAILS_PATH alone, the
        predictions.jsonl of evaluate_model.py, which carries its labels.
Writes  OUTPUT_DIR/report.html (self-contained: no network, opens from disk) and OUTPUT_DIR/metrics.json.

    INPUT_PATH=stdin.csv PREDICTIONS_PATH=predictions.tsv LABELS_PATH=labels.csv DETAILS_PATH=details.jsonl \\
        OUTPUT_DIR=report python docker/evaluate_predictions.py

On the page each picture can be marked harmful, harmless or unsure, with a category; it keeps the marks in the browser
and writes review.csv, of which data_preparation/add_reviews.py makes training data.

Safe to run again: both files are replaced when whole, and the same input gives the same bytes. The thumbnails take at
most PICTURES_MEGABYTES together. Runs outside the image: matplotlib, jinja2 and scikit-learn are in the project's
requirements.txt, not in docker/requirements.txt.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, DirectoryPath, Field, FilePath, model_validator

from detector.meme import label_of
from detector.script_settings import ScriptSettings

if TYPE_CHECKING:
    from report.rows import Row
    from report.thumbnails import Thumbnail


def distinct_words(value: str) -> str:
    """Names by commas, in lower case, without blanks around them."""
    names = [name.strip().casefold() for name in value.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ValueError("names nothing, or one category twice")
    return ",".join(names)


class Settings(ScriptSettings):
    input_path: FilePath | None = Field(None, description="image paths, one a line, as they went into predict.py")
    predictions_path: FilePath | None = Field(None, description="stdout of that run: probability<TAB>label lines")
    labels_path: FilePath | None = Field(
        None, description="CSV with file_name,label and, where known, language,category,group"
    )
    details_path: FilePath | None = Field(
        None, description="evidence: predict.py's DETAILS_PATH, or evaluate_model.py's predictions.jsonl alone"
    )
    images_dir: DirectoryPath | None = Field(
        None, description="folder where the pictures lie now, if not where INPUT_PATH says (a container's /images)"
    )
    output_dir: Path = Field(description="folder that gets report.html and metrics.json")
    threshold: float | None = Field(None, ge=0, le=1, description="judge by this; when unset as labels were printed")
    title: str = Field("Harmful-meme detector", max_length=200, description="heading of the report")
    categories: Annotated[str, AfterValidator(distinct_words)] = Field(
        "race,religion,nationality,orientation,gender,age,class,health,other",
        description="what a reviewer may say a picture is about, with commas; add_reviews.py must be told the same",
    )
    bootstrap_samples: int = Field(1000, ge=100, le=100_000, description="resamples behind the 95 % intervals")
    seed: int = Field(1, ge=0, description="seed of the resampling")
    thumbnail_side: int = Field(320, ge=48, le=1000, description="longer side of the pictures in the report, pixels")
    pictures_megabytes: float = Field(
        24, gt=0, le=1000, description="most that all pictures of the report take together; they shrink to fit"
    )
    max_megapixels: int = Field(120, ge=1, le=2000, description="larger images are not decoded")

    @model_validator(mode="after")
    def _some_source(self) -> Self:
        if (self.input_path is None) != (self.predictions_path is None):
            raise ValueError(
                "INPUT_PATH and PREDICTIONS_PATH belong together: set both (paths that went into "
                "predict.py, lines that came out)"
            )
        if self.predictions_path is None and self.details_path is None:
            raise ValueError("nothing to report on: set INPUT_PATH and PREDICTIONS_PATH, or DETAILS_PATH")
        return self


def main() -> None:
    settings = Settings.read(__doc__)
    from report.rows import UnusableRun, read_rows, reported_threshold

    try:
        rows = read_rows(settings.input_path, settings.predictions_path, settings.labels_path, settings.details_path)
        threshold = reported_threshold(rows, settings.threshold)
    except UnusableRun as unusable:
        raise SystemExit(f"evaluate_predictions.py: {unusable}") from None
    report = measure_run(rows, threshold, settings.threshold, settings.bootstrap_samples, settings.seed)
    page = draw_page(rows, report, settings)
    write_outputs(settings.output_dir, page, report)
    for line in category_findings(report):
        print(line)
    print(
        f"{finding(report)}; wrote {settings.output_dir / 'report.html'} "
        f"({len(page.encode()) / 1e6:.1f} MB, {len(rows):,} rows)"
    )


def measure_run(
    rows: "list[Row]", threshold: float, requested: float | None, resamples: int, seed: int
) -> dict[str, Any]:
    """Everything that metrics.json holds, there with `measured` (None where nothing has a label) at its top level."""
    from report.categories import category_accuracy, rates_by_predicted
    from report.measures import (
        calibration_error,
        calibration_error_by_chance,
        labelled_rows,
        measure,
        measures_by,
        stage_times,
        views_measures,
    )
    from report.rows import failures, unseen_counts

    sample = labelled_rows(rows)
    sound = labelled_rows([row for row in rows if not (row.evidence and row.evidence.error)])
    failed = failures(rows)
    return {
        "rows_in_run": len(rows),
        "threshold": threshold,
        "threshold_is_inferred": requested is None and threshold != 0.5,
        "flagged": sum(label_of(row.probability, threshold) for row in rows),
        "judged_anew": sum(row.printed_label not in (None, label_of(row.probability, threshold)) for row in rows),
        "measured": measure(sample, threshold, resamples, seed) if len(sample) else None,
        "expected_calibration_error": calibration_error(sample.labels, sample.scores) if len(sample) else None,
        "calibration_error_by_chance": calibration_error_by_chance(sample, 200, seed) if len(sample) else None,
        "without_failures": measure(sound, threshold, resamples, seed) if failed and len(sound) else None,
        "by_language": measures_by("language", rows, threshold, resamples, seed),
        "by_category": measures_by("category", rows, threshold, resamples, seed),
        "by_predicted_category": rates_by_predicted(rows, threshold),
        "predicted_category": category_accuracy(rows),
        "views": views_measures(rows, threshold, resamples, seed),
        "evidence_rows": sum(row.evidence is not None for row in rows),
        "failures": failed,
        "unseen": unseen_counts(rows),
        "milliseconds": stage_times(rows),
    }


def draw_page(rows: "list[Row]", report: dict[str, Any], settings: Settings) -> str:
    import numpy as np

    from report.charts import draw_charts
    from report.measures import labelled_rows
    from report.page import render_page
    from report.rows import valid_unicode
    from report.words import headline, notes

    unit = "picture" if any(row.path for row in rows) or settings.input_path else "text"
    small = make_thumbnails(rows, settings) if unit == "picture" else []
    missing = Counter(thumbnail.reason for thumbnail in small if thumbnail.reason)
    charts = draw_charts(
        labelled_rows(rows),
        np.array([row.probability for row in rows]),
        report["threshold"],
        settings.bootstrap_samples,
        settings.seed,
    )
    sources = [
        (name.upper(), valid_unicode(path.name))
        for name in ("input_path", "predictions_path", "labels_path", "details_path")
        if (path := getattr(settings, name))
    ]
    return render_page(
        settings.title,
        report,
        rows,
        small,
        charts,
        unit=unit,
        categories=settings.categories.split(","),
        headline=headline(report, unit),
        notes=notes(report, rows, missing, unit),
        sources=sources,
        resamples=settings.bootstrap_samples,
        seed=settings.seed,
    )


def make_thumbnails(rows: "list[Row]", settings: Settings) -> "list[Thumbnail]":
    from tqdm import tqdm

    from report.thumbnails import thumbnails

    share = int(settings.pictures_megabytes * 1e6 / len(rows))
    paths = [picture_path(row.path, settings) for row in rows]
    made = thumbnails(paths, settings.thumbnail_side, share, settings.max_megapixels * 1_000_000)
    return list(tqdm(made, total=len(paths), unit="picture", disable=not sys.stderr.isatty()))


def picture_path(path: str, settings: Settings) -> str:
    """In IMAGES_DIR where that is set; else as predict.py found it, or beside the list that names it."""
    if settings.images_dir and path:
        return os.path.join(settings.images_dir, os.path.basename(path))
    listed_in = settings.input_path or settings.details_path
    if not path or listed_in is None or os.path.exists(path.replace("\0", "")):
        return path
    return os.path.join(listed_in.parent, path)


def finding(report: dict[str, Any]) -> str:
    measured = report["measured"]
    if measured is None or measured["auroc"] is None:
        return f"no AUROC: {'no labels' if measured is None else 'one label only'}"
    low, high = measured["auroc_interval"]
    return (
        f"AUROC {measured['auroc']:.4f} (95 % {low:.4f} to {high:.4f}, {measured['groups']:,} groups, "
        f"{measured['rows']:,} rows), accuracy {measured['accuracy']:.4f}, F1 {measured['f1']:.4f} "
        f"at {report['threshold']:.4g}"
    )


def category_findings(report: dict[str, Any]) -> list[str]:
    """Lines on the predicted categories; none where there are none."""
    found, rates = [], []
    for name, part in report["by_predicted_category"].items():
        counts, harmless = part["confusion"], part["rows"] - part["harmful"]
        right, wrong = counts["true_positives"], counts["false_positives"]
        rates.append(f"{name} {right:,} of {part['harmful']:,} and {wrong:,} of {harmless:,}")
    if rates:
        found.append(f"flagged of harmful and of harmless rows, by predicted category: {'; '.join(rates)}")
    if known := report["predicted_category"]:
        low, high = known["accuracy_interval"]
        found.append(
            f"predicted category right in {known['right']:,} of {known['rows']:,} harmful rows that have one: "
            f"{known['accuracy']:.4f} (95 % {low:.4f} to {high:.4f}; always the commonest {known['commonest']:.4f})"
        )
    return found


def write_outputs(output_dir: Path, page: str, report: dict[str, Any]) -> None:
    """Each file aside and then renamed; metrics.json last, it says that both are whole."""
    output_dir.mkdir(parents=True, exist_ok=True)
    flat = {"auroc": None} | (report["measured"] or {}) | {key: report[key] for key in report if key != "measured"}
    metrics = json.dumps(flat, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    for name, content in (("report.html", page), ("metrics.json", metrics)):
        aside = output_dir / f".{name}.unfinished"
        aside.write_text(content, encoding="utf-8")
        aside.replace(output_dir / name)


if __name__ == "__main__":
    main()
