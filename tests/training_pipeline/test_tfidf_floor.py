"""The floor learns from true labels and from none that are shuffled by group."""

import numpy as np
from sklearn.metrics import roc_auc_score
from small_memes import meme_rows

from tfidf_floor import TfidfFloor, tfidf_floor


def translated_rows(count: int, seed: int) -> list[dict]:
    """Every meme three times over, as its translations are: one group, one label."""
    return [{**row, "text": f"{row['text']} {language}"} for row in meme_rows(count, seed) for language in "abc"]


def test_the_floor_learns_true_labels_and_no_shuffled_ones():
    train, test = translated_rows(80, 1), translated_rows(80, 2)
    assert tfidf_floor({"train": train, "test": test}, "test") > 0.99
    floor, gold = TfidfFloor(train), [row["label"] for row in test]
    aurocs = [roc_auc_score(gold, floor.scores(test, floor.shuffled_labels(seed))) for seed in range(20)]
    assert abs(np.mean(aurocs) - 0.5) < 0.2 and min(aurocs) < 0.5 < max(aurocs)


def test_shuffled_labels_keep_their_balance_and_every_groups_unity():
    floor = TfidfFloor(translated_rows(40, 1))
    shuffled = floor.shuffled_labels(seed=3)
    assert shuffled.sum() == floor.labels.sum() and (shuffled != floor.labels).any()
    assert all(len(set(shuffled[start:start + 3])) == 1 for start in range(0, len(shuffled), 3))
