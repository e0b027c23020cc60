"""The card of an adapter says what was measured, and nothing else."""

import json
import subprocess
import sys


def report(auroc, **more):
    return {
        "auroc": auroc,
        "auroc_interval": [auroc - 0.05, auroc + 0.05],
        "tfidf_auroc": 0.61,
        "rows": 1234,
        "threshold": 0.42,
        "by_language": {},
        "tfidf_baseline": {"by_language": {}},
        "by_category": {},
        **more,
    }


def test_every_figure_of_the_card_is_an_evaluations(repo, tmp_path):
    languages = {"en": {"auroc": 0.91}, "ta": {"auroc": 0.63}}
    found = {
        "v3": report(
            0.876, by_language=languages, tfidf_baseline={"by_language": {"en": 0.95, "zh": 0.7, "ms": 0.7, "ta": 0.55}}
        ),
        "v3-4bit": report(0.8712),
        "hatecheck": report(
            0.7812,
            categories={
                "rows": 600,
                "top_1": 0.71,
                "top_1_interval": [0.68, 0.74],
                "top_2": 0.83,
                "macro_f1": 0.65,
                "by_category": {"gender": {"rows": 200, "recall": 0.5}, "age": {"rows": 0, "recall": 0.0}},
                "by_language": {},
                "tfidf_baseline": None,
            },
            by_category={"counter_ref_nh": {"rows": 141, "accuracy": 0.25}, "derog": {"rows": 140, "accuracy": 0.9}},
        ),
    }
    for name, content in found.items():
        (tmp_path / "evaluation" / name).mkdir(parents=True)
        (tmp_path / "evaluation" / name / "evaluation.json").write_text(json.dumps(content))
    run = {
        "max_steps": 12,
        "batch_size": 8,
        "gradient_accumulation": 4,
        "lora_r": 16,
        "learning_rate": 0.001,
        "seed": 1,
        "dataset": "d1",
        "base_weights": "b1",
    }
    training = {"run": run, "processes": 2, "versions": {"torch": "2.13.0"}}
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "training.json").write_text(json.dumps(training))
    subprocess.run(
        [sys.executable, repo / "models/write_card.py", tmp_path / "evaluation", tmp_path / "adapter"], check=True
    )
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "| 1,234 | **0.876** (0.826 to 0.926) | 0.610 | 0.871 |" in card
    assert "Tamil: below TF-IDF" not in card and "English, Singlish: below TF-IDF on v3." in card
    assert "| Tamil | 0.630 (0.550) |" in card and "| Malay |  |" in card
    assert card.index("| `counter_ref_nh` | 141 | 25% |") < card.index("| `derog` | 140 | 90% |"), "the worst first"
    assert "| HateCheck | 600 | 0.710 (0.680 to 0.740) |  | 0.830 | 0.650 |" in card
    assert "| gender | 50% of 200 |" in card and "| age |" not in card
    assert "crosscheck" not in card, "what was not measured is not in the table"
    assert "12 steps of 64 memes" in card and "fingerprint of the rows d1, of the base's weights b1" in card
