"""The figures of an evaluation, against hand-worked cases and scikit-learn."""

import numpy as np
import pytest

from evaluation.metrics import (
    bounded_log_loss,
    calibration_metrics,
    classification_metrics,
    evaluation_report,
    metrics_by,
)


def test_the_calibration_error_of_a_hand_worked_case():
    """Bin 0.2-0.3: two rows at 0.25, one harmful (off by 0.25); bin 0.9-1.0: two at 0.95, both harmful (0.05)."""
    found = calibration_metrics(np.array([0, 1, 1, 1]), np.array([0.25, 0.25, 0.95, 0.95]))
    assert found["expected_calibration_error"] == pytest.approx((2 * 0.25 + 2 * 0.05) / 4)
    assert found["brier"] == pytest.approx((0.25**2 + 0.75**2 + 2 * 0.05**2) / 4)
    assert found["log_loss"] == pytest.approx(-np.mean(np.log([0.75, 0.25, 0.95, 0.95])))


def test_a_perfectly_sure_and_right_model_has_no_calibration_error():
    assert calibration_metrics(np.array([0, 1]), np.array([0.0, 1.0]))["expected_calibration_error"] == 0


def test_being_sure_and_wrong_costs_what_four_decimals_can_tell():
    assert bounded_log_loss(np.array([1, 0]), np.array([0.0, 1.0])) == pytest.approx(-np.log(5e-5))
    assert bounded_log_loss(np.array([1, 0]), np.array([0.3, 0.3])) == pytest.approx(-np.log([0.3, 0.7]).mean())


def test_one_label_has_no_auroc_and_no_crash():
    found = classification_metrics(np.array([1, 1]), np.array([0.2, 0.9]), 0.5)
    assert found["auroc"] is None and found["average_precision"] is None
    assert (found["accuracy"], found["recall"], found["precision"]) == (0.5, 0.5, 1.0)


def test_a_category_of_one_label_is_ranked_against_the_other_label():
    rows = [{"category": name} for name in ("threats", "threats", "praise", "mixed", "mixed")]
    labels, scores = np.array([1, 1, 0, 0, 1]), np.array([0.9, 0.3, 0.1, 0.5, 0.6])
    found = metrics_by("category", rows, labels, scores, 0.5, lambda chosen: int(chosen.sum()))
    assert found["threats"]["auroc"] is None
    assert found["threats"]["auroc_against_other_label"] == 3 / 4  # 0.3 lies below 0.5 alone
    assert found["mixed"]["auroc"] == 1.0 and found["mixed"]["auroc_interval"] == 2


def test_a_column_that_is_not_there_gives_no_parts():
    rows = [{"label": n % 2, "group": n, "language": None, "category": "a" if n else None} for n in range(8)]
    views = [{"text": n / 8} for n in range(8)]
    report = evaluation_report(rows, views, np.arange(8) / 8, 0.5, samples=100, seed=1)
    assert report["by_language"] == {} and set(report["by_category"]) == {"a", "unknown"}
    assert report["by_view"].keys() == {"text"} and report["by_view"]["text"]["rows"] == 8


def test_luck_and_skill_are_told_apart():
    random = np.random.default_rng(1)
    rows = [{"label": n % 2, "group": n, "language": None, "category": None} for n in range(100)]
    labels = np.array([row["label"] for row in rows])
    for scores, skilled in ((0.3 * labels + 0.7 * random.random(100), True), (random.random(100), False)):
        control = evaluation_report(rows, [{}] * 100, scores, 0.5, samples=200, seed=1)["shuffled_control"]
        assert (control["p_value"] < 0.01) == skilled
        assert control["auroc_interval"][0] < 0.5 < control["auroc_interval"][1]
