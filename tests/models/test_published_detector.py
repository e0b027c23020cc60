"""The published adapter: what lies in its folder, what it was trained on, and that its figures are told alike."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

REPOSITORY = Path(__file__).resolve().parents[2]
ADAPTER = REPOSITORY / "models" / "smollm2-guard"


def test_the_folder_is_small_and_holds_no_more_than_an_adapter():
    assert sorted(path.name for path in ADAPTER.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "scoring.json",
        "training.json",
    ]
    assert sum(path.stat().st_size for path in ADAPTER.iterdir()) < 12e6


def test_the_adapter_reaches_every_linear_layer_of_smollm2():
    weights = load_file(ADAPTER / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert sum("lora_B" in name and bool(tensor.any()) for name, tensor in weights.items()) == 30 * 7
    ranks = {tensor.shape[0] for name, tensor in weights.items() if "lora_A" in name}
    assert ranks == {json.loads((ADAPTER / "adapter_config.json").read_text())["r"]}


def test_it_was_trained_on_the_data_sets_of_this_repository():
    sys.path.insert(0, str(REPOSITORY / "training_pipeline"))
    from training.splits import read_splits, rows_fingerprint

    rows = read_splits([REPOSITORY / "datasets" / name for name in ("v3", "v4", "v5")], False, seed=1)
    assert json.loads((ADAPTER / "training.json").read_text())["run"]["dataset"] == rows_fingerprint(rows)


def test_its_thresholds_were_fitted_and_its_words_are_what_smollm2_answers_with():
    scoring = json.loads((ADAPTER / "scoring.json").read_text())
    assert scoring["label_words"] == {"offensive": "uns", "ok": "safe"}
    assert 0 < scoring["threshold"] < 1 and scoring["fitted_on"] and scoring["temperature"] > 0


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_pages_quote_the_figures_of_the_card(page):
    card = figures_of(ADAPTER / "README.md")
    assert len(card) == 5 and figures_of(REPOSITORY / page) == card


def figures_of(page: Path) -> set[tuple[str, str]]:
    """(texts, AUROC) of a page's tables."""
    row = r"^\| (?:`datasets/)?(v3|v4|v5|crosscheck|HateCheck).*?\*\*(0\.\d{3})\*\*"
    return set(re.findall(row, page.read_text(encoding="utf-8"), re.M))
