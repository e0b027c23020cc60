"""Merge a LoRA checkpoint into the 16-bit base model, and prove that the merge is right.

The adapter goes into the base as it was published, never into the dequantised 4-bit copy that it was trained on. It is
merged in float32 and rounded once to the weights' own type. On sample rows the merged model must agree with base plus
adapter before it is rounded, and must differ from the base alone; all of it is computed in float32, because 16-bit
arithmetic alone moves a probability further than a wrong merge might. What the rounding moves is bounded apart. That
takes 4 bytes a parameter: where the GPU has no such room, the CPU does it.

Reads   MODEL_DIR (the base), LORA_DIR (OUTPUT_DIR of train_model.py, or one of its checkpoint-N)
Writes  OUTPUT_DIR: a model folder with tokenizer, guard template, scoring.json, training.json and merge.json

    MODEL_DIR=models/openchat LORA_DIR=artifacts/lora OUTPUT_DIR=artifacts/merged python training_pipeline/load_lora.py
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import DirectoryPath, Field

from guard.model_folder import (
    SCORING_FILE,
    Scoring,
    carry_training_record,
    check_model_folder,
    is_quantised,
    load_model,
    read_scoring,
    refused_folder,
    share_cpus,
    weights_fingerprint,
)
from guard.output_files import claim_stdout, finished_folder, write_json
from guard.script_settings import ScriptSettings
from guard.whole_adapter import ADAPTER, check_adapter, load_adapter
from guard.whole_model import weight_files

if TYPE_CHECKING:
    import numpy as np
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    from guard.template import GuardPrompt

MERGE_TOLERANCE = 1e-5  # of a probability, in float32: base plus adapter against merged, weights not yet rounded
# What rounding the weights moves is the type's cost, and told; it grows with depth and with how unsure the model is (up
# to 4e-2 in 30 layers of bfloat16). Beyond this it is no rounding any more, such as an overflow of float16.
ROUNDING_TOLERANCE = 0.1


class Settings(ScriptSettings):
    model_dir: DirectoryPath = Field(description="the base model that the adapter was trained on")
    lora_dir: DirectoryPath = Field(description="the adapter: train_model.py's OUTPUT_DIR or a checkpoint-N in it")
    output_dir: Path = Field(description="folder that gets the merged model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="type of the merged weights; auto keeps the base's"
    )


def main() -> None:
    settings = Settings.read(__doc__)
    results = claim_stdout()
    share_cpus()
    check_folders(settings)
    if (settings.output_dir / "merge.json").exists():
        check_same_merge(settings)
        print(f"kept {settings.output_dir}, merged from this adapter already; delete it to merge anew", file=results)
        return
    with finished_folder(settings.output_dir) as folder:
        proof = merge(settings, folder)
    print(
        f"wrote {settings.output_dir}: merged and base plus adapter differ by at most "
        f"{proof['largest_difference']:.1e}, merged and base by {proof['difference_from_base']:.1e}; rounding to "
        f"{proof['dtype']} moves a probability by at most {proof['rounding_difference']:.1e}",
        file=results,
    )


def check_folders(settings: Settings) -> None:
    """SystemExit where there is no adapter, where the base is quantised, or is not the one of the training."""
    with refused_folder(settings.lora_dir, "LORA_DIR"):
        check_adapter(settings.lora_dir)
    check_model_folder(settings.model_dir)
    if is_quantised(settings.model_dir):
        raise SystemExit(
            f"load_lora.py: {settings.model_dir} is quantised; merge into the 16-bit base (MODEL_DIR), "
            "then quantise the merged model with quantize_model.py"
        )
    expected, found = trained_base(settings.lora_dir), weights_fingerprint(settings.model_dir)
    # An adapter trained elsewhere names no base: the agreement on sample rows is all the proof there is.
    if expected not in (None, found):
        raise SystemExit(
            f"load_lora.py: {settings.lora_dir} was trained on a base with fingerprint {expected}, but "
            f"{settings.model_dir} has {found}; set MODEL_DIR to the base of the training"
        )


def trained_base(lora_dir: Path) -> str | None:
    """Fingerprint of the base's weights as train_model.py wrote it down, or None."""
    for path in (lora_dir / "run.json", lora_dir.parent / "run.json"):
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8")).get("base_weights")
    finished = lora_dir / "training.json"
    return json.loads(finished.read_text(encoding="utf-8"))["run"]["base_weights"] if finished.exists() else None


def merge_identity(settings: Settings) -> dict[str, str]:
    return {
        "base": weights_fingerprint(settings.model_dir),
        "adapter": weights_fingerprint(settings.lora_dir),
        "dtype": settings.dtype,
    }


def check_same_merge(settings: Settings) -> None:
    former = json.loads((settings.output_dir / "merge.json").read_text(encoding="utf-8"))["identity"]
    if former != merge_identity(settings):
        raise SystemExit(
            f"load_lora.py: {settings.output_dir} holds the merge of another base, adapter or DTYPE; "
            "choose another OUTPUT_DIR or delete it"
        )


