"""What a merge keeps: biases, tied embeddings, the 16-bit base's own weights. On a Qwen2-type model, which has both."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from load_lora import MERGE_TOLERANCE, Settings, add_adapter, check_folders, load_base, merge, prove


@pytest.fixture(scope="module")
def qwen_dir(base_dir, tmp_path_factory):
    """Biases that matter, one matrix for embeddings and LM head, stored in bfloat16."""
    folder = tmp_path_factory.mktemp("qwen") / "base"
    tokenizer = AutoTokenizer.from_pretrained(base_dir)
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            max_position_embeddings=2048,
        )
    )
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.3 if name.endswith("bias") else 0.1)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def merged(base, folder, dtype="auto", **lora):
    """(settings, proof) of merging a random adapter of this kind into the base."""
    torch.manual_seed(2)
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **lora),
    )
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.save_pretrained(folder / "lora")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "lora")
    settings = Settings(MODEL_DIR=base, LORA_DIR=folder / "lora", OUTPUT_DIR=folder / "merged", DTYPE=dtype)
    (folder / "merged").mkdir()
    return settings, merge(settings, folder / "merged")


@pytest.mark.parametrize(("dtype", "stored"), [("auto", torch.bfloat16), ("float32", torch.float32)])
def test_the_merge_holds_in_16_and_32_bits(dtype, stored, qwen_dir, tmp_path):
    """Every merged matrix is base + scale * B A, rounded once: the base's own, not a 4-bit copy of it."""
    settings, proof = merged(qwen_dir, tmp_path, dtype, target_modules="all-linear")
    assert proof["largest_difference"] <= MERGE_TOLERANCE < proof["difference_from_base"]
    assert (proof["rounding_difference"] > 0) == (dtype == "auto") and proof["rounding_difference"] < 0.02
    base, result = (load_file(folder / "model.safetensors") for folder in (qwen_dir, tmp_path / "merged"))
    adapter = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in result.values()} == {stored} and base.keys() == result.keys()
    for name, weight in result.items():
        prefix = "base_model.model." + name.removesuffix(".weight")
        expected = base[name].float()
        if f"{prefix}.lora_A.weight" in adapter:
            expected = expected + 2 * adapter[f"{prefix}.lora_B.weight"] @ adapter[f"{prefix}.lora_A.weight"]
        torch.testing.assert_close(weight, expected.to(stored), atol=1e-6, rtol=0.008 if dtype == "auto" else 1e-6)


def test_a_wrong_merge_is_told_from_a_coarse_rounding():
    alone, together = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    proof = prove(alone, together, together + 5e-6, together + 0.01, "bfloat16")
    assert proof["rounding_difference"] == pytest.approx(0.01, abs=1e-5)
    with pytest.raises(SystemExit, match="differ by 1.0e-03 in float32"):
        prove(alone, together, together + 1e-3, together, "bfloat16")
    for overflown in (together + 0.15, together * np.nan):
        with pytest.raises(SystemExit, match="rounding the merged weights to float16 .* try DTYPE=float32"):
            prove(alone, together, together, overflown, "float16")
    with pytest.raises(SystemExit, match="changes nothing"):
        prove(alone, alone, alone, alone, "bfloat16")


def test_biases_are_kept_and_trained_ones_are_the_adapters(qwen_dir, tmp_path):
    merged(qwen_dir, tmp_path, "float32", target_modules="all-linear", bias="all")
    base, result = (load_file(folder / "model.safetensors") for folder in (qwen_dir, tmp_path / "merged"))
    adapter = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    biases = [name for name in base if name.endswith("bias")]
    assert len(biases) == 6
    for name in biases:
        trained = next(
            tensor
            for key, tensor in adapter.items()
            if key.endswith(name.removeprefix("model."))
            or key.endswith(name.removeprefix("model.").replace(".bias", ".base_layer.bias"))
        )
        torch.testing.assert_close(result[name], trained)
        assert not torch.equal(result[name], base[name].float())


def test_tied_embeddings_stay_tied(qwen_dir, tmp_path):
    merged(qwen_dir, tmp_path, target_modules="all-linear")
    assert "lm_head.weight" not in load_file(tmp_path / "merged" / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_an_adapter_of_the_lm_head_alone_unties_it(qwen_dir, tmp_path):
    """Merged into the shared matrix it would change the embeddings, too."""
    _, proof = merged(qwen_dir, tmp_path, "float32", target_modules=["q_proj", "lm_head"])
    assert proof["largest_difference"] <= 1e-5
    result = load_file(tmp_path / "merged" / "model.safetensors")
    base = load_file(qwen_dir / "model.safetensors")
    assert torch.equal(result["model.embed_tokens.weight"], base["model.embed_tokens.weight"].float())
    assert not torch.equal(result["lm_head.weight"], result["model.embed_tokens.weight"])
    assert not json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"]


def test_a_quantised_base_is_refused(qwen_dir, lora_run, tmp_path):
    quantised = tmp_path / "quantised"
    shutil.copytree(qwen_dir, quantised)
    config = json.loads((quantised / "config.json").read_text())
    (quantised / "config.json").write_text(json.dumps({**config, "quantization_config": {"load_in_4bit": True}}))
    with pytest.raises(SystemExit, match="is quantised; merge into the 16-bit base"):
        check_folders(Settings(MODEL_DIR=quantised, LORA_DIR=lora_run[0], OUTPUT_DIR=tmp_path / "merged"))


def test_an_adapter_of_another_shape_is_refused_although_it_names_no_base(qwen_dir, lora_run, tmp_path):
    lora = tmp_path / "lora"
    shutil.copytree(lora_run[0], lora, ignore=shutil.ignore_patterns("run.json", "training.json", "checkpoint-*"))
    settings = Settings(MODEL_DIR=qwen_dir, LORA_DIR=lora, OUTPUT_DIR=tmp_path / "merged")
    check_folders(settings)
    with pytest.raises(SystemExit, match="set MODEL_DIR to the base of the training"):
        add_adapter(load_base(settings)[0], settings)
