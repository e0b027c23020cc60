"""Recall and precision of near-duplicate search on planted pairs, crowds of variants, and groups."""

import random

import numpy
import pytest

from cleaning.near_duplicates import Groups, repeats_of, shingles, signatures, similar_pairs

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def sentences(count, seed):
    chance = random.Random(seed)
    words = ["".join(chance.choices(LETTERS, k=chance.randint(2, 9))) for _ in range(5_000)]
    return [" ".join(chance.choices(words, k=chance.randint(10, 24))) for _ in range(count)]


def jaccard(one, other):
    first, second = set(shingles(one, "en")), set(shingles(other, "en"))
    return len(first & second) / len(first | second)


def test_planted_pairs_are_found_and_strangers_are_not():
    chance, texts = random.Random(5), sentences(1_500, seed=5)
    planted = {}
    for number in range(500):
        text = texts[number]
        for _ in range(chance.choice((1, 1, 4))):
            place = chance.randrange(len(text))
            text = text[:place] + chance.choice(LETTERS) + text[place + 1 :]
        planted[len(texts)] = number
        texts.append(text)
    like = repeats_of(signatures(texts, len(texts), "en"), 0, 0.8)
    near = {later for later, first in planted.items() if jaccard(texts[later], texts[first]) >= 0.85}
    far = {later for later, first in planted.items() if jaccard(texts[later], texts[first]) < 0.65}
    assert len(near) > 200 and len(near & set(like)) >= 0.95 * len(near)
    assert len(far) > 20 and not far & set(like) and set(like) <= set(planted)
    assert all(planted[later] == first for later, first in like.items())


def test_among_what_stays_of_a_crowd_nobody_repeats_anybody():
    chance, base = random.Random(2), sentences(1, seed=2)[0].split()
    crowd = []
    for _ in range(200):
        words = list(base)
        for _ in range(3):
            words[chance.randrange(len(words))] = chance.choice(("sun", "moon", "star"))
        crowd.append(" ".join(words))
    hashes = signatures(crowd, len(crowd), "en")
    like = repeats_of(hashes, 0, 0.8)
    kept = numpy.array([row for row in range(200) if row not in like])
    assert 1 < len(kept) < 200 and not set(like.values()) & set(like)
    similar = (hashes[kept][:, None] == hashes[kept][None]).mean(axis=2) - numpy.eye(len(kept))
    assert similar.max() < 0.8


def test_held_out_texts_stay_and_are_named_before_others():
    texts = [
        "the bus is late again today my friend",
        "The bus is late again, today, my friend!",
        "the bus is late again today my friend.",
    ]
    assert repeats_of(signatures(texts, 3, "en"), 2, 0.8) == {2: 0}
    assert repeats_of(signatures(texts, 3, "en"), 0, 0.8) == {1: 0, 2: 0}


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("zh", "今天我们一起去吃鸡饭然后回家看书学习", "今天我们一起去吃鸡饭，然后回家看书学习！"),
        ("ta", "எங்கள் அரட்டைக் குழுவின் தாய்மார்கள் இன்று வந்தார்கள்", "எங்கள், அரட்டைக் குழுவின் தாய்மார்கள் இன்று வந்தார்கள்"),
    ],
)
def test_other_scripts(language, one, other):
    assert repeats_of(signatures([one, other], 2, language), 0, 0.8) == {1: 0}


def test_no_texts_and_no_pairs():
    hashes = signatures([], 0, "en")
    assert repeats_of(hashes, 0, 0.8) == {} and similar_pairs(hashes, numpy.arange(0), 0.5).shape == (0, 2)


def test_groups_are_named_by_their_first_member_whatever_the_order():
    for pairs in ([("c", "b"), ("b", "a")], [("a", "b"), ("c", "a")]):
        groups = Groups()
        for pair in pairs:
            groups.tie(*pair)
        assert [groups.root(name) for name in "abcd"] == ["a", "a", "a", "d"]
