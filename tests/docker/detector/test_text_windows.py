"""Every word of a text has a window; a window has room; what has none is said."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.text_windows import MOST_WINDOWS, text_windows


def letters(around: int = 0):
    """A token a letter, and `around` for what stands about the text."""
    return lambda text: [0] * (around + len(text))


def test_a_text_that_has_room_is_one_window():
    assert text_windows("short", letters(), 5) == (["short"], 0.0)
    assert text_windows("", letters(3), 5) == ([""], 0.0)
    assert text_windows("", letters(9), 5) == ([""], 0.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=80), st.integers(16, 60))
def test_windows_have_room_and_overlap_until_the_end(lengths, limit):
    letters_in_order = map(chr, itertools.count(0x4E00))  # no letter comes twice, so that a window has one place
    text = " ".join("".join(itertools.islice(letters_in_order, length)) for length in lengths)
    windows, unseen = text_windows(text, letters(4), limit)
    read = 0
    for window in windows:
        assert len(window) + 4 <= limit
        begins = text.index(window)
        assert begins <= read or unseen
        read = begins + len(window)
    assert read == len(text)


def test_of_a_text_that_is_too_long_the_beginning_and_the_end_are_read():
    text = "a" * 3000 + "z" * 3000
    windows, unseen = text_windows(text, letters(), 100)
    assert unseen == pytest.approx(1 - MOST_WINDOWS * 100 / 6000)
    assert windows[0][0] == "a" and windows[-1][-1] == "z" and len(windows) <= 4 * MOST_WINDOWS


def test_without_room_beside_the_caption_the_text_is_for_the_caller_to_cut():
    assert text_windows("ten letter", letters(30), 32) == (["ten letter"], 0.8)
    assert text_windows("ten letter", letters(40), 32) == (["ten letter"], 1.0)
