"""convert_weights.py: pickles and AutoGPTQ's folders become model folders that load whole, tensor for tensor."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from guard.whole_model import load_whole, weight_faults

SCRIPT = "training_pipeline/convert_weights.py"
GROUP = 32


def sizes(**others):
    text = {"vocab_size": 99, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
    return {**text, "num_attention_heads": 2, "num_key_value_heads": 2, **others}


@pytest.fixture(scope="module")
def chat_model():
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(1)
    return MistralForCausalLM(MistralConfig(**sizes(tie_word_embeddings=True))).half()


@pytest.fixture
def pickled_dir(chat_model, tmp_path):
    """A chat model as it was published before safetensors: tied matrices in one pickle, an optimiser beside it."""
    folder = tmp_path / "pickled"
    folder.mkdir()
    chat_model.config.save_pretrained(folder)
    torch.save(chat_model.state_dict(), folder / "pytorch_model.bin")
    torch.save({"lr": 1.0}, folder / "training_args.bin")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def convert(run_script, folder):
    return run_script(SCRIPT, {"MODEL_DIR": folder, "OUTPUT_DIR": folder.with_name("out")})


def test_a_pickled_model_loads_with_its_very_tensors_and_a_second_run_keeps_it(run_script, pickled_dir, chat_model):
    done = convert(run_script, pickled_dir)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    out = pickled_dir.with_name("out")
    names = {"config.json", "conversion.json", "model.safetensors", "tokenizer.json"}
    assert {path.name for path in out.iterdir()} == names
    assert done.stdout.decode() == f"wrote {out}: 21 tensors in model.safetensors\n"
    assert same(load_file(out / "model.safetensors"), chat_model.state_dict())
    loaded = load_whole(type(chat_model), out)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight and same(
        loaded.state_dict(), chat_model.state_dict()
    )
    again = convert(run_script, pickled_dir)
    assert again.returncode == 0 and again.stdout.startswith(b"kept ")


def test_shards_stay_shards(run_script, pickled_dir, chat_model):
    (pickled_dir / "pytorch_model.bin").unlink()
    names = sorted(chat_model.state_dict())
    shards = {"pytorch_model-00001-of-00002.bin": names[:9], "pytorch_model-00002-of-00002.bin": names[9:]}
    for shard, held in shards.items():
        torch.save({name: chat_model.state_dict()[name] for name in held}, pickled_dir / shard)
    index = {"metadata": {}, "weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (pickled_dir / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert convert(run_script, pickled_dir).returncode == 0
    out = pickled_dir.with_name("out")
    assert {path.name for path in out.glob("*.safetensors*")} == {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    }
    assert same(load_whole(type(chat_model), out).state_dict(), chat_model.state_dict())
    shutil.rmtree(out)
    (pickled_dir / "pytorch_model-00002-of-00002.bin").unlink()
    refused = convert(run_script, pickled_dir)
    assert (
        refused.returncode == 1 and b"lacks pytorch_model-00002-of-00002.bin, which its index names" in refused.stderr
    )
    assert not out.exists()


def test_a_captioner_is_converted_too(run_script, tmp_path):
    """What Salesforce/blip-image-captioning-base is on the hub: a pickle alone, written before torch's zip format."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 40, "encoder_hidden_size": 32, "max_position_embeddings": 32, "bos_token_id": 1}
    config = BlipConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16})
    model, folder = BlipForConditionalGeneration(config), tmp_path / "blip"
    folder.mkdir()
    config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (folder / "preprocessor_config.json").write_text("{}")
    assert convert(run_script, folder).returncode == 0
    loaded = load_whole(BlipForConditionalGeneration, tmp_path / "out")
    assert same(loaded.state_dict(), model.state_dict())
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert tensors.pop("vision_model.encoder.layers.0.mlp.fc1.weight").shape == (32, 32)
    save_file(tensors, tmp_path / "out" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Exception, match=r"lacks 1 tensor \(vision_model.encoder.layers.0.mlp.fc1.weight\)"):
        load_whole(BlipForConditionalGeneration, tmp_path / "out")


def test_an_adapter_keeps_its_name(run_script, tmp_path):
    folder = tmp_path / "lora"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    torch.save({"a.lora_A.weight": torch.ones(2, 3)}, folder / "adapter_model.bin")
    assert convert(run_script, folder).returncode == 0
    assert load_file(tmp_path / "out" / "adapter_model.safetensors")["a.lora_A.weight"].tolist() == [[1.0] * 3] * 2


class Evil:
    def __reduce__(self):
        return print, ("a pickle's code ran",)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-2000])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda path: path.write_bytes(pickle.dumps(Evil())),
            b"pytorch_model.bin that is cut short or more than tensors",
        ),
        (lambda path: torch.save({"a": Evil()}, path), b"pytorch_model.bin that is cut short or more than tensors"),
        (lambda path: torch.save({"a": 1}, path), b"no table of tensors by name"),
        (cut_short, b"pytorch_model.bin that is cut short"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), b"Git LFS pointer"),
        (lambda path: path.unlink(), b"holds none of pytorch_model*.bin, adapter_model.bin"),
        (lambda path: path.rename(path.with_name("model.safetensors")), b"nothing is to be converted"),
    ],
)
def test_what_is_no_file_of_tensors_is_refused_and_runs_no_code(run_script, pickled_dir, change, named):
    change(pickled_dir / "pytorch_model.bin")
    refused = convert(run_script, pickled_dir)
    assert refused.returncode == 1 and named in refused.stderr and b"Traceback" not in refused.stderr
    assert b"a pickle's code ran" not in refused.stderr + refused.stdout
    assert not pickled_dir.with_name("out").exists()


