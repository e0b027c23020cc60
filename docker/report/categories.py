"""Whom the detector fails: its rates by the category that it predicts, and how often that category is right.

A predicted category is the most probable one if the row is harmful. Intervals are Wilson's, rows taken as independent:
a bootstrap of the few rows of one category would call 5 of 5 certain.
"""

from collections import Counter
from typing import Any

from report.measures import labelled_rows, operating_point, ratio, wilson_interval
from report.rows import Row

KINDS = ("true_positives", "false_positives", "false_negatives", "true_negatives")


def model_categories(rows: list[Row]) -> list[str]:
    """All categories that the evidence speaks of, in its own order."""
    return list(dict.fromkeys(name for row in rows if row.evidence for name in row.evidence.categories))


def predicted_categories(rows: list[Row]) -> list[str]:
    """Those that are some row's predicted one, in the same order."""
    found = {row.predicted for row in rows}
    return [name for name in model_categories(rows) if name in found]


def rates_by_predicted(rows: list[Row], threshold: float) -> dict[str, dict[str, Any]]:
    """Rates of the labelled rows of each predicted category, recall and false alarms with their intervals."""
    report = {}
    for name in predicted_categories(rows):
        sample = labelled_rows([row for row in rows if row.predicted == name])
        if not len(sample):
            continue
        point = operating_point(sample, sample.flagged(threshold))
        tp, fp, fn, tn = (point["confusion"][kind] for kind in KINDS)
        report[name] = {
            "rows": len(sample),
            "harmful": tp + fn,
            **point,
            "recall_interval": wilson_interval(tp, tp + fn),
            "false_positive_rate_interval": wilson_interval(fp, fp + tn),
        }
    return report


def category_accuracy(rows: list[Row]) -> dict[str, Any] | None:
    """How often the predicted category of a harmful row is the labelled one; None where no such label is known.

    `confusion`: labelled category to predicted category to rows; `commonest`: what naming always one would score.
    """
    names = model_categories(rows)
    pairs = Counter(
        (row.category, row.predicted) for row in rows if row.gold == 1 and row.predicted and row.category in names
    )
    if not pairs:
        return None
    labelled = Counter(gold for gold, _ in pairs.elements())
    seen = [name for name in names if any(name in pair for pair in pairs)]
    right, total = sum(count for (gold, predicted), count in pairs.items() if gold == predicted), pairs.total()
    return {
        "rows": total,
        "right": right,
        "accuracy": ratio(right, total),
        "accuracy_interval": wilson_interval(right, total),
        "commonest": max(labelled.values()) / total,
        "confusion": {gold: {name: pairs[gold, name] for name in seen} for gold in seen if labelled[gold]},
    }
