"""Groups that fit a model's layers, and the files of a quantised model."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, MistralConfig

from guard.quantising import fitting_group_size, round_unquantised


@pytest.mark.parametrize(
    ("width", "wanted", "group_size"),
    [
        (4096, None, 128),
        (2112, None, 64),
        (576, None, 32),
        (576, 64, 64),
        (576, 128, 64),
        (4096, 32, 32),
        (100, None, None),
    ],
)
def test_groups_suit_the_width_and_fit_the_layers_or_the_model_is_refused(width, wanted, group_size, tmp_path):
    MistralConfig(
        hidden_size=width, intermediate_size=2 * width, num_attention_heads=2, head_dim=width // 2
    ).save_pretrained(tmp_path)
    if group_size:
        assert fitting_group_size(tmp_path, wanted) == group_size
    else:
        with pytest.raises(SystemExit, match="divide by none of the groups"):
            fitting_group_size(tmp_path, wanted)


def test_all_files_of_a_sharded_model_are_rounded_and_its_index_counts_their_bytes(base_dir, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
    model.save_pretrained(tmp_path, max_shard_size="2MB")
    round_unquantised(tmp_path)
    files = sorted(tmp_path.glob("*.safetensors"))
    tensors = {name: tensor for path in files for name, tensor in load_file(path).items()}
    assert len(files) > 1 and {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    assert index["weight_map"].keys() == tensors.keys()
    read = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert read.dtype == torch.bfloat16
    assert torch.equal(read.model.norm.weight, model.model.norm.weight.to(torch.bfloat16))
