"""How many refusals are known as such, and how many harmless texts that sound like one, in four languages.

The texts of refusal_cases.json were written for this; some of them after the patterns, which then knew 88 % of the
refusals and took no harmless text for one.
"""

import json
from pathlib import Path

import pytest

from raw.refusals import is_refusal

CASES = json.loads(Path(__file__).with_name("refusal_cases.json").read_text(encoding="utf-8"))
LANGUAGES = ("en", "zh", "ms", "ta")


def found(kind, language):
    return [text for text in CASES[kind][language] if is_refusal(text)]


def test_there_are_enough_of_both_in_each_language():
    for kind in ("refused", "harmless"):
        assert set(CASES[kind]) == set(LANGUAGES)
        assert all(len(set(texts)) == len(texts) >= 40 for texts in CASES[kind].values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_refusals_are_known(language):
    refusals = CASES["refused"][language]
    missed = set(refusals) - set(found("refused", language))
    assert len(missed) <= 0.04 * len(refusals), missed


@pytest.mark.parametrize("language", LANGUAGES)
def test_harmless_idioms_are_none(language):
    assert len(found("harmless", language)) <= 0.02 * len(CASES["harmless"][language]), found("harmless", language)


def test_typographic_apostrophes_and_capitals_change_nothing():
    for text in CASES["refused"]["en"]:
        assert is_refusal(text) == is_refusal(text.replace("'", "’")) == is_refusal(text.upper())
