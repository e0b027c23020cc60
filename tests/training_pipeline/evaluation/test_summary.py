"""What the summary says, and what it leaves out where there is nothing to say."""

from evaluation.summary import summary_lines

LEAST = {
    "split": "test",
    "model": "models/guard",
    "auroc": 0.8,
    "average_precision": 0.81,
    "accuracy": 0.72,
    "f1": 0.73,
    "log_loss": 0.54,
    "brier": 0.15,
    "expected_calibration_error": 0.16,
    "auroc_interval": [0.7, 0.9],
    "groups": 5,
    "rows": 10,
    "shuffled_control": {"auroc_interval": [0.4, 0.6], "p_value": 0.01},
    "by_language": {"en": {"auroc": 0.9, "rows": 8}, "ta": {"auroc": None, "rows": 2}},
    "tfidf_baseline": None,
    "categories": None,
    "fitted_on_these_rows": False,
}


def test_without_baseline_categories_and_fit_only_the_scores_are_told():
    assert summary_lines(LEAST) == [
        "test: AUROC 0.8000 (95 % 0.7000 to 0.9000, 5 groups, 10 rows); no TF-IDF baseline without "
        "BASELINE_DATASET_DIR",
        "  average precision 0.8100, accuracy 0.7200, F1 0.7300, log-loss 0.5400, Brier 0.1500, "
        "calibration error 0.1600",
        "  against shuffled labels: AUROC 95 % 0.4000 to 0.6000, p 0.0100",
        "  en: AUROC 0.9000 (8 rows)",  # a language of one label has none
    ]


def test_baseline_categories_and_what_was_fitted_are_told():
    lines = summary_lines(
        {
            **LEAST,
            "tfidf_baseline": {"auroc": 0.6, "shuffled": {"auroc_mean": 0.51}},
            "categories": {
                "rows": 4,
                "top_1": 0.5,
                "top_1_interval": [0.2, 0.8],
                "top_2": 0.75,
                "macro_f1": 0.4,
                "tfidf_baseline": None,
            },
            "fitted_on_these_rows": True,
            "temperature": 2.0,
            "at_thresholds": {"balanced": {"threshold": 0.4, "precision": 0.7, "recall": 0.6}},
        }
    )
    assert lines[0].endswith("TF-IDF baseline 0.6000 (on shuffled labels 0.5100)")
    assert lines[-2:] == [
        "  category of 4 offensive rows: right 0.5000 (95 % 0.2000 to 0.8000), among the two likeliest 0.7500, "
        "macro-F1 0.4000",
        "  wrote into models/guard/scoring.json: temperature 2.0000; thresholds balanced 0.4000 (precision 0.70, "
        "recall 0.60)",
    ]
