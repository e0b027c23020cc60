"""Quantise a guard model to 4 bits by GPTQ, calibrated on rows of the very question that it will be asked.

Any chat model will do: a folder without scoring.json gets the guard template first. The format (symmetric, group of
128, desc_act off) is read by transformers, vLLM and auto-gptq, and is eligible for every kernel.

Reads   MODEL_DIR (16-bit), DATASET_DIR (train split for calibration, validation split to measure the cost)
Writes  OUTPUT_DIR: a model folder with quantize_config.json, tokenizer, scoring.json and quantization.json (its cost)

    MODEL_DIR=artifacts/merged DATASET_DIR=datasets/v3 OUTPUT_DIR=artifacts/llm-gptq \\
        python training_pipeline/quantize_model.py
"""

import json
import os
import sys
from pathlib import Path
from typing import Literal

from pydantic import DirectoryPath, Field
from pydantic_settings import BaseSettings

from result_output import claim_stdout
from script_settings import ENVIRONMENT, read_settings

GROUP_SIZES = (128, 64, 32)


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    model_dir: DirectoryPath = Field(description="folder of the 16-bit model")
    dataset_dir: DirectoryPath = Field(description="data set whose rows calibrate (train) and measure (validation)")
    output_dir: Path = Field(description="folder that gets the quantised model")
    bits: Literal[4, 8] = Field(4, description="bits a weight: 4 or 8")
    calibration_rows: int = Field(256, ge=32, description="rows of the train split, evenly spread, that calibrate")
    seed: int = Field(1, description="seed of the choice of rows")


def main() -> None:
    settings = read_settings(Settings, __doc__)
    results = claim_stdout()
    if (os.cpu_count() or 1) <= 2:
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # its loader asks for two workers and dies on fewer
    from model_folder import weights_fingerprint

    identity = {"source": weights_fingerprint(settings.model_dir), "bits": settings.bits,
                "calibration_rows": settings.calibration_rows, "seed": settings.seed}
    report_file = settings.output_dir / "quantization.json"
    if report_file.exists():
        if json.loads(report_file.read_text(encoding="utf-8"))["identity"] != identity:
            raise SystemExit(f"quantize_model.py: {settings.output_dir} was made of another model or with other "
                             "settings; choose another OUTPUT_DIR or delete it")
        print(f"kept {settings.output_dir}, quantised from this model already; delete it to do it anew", file=results)
        return
    report = quantize(settings, identity)
    cost = report["cost"]
    print(f"wrote {settings.output_dir}: {report['megabytes_before']:.1f} MB to {report['megabytes_after']:.1f} MB; "
          f"validation AUROC {cost['auroc_before']:.4f} to {cost['auroc_after']:.4f}, "
          f"|dp| mean {cost['mean_difference']:.4f}, largest {cost['largest_difference']:.4f}", file=results)


def quantize(settings: Settings, identity: dict) -> dict:
    from datasets import load_from_disk

    from guard_scores import encode_memes
    from guard_template import load_guard_tokenizer, read_guard_prompt
    from model_folder import carry_files, finished_folder, folder_megabytes, write_json

    dataset = load_from_disk(str(settings.dataset_dir))
    tokenizer, scoring = load_guard_tokenizer(settings.model_dir)
    prompt = read_guard_prompt(tokenizer, scoring)
    calibration = encode_memes(prompt, calibration_rows(dataset["train"], settings))
    measured = encode_memes(prompt, dataset["validation"].to_list())
    with finished_folder(settings.output_dir) as folder:
        quantize_into(folder, settings, prompt, calibration)
        tokenizer.save_pretrained(folder)
        carry_files(settings.model_dir, folder)
        write_json(folder / "scoring.json", scoring)
        report = {
            "identity": identity,
            "megabytes_before": folder_megabytes(settings.model_dir),
            "megabytes_after": folder_megabytes(folder),
            "cost": measure_cost(settings.model_dir, folder, prompt, measured),
        }
        write_json(folder / "quantization.json", report)
    return report


def calibration_rows(train, settings: Settings) -> list[dict]:
    """Rows drawn over the whole split, so that every language and label is among them."""
    count = min(settings.calibration_rows, len(train))
    if count < settings.calibration_rows:
        print(f"the train split has only {count} rows to calibrate on", file=sys.stderr)
    return train.shuffle(seed=settings.seed).select(range(count)).to_list()


def quantize_into(folder: Path, settings: Settings, prompt, calibration: list) -> None:
    import tempfile
    from contextlib import chdir

    from gptqmodel import GPTQModel, QuantizeConfig

    folder, model_dir = folder.resolve(), settings.model_dir.resolve()
    group_size = fitting_group_size(settings.model_dir)
    rows = [prompt.prefix_ids + meme.suffixes[-1] for meme in calibration]
    # gptqmodel leaves a logs/ folder wherever it runs.
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
        model = GPTQModel.load(str(model_dir), QuantizeConfig(
            bits=settings.bits, group_size=group_size, sym=True, desc_act=False), trust_remote_code=False)
        model.quantize([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows], batch_size=8)
        model.save(str(folder))


def fitting_group_size(model_dir: Path) -> int:
    """128, or the largest smaller group that divides every layer's input; SystemExit where none does."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model_dir)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    widths = (config.hidden_size, config.intermediate_size, config.num_attention_heads * head_size)
    for group_size in GROUP_SIZES:
        if not any(width % group_size for width in widths):
            if group_size != GROUP_SIZES[0]:
                print(f"layer widths {widths} do not divide by 128: groups of {group_size}", file=sys.stderr)
            return group_size
    raise SystemExit(f"quantize_model.py: layer widths {widths} divide by none of the groups {GROUP_SIZES}; "
                     "this model cannot be quantised to GPTQ")


def measure_cost(before_dir: Path, after_dir: Path, prompt, memes: list) -> dict[str, float]:
    """What quantising changed on the validation split: AUROC and differences of the probability."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    from guard_scores import load_scorer, mean_probabilities, score_memes

    labels = [meme.label for meme in memes]
    before, after = (mean_probabilities(score_memes(load_scorer(folder), prompt, memes))
                     for folder in (before_dir, after_dir))
    both = len(set(labels)) == 2
    return {
        "auroc_before": float(roc_auc_score(labels, before)) if both else float("nan"),
        "auroc_after": float(roc_auc_score(labels, after)) if both else float("nan"),
        "mean_difference": float(np.abs(after - before).mean()),
        "largest_difference": float(np.abs(after - before).max()),
    }


if __name__ == "__main__":
    main()
