"""The figures of an evaluation: ranking, decisions and calibration, as a whole and by language, category and view."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from evaluation.resampling import bootstrap_interval, shuffled_aurocs
from guard.scores import predicted_labels
from memes.rows import MemeRow

CALIBRATION_BINS = 10
# Half of the last decimal that predict.py prints: nobody can be surer than that, and a log-loss stays finite.
LEAST_PROBABILITY = 5e-5


def classification_metrics(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float | None]:
    """Metrics of probabilities of `offensive` against labels 0 and 1, both [rows]; ranking needs both labels."""
    both = len(set(labels)) == 2
    decided = predicted_labels(probabilities, threshold)
    return {
        "auroc": float(roc_auc_score(labels, probabilities)) if both else None,
        "average_precision": float(average_precision_score(labels, probabilities)) if both else None,
        "accuracy": float(accuracy_score(labels, decided)),
        "f1": float(f1_score(labels, decided, zero_division=0)),
        "precision": float(precision_score(labels, decided, zero_division=0)),
        "recall": float(recall_score(labels, decided, zero_division=0)),
        **calibration_metrics(labels, probabilities),
    }


def calibration_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Log-loss in nats, Brier score, and the expected calibration error over ten equal bins of the probability.

    The last is the mean over rows of |share of label 1 - mean probability| of the row's bin (Naeini et al. 2015).
    """
    bins = np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [abs((labels - probabilities)[bins == number].sum()) for number in range(CALIBRATION_BINS)]
    return {
        "log_loss": bounded_log_loss(labels, probabilities),
        "brier": float(brier_score_loss(labels, probabilities)),
        "expected_calibration_error": float(sum(gaps) / len(labels)),
    }


def bounded_log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean log-loss in nats, of probabilities no nearer to 0 and 1 than what is printed can tell."""
    return float(log_loss(labels, np.clip(probabilities, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY), labels=[0, 1]))


def metrics_by(
    column: Literal["language", "category"],
    rows: Sequence[MemeRow],
    labels: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
    interval: Callable[[np.ndarray], Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """The metrics for each value of a column, with `interval(chosen rows)`, if there is one, beside each AUROC.

    A value whose rows have one label only has no AUROC of its own; it gets that of its rows against all rows of the
    other label (Borkan et al. 2019), which says how well this category is told from the other side.
    """
    if all(row[column] is None for row in rows):
        return {}
    values = np.array([str(row[column] or "unknown") for row in rows])
    report: dict[str, dict[str, Any]] = {}
    for value in sorted(set(values.tolist())):
        chosen = values == value
        report[value] = {
            "rows": int(chosen.sum()),
            "offensive": int(labels[chosen].sum()),
            **classification_metrics(labels[chosen], probabilities[chosen], threshold),
        }
        if report[value]["auroc"] is None:
            opposed = chosen | (labels != labels[chosen][0])
            report[value]["auroc_against_other_label"] = (
                float(roc_auc_score(labels[opposed], probabilities[opposed])) if len(set(labels)) == 2 else None
            )
        elif interval:
            report[value]["auroc_interval"] = interval(chosen)
    return report


def metrics_by_view(labels: np.ndarray, views: list[dict[str, float]], threshold: float) -> dict[str, dict[str, Any]]:
    """The metrics of each view alone, on the rows that have it; `views` holds a row's probability by view."""
    report = {}
    for name in sorted({name for row in views for name in row}):
        chosen = np.array([name in row for row in views])
        scores = np.array([row[name] for row in views if name in row])
        report[name] = {"rows": int(chosen.sum()), **classification_metrics(labels[chosen], scores, threshold)}
    return report


def evaluation_report(
    rows: Sequence[MemeRow],
    views: list[dict[str, float]],
    probabilities: np.ndarray,
    threshold: float,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """All figures of one split; `views` holds a row's probability by view, `samples` counts resamples and shuffles."""
    labels = np.array([row["label"] for row in rows])
    groups = np.array([row["group"] for row in rows])

    def interval(chosen: np.ndarray | slice) -> list[float] | None:
        return bootstrap_interval(labels[chosen], probabilities[chosen], groups[chosen], samples, seed)

    return {
        **classification_metrics(labels, probabilities, threshold),
        "auroc_interval": interval(slice(None)),
        "threshold": threshold,
        "rows": len(rows),
        "groups": len(set(groups)),
        "offensive": int(labels.sum()),
        "by_language": metrics_by("language", rows, labels, probabilities, threshold, interval),
        "by_category": metrics_by("category", rows, labels, probabilities, threshold, interval),
        "by_view": metrics_by_view(labels, views, threshold),
        "shuffled_control": shuffled_control(labels, probabilities, groups, samples, seed),
    }


def shuffled_control(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, samples: int, seed: int
) -> dict[str, float | int | list[float]]:
    """The model's own scores against labels shuffled among groups: the interval of chance and the p-value.

    It tells whether the AUROC could be luck of this split. It does not tell whether the training saw what it should
    not: that is the control of train_model.py's SHUFFLE_LABELS=1.
    """
    observed = roc_auc_score(labels, probabilities)
    shuffled = shuffled_aurocs(labels, probabilities, groups, samples, seed)
    low, high = np.percentile(shuffled, [2.5, 97.5])
    return {
        "auroc_interval": [float(low), float(high)],
        "shuffles": len(shuffled),
        "p_value": float((1 + (shuffled >= observed).sum()) / (1 + len(shuffled))),
    }
