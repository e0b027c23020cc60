"""Which pictures are worth a review first, and the keys of a review."""

import pytest

from report.review import category_keys, review_queue, run_id
from report.rows import Row, RunEvidence


def row(probability, text=None, image_text=None, read="words"):
    views = {"probability_text": text, "probability_image_text": image_text}
    evidence = RunEvidence(path="p", text=read, probability=probability, **views)
    return Row("p", "p", probability, evidence=evidence)


def test_the_queue_takes_by_turns_the_least_certain_and_those_whose_views_disagree():
    rows = [
        row(0.9, 0.9, 0.9),
        row(0.52, 0.53, 0.51),
        row(0.55, 0.99, 0.11),  # disagrees most
        row(0.3, 0.29, 0.31),
        row(0.7, 0.95, 0.45),  # disagrees
        row(0.2),
    ]
    assert review_queue(rows, 0.5) == [1, 2, 4, 3, 5, 0]
    # Another threshold, other doubts: nothing lies on both sides of 0.1.
    assert review_queue(rows, 0.1) == [5, 3, 1, 2, 4, 0]


def test_what_nobody_could_read_is_last_however_uncertain():
    rows = [row(0.5, read=""), row(0.99), Row("p", "p", 0.6)]
    assert review_queue(rows, 0.5) == [2, 1, 0]


@pytest.mark.parametrize(
    ("categories", "keys"),
    [
        (
            "race religion nationality orientation gender age class health other",
            {"race": "r", "religion": "e", "nationality": "n", "orientation": "o", "gender": "g", "age": "a"},
        ),
        ("blood bb", {"blood": "l", "bb": "a"}),  # b shows a picture
        ("a aa aaa", {"a": "a", "aa": "c", "aaa": "d"}),
    ],
)
def test_every_category_has_a_key_of_its_own(categories, keys):
    found = category_keys(categories.split())
    assert found.items() >= keys.items()
    assert len(set(found.values())) == len(found) == len(categories.split())


def test_more_categories_than_letters_have_buttons_alone():
    found = category_keys([f"kind {number}" for number in range(40)])
    assert list(found.values())[-1] == "" and len(set(found.values())) == 26


def test_a_run_is_told_from_another_by_what_it_scored_and_not_by_its_labels():
    labelled = row(0.9)
    labelled.gold = 1
    assert run_id([row(0.9)]) == run_id([labelled]) != run_id([row(0.9, read="other words")])
    assert run_id([Row("caf\udce9", "caf", 0.5)])
