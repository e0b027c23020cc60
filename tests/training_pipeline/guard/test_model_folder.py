"""A model's folder: any tensor changes its fingerprint, and scoring.json is read and checked in one place."""

import json

import pytest
import torch
from safetensors.torch import save_file

from guard.model_folder import check_model_folder, read_scoring, weights_fingerprint

SCORING = {
    "label_words": {"offensive": "unsafe", "ok": "safe"},
    "views": {"text": "{text}"},
    "threshold": 0.5,
    "temperature": 1.0,
    "max_text_tokens": 128,
}


@pytest.mark.parametrize("changed", ["first", "middle", "last"])
def test_a_change_in_any_tensor_changes_the_fingerprint(changed, tmp_path):
    torch.manual_seed(1)
    weights = {name: torch.randn(300, 1000) for name in ("first", "middle", "last")}
    save_file(weights, tmp_path / "model.safetensors")
    before = weights_fingerprint(tmp_path)
    assert weights_fingerprint(tmp_path) == before
    save_file({**weights, changed: weights[changed] * 1.01}, tmp_path / "model.safetensors")
    assert weights_fingerprint(tmp_path) != before


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="lacks config.json"):
        check_model_folder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SystemExit, match="lacks model.safetensors"):
        check_model_folder(tmp_path)


def test_scoring_is_read_with_all_that_was_fitted_and_an_old_one_gets_the_old_limit(tmp_path):
    assert read_scoring(tmp_path) is None
    for content, limit in ((SCORING | {"fitted_on": {"rows": 9}}, 128), ({**SCORING, "max_text_tokens": None}, 256)):
        kept = {name: value for name, value in content.items() if value is not None}
        (tmp_path / "scoring.json").write_text(json.dumps(kept))
        assert read_scoring(tmp_path) == {**content, "max_text_tokens": limit}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        (json.dumps({"label_words": {}, "views": {}}), "lacks threshold, temperature"),
        (json.dumps(SCORING | {"label_words": {"offensive": "bad"}}), "words for offensive and ok"),
        (json.dumps(SCORING | {"max_text_tokens": 0}), "max_text_tokens must be a whole number of tokens, not 0"),
        (json.dumps(SCORING | {"max_text_tokens": "256"}), "not '256'"),
    ],
)
def test_a_broken_scoring_is_named_with_the_remedy(content, words, tmp_path):
    (tmp_path / "scoring.json").write_text(content)
    with pytest.raises(ValueError) as refused:
        read_scoring(tmp_path)
    assert words in str(refused.value) and "attach_policy.py" in str(refused.value)
