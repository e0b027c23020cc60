"""Noise as OCR makes it: of the share that is set, the same for the same seed, epoch and meme."""

import random

import pytest
from small_memes import meme_rows

from guard.template import encode_memes, load_guard_prompt
from training.noisy_memes import NoisyMemes, as_read_by_ocr, lose_words

TEXTS = {
    "en": "This queue is so long I could finish my degree here",
    "zh": "这条队伍长到我可以在这里读完大学",
    "ta": "இந்த வரிசை மிகவும் நீளமானது",
    "ms": "Barisan ini panjang sungguh",
}


@pytest.mark.parametrize("language", TEXTS)
def test_noise_changes_most_texts_and_empties_none(language):
    text = TEXTS[language]
    read = [as_read_by_ocr(text, language, random.Random(seed)) for seed in range(200)]
    assert all(reading.strip() for reading in read)
    assert 0.3 < sum(reading != text for reading in read) / 200 < 0.95
    assert read == [as_read_by_ocr(text, language, random.Random(seed)) for seed in range(200)]


def test_lost_words_are_whole_words():
    words = TEXTS["en"].split()
    kept = [lose_words(TEXTS["en"], "en", random.Random(seed)).split() for seed in range(50)]
    assert all(set(some) <= set(words) and some for some in kept) and any(len(some) < len(words) for some in kept)
    assert lose_words("one", "en", random.Random(1)) == "one"


@pytest.fixture(scope="module")
def memes(base_dir):
    prompt, _ = load_guard_prompt(base_dir)
    rows = [{**row, "target": row["category"]} for row in meme_rows(200, 5)]
    clean = encode_memes(prompt, rows)
    return lambda share, **settings: NoisyMemes(prompt, rows, clean, share, seed=3, **settings), clean


def test_no_share_is_no_noise(memes):
    make, clean = memes
    assert [make(0.0)[index] for index in range(200)] == clean


def test_noise_is_drawn_anew_each_epoch_and_is_the_same_for_a_resumed_run(memes):
    make, clean = memes
    noisy, again = make(1.0), make(1.0)
    first = [noisy[index] for index in range(200)]
    assert first == [again[index] for index in range(200)]
    noisy.epoch = 1
    assert 50 < sum(noisy[index] != meme for index, meme in enumerate(first))
    assert 50 < sum(meme != other for meme, other in zip(first, clean, strict=True))
    assert [meme.label for meme in first] == [meme.label for meme in clean]
    assert [meme.category_token for meme in first] == [meme.category_token for meme in clean]
    assert len({meme.category_token for meme in first}) == 3, "race, religion and none"


def test_one_view_is_each_of_the_views_in_turn(memes):
    make, clean = memes
    one = make(0.0, one_view=True)
    seen = {index: set() for index in range(200)}
    for one.epoch in range(20):
        for index in seen:
            (suffix,) = one[index].suffixes
            seen[index].add(tuple(suffix))
    assert seen == {index: {tuple(suffix) for suffix in meme.suffixes} for index, meme in enumerate(clean)}


def test_about_half_of_what_is_read_is_in_capitals():
    read = [as_read_by_ocr(TEXTS["en"], "en", random.Random(seed)) for seed in range(200)]
    assert 60 < sum(reading.split()[0].isupper() for reading in read) < 140
