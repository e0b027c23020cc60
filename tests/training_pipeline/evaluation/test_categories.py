"""The figures on categories, against scikit-learn's and by hand."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from evaluation.categories import baseline_chances, category_report, likeliest

NAMES = ["race", "gender", "age"]


def meme(target, label=1, language="en", group=None, text="text"):
    return {
        "target": target,
        "label": label,
        "language": language,
        "group": group or f"{target}-{language}",
        "text": text,
    }


def chances(*given):
    return dict(zip(NAMES, given, strict=True))


ROWS = [
    meme("race"),
    meme("race", language="ms"),
    meme("gender"),
    meme("age", language="ms"),
    meme("age", label=0),  # harmless: nobody is attacked
    meme("Singlish"),  # no category
]
GIVEN = [
    chances(0.7, 0.2, 0.1),
    chances(0.4, 0.5, 0.1),
    chances(0.3, 0.6, 0.1),
    chances(0.5, 0.4, 0.1),
    chances(0.0, 0.0, 1.0),
    chances(0.0, 0.0, 1.0),
]


def test_only_offensive_rows_of_a_known_category_count():
    report = category_report(ROWS, GIVEN, None, 200, 1)
    assert report["rows"] == 4
    assert report["top_1"] == 0.5 and report["top_2"] == 0.75
    assert report["confusion"]["race"] == {"race": 1, "gender": 1, "age": 0}
    assert report["by_category"]["race"] == {"rows": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert report["by_language"]["ms"] == {"rows": 2, "top_1": 0.0, "top_2": 0.5, "macro_f1": 0.0}
    assert report["tfidf_baseline"] is None
    true, predicted = ["race", "race", "gender", "age"], likeliest(GIVEN[:4])
    assert report["macro_f1"] == pytest.approx(f1_score(true, predicted, average="macro"))


def test_intervals_hold_the_figure_and_draw_whole_groups():
    random = np.random.default_rng(1)
    rows = [meme(NAMES[number % 3], group=str(number // 4)) for number in range(120)]
    given = [chances(*random.dirichlet(np.eye(3)[number % 3] + 0.7)) for number in range(120)]
    report = category_report(rows, given, None, 400, 1)
    for name in ("top_1", "macro_f1"):
        low, high = report[f"{name}_interval"]
        assert low < report[name] < high and high - low < 0.3
    one_group = category_report([{**row, "group": "all"} for row in rows], given, None, 50, 1)
    assert one_group["top_1_interval"] == pytest.approx([report["top_1"]] * 2)


@pytest.mark.parametrize(("rows", "given"), [(ROWS, [{}] * len(ROWS)), ([meme("age", label=0)], GIVEN[:1]), ([], [])])
def test_nothing_is_reported_where_nothing_is_known(rows, given):
    assert category_report(rows, given, None, 50, 1) is None


def test_the_baseline_learns_categories_from_words():
    words = {"race": "those foreigners", "gender": "all the women", "age": "every old man"}
    train = [meme(name, text=f"{text} {number}") for name, text in words.items() for number in range(8)]
    rows = [meme(name, text=text) for name, text in words.items()]
    assert likeliest(baseline_chances(train, rows)) == NAMES
    report = category_report(rows, [chances(0.5, 0.3, 0.2)] * 3, train, 50, 1)
    assert report["tfidf_baseline"]["top_1"] == 1.0 and report["top_1"] == pytest.approx(1 / 3)
