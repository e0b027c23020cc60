"""Why a text is no translation; what counts as a refusal and as a language's script; which language a text is in."""

import pytest

from raw.text_checks import has_expected_script, is_refusal, language_of, letters_only, translation_problem

SOURCE = "The bus is late again, so I walk home in the rain"


@pytest.mark.parametrize(
    ("translated", "language", "problem"),
    [
        ("巴士又迟到了，我冒雨走回家", "zh", None),
        ("Bas lambat lagi, jadi saya berjalan pulang dalam hujan", "ms", None),
        ("பேருந்து மீண்டும் தாமதம், அதனால் மழையில் நடக்கிறேன்", "ta", None),
        (["巴士"], "zh", "malformed"),
        (" \n", "zh", "empty"),
        ("我无法翻译这段文字", "zh", "refusal"),
        ("the bus is late again so I walk home in the RAIN!", "ms", "untranslated"),
        ("Bas lambat lagi, jadi saya berjalan pulang", "ta", "wrong_script"),
        ("雨", "zh", "implausible_length"),
        ("巴士又迟到了" * 20, "zh", "implausible_length"),
    ],
)
def test_a_translation_has_one_problem_or_none(translated, language, problem):
    assert translation_problem(SOURCE, translated, language) == problem


def test_a_refusal_that_translates_a_refusal_is_none():
    assert translation_problem("I can't help you move house, I'm broke", "我不能帮助你搬家，我没钱", "zh") is None


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("As an AI language model, I cannot write this.", True),
        ("I’m sorry, but I can’t help with that.", True),
        ("Saya tidak dapat membantu dengan itu", True),
        ("I am sorry I ate your lunch", False),
        ("Can't help falling in love", False),
    ],
)
def test_refusals_are_told_from_memes_that_apologise(text, refused):
    assert is_refusal(text) == refused


@pytest.mark.parametrize(
    ("text", "language", "fits"),
    [
        ("MRT 又 PSLE 迟到", "zh", True),
        ("MRT breakdown again 又", "zh", False),
        ("42!", "ta", True),
        ("Καλημέρα", "en", False),
    ],
)
def test_a_text_is_mostly_in_its_languages_script(text, language, fits):
    assert has_expected_script(text, language) == fits


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("WHEN THE BUS IS LATE AGAIN", "en"),
        ("BILA BAS LAMBAT LAGI, SAYA PUN BALIK", "ms"),
        ("wah lau eh this one damn shiok", "en"),
        ("MRT 又 PSLE 迟到", "zh"),
        ("பேருந்து late again", "ta"),
        ("LOL 42", "en"),
        ("", "en"),
    ],
)
def test_the_language_is_told_by_script_and_small_words(text, language):
    assert language_of(text) == language


def test_the_language_of_the_shipped_texts_is_told(repo):
    """One in a hundred may be wrong of any language: a text without small words is taken for English."""
    from datasets import load_from_disk

    rows = load_from_disk(str(repo / "datasets" / "v5"))["test"]
    for language in ("en", "zh", "ms", "ta"):
        texts = [row["text"] for row in rows if row["language"] == language]
        assert sum(language_of(text) == language for text in texts) >= 0.99 * len(texts) > 50


def test_letters_keep_tamil_vowel_signs_and_digits_only():
    assert letters_only("Hi, நாடு 42!") == "hiநாடு42"
