"""A folder whose files or tensors are not whole is refused by name; a whole one, tied weights or not, is loaded."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from guard.whole_model import UnusableFolder, load_whole, tokenizer_faults, weight_faults

LAYER = "model.layers.1.mlp.down_proj."
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def save_model(folder, **settings):
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    MistralForCausalLM(MistralConfig(**sizes, **heads, **settings)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whole_dir(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture
def folder(whole_dir, tmp_path):
    return shutil.copytree(whole_dir, tmp_path / "model")


def load(folder):
    from transformers import AutoModelForCausalLM

    return load_whole(AutoModelForCausalLM, folder, dtype=torch.float32)


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_whole_model_has_the_tensors_of_its_file(folder):
    written = load_file(folder / "model.safetensors")
    assert all(torch.equal(tensor, written[name]) for name, tensor in load(folder).state_dict().items())


@pytest.mark.parametrize("kept", ["model.embed_tokens.weight", "lm_head.weight"])
def test_tied_weights_may_lie_there_once_under_either_name(tmp_path, kept):
    folder = save_model(tmp_path / "tied", tie_word_embeddings=True)
    change_tensors(folder, lambda tensors: tensors.update({kept: tensors.pop("model.embed_tokens.weight")}))
    model = load(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, load_file(folder / "model.safetensors")[kept])


def lose_a_layer(tensors):
    for name in [name for name in tensors if name.startswith("model.layers.1.")]:
        del tensors[name]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lose_a_layer, r"lacks 9 tensors \(model.layers.1.input_layernorm.weight, .*, ...\) of its weights"),
        (lambda tensors: tensors.pop("lm_head.weight"), r"lacks 1 tensor \(lm_head.weight\)"),
        (
            lambda tensors: tensors.update({LAYER + "weight": torch.zeros(3, 4)}),
            r"1 tensor \(model.layers.1.mlp.down_proj.weight \[3, 4\] for \[32, 64\]\) of another shape",
        ),
        (lambda tensors: tensors.update({LAYER + "qweight": torch.zeros(3, 4)}), "1 quantised tensor .*qweight"),
        (
            lambda tensors: tensors.update({LAYER + "weight_scale_inv": torch.zeros(1)}),
            "1 quantised tensor .*scale_inv",
        ),
    ],
)
def test_tensors_that_are_not_right_are_refused_by_name(folder, change, named):
    change_tensors(folder, change)
    with pytest.raises(UnusableFolder, match=named):
        load(folder)


def test_a_tensor_that_no_model_reads_is_no_fault(folder):
    """Older files hold rotary frequencies and position numbers, some a vision tower."""
    change_tensors(folder, lambda tensors: tensors.update({"vision_tower.weight": torch.zeros(3, 4)}))
    assert load(folder).num_parameters() > 0


def rename(name, target):
    return lambda folder: (folder / name).rename(folder / target)


def write_index(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"a": torch.zeros(1)}, folder / "model-00001-of-00002.safetensors")


def as_autogptq(folder):
    (folder / "quantize_config.json").write_text('{"bits": 4, "group_size": 128}')
    rename("model.safetensors", "gptq_model-4bit-128g.safetensors")(folder)


COMMAND = "MODEL_DIR={0} OUTPUT_DIR={0}-safetensors python training_pipeline/convert_weights.py"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / "config.json").unlink(), "lacks config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safetensors: download the model again"),
        (
            rename("model.safetensors", "pytorch_model.bin"),
            f"its weights are pickled, which may run any code: {COMMAND}",
        ),
        (rename("model.safetensors", "pytorch_model-00001-of-00002.bin"), COMMAND),
        (
            rename("model.safetensors", "consolidated.safetensors"),
            "consolidated.safetensors is no name of Hugging Face's",
        ),
        (as_autogptq, f"holds gptq_model-4bit-128g.safetensors, a name that AutoGPTQ gave: {COMMAND}"),
        (
            lambda folder: (folder / "quantize_config.json").write_text("{}"),
            f"no quantization_config in config.json: {COMMAND}",
        ),
        (write_index, "lacks model-00002-of-00002.safetensors, which model.safetensors.index.json names"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(LFS_POINTER),
            "model.safetensors as a Git LFS pointer",
        ),
        (lambda folder: (folder / "tokenizer.json").write_bytes(LFS_POINTER), "tokenizer.json as a Git LFS pointer"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9]),
            "holds model.safetensors that is not whole",
        ),
        (
            lambda folder: rename("config.json", "adapter_config.json")(folder),
            "merge it into its base with load_lora.py",
        ),
    ],
)
def test_files_that_are_not_whole_are_named_with_the_remedy(folder, change, named):
    assert weight_faults(folder) == []
    change(folder)
    (fault,) = weight_faults(folder)
    assert named.format(folder) in fault
    with pytest.raises(UnusableFolder):
        load(folder)


def test_a_pointer_to_what_is_not_read_is_no_fault(folder):
    """`git lfs pull --include='*.safetensors'` leaves them for the pickles."""
    for name in ("pytorch_model.bin", "consolidated.safetensors"):
        (folder / name).write_bytes(LFS_POINTER)
    assert weight_faults(folder) == []


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["tokenizer.model", "tokenizer.json"], None),
        (["vocab.json", "merges.txt"], None),
        (["tokenizer.model"], "holds tokenizer.model but no tokenizer.json: copy that file"),
        (["tekken.json"], "holds tekken.json but no tokenizer.json: copy that file"),
        ([], "lacks tokenizer.json"),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_named_with_the_remedy(tmp_path, names, named):
    for name in names:
        (tmp_path / name).write_text("{}")
    faults = tokenizer_faults(tmp_path)
    assert faults == [] if named is None else named in faults[0]
