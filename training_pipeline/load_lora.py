"""Merge a LoRA checkpoint into the 16-bit base model, and prove that the merge is right.

The adapter goes into the base as it was published, never into the dequantised 4-bit copy that it was trained on.
The merged model must agree with base plus adapter on sample rows, and must differ from the base alone.

Reads   MODEL_DIR (the base), LORA_DIR (OUTPUT_DIR of train_model.py, or one of its checkpoint-N)
Writes  OUTPUT_DIR: a model folder with tokenizer, guard template, scoring.json, training.json and merge.json

    MODEL_DIR=models/openchat LORA_DIR=artifacts/lora OUTPUT_DIR=artifacts/merged python training_pipeline/load_lora.py
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import DirectoryPath, Field
from pydantic_settings import BaseSettings

from result_output import claim_stdout
from script_settings import ENVIRONMENT, read_settings

# Largest difference of a probability that rounding explains.
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-3, "float16": 2e-3}
SAMPLE_ROWS = [
    {"text": "Monday again, and the coffee machine is broken.", "image": "A tired cat beside a cup", "label": 0},
    {"text": "These people should not be allowed in here.", "image": "A closed door", "label": 1},
    {"text": "星期一又来了", "image": "A bus in the rain", "label": 0},
    {"text": "", "image": "A dog on a green background", "label": 0},
]


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    model_dir: DirectoryPath = Field(description="the base model that the adapter was trained on")
    lora_dir: DirectoryPath = Field(description="the adapter: train_model.py's OUTPUT_DIR or a checkpoint-N in it")
    output_dir: Path = Field(description="folder that gets the merged model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="type of the merged weights; auto keeps the base's")


def main() -> None:
    settings = read_settings(Settings, __doc__)
    results = claim_stdout()
    adapter = settings.lora_dir / "adapter_model.safetensors"
    if not adapter.exists():
        raise SystemExit(f"load_lora.py: {adapter} does not exist; LORA_DIR is the folder that train_model.py wrote")
    if (settings.output_dir / "merge.json").exists():
        check_same_merge(settings)
        print(f"kept {settings.output_dir}, merged from this adapter already; delete it to merge anew", file=results)
        return
    check_base(settings)
    proof = merge(settings)
    print(f"wrote {settings.output_dir}: merged and base plus adapter differ by at most "
          f"{proof['largest_difference']:.1e}, merged and base by {proof['difference_from_base']:.1e}", file=results)


def check_base(settings: Settings) -> None:
    """SystemExit where the adapter was trained on another base."""
    from model_folder import weights_fingerprint

    run_file = next((folder / "run.json" for folder in (settings.lora_dir, settings.lora_dir.parent)
                     if (folder / "run.json").exists()), None)
    if run_file is None:
        return  # an adapter trained elsewhere: the agreement below is all the proof there is
    expected = json.loads(run_file.read_text(encoding="utf-8"))["base_weights"]
    found = weights_fingerprint(settings.model_dir)
    if expected != found:
        raise SystemExit(f"load_lora.py: {settings.lora_dir} was trained on a base with fingerprint {expected}, but "
                         f"{settings.model_dir} has {found}; set MODEL_DIR to the base of the training")


def merge_identity(settings: Settings) -> dict:
    from model_folder import weights_fingerprint

    return {"base": weights_fingerprint(settings.model_dir), "adapter": weights_fingerprint(settings.lora_dir),
            "dtype": settings.dtype}


def check_same_merge(settings: Settings) -> None:
    former = json.loads((settings.output_dir / "merge.json").read_text(encoding="utf-8"))["identity"]
    if former != merge_identity(settings):
        raise SystemExit(f"load_lora.py: {settings.output_dir} holds the merge of another base, adapter or DTYPE; "
                         "choose another OUTPUT_DIR or delete it")


def merge(settings: Settings) -> dict:
    """Merge, prove, save; returns the proof."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from guard_scores import encode_memes, mean_probabilities, score_memes
    from guard_template import load_guard_tokenizer, read_guard_prompt
    from model_folder import carry_files, finished_folder, write_json

    tokenizer, scoring = load_guard_tokenizer(settings.lora_dir)
    prompt = read_guard_prompt(tokenizer, scoring)
    memes = encode_memes(prompt, SAMPLE_ROWS)
    model = AutoModelForCausalLM.from_pretrained(
        settings.model_dir, dtype=settings.dtype, use_safetensors=True, attn_implementation="sdpa",
        device_map={"": 0 if torch.cuda.is_available() else "cpu"})
    alone = mean_probabilities(score_memes(model, prompt, memes))
    model = PeftModel.from_pretrained(model, settings.lora_dir)
    together = mean_probabilities(score_memes(model, prompt, memes))
    model = model.merge_and_unload(safe_merge=True)
    merged = mean_probabilities(score_memes(model, prompt, memes))
    proof = prove(alone, together, merged, str(model.dtype).removeprefix("torch."))
    with finished_folder(settings.output_dir) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        carry_files(settings.lora_dir, folder)
        write_json(folder / "scoring.json", scoring)
        write_json(folder / "merge.json", {"identity": merge_identity(settings), **proof})
    return proof


def prove(alone, together, merged, dtype: str) -> dict:
    """Probabilities of base, base plus adapter, merged, shape [rows]: SystemExit where the merge does not hold."""
    largest = float(abs(merged - together).max())
    from_base = float(abs(merged - alone).max())
    if largest > TOLERANCE[dtype]:
        raise SystemExit(f"load_lora.py: merged and base plus adapter differ by {largest:.1e} in {dtype}, more than "
                         f"{TOLERANCE[dtype]:.0e}; try DTYPE=float32")
    if from_base == 0:
        raise SystemExit("load_lora.py: the adapter changes nothing; was it trained?")
    return {"dtype": dtype, "largest_difference": largest, "difference_from_base": from_base}


if __name__ == "__main__":
    main()
