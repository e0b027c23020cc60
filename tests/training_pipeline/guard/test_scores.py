"""The label rule, and what a meme's probability is made of."""

import numpy as np
import pytest

from guard.model_folder import load_guard_model
from guard.scores import (
    UNSCORED,
    cut_to_budget,
    meme_probabilities,
    predicted_labels,
    printed_probabilities,
    view_answers,
    view_margins,
)
from guard.template import encode_memes, load_guard_prompt


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


@pytest.mark.parametrize("tokens_a_row", [1, 5, 9, 1000])
def test_rows_hold_every_view_once_within_the_budget(tokens_a_row):
    suffixes = [[0] * length for length in (4, 1, 9, 3, 2, 2)]
    order = [1, 4, 5, 3, 0, 2]
    rows = list(cut_to_budget(order, suffixes, tokens_a_row))
    assert [index for row in rows for index in row] == order
    used = [sum(len(suffixes[index]) for index in row) for row in rows]
    assert all(total <= tokens_a_row or len(row) == 1 for total, row in zip(used, rows, strict=True))
    # No two neighbours would have fitted into one row.
    assert all(before + len(suffixes[row[0]]) > tokens_a_row for before, row in zip(used, rows[1:], strict=False))


def test_margins_stay_with_their_memes_whatever_the_length_of_their_views(base_dir):
    """Views are scored in the order of their lengths; each meme gets its own back, however it was packed."""
    prompt, _ = load_guard_prompt(base_dir)
    rows = [
        {"text": "word " * count, "image": "a cat" if count % 2 else None, "label": 0} for count in (30, 1, 12, 3, 7)
    ]
    memes = encode_memes(prompt, rows)
    model = load_guard_model(base_dir, "float32")
    together = view_margins(model, prompt, memes)
    assert [len(margins) for margins in together] == [len(meme.suffixes) for meme in memes]
    for meme, margins in zip(memes, together, strict=True):
        (alone,) = view_margins(model, prompt, [meme])
        np.testing.assert_allclose(margins, alone, atol=1e-4)
    assert np.ptp(np.concatenate(together)) > 1e-3, "else any order would do"


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "a row a view"])
def test_a_category_is_what_the_model_says_behind_the_harmful_label(base_dir, packed, monkeypatch):
    """Against the whole row, tokenised and run by itself; and the verdict is the same as without categories."""
    import torch

    monkeypatch.setattr("guard.scores.is_packable", lambda *_: packed)
    prompt, scoring = load_guard_prompt(base_dir)
    model = load_guard_model(base_dir, "float32")
    memes = encode_memes(prompt, [{"text": text, "image": "a cat", "label": 1} for text in ("word", "word " * 9)])
    found, plain = view_answers(model, prompt, memes), view_margins(model, prompt, memes)
    for meme, answers, margins in zip(memes, found, plain, strict=True):
        np.testing.assert_allclose(answers.margins, margins, atol=1e-4)
        assert answers.categories.shape == (2, len(scoring["categories"]))
        for suffix, chances in zip(meme.suffixes, answers.categories, strict=True):
            row = torch.tensor([[*prompt.prefix_ids, *suffix, prompt.label_token_ids[1]]])
            with torch.no_grad():
                logits = model(row).logits[0, -1, list(prompt.category_token_ids.values())]
            np.testing.assert_allclose(chances, logits.softmax(-1).numpy(), atol=1e-5)
    assert np.ptp(np.concatenate([answers.categories for answers in found])) > 1e-4, "else all would be alike"
