"""Resampling by group: the fast AUROC is scikit-learn's, and copies of a row add no certainty."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.resampling import bootstrap_interval, shuffle_by_group, shuffled_aurocs, weighted_aurocs


@pytest.fixture
def rows():
    """(labels, scores with ties, groups) of 60 rows."""
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 60)
    return labels, np.round(random.random(60) + 0.4 * labels, 1), np.arange(60).astype(str)


def test_weighted_aurocs_are_those_of_scikit_learn(rows):
    labels, scores, _ = rows
    weights = np.random.default_rng(2).integers(0, 4, (5, 60))
    expected = [roc_auc_score(labels, scores, sample_weight=weight) for weight in weights]
    assert weighted_aurocs(scores, weights * labels, weights * (1 - labels)) == pytest.approx(expected)


def test_a_draw_without_both_labels_has_no_auroc(rows):
    _, scores, _ = rows
    assert np.isnan(weighted_aurocs(scores, np.ones((1, 60)), np.zeros((1, 60)))).all()


def test_translations_do_not_narrow_the_interval(rows):
    """Every row four times: as one group each the interval stays, as rows of their own it shrinks to half."""
    labels, scores, groups = rows
    low, high = bootstrap_interval(labels, scores, groups, 1000, seed=1)
    assert low < roc_auc_score(labels, scores) < high
    four = [np.repeat(values, 4) for values in rows]
    assert bootstrap_interval(*four, 1000, seed=1) == pytest.approx([low, high], abs=0.02)
    low_alone, high_alone = bootstrap_interval(four[0], four[1], np.arange(240), 1000, seed=1)
    assert (high_alone - low_alone) / (high - low) == pytest.approx(0.5, abs=0.1)


def test_shuffled_labels_keep_their_balance_and_every_groups_unity():
    labels, groups = np.repeat([0, 1] * 20, 3), np.repeat(np.arange(40), 3)
    shuffled = shuffle_by_group(labels, groups, np.random.default_rng(3))
    assert shuffled.sum() == labels.sum() and (shuffled != labels).any()
    assert all(len(set(shuffled[start : start + 3])) == 1 for start in range(0, 120, 3))


def test_twins_of_both_labels_are_dealt_one_label_a_side():
    """Every group begins with its harmful side: counted as that one label, nothing would be left to shuffle."""
    labels, groups = np.tile([1, 1, 0, 0], 30), np.repeat(np.arange(30), 4)
    shuffled = shuffle_by_group(labels, groups, np.random.default_rng(3))
    assert shuffled.sum() == labels.sum() and (shuffled != labels).any()
    assert all(len(set(shuffled[start : start + 2])) == 1 for start in range(0, 120, 2))
    scores = np.random.default_rng(4).random(120)
    assert len(shuffled_aurocs(labels, scores, groups, 200, seed=1)) == 200


def test_shuffled_labels_give_chance_and_a_wider_one_for_groups(rows):
    four = [np.repeat(values, 4) for values in rows]
    by_group = shuffled_aurocs(*four, 500, seed=1)
    by_row = shuffled_aurocs(four[0], four[1], np.arange(240), 500, seed=1)
    assert by_group.mean() == pytest.approx(0.5, abs=0.02)
    assert by_group.std() / by_row.std() == pytest.approx(2, abs=0.4)
