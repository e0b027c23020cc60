"""Which name of the list an item means, and what is none of it."""

from collections import Counter

import pytest

from cleaning.categories import (
    CATEGORIES,
    OTHER_WORDS,
    distinct_names,
    listed_category,
    told_counts,
    unlisted_categories,
)

NAMES = CATEGORIES.split(",")


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("race", "race"),
        (" Religion. ", "religion"),
        ("RACIAL", "race"),
        ("Race/Ethnicity", "race"),
        ("sexual_orientation", "orientation"),
        ("Disabilities", "health"),
        ("class (income, job)", "class"),
        ("everyday", None),
        ("race and religion", None),
        ("racetrack", None),
        ("none", None),
        ("", None),
        (None, None),
        (["race"], None),
        (1, None),
    ],
)
def test_capitals_and_a_few_other_words_are_understood(said, name):
    assert listed_category(said, NAMES) == name


def test_another_list_has_its_own_names_and_only_its_own():
    names = distinct_names("Caste, migrant workers,race").split(",")
    assert names == ["caste", "migrant workers", "race"]
    assert listed_category("Migrant_Workers", names) == "migrant workers"
    assert listed_category("ethnicity", names) == "race" and listed_category("religious", names) is None


@pytest.mark.parametrize("value", ["", " , ", "race,age, Race"])
def test_a_list_names_something_and_nothing_twice(value):
    with pytest.raises(ValueError, match="one category twice"):
        distinct_names(value)


def test_every_other_word_stands_for_one_name_and_is_written_as_it_is_looked_up():
    words = [word for words in OTHER_WORDS.values() for word in words]
    assert set(OTHER_WORDS) <= set(NAMES) and len(words) == len(set(words)) and not set(words) & set(NAMES)
    assert all(listed_category(word, NAMES) == name for name, words in OTHER_WORDS.items() for word in words)


def test_what_is_off_the_list_is_counted_and_silence_is_not():
    said = ["race", "sports", "sports", "None", "", None, "N/A", ["age"]]
    items = [{"category": category} for category in said] + [{}, "no item"]
    found = unlisted_categories(items, NAMES)
    assert found == {"sports": 2, "['age']": 1}
    assert told_counts(found) == "sports 2, ['age'] 1"
    many = Counter({f"kind {number}": 1 for number in range(12)})
    assert told_counts(many).endswith("kind 9 1, and 2 more")
