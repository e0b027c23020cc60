"""The floor learns from true labels and from none that are shuffled by group."""

import numpy as np
from sklearn.metrics import roc_auc_score
from small_memes import meme_rows

from tfidf_floor import TfidfFloor, tfidf_floor


def test_the_floor_learns_true_labels_and_no_shuffled_ones():
    """Every meme three times over, as its translations are: one group, one label."""
    train, test = (
        [{**row, "text": f"{row['text']} {language}"} for row in meme_rows(80, seed) for language in "abc"]
        for seed in (1, 2)
    )
    assert tfidf_floor({"train": train, "test": test}, "test") > 0.99
    floor, gold = TfidfFloor(train), [row["label"] for row in test]
    aurocs = [roc_auc_score(gold, floor.shuffled_scores(test, seed)) for seed in range(20)]
    assert abs(np.mean(aurocs) - 0.5) < 0.2 and min(aurocs) < 0.5 < max(aurocs)
