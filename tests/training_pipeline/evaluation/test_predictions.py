"""What the answers to a meme's windows and views come to."""

from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.predictions import mean_categories, most_harmful
from guard.scores import ViewAnswers


def test_a_view_is_its_most_harmful_window_categories_included():
    windows = ViewAnswers(np.array([-1.0, 2.0, 0.5]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
    margin, chances = most_harmful(windows)
    assert margin == 2.0 and chances.tolist() == [0.2, 0.8]


def test_a_memes_categories_are_the_mean_over_its_views():
    prompt = SimpleNamespace(category_token_ids={"race": 7, "age": 9})
    views = [np.array([0.2, 0.8], dtype=np.float32), np.array([0.4, 0.6], dtype=np.float32)]
    assert mean_categories(prompt, views) == pytest.approx({"race": 0.3, "age": 0.7})
    assert mean_categories(prompt, []) == {}