def merge(settings: Settings, folder: Path) -> dict[str, Any]:
    """Merge, prove and save into `folder`; returns the proof."""
    from guard.scores import meme_probabilities, view_margins
    from guard.template import SAMPLE_MEMES, encode_memes
    from guard.tokenizer_files import hand_over

    try:
        prompt, scoring, tokenizer_dir = adapter_prompt(settings)
    except ValueError as error:
        raise SystemExit(f"load_lora.py: LORA_DIR={settings.lora_dir}: {error}") from error
    memes = encode_memes(prompt, SAMPLE_MEMES)
    base, dtype = load_base(settings)
    alone = meme_probabilities(view_margins(base, prompt, memes), 1.0)
    adapted = add_adapter(base, settings)
    together = meme_probabilities(view_margins(adapted, prompt, memes), 1.0)
    merged = adapted.merge_and_unload(safe_merge=True)
    exact = meme_probabilities(view_margins(merged, prompt, memes), 1.0)
    merged.to(dtype).save_pretrained(folder)
    rounded = meme_probabilities(view_margins(merged.float(), prompt, memes), 1.0)
    proof = prove(alone, together, exact, rounded, str(dtype).removeprefix("torch."))
    try:
        hand_over(prompt, scoring, tokenizer_dir, folder)
    except ValueError as error:
        raise SystemExit(f"load_lora.py: {error}") from error
    carry_training_record(settings.lora_dir, folder)
    write_json(folder / SCORING_FILE, scoring)
    write_json(folder / "merge.json", {"identity": merge_identity(settings), **proof})
    return proof


def adapter_prompt(settings: Settings) -> tuple["GuardPrompt", Scoring, Path]:
    """The question that the adapter was trained on, and the folder of its tokenizer: the base's, as in training.

    An adapter trained elsewhere may bring a tokenizer of its own, and is asked by the policy. Raises ValueError, with
    the remedy, where the question cannot be made of what is there.
    """
    from transformers import AutoTokenizer

    from guard.template import load_guard_prompt, read_guard_prompt
    from guard.tokenizer_files import TEMPLATE_FILE, tokenizer_files

    template, scoring = settings.lora_dir / TEMPLATE_FILE, read_scoring(settings.lora_dir)
    if scoring is None or not template.exists():
        if tokenizer_files(settings.lora_dir):
            return *load_guard_prompt(settings.lora_dir), settings.lora_dir
        raise ValueError(
            "it has neither a tokenizer nor chat_template.jinja and scoring.json; take the whole folder that "
            "train_model.py wrote"
        )
    tokenizer = AutoTokenizer.from_pretrained(settings.model_dir)
    tokenizer.chat_template = template.read_text(encoding="utf-8")
    return read_guard_prompt(tokenizer, scoring), scoring, settings.model_dir


def load_base(settings: Settings) -> tuple["PreTrainedModel", "torch.dtype"]:
    """(base model with float32 weights, type that the merged weights shall have)."""
    import torch
    from transformers import AutoConfig

    stored = AutoConfig.from_pretrained(settings.model_dir).dtype or torch.float32
    dtype = stored if settings.dtype == "auto" else getattr(torch, settings.dtype)
    stored_bytes = sum(path.stat().st_size for path in weight_files(settings.model_dir))
    needed = 1.2 * stored_bytes * 4 / stored.itemsize
    on_gpu = torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > needed
    device_map = {"": 0 if on_gpu else "cpu"}
    model = load_model(settings.model_dir, dtype=torch.float32, attn_implementation="sdpa", device_map=device_map)
    return model, dtype


def add_adapter(model: "PreTrainedModel", settings: Settings) -> "PeftModel":
    """Base plus adapter, not yet merged; SystemExit where the adapter does not fit the base, or lacks tensors."""
    untie_adapted_embeddings(model, settings.lora_dir)
    with refused_folder(settings.lora_dir, "LORA_DIR"):
        adapted = load_adapter(model, settings.lora_dir)
    return adapted


def untie_adapted_embeddings(model: "PreTrainedModel", lora_dir: Path) -> None:
    """Give the LM head a matrix of its own where it shares the embeddings' and the adapter changes either of them.

    Merged into the shared matrix, a change that was trained on one would change the other, too.
    """
    import torch
    from safetensors import safe_open

    if not getattr(model.config, "tie_word_embeddings", False):
        return
    tied = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    names = [name for name, module in model.named_modules() if id(module) in tied]
    with safe_open(lora_dir / ADAPTER, "pt") as weights:
        if not any(f".{name}." in key for key in weights.keys() for name in names):
            return
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    model.config.tie_word_embeddings = False


def prove(
    alone: "np.ndarray", together: "np.ndarray", exact: "np.ndarray", rounded: "np.ndarray", dtype: str
) -> dict[str, Any]:
    """Probabilities [rows] of base, base plus adapter, merged, merged and rounded: SystemExit where one fails."""
    merging, rounding = float(abs(exact - together).max()), float(abs(rounded - exact).max())
    from_base = float(abs(exact - alone).max())
    if not merging <= MERGE_TOLERANCE:
        raise SystemExit(
            f"load_lora.py: merged and base plus adapter differ by {merging:.1e} in float32, more than "
            f"{MERGE_TOLERANCE:.0e}: peft cannot merge this adapter into this base"
        )
    if not rounding <= ROUNDING_TOLERANCE:
        raise SystemExit(
            f"load_lora.py: rounding the merged weights to {dtype} moves a probability by {rounding:.1e}, more than "
            f"{ROUNDING_TOLERANCE:.0e}; try DTYPE=float32"
        )
    if from_base == 0:
        raise SystemExit("load_lora.py: the adapter changes nothing; was it trained?")
    return {
        "dtype": dtype,
        "largest_difference": merging,
        "rounding_difference": rounding,
        "difference_from_base": from_base,
    }


if __name__ == "__main__":
    main()
