"""The lines that evaluate_model.py prints of its report."""

from typing import Any


def summary_lines(report: dict[str, Any]) -> list[str]:
    """What a reader wants first of evaluation.json; all but the first line are indented."""
    low, high = report["auroc_interval"]
    control_low, control_high = report["shuffled_control"]["auroc_interval"]
    return [
        f"{report['split']}: AUROC {report['auroc']:.4f} (95 % {low:.4f} to {high:.4f}, {report['groups']} groups, "
        f"{report['rows']} rows); {baseline_told(report['tfidf_baseline'])}",
        f"  average precision {report['average_precision']:.4f}, accuracy {report['accuracy']:.4f}, "
        f"F1 {report['f1']:.4f}, log-loss {report['log_loss']:.4f}, Brier {report['brier']:.4f}, "
        f"calibration error {report['expected_calibration_error']:.4f}",
        f"  against shuffled labels: AUROC 95 % {control_low:.4f} to {control_high:.4f}, "
        f"p {report['shuffled_control']['p_value']:.4f}",
        *(
            f"  {language}: AUROC {found['auroc']:.4f} ({found['rows']} rows)"
            for language, found in report["by_language"].items()
            if found["auroc"] is not None
        ),
        *([categories_told(report["categories"])] if report["categories"] else []),
        *([fit_told(report)] if report["fitted_on_these_rows"] else []),
    ]


def baseline_told(baseline: dict[str, Any] | None) -> str:
    if not baseline:
        return "no TF-IDF baseline without BASELINE_DATASET_DIR"
    shuffled = baseline["shuffled"]["auroc_mean"]
    return f"TF-IDF baseline {baseline['auroc']:.4f} (on shuffled labels {shuffled:.4f})"


def categories_told(found: dict[str, Any]) -> str:
    low, high = found["top_1_interval"]
    baseline = found["tfidf_baseline"]
    beside = f", TF-IDF baseline {baseline['top_1']:.4f}" if baseline else ""
    return (
        f"  category of {found['rows']} offensive rows: right {found['top_1']:.4f} (95 % {low:.4f} to {high:.4f}"
        f"{beside}), among the two likeliest {found['top_2']:.4f}, macro-F1 {found['macro_f1']:.4f}"
    )


def fit_told(report: dict[str, Any]) -> str:
    thresholds = ", ".join(
        f"{name} {found['threshold']:.4f} (precision {found['precision']:.2f}, recall {found['recall']:.2f})"
        for name, found in report["at_thresholds"].items()
    )
    return (
        f"  wrote into {report['model']}/scoring.json: temperature {report['temperature']:.4f}; thresholds {thresholds}"
    )
