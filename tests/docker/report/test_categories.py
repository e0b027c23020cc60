"""Rates by predicted category, and how often it is right, against scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from report.categories import category_accuracy, model_categories, predicted_categories, rates_by_predicted
from report.rows import Row, RunEvidence

NAMES = ["race", "religion", "other"]


def row(probability, predicted=None, gold=None, category=None):
    shares = {name: 0.8 if name == predicted else 0.1 for name in NAMES} if predicted else {}
    evidence = RunEvidence(probability=probability, categories=shares)
    return Row("", "", probability, gold=gold, category=category, evidence=evidence)


@pytest.fixture(scope="module")
def rows():
    """200 rows, some without a label or a category, of which `other` is never the predicted one."""
    random = np.random.default_rng(3)
    drawn = zip(random.random(200), random.integers(3, size=200), random.integers(3, size=200), strict=True)
    return [
        row(float(p), (*NAMES[:2], None)[kind], (0, 1, None)[gold], (*NAMES, "general")[number % 4])
        for number, (p, kind, gold) in enumerate(drawn)
    ]


def wilson(part, whole):
    bounds = binomtest(int(part), int(whole)).proportion_ci(method="wilson")
    return pytest.approx([bounds.low, bounds.high])


def test_rates_are_those_of_the_labelled_rows_of_each_predicted_category(rows):
    found = rates_by_predicted(rows, 0.6)
    assert list(found) == predicted_categories(rows) == ["race", "religion"] and model_categories(rows) == NAMES
    for name, part in found.items():
        kept = [one for one in rows if one.predicted == name and one.gold is not None]
        gold, flagged = np.array([one.gold for one in kept]), np.array([one.probability >= 0.6 for one in kept])
        assert part["rows"] == len(kept) and part["harmful"] == gold.sum()
        assert part["recall"] == pytest.approx(recall_score(gold, flagged))
        assert part["false_positive_rate"] == pytest.approx(1 - recall_score(gold, flagged, pos_label=0))
        assert part["recall_interval"] == wilson(flagged[gold == 1].sum(), (gold == 1).sum())
        assert part["false_positive_rate_interval"] == wilson(flagged[gold == 0].sum(), (gold == 0).sum())


def test_accuracy_is_over_the_harmful_rows_whose_labelled_category_the_model_has(rows):
    kept = [one for one in rows if one.gold == 1 and one.predicted and one.category in NAMES]
    gold, predicted = [one.category for one in kept], [one.predicted for one in kept]
    found = category_accuracy(rows)
    assert found["rows"] == len(kept) and found["accuracy"] == pytest.approx(accuracy_score(gold, predicted))
    assert found["accuracy_interval"] == wilson(found["right"], len(kept))
    assert found["commonest"] == max(map(gold.count, NAMES)) / len(kept)
    written = [list(counts.values()) for counts in found["confusion"].values()]
    assert list(found["confusion"]) == list(found["confusion"]["race"]) == NAMES
    assert written == confusion_matrix(gold, predicted, labels=NAMES).tolist()


def test_a_part_without_harmless_rows_has_no_rate_of_false_alarms():
    (part,) = rates_by_predicted([row(0.9, "race", 1)] * 5, 0.5).values()
    assert (part["recall"], part["false_positive_rate"], part["false_positive_rate_interval"]) == (1, None, None)
    assert part["recall_interval"][0] < 0.6, "five of five is no certainty"


@pytest.mark.parametrize(
    "rows_of_a_run",
    [
        [row(0.9, None, 1, "race"), Row("", "", 0.9, gold=1, category="race")],  # a model without, no evidence
        [row(0.9, "race", None, "race"), row(0.1, "race", 0, "race"), row(0.9, "race", 1, "general")],
    ],
)
def test_nothing_is_said_of_right_or_wrong_where_nothing_can_be(rows_of_a_run):
    assert category_accuracy(rows_of_a_run) is None


def test_the_first_of_equally_probable_categories_is_the_predicted_one():
    assert (
        Row("", "", 0.5, evidence=RunEvidence(probability=0.5, categories={"a": 0.2, "b": 0.4, "c": 0.4})).predicted
        == "b"
    )
