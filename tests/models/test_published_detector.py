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
both = pytest.mark.parametrize(
    "adapter", [ADAPTER, ADAPTER.with_name("smollm2-guard-latin")], ids=lambda path: path.name
)


@both
def test_the_folder_is_small_and_holds_no_more_than_an_adapter(adapter):
    assert sorted(path.name for path in adapter.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "scoring.json",
        "training.json",
    ]
    assert sum(path.stat().st_size for path in adapter.iterdir()) < 12e6


@both
def test_the_adapter_reaches_every_linear_layer_of_smollm2(adapter):
    weights = load_file(adapter / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert sum("lora_B" in name and bool(tensor.any()) for name, tensor in weights.items()) == 30 * 7
    ranks = {tensor.shape[0] for name, tensor in weights.items() if "lora_A" in name}
    assert ranks == {json.loads((adapter / "adapter_config.json").read_text())["r"]}


@both
def test_it_was_trained_on_the_data_sets_of_this_repository(adapter):
    sys.path.insert(0, str(REPOSITORY / "training_pipeline"))
    from training.splits import read_splits, rows_fingerprint

    rows = read_splits([REPOSITORY / "datasets" / name for name in ("v3", "v4", "v5")], False, seed=1)
    assert json.loads((adapter / "training.json").read_text())["run"]["dataset"] == rows_fingerprint(rows)


@both
def test_its_thresholds_were_fitted_and_its_words_are_what_smollm2_answers_with(adapter):
    scoring = json.loads((adapter / "scoring.json").read_text())
    assert scoring["label_words"] == {"offensive": "uns", "ok": "safe"}
    assert 0 < scoring["threshold"] < 1 and scoring["fitted_on"] and scoring["temperature"] > 0


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_pages_quote_the_figures_of_the_cards(page):
    published, second = (
        figures_of(folder / "README.md") for folder in (ADAPTER, ADAPTER.with_name("smollm2-guard-latin"))
    )
    assert len(published) == len(second) == 5
    assert published <= figures_of(REPOSITORY / page) <= published | second


def figures_of(page: Path) -> set[tuple[str, str]]:
    """(texts, AUROC) of a page's tables."""
    row = r"^\| (?:`datasets/)?(v3|v4|v5|crosscheck|HateCheck).*?\*\*(0\.\d{3})\*\*"
    return set(re.findall(row, page.read_text(encoding="utf-8"), re.M))
