"""The base that adapters are trained on: rounded to 4 bits or as it is, and frozen either way."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from training.frozen_base import load_frozen_base


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [4, 16])
def test_nothing_in_the_base_is_trained_and_only_4_bits_round_it(base_dir, bits, dtype):
    base = load_frozen_base(base_dir, dtype, bits)
    stored = AutoModelForCausalLM.from_pretrained(base_dir, dtype=dtype)
    assert not any(parameter.requires_grad for parameter in base.parameters())
    found, expected = (dict(model.named_parameters()) for model in (base, stored))
    assert found.keys() == expected.keys() and {weight.dtype for weight in found.values()} == {dtype}
    changed = {name for name, weight in found.items() if not torch.equal(weight, expected[name])}
    projections = {name for name in expected if "proj" in name}
    assert changed == (projections if bits == 4 else set())


def test_a_layer_of_another_shape_is_refused_in_4_bits_too(base_dir, tmp_path):
    """transformers compares the shapes of what it quantises while it loads with nothing."""
    folder = shutil.copytree(base_dir, tmp_path / "base")
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    save_file({**tensors, name: torch.zeros(64, 64)}, folder / "model.safetensors", metadata={"format": "pt"})
    for bits in (4, 16):
        with pytest.raises(
            SystemExit, match=r"1 tensor \(model.layers.1.mlp.down_proj.weight \[64, 64\] for .* of another"
        ):
            load_frozen_base(folder, torch.float32, bits)
