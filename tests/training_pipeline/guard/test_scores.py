"""The label rule, and what a meme's probability is made of."""

import numpy as np
import pytest

from guard.scores import UNSCORED, meme_probabilities, predicted_labels, printed_probabilities


def test_the_printed_probability_decides():
    """Half-way, numpy and printing round to different sides: the label must be that of the printed number."""
    halves = np.array([0.40005, 0.40035, 0.40065, 0.40075])
    assert (np.round(halves, 4) != printed_probabilities(halves)).all()
    for half in halves:
        printed = float(f"{half:.4f}")
        assert predicted_labels(np.array([half]), printed).tolist() == [1]
        assert predicted_labels(np.array([half]), printed + 5e-5).tolist() == [0]
    assert predicted_labels(np.array([0.49994, 0.49996, 0.5]), 0.5).tolist() == [0, 1, 1]


def test_the_temperature_is_applied_before_the_mean_over_views():
    margins = [np.array([4.0, 0.0], dtype=np.float32), np.array([], dtype=np.float32)]
    assert meme_probabilities(margins, 2.0) == pytest.approx([(1 / (1 + np.exp(-2)) + 0.5) / 2, UNSCORED])
