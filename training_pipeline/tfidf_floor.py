"""The floor: TF-IDF character n-grams plus logistic regression, which no language model should fall below."""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from group_resampling import shuffle_by_group


def tfidf_floor(splits: dict, split: str) -> float:
    """AUROC on `split` of a floor trained on splits["train"] (lists of rows with `text` and `label`)."""
    measured = splits[split]
    return float(roc_auc_score([row["label"] for row in measured], TfidfFloor(splits["train"]).scores(measured)))


class TfidfFloor:
    """Features of train rows (mappings with `text`, `label` 0 or 1, perhaps `group`), on which floors are fitted."""

    def __init__(self, rows: list[dict]):
        self.vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
        self.features = self.vectorizer.fit_transform([row["text"] for row in rows])
        self.labels = np.array([row["label"] for row in rows])
        self.groups = np.array([row.get("group") or f"row {number}" for number, row in enumerate(rows)])

    def scores(self, rows: list[dict], labels: np.ndarray | None = None) -> np.ndarray:
        """Probability of label 1 of each row, shape [rows], by a floor fitted to `labels` (None: the true ones)."""
        model = LogisticRegression(max_iter=1000, class_weight="balanced")
        model.fit(self.features, self.labels if labels is None else labels)
        return model.predict_proba(self.vectorizer.transform([row["text"] for row in rows]))[:, 1]

    def shuffled_scores(self, rows: list[dict], seed: int) -> np.ndarray:
        """The control: scores by a floor fitted to labels that are shuffled among the groups; its AUROC is chance's."""
        return self.scores(rows, shuffle_by_group(self.labels, self.groups, np.random.default_rng(seed)))
