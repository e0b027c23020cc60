"""What a raw item becomes: its text as a reader sees it, its split by a hash of its group."""

from collections import Counter

import pytest

from cleaning.rows import normalise, split_of


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("  a\n b\t c ", "a b c"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ('"wrapped"', "wrapped"),
        ("“「x」”", "x"),
        ('"a" and "b"', '"a" and "b"'),
        ("(laughing) eh bro", "eh bro"),
        ("eh bro *sighs loudly*", "eh bro"),
        ("fish (steamed) again", "fish (steamed) again"),
        ("𝓱𝓮𝓵𝓵𝓸 Ｗｏｒｌｄ", "hello World"),
        ("你好，世界！", "你好，世界！"),
        ("½ price…", "½ price…"),
        ("（笑）你好", "你好"),
        ("க்\u200cஷ", "க்\u200cஷ"),
        ("👩\u200d🍳 cooks", "👩\u200d🍳 cooks"),
        ("e\u0301clair", "éclair"),
        ("", ""),
        ('"', '"'),
    ],
)
def test_normalising_shows_what_a_reader_sees(raw, plain):
    assert normalise(raw) == plain and normalise(plain) == plain


def test_the_split_is_a_hash_of_the_group():
    splits = Counter(split_of(f"g{number}", 1, 0.05, 0.1) for number in range(20_000))
    assert abs(splits["test"] / 20_000 - 0.05) < 0.01 and abs(splits["validation"] / 20_000 - 0.1) < 0.01
    assert [split_of(f"g{number}", 2, 0.5, 0) for number in range(50)] != [
        split_of(f"g{number}", 1, 0.5, 0) for number in range(50)
    ]
