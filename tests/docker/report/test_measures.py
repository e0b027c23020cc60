"""Bootstrap sums against scikit-learn's own measures, and intervals that know about groups."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss, f1_score, roc_auc_score

from report import measures
from report.measures import Labelled, bootstrap_weights, calibration_error, measure, measure_block, with_scores
from report.rows import Row


@pytest.fixture(scope="module")
def sample():
    """200 rows in 80 groups, with ties, scores that say something, and no calibration to speak of."""
    random = np.random.default_rng(5)
    labels = random.integers(2, size=200)
    scores = np.round(np.clip(0.3 * labels + random.random(200) * 0.7, 0, 1), 2)
    return Labelled(labels, scores, random.integers(80, size=200))


def test_each_resample_is_measured_as_scikit_learn_measures_it(sample):
    weights = next(bootstrap_weights(sample, 20, seed=3))
    flagged = sample.scores >= 0.5
    measured = measure_block(sample, flagged, weights)
    for number, weight in enumerate(weights):
        expected = {
            "auroc": roc_auc_score(sample.labels, sample.scores, sample_weight=weight),
            "average_precision": average_precision_score(sample.labels, sample.scores, sample_weight=weight),
            "accuracy": accuracy_score(sample.labels, flagged, sample_weight=weight),
            "f1": f1_score(sample.labels, flagged, sample_weight=weight),
            "brier": brier_score_loss(sample.labels, sample.scores, sample_weight=weight),
        }
        assert {name: measured[name][number] for name in expected} == pytest.approx(expected)


def test_a_group_is_drawn_whole_and_blocks_change_nothing(sample, monkeypatch):
    weights = np.concatenate(list(bootstrap_weights(sample, 60, seed=3)))
    for group in np.unique(sample.groups):
        assert (np.ptp(weights[:, sample.groups == group], axis=1) == 0).all()
    monkeypatch.setattr(measures, "WEIGHTS_AT_ONCE", 1000)
    blocks = list(bootstrap_weights(sample, 60, seed=3))
    assert len(blocks) > 4 and (np.concatenate(blocks) == weights).all()


def test_copies_of_a_row_widen_no_confidence(sample):
    """The same rows four times over: known as groups the interval stays, taken as independent it shrinks by half."""
    copied = [np.tile(part, 4) for part in (sample.labels, sample.scores)]
    widths = []
    for groups in (np.arange(200), np.tile(np.arange(200), 4), np.arange(800)):
        labels, scores = (sample.labels, sample.scores) if len(groups) == 200 else copied
        low, high = measure(Labelled(labels, scores, groups), 0.5, 2000, seed=1)["auroc_interval"]
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0], rel=1e-6)
    assert widths[2] == pytest.approx(widths[0] / 2, rel=0.15)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """200 samples from two normal distributions with a known AUROC of 0.76: some 95 % of the intervals hold it."""
    random, held = np.random.default_rng(11), 0
    for number in range(200):
        labels = np.repeat([0, 1], 60)
        scores = 1 / (1 + np.exp(-(random.normal(size=120) + labels)))  # AUROC = Phi(1 / sqrt 2) = 0.7602
        low, high = measure(Labelled(labels, scores, np.arange(120)), 0.5, 200, seed=number)["auroc_interval"]
        held += low <= 0.7602 <= high
    assert 180 <= held <= 198


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_only_leaves_out_what_needs_two(label):
    only = Labelled(np.full(5, label), np.linspace(0.1, 0.9, 5), np.arange(5))
    measured = measure(only, 0.5, 100, seed=1)
    assert measured["auroc"] is None and measured["auroc_interval"] is None and measured["average_precision"] is None
    assert measured["accuracy"] == (0.6 if label else 0.4) and measured["rows"] == 5
    assert measured["average_precision_interval"] is None
    assert (measured["recall"] is None) == (label == 0) and (measured["false_positive_rate"] is None) == (label == 1)


def test_calibration_error_is_the_weighted_gap_of_the_bins():
    scores, labels = np.array([0.05, 0.05, 0.95, 1.0]), np.array([0, 1, 1, 1])
    assert calibration_error(labels, scores) == pytest.approx((2 * abs(0.05 - 0.5) + 2 * abs(0.975 - 1)) / 4)


def test_rows_without_label_or_score_are_left_out():
    found = ((1, 0.9, "a"), (None, 0.2, "a"), (0, None, None), (0, 0.1, None), (1, 0.3, None))
    rows = [Row("", "", 0.5, gold=gold, group=group) for gold, _, group in found]
    sample = with_scores(rows, [score for _, score, _ in found])
    assert sample.labels.tolist() == [1, 0, 1] and sample.scores.tolist() == [0.9, 0.1, 0.3]
    assert len(set(sample.groups.tolist())) == 3


def test_flags_are_the_printed_labels_where_rounding_differs():
    scores = np.array([number / 100_000 + 5e-5 for number in range(0, 100_000, 10)])
    sample = Labelled(np.zeros(len(scores), int), scores, np.arange(len(scores)))
    differing = scores.round(4) != [float(f"{score:.4f}") for score in scores]
    assert differing.any(), "without such values this test means nothing"
    for score in scores[differing][:20]:
        threshold = float(f"{score:.4f}")
        assert sample.flagged(threshold)[scores == score].all()
        assert not sample.flagged(threshold + 1e-6)[scores == score].any()


def test_a_certain_error_costs_half_of_the_last_printed_digit():
    wrong = Labelled(np.array([1, 0]), np.array([0.0, 1.0]), np.arange(2))
    assert measure(wrong, 0.5, 100, seed=1)["log_loss"] == pytest.approx(-np.log(5e-5))
