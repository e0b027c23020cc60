"""The fits on a validation split: a known temperature comes back, and each threshold keeps its promise."""

import numpy as np
import pytest

from evaluation.calibration import fit_scoring, fit_temperature, fit_thresholds
from guard.scores import meme_probabilities, predicted_labels


@pytest.fixture
def honest():
    """(margins by view, labels): logits whose own softmax is right, 4,000 rows of one view."""
    random = np.random.default_rng(1)
    margins = random.normal(0, 2, 4000).astype(np.float32)
    labels = (random.random(4000) < 1 / (1 + np.exp(-margins))).astype(int)
    return [np.array([margin]) for margin in margins], labels


@pytest.mark.parametrize("overconfidence", [0.5, 1.0, 3.0])
def test_a_known_temperature_comes_back(honest, overconfidence):
    margins, labels = honest
    fitted = fit_temperature([overconfidence * views for views in margins], labels)
    assert fitted == pytest.approx(overconfidence, rel=0.1)


def test_each_threshold_keeps_its_promise(honest):
    margins, labels = honest
    probabilities = meme_probabilities(margins, 1.0)
    found = fit_thresholds(labels, probabilities, least_recall=0.95, least_precision=0.9)
    flagged = {name: predicted_labels(probabilities, threshold) == 1 for name, threshold in found.items()}
    assert 0.95 <= labels[flagged["high_recall"]].sum() / labels.sum() < 0.952
    assert 0.9 <= labels[flagged["high_precision"]].mean() < 0.91
    rates = [
        (
            labels[probabilities >= cut].sum() / labels.sum(),
            (1 - labels)[probabilities >= cut].sum() / (1 - labels).sum(),
        )
        for cut in np.linspace(0, 1, 201)
    ]
    recall, false_rate = (
        labels[flagged["balanced"]].sum() / labels.sum(),
        (1 - labels)[flagged["balanced"]].sum() / (1 - labels).sum(),
    )
    assert recall - false_rate >= max(true - false for true, false in rates) - 1e-9
    assert found["high_recall"] < found["balanced"] < found["high_precision"]


def test_thresholds_lie_between_scores():
    """0.2 | 0.4 ok, 0.6 | 0.8 offensive: half-way from the score that is flagged to the next below it."""
    found = fit_thresholds(np.array([0, 0, 1, 1]), np.array([0.2, 0.4, 0.6, 0.8]), 0.95, 0.95)
    assert found == {"high_recall": 0.5, "balanced": 0.5, "high_precision": 0.5}


def test_a_precision_that_is_never_reached_gives_the_most_precise():
    found = fit_thresholds(np.array([1, 0, 1, 0]), np.array([0.1, 0.9, 0.9, 0.05]), 0.95, 0.99)
    assert found["high_precision"] == pytest.approx(0.075)  # 0.1 and above: two of three


def test_scores_at_chance_or_without_an_error_do_not_run_away():
    labels = np.array([0, 1] * 50)
    chance = [np.array([margin]) for margin in np.random.default_rng(1).normal(0, 3, 100)]
    perfect = [np.array([3.0 if label else -3.0]) for label in labels]
    assert 0.19 < fit_temperature(perfect, labels) < fit_temperature(chance, labels) <= 5.0
    scoring = fit_scoring(perfect, labels, 0.95, 0.95)
    assert scoring["threshold"] == scoring["thresholds"]["balanced"] == pytest.approx(0.5, abs=0.01)
    assert scoring["fitted_on"] == {"rows": 100, "offensive": 50}
