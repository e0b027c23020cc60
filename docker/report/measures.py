"""Measures of a run against its labels, each with its 95 % interval and the number of rows behind it.

Point values are scikit-learn's. Intervals are bootstrap intervals (Efron 1979) that resample groups where these are
known: a meme and its translations are not independent observations. Each resample is a vector of weights, so that
all resamples are measured at once; test_measures.py holds these sums against scikit-learn's.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.meme import label_of
from report.rows import Row

CALIBRATION_BINS = 10
MAX_PARTS = 50  # a column of more values than these is no way to part the rows
# stdout has four decimals: 0.0000 stands for anything below half of the last one.
LOG_LOSS_CLIP = 5e-5
WEIGHTS_AT_ONCE = 2_000_000  # numbers of one block of resamples: 16 MB
BAND_POINTS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Labelled:
    """Rows with a label: labels 0 or 1, scores and groups, all of shape [rows]."""

    labels: np.ndarray
    scores: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, chosen: np.ndarray) -> "Labelled":
        return Labelled(self.labels[chosen], self.scores[chosen], self.groups[chosen])

    def flagged(self, threshold: float) -> np.ndarray:
        """Which rows are labelled 1 at a threshold, bool [rows]."""
        return np.array([label_of(score, threshold) for score in self.scores.tolist()], bool)

    @property
    def has_both(self) -> bool:
        return len(set(self.labels.tolist())) == 2


def labelled_rows(rows: list[Row]) -> Labelled:
    """Rows that have a label, with the probability that was printed."""
    return with_scores(rows, [row.probability for row in rows])


def with_scores(rows: list[Row], given: Sequence[float | None]) -> Labelled:
    """Rows that have a label and a score; a row without group is a group of its own."""
    found = [
        (row.gold, score, row.group or f"\0{number}")
        for number, (row, score) in enumerate(zip(rows, given, strict=True))
        if row.gold is not None and score is not None
    ]
    labels, scores, groups = zip(*found, strict=True) if found else ((), (), ())
    return Labelled(np.array(labels, int), np.array(scores, float), np.unique(groups, return_inverse=True)[1])


def measure(sample: Labelled, threshold: float, resamples: int, seed: int) -> dict[str, Any]:
    """All measures of a sample; those that need both labels are None where there is one only."""
    from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

    both = sample.has_both
    flagged = sample.flagged(threshold)
    drawn = [measure_block(sample, flagged, weights) for weights in bootstrap_weights(sample, resamples, seed)]
    report = {
        "rows": len(sample),
        "harmful": int(sample.labels.sum()),
        "groups": len(set(sample.groups.tolist())),
        "auroc": float(roc_auc_score(sample.labels, sample.scores)) if both else None,
        "average_precision": float(average_precision_score(sample.labels, sample.scores)) if both else None,
        **operating_point(sample, flagged),
        "brier": float(brier_score_loss(sample.labels, sample.scores, pos_label=1)),
        "log_loss": float(
            log_loss(sample.labels, np.clip(sample.scores, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP), labels=[0, 1])
        ),
    }
    for name in drawn[0]:
        report[f"{name}_interval"] = interval(np.concatenate([block[name] for block in drawn]))
    return report


def operating_point(sample: Labelled, flagged: np.ndarray) -> dict[str, Any]:
    """Confusion matrix and rates where these rows are labelled 1; a rate without rows below it is None."""
    harmful = sample.labels == 1
    tp, fp = int((flagged & harmful).sum()), int((flagged & ~harmful).sum())
    fn, tn = int((~flagged & harmful).sum()), int((~flagged & ~harmful).sum())
    return {
        "confusion": {"true_positives": tp, "false_positives": fp, "false_negatives": fn, "true_negatives": tn},
        "accuracy": ratio(tp + tn, len(sample)),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "false_positive_rate": ratio(fp, fp + tn),
    }


def ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def bootstrap_weights(sample: Labelled, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of shape [resamples in the block, rows]: how often each row was drawn, whole groups at a time."""
    random = np.random.default_rng(seed)
    present, members = np.unique(sample.groups, return_inverse=True)
    block = max(1, WEIGHTS_AT_ONCE // len(sample))
    for start in range(0, resamples, block):
        draws = random.multinomial(len(present), np.full(len(present), 1 / len(present)), min(block, resamples - start))
        yield draws[:, members].astype(float)


def measure_block(sample: Labelled, flagged: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Measures of each resample, shape [resamples]; NaN where a resample lacks what a measure needs."""
    harmful = sample.labels == 1
    tp, fp = weights[:, flagged & harmful].sum(1), weights[:, flagged & ~harmful].sum(1)
    fn, tn = weights[:, ~flagged & harmful].sum(1), weights[:, ~flagged & ~harmful].sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc, average_precision = ranking_block(sample, weights)
        return {
            "auroc": auroc,
            "average_precision": average_precision,
            "accuracy": (tp + tn) / weights.sum(1),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "false_positive_rate": fp / (fp + tn),
            "brier": weights @ (sample.scores - sample.labels) ** 2 / weights.sum(1),
        }


def ranking_block(sample: Labelled, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(AUROC, average precision) of each resample, shape [resamples]; ties count half."""
    positives, negatives = cumulative_counts(sample, weights)
    new_positives = np.diff(positives, axis=1, prepend=0)
    new_negatives = np.diff(negatives, axis=1, prepend=0)
    total, other = positives[:, -1], negatives[:, -1]
    auroc = (new_positives * (other[:, None] - negatives + new_negatives / 2)).sum(1) / (total * other)
    seen = positives + negatives
    precision = np.divide(positives, seen, out=np.zeros_like(seen), where=seen > 0)
    average_precision = np.where(other > 0, (new_positives * precision).sum(1) / total, np.nan)
    return auroc, average_precision


def cumulative_counts(sample: Labelled, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Harmful and harmless rows flagged at each distinct score, highest first; shape [resamples, distinct scores]."""
    order = np.argsort(-sample.scores, kind="stable")
    starts = np.flatnonzero(np.diff(-sample.scores[order], prepend=-np.inf))
    harmful = sample.labels[order] == 1
    counts = (np.add.reduceat(weights[:, order] * kind, starts, axis=1) for kind in (harmful, ~harmful))
    positives, negatives = (np.cumsum(count, axis=1) for count in counts)
    return positives, negatives


def roc_band(sample: Labelled, resamples: int, seed: int) -> np.ndarray:
    """95 % band of the recall at each false positive rate of BAND_POINTS; shape [2, points]."""
    curves = []
    for weights in bootstrap_weights(sample, resamples, seed):
        for positives, negatives in zip(*cumulative_counts(sample, weights), strict=True):
            if positives[-1] and negatives[-1]:
                curves.append(
                    np.interp(BAND_POINTS, np.r_[0, negatives / negatives[-1]], np.r_[0, positives / positives[-1]])
                )
    return np.percentile(curves, [2.5, 97.5], axis=0)


def interval(values: np.ndarray) -> list[float] | None:
    kept = values[~np.isnan(values)]
    return [float(bound) for bound in np.percentile(kept, [2.5, 97.5])] if len(kept) else None


def reliability(sample: Labelled) -> list[dict[str, Any]]:
    """Bins of equal width that have rows: mean score, share that is harmful, its Wilson interval, rows."""
    number = np.minimum((sample.scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    bins = []
    for index in np.unique(number):
        chosen = number == index
        harmful, rows = int(sample.labels[chosen].sum()), int(chosen.sum())
        bins.append(
            {
                "mean_score": float(sample.scores[chosen].mean()),
                "share_harmful": harmful / rows,
                "interval": wilson_interval(harmful, rows),
                "rows": rows,
            }
        )
    return bins


def wilson_interval(part: int, whole: int) -> list[float] | None:
    """95 % interval of a share of rows that are independent (Wilson 1927); None where there are no rows."""
    from scipy.stats import binomtest

    if not whole:
        return None
    bounds = binomtest(part, whole).proportion_ci(method="wilson")
    return [float(bounds.low), float(bounds.high)]


def calibration_error(labels: np.ndarray, scores: np.ndarray) -> float:
    """Expected calibration error over bins of equal width (Naeini et al. 2015)."""
    number = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return float(np.abs(np.bincount(number, scores - labels)).sum() / len(labels))


def calibration_error_by_chance(sample: Labelled, draws: int, seed: int) -> float:
    """Mean calibration error that a perfectly calibrated detector with these scores would show on so few rows."""
    random = np.random.default_rng(seed)
    chance = (random.random((draws, len(sample))) < sample.scores).astype(int)
    return float(np.mean([calibration_error(labels, sample.scores) for labels in chance]))


def measures_by(column: str, rows: list[Row], threshold: float, resamples: int, seed: int) -> dict[str, dict[str, Any]]:
    """Measures of the rows of each value of a column, of the MAX_PARTS commonest; rows without a value are left out."""
    report = {}
    common = Counter(value for row in rows if row.gold is not None and (value := getattr(row, column)))
    for value in sorted(value for value, _ in common.most_common(MAX_PARTS)):
        sample = labelled_rows([row for row in rows if getattr(row, column) == value])
        report[value] = measure(sample, threshold, resamples, seed)
    return report


def views_measures(rows: list[Row], threshold: float, resamples: int, seed: int) -> dict[str, dict[str, Any]]:
    """Measures of each view alone and of both, on the rows where both were scored: what does the picture add?"""
    seen: list[Row] = []
    scores: dict[str, list[float]] = {"text": [], "image_text": [], "both": []}
    for row in rows:
        text, image_text = (
            (row.evidence.probability_text, row.evidence.probability_image_text) if row.evidence else (None, None)
        )
        if text is not None and image_text is not None:
            seen.append(row)
            for name, score in (("text", text), ("image_text", image_text), ("both", row.probability)):
                scores[name].append(score)
    samples = {name: with_scores(seen, found) for name, found in scores.items()}
    return {name: measure(sample, threshold, resamples, seed) for name, sample in samples.items() if len(sample)}


def stage_times(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of the milliseconds that each stage took, in the order in which they were timed."""
    spent: dict[str, list[float]] = {}
    for row in rows:
        for stage, milliseconds in (row.evidence.milliseconds if row.evidence else {}).items():
            spent.setdefault(stage, []).append(milliseconds)
    return {
        stage: {"median": float(np.median(values)), "percentile_95": float(np.percentile(values, 95))}
        for stage, values in spent.items()
    }
