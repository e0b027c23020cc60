"""Whom a harmful meme attacks: the categories that the model gives, against those that are known.

Measured over the offensive rows whose group attacked (`target`) is one of the model's categories, whatever the verdict:
so a category's figures do not depend on a threshold. A TF-IDF baseline learns the categories from the train split.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from evaluation.tfidf_baseline import text_vectorizer
from memes.rows import MemeRow

Chances = dict[str, float]  # P(category | offensive) by name


def category_report(
    rows: Sequence[MemeRow], given: Sequence[Chances], train: Sequence[MemeRow] | None, samples: int, seed: int
) -> dict[str, Any] | None:
    """What evaluation.json holds on categories; None where the model gives none or no row's is known.

    `given` are the model's, a row each. `macro_f1` is the mean over the categories that occur. Intervals are of 95 %,
    from `samples` draws of whole groups.
    """
    names = list(next((chances for chances in given if chances), {}))
    known = [number for number, row in enumerate(rows) if row["label"] and row["target"] in names and given[number]]
    if not known:
        return None
    measured, predicted = [rows[number] for number in known], [given[number] for number in known]
    groups = [row["group"] for row in measured]
    report: dict[str, Any] = {
        "categories": names,
        **measures(measured, predicted, names),
        **intervals(targets(measured), likeliest(predicted), groups, names, samples, seed),
        "confusion": confusion(measured, predicted, names),
        "by_category": by_category(measured, predicted, names),
        "by_language": by_language(measured, predicted, names),
        "tfidf_baseline": None,
    }
    learnt = [row for row in train or () if row["label"] and row["target"] in names]
    if len(set(targets(learnt))) > 1:
        guesses = baseline_chances(learnt, measured)
        report["tfidf_baseline"] = {
            "train_rows": len(learnt),
            **measures(measured, guesses, names),
            "by_language": by_language(measured, guesses, names),
        }
    return report


def targets(rows: Sequence[MemeRow]) -> list[str]:
    return [str(row["target"]) for row in rows]


def likeliest(given: Sequence[Chances]) -> list[str]:
    return [max(chances, key=chances.__getitem__) for chances in given]


def measures(rows: Sequence[MemeRow], given: Sequence[Chances], names: list[str]) -> dict[str, float | int]:
    """Share of rows whose category is the likeliest (top_1), or one of the two likeliest; macro-F1."""
    true, first = targets(rows), likeliest(given)
    two = [sorted(chances, key=chances.__getitem__)[-2:] for chances in given]
    return {
        "rows": len(rows),
        "top_1": float(np.mean([name == guess for name, guess in zip(true, first, strict=True)])),
        "top_2": float(np.mean([name in guesses for name, guesses in zip(true, two, strict=True)])),
        "macro_f1": float(macro_f1(confusion_matrix(true, first, labels=names)[None])[0]),
    }


def macro_f1(confusions: np.ndarray) -> np.ndarray:
    """F1 averaged over the categories that occur, shape [draws], of counts [draws, true, predicted]."""
    right = np.diagonal(confusions, axis1=1, axis2=2)
    occurring = confusions.sum(2)
    found = 2 * right / np.maximum(occurring + confusions.sum(1), 1)
    means: np.ndarray = np.where(occurring > 0, found, 0).sum(1) / np.maximum((occurring > 0).sum(1), 1)
    return means


def intervals(
    true: list[str], predicted: list[str], groups: list[str], names: list[str], samples: int, seed: int
) -> dict[str, list[float]]:
    """95 % percentile intervals of top_1 and macro_f1 over draws of whole groups (cluster bootstrap)."""
    group_names, member = np.unique(groups, return_inverse=True)
    place = {name: number for number, name in enumerate(names)}
    of_group = np.zeros((len(group_names), len(names), len(names)))
    for group, name, guess in zip(member, true, predicted, strict=True):
        of_group[group, place[name], place[guess]] += 1
    random = np.random.default_rng(seed)
    counts = random.multinomial(len(group_names), np.full(len(group_names), 1 / len(group_names)), size=samples)
    drawn = np.tensordot(counts, of_group, 1)  # [samples, true, predicted]
    top_1 = np.trace(drawn, axis1=1, axis2=2) / drawn.sum((1, 2))
    return {
        "top_1_interval": np.percentile(top_1, [2.5, 97.5]).tolist(),
        "macro_f1_interval": np.percentile(macro_f1(drawn), [2.5, 97.5]).tolist(),
    }


def confusion(rows: Sequence[MemeRow], given: Sequence[Chances], names: list[str]) -> dict[str, dict[str, int]]:
    """Counts by true category, then by predicted one."""
    table = confusion_matrix(targets(rows), likeliest(given), labels=names).tolist()
    return {true: dict(zip(names, counts, strict=True)) for true, counts in zip(names, table, strict=True)}


def by_category(rows: Sequence[MemeRow], given: Sequence[Chances], names: list[str]) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of each category, and how many rows have it."""
    found = precision_recall_fscore_support(targets(rows), likeliest(given), labels=names, zero_division=0)
    table = zip(names, *(column.tolist() for column in found), strict=True)
    return {
        name: {"rows": int(count), "precision": precision, "recall": recall, "f1": f1}
        for name, precision, recall, f1, count in table
    }


def by_language(rows: Sequence[MemeRow], given: Sequence[Chances], names: list[str]) -> dict[str, dict[str, Any]]:
    report = {}
    for language in sorted({row["language"] for row in rows if row["language"]}):
        chosen = [number for number, row in enumerate(rows) if row["language"] == language]
        report[language] = measures([rows[number] for number in chosen], [given[number] for number in chosen], names)
    return report


def baseline_chances(train: Sequence[MemeRow], rows: Sequence[MemeRow]) -> list[Chances]:
    """What character n-grams and logistic regression, fitted to the targets of `train`, give for `rows`."""
    vectorizer = text_vectorizer()
    model = LogisticRegression(max_iter=1000, class_weight="balanced")
    model.fit(vectorizer.fit_transform([row["text"] for row in train]), targets(train))
    chances = model.predict_proba(vectorizer.transform([row["text"] for row in rows]))
    return [dict(zip(model.classes_.tolist(), row.tolist(), strict=True)) for row in chances]
