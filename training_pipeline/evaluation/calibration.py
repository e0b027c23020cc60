"""What a validation split teaches scoring.json: a temperature, and three thresholds that decide the label.

Temperature scaling after Guo et al. 2017: logits are divided by one number that minimises the log-loss. It is applied
to each view's logits before the mean over views, here as in the container.
"""

from typing import TypedDict

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_curve

from evaluation.metrics import bounded_log_loss, classification_metrics
from guard.scores import meme_probabilities, predicted_labels, printed_probabilities

# Labels that are separated without an error would be fitted best by temperature 0, and scores at chance by an endless
# one, at which the four decimals that predict.py prints would hold no ranking any more.
TEMPERATURES = (0.2, 5.0)


class Fit(TypedDict):
    temperature: float
    threshold: float
    thresholds: dict[str, float]
    fitted_on: dict[str, int]


def fit_scoring(margins: list[np.ndarray], labels: np.ndarray, least_recall: float, least_precision: float) -> Fit:
    """What scoring.json takes from a validation split: temperature, thresholds, and `threshold`, the balanced one."""
    temperature = fit_temperature(margins, labels)
    thresholds = fit_thresholds(labels, meme_probabilities(margins, temperature), least_recall, least_precision)
    return {
        "temperature": temperature,
        "threshold": thresholds["balanced"],
        "thresholds": thresholds,
        "fitted_on": {"rows": len(labels), "offensive": int(labels.sum())},
    }


def fit_temperature(margins: list[np.ndarray], labels: np.ndarray) -> float:
    """The temperature of least log-loss for logit differences by view (a list of [views]) and labels [rows]."""

    def loss(logarithm: float) -> float:
        return bounded_log_loss(labels, meme_probabilities(margins, np.exp(logarithm)))

    best = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-4})
    return round(float(np.exp(best.x)), 4)


def fit_thresholds(
    labels: np.ndarray, probabilities: np.ndarray, least_recall: float, least_precision: float
) -> dict[str, float]:
    """Three thresholds on probabilities as predict.py prints them, each half-way to the next lower score.

    `high_recall` is the highest that finds at least `least_recall` of the offensive rows; `high_precision` the lowest
    at which at least `least_precision` of the flagged rows are offensive (where none reaches it, the most precise);
    `balanced` has the largest recall minus false-positive rate (Youden's J).
    """
    shown = printed_probabilities(probabilities)
    false_rate, recall, scores = (values[1:] for values in roc_curve(labels, shown, drop_intermediate=False))
    positives, negatives = labels.sum(), len(labels) - labels.sum()
    precision = recall * positives / (recall * positives + false_rate * negatives)
    precise = np.flatnonzero(precision >= min(least_precision, precision.max()))
    chosen = {
        "high_recall": int(np.argmax(recall >= least_recall)),
        "balanced": int(np.argmax(recall - false_rate)),
        "high_precision": int(precise[-1]),
    }
    below = np.append(scores[1:], 0.0)
    return {name: round(float(scores[index] + below[index]) / 2, 5) for name, index in chosen.items()}


def threshold_report(
    labels: np.ndarray, probabilities: np.ndarray, thresholds: dict[str, float]
) -> dict[str, dict[str, float | None]]:
    """Accuracy, F1, precision, recall and the number of flagged rows at each threshold."""
    report: dict[str, dict[str, float | None]] = {}
    for name, threshold in thresholds.items():
        found = classification_metrics(labels, probabilities, threshold)
        report[name] = {
            "threshold": threshold,
            "flagged": int(predicted_labels(probabilities, threshold).sum()),
            **{metric: found[metric] for metric in ("accuracy", "f1", "precision", "recall")},
        }
    return report
