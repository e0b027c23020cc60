"""The baseline learns from true labels, and nothing from labels that are shuffled by group."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from small_memes import meme_rows

from evaluation.tfidf_baseline import SHUFFLES, TfidfBaseline, baseline_report, tfidf_auroc


@pytest.fixture
def splits():
    """(train, test), every meme three times over, as its translations are: one group, one label."""
    return [
        [
            {**row, "text": f"{row['text']} {language}", "language": language}
            for row in meme_rows(80, seed)
            for language in "abc"
        ]
        for seed in (1, 2)
    ]


def test_the_baseline_learns_true_labels_and_no_shuffled_ones(splits):
    train, test = splits
    assert tfidf_auroc(train, test) > 0.99
    baseline, gold = TfidfBaseline(train), [row["label"] for row in test]
    aurocs = [roc_auc_score(gold, baseline.shuffled_scores(test, seed)) for seed in range(20)]
    assert abs(np.mean(aurocs) - 0.5) < 0.2 and min(aurocs) < 0.5 < max(aurocs)


def test_the_report_has_the_languages_the_control_and_the_texts_known_by_heart(splits):
    train, test = splits
    rows = [*test[:90], *train[:12]]
    report, scores = baseline_report(train, rows, seed=1)
    gold = [row["label"] for row in rows]
    assert report["auroc"] == roc_auc_score(gold, scores) and report["by_language"].keys() == {"a", "b", "c"}
    assert report["texts_in_train"] == 12 + sum(row["text"] in {row["text"] for row in train} for row in test[:90])
    baseline = TfidfBaseline(train)
    shuffled = [roc_auc_score(gold, baseline.shuffled_scores(rows, seed)) for seed in range(1, 1 + SHUFFLES)]
    assert report["shuffled"] == {
        "auroc_mean": pytest.approx(np.mean(shuffled)),
        "auroc_lowest": pytest.approx(min(shuffled)),
        "auroc_highest": pytest.approx(max(shuffled)),
        "shuffles": SHUFFLES,
    }
