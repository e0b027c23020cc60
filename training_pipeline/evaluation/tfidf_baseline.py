"""The baseline: TF-IDF character n-grams plus logistic regression, below which no language model should fall."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from evaluation.metrics import metrics_by
from evaluation.resampling import shuffle_by_group
from memes.rows import MemeRow

SHUFFLES = 5


def text_vectorizer() -> TfidfVectorizer:
    """Character n-grams within words, which know no language and need no tokenizer."""
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)


class TfidfBaseline:
    """Features of train rows, on which classifiers are fitted: to the rows' labels or to shuffled ones."""

    def __init__(self, rows: Sequence[MemeRow]) -> None:
        self.vectorizer = text_vectorizer()
        self.features = self.vectorizer.fit_transform([row["text"] for row in rows])
        self.labels = np.array([row["label"] for row in rows])
        self.groups = np.array([row["group"] for row in rows])

    def scores(self, rows: Sequence[MemeRow], labels: np.ndarray | None = None) -> np.ndarray:
        """Probability of label 1 of each row, shape [rows], fitted to `labels` (None: the rows' own)."""
        model = LogisticRegression(max_iter=1000, class_weight="balanced")
        model.fit(self.features, self.labels if labels is None else labels)
        return model.predict_proba(self.vectorizer.transform([row["text"] for row in rows]))[:, 1]

    def shuffled_scores(self, rows: Sequence[MemeRow], seed: int) -> np.ndarray:
        """The control: scores after fitting to labels that are shuffled among the groups; their AUROC is chance's."""
        return self.scores(rows, shuffle_by_group(self.labels, self.groups, np.random.default_rng(seed)))


def tfidf_auroc(train: Sequence[MemeRow], rows: Sequence[MemeRow]) -> float:
    """AUROC on `rows` of the baseline that learnt from `train`."""
    return float(roc_auc_score([row["label"] for row in rows], TfidfBaseline(train).scores(rows)))


def baseline_report(train: list[MemeRow], rows: list[MemeRow], seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """The baseline's AUROCs (as a whole, by language, and fitted to shuffled labels), and its scores [rows].

    `texts_in_train` counts rows whose very text is in the train split: what a model may know by heart.
    """
    labels = np.array([row["label"] for row in rows])
    baseline = TfidfBaseline(train)
    scores = baseline.scores(rows)
    shuffled = [roc_auc_score(labels, baseline.shuffled_scores(rows, seed + number)) for number in range(SHUFFLES)]
    known = {row["text"] for row in train}
    by_language = metrics_by("language", rows, labels, scores, 0.5)
    report = {
        "auroc": float(roc_auc_score(labels, scores)),
        "by_language": {language: found["auroc"] for language, found in by_language.items()},
        "train_rows": len(train),
        "texts_in_train": sum(row["text"] in known for row in rows),
        "shuffled": {
            "auroc_mean": float(np.mean(shuffled)),
            "auroc_lowest": float(min(shuffled)),
            "auroc_highest": float(max(shuffled)),
            "shuffles": len(shuffled),
        },
    }
    return report, scores