def gptq_tensors(model):
    """The model's tensors, its linear layers as random 4-bit ones in AutoGPTQ's layout."""
    tensors = {}
    for name, weight in model.state_dict().items():
        outputs, inputs = weight.shape if weight.dim() == 2 else (0, 0)
        layer = name.removesuffix("weight")
        if not name.endswith("_proj.weight"):
            tensors[name] = weight.clone()
            continue
        tensors[layer + "qweight"] = torch.randint(-(2**31), 2**31 - 1, (inputs // 8, outputs), dtype=torch.int32)
        tensors[layer + "qzeros"] = torch.full((inputs // GROUP, outputs // 8), 0x77777777, dtype=torch.int32)
        tensors[layer + "scales"] = torch.full((inputs // GROUP, outputs), 0.04, dtype=torch.float16)
        tensors[layer + "g_idx"] = torch.arange(inputs, dtype=torch.int32) // GROUP
    return tensors


AUTOGPTQ_SETTINGS = {
    "bits": 4,
    "group_size": GROUP,
    "damp_percent": 0.01,
    "desc_act": False,
    "static_groups": False,
    "sym": True,
    "true_sequential": True,
    "model_name_or_path": None,
    "model_file_base_name": None,
}


@pytest.fixture
def autogptq_dir(chat_model, tmp_path):
    folder = tmp_path / "autogptq"
    folder.mkdir()
    chat_model.config.save_pretrained(folder)
    save_file(gptq_tensors(chat_model), folder / "gptq_model-4bit-32g.safetensors")
    (folder / "quantize_config.json").write_text(json.dumps(AUTOGPTQ_SETTINGS))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def leave_settings_to_config(folder):
    """As AutoGPTQ did from 0.5 on."""
    config = json.loads((folder / "config.json").read_text())
    quantized = {"quant_method": "gptq", **json.loads((folder / "quantize_config.json").read_text())}
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": quantized}))
    (folder / "quantize_config.json").unlink()


@pytest.mark.parametrize("change", [lambda folder: None, leave_settings_to_config])
def test_an_autogptq_folder_is_usable_in_one_step(run_script, autogptq_dir, change):
    from guard.model_folder import load_guard_model

    change(autogptq_dir)
    (fault,) = weight_faults(autogptq_dir)
    assert f"MODEL_DIR={autogptq_dir} " in fault and "convert_weights.py" in fault
    plain_config = (autogptq_dir / "config.json").read_bytes()
    done = convert(run_script, autogptq_dir)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    out = autogptq_dir.with_name("out")
    assert weight_faults(out) == []
    written = json.loads((out / "config.json").read_text())["quantization_config"]
    assert (written["quant_method"], written["bits"], written["group_size"], written["desc_act"]) == (
        "gptq",
        4,
        GROUP,
        False,
    )
    assert (autogptq_dir / "config.json").read_bytes() == plain_config
    model = load_guard_model(out, "float32")
    layer = "model.layers.1.mlp.down_proj"
    expected = dequantised(load_file(autogptq_dir / "gptq_model-4bit-32g.safetensors"), layer)
    states = torch.randn(3, 64)
    difference = model.get_submodule(layer)(states) - states @ expected
    assert difference.norm() < 0.02 * (states @ expected).norm()  # the kernel for CPUs multiplies in 16 bits


def dequantised(tensors, layer):
    """Float32 [inputs, outputs]; eight 4-bit integers an int32, the zero point 8 stored as 7."""
    packed = tensors[f"{layer}.qweight"]
    integers = torch.stack([(packed >> 4 * place) & 15 for place in range(8)], 1).reshape(-1, packed.shape[1])
    return (integers - 8).float() * tensors[f"{layer}.scales"].float().repeat_interleave(GROUP, 0)


@pytest.mark.parametrize(
    ("settings", "lost", "named"),
    [
        ({"quant_method": "awq"}, None, b"is quantised by awq in the format gptq, which is not read here"),
        ({"is_marlin_format": True}, None, b"which is not read here: take the 16-bit model"),
        ({"bits": None}, None, b"quantize_config.json without bits"),
        ({"bits": 8}, None, b"in another shape than its quantize_config.json says (8 bits, groups of 32)"),
        ({"group_size": 64}, None, b"(4 bits, groups of 64)"),
        ({}, "g_idx", b"lacks 14 tensors (model.layers.0.mlp.down_proj.g_idx, "),
        ({}, "qweight", b"but no quantised layer"),
    ],
)
def test_what_cannot_be_made_usable_is_refused_in_one_sentence(run_script, autogptq_dir, settings, lost, named):
    path = autogptq_dir / "gptq_model-4bit-32g.safetensors"
    (autogptq_dir / "quantize_config.json").write_text(json.dumps({**AUTOGPTQ_SETTINGS, **settings}))
    if lost:
        save_file({name: tensor for name, tensor in load_file(path).items() if not name.endswith(lost)}, path)
    refused = convert(run_script, autogptq_dir)
    assert refused.returncode == 1 and named in refused.stderr and b"Traceback" not in refused.stderr
    assert not autogptq_dir.with_name("out").exists()
