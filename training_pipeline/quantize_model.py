"""Quantise a guard model to 4 bits by GPTQ, calibrated on rows of the very question that it will be asked.

Any chat model will do: a folder without scoring.json gets the guard template first. The format (symmetric, group of
128, desc_act off) is read by transformers, vLLM and auto-gptq, and is eligible for every kernel.

Reads   MODEL_DIR (16-bit), DATASET_DIR (train split for calibration, rows of the validation split to measure the cost)
Writes  OUTPUT_DIR: a model folder with quantize_config.json, tokenizer, scoring.json and quantization.json (its cost)

    MODEL_DIR=models/openchat python3 quantize_model.py     # the data set it was trained on, else the newest
    MODEL_DIR=artifacts/merged DATASET_DIR=datasets/v3 OUTPUT_DIR=artifacts/llm-gptq \\
        python training_pipeline/quantize_model.py
"""

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, DirectoryPath, Field, model_validator

from guard.model_folder import (
    MAX_TEXT_TOKENS,
    SCORING_FILE,
    TRAINING_FILE,
    carry_training_record,
    check_model_folder,
    compute_dtype,
    folder_megabytes,
    is_quantised,
    load_guard_model,
    number_where_one,
    read_scoring,
    share_cpus,
    weights_fingerprint,
)
from guard.output_files import claim_stdout, finished_file, finished_folder, write_json
from guard.script_settings import ScriptSettings
from memes.defaults import beside, existing_paths, name_defaults, named_paths, newest_dataset

if TYPE_CHECKING:
    import numpy as np

    from guard.template import EncodedMeme, GuardPrompt
    from memes.rows import MemeRow

Given = TypeVar("Given")
GROUP_SIZES = (128, 64, 32)
LEAST_CALIBRATION_ROWS = 256
# A policy of 220 tokens is then a fifth of what is read, where a row a view would make it four fifths.
CALIBRATION_TOKENS_A_ROW = 1024
# The cost is a difference between two scores of the same rows, for which so many tell enough.
MEASURED_ROWS = 300


def trained_or_newest_dataset(settings: dict[str, Any]) -> str:
    """Those data sets that MODEL_DIR's training.json names and that are there; if none, the newest in reach."""
    record = settings["model_dir"] / TRAINING_FILE
    named = json.loads(record.read_text(encoding="utf-8")).get("dataset_dir", "") if record.exists() else ""
    return ",".join(str(folder) for folder in named_paths(named) if folder.is_dir()) or str(newest_dataset())


def gptq_beside_model(settings: dict[str, Any]) -> Path:
    return beside(settings["model_dir"], "-gptq")


class Settings(ScriptSettings):
    model_dir: DirectoryPath = Field(description="folder of the 16-bit model")
    dataset_dir: Annotated[str, AfterValidator(existing_paths)] = Field(
        default_factory=trained_or_newest_dataset,
        validate_default=True,
        description="data sets whose rows calibrate (train) and measure (validation), with commas; unset: those that "
        "the model's training.json names, else the newest in reach, as train_model.py's",
    )
    languages: str = Field("", description="languages of the rows that are taken, with commas; unset: all")
    output_dir: Path = Field(
        default_factory=gptq_beside_model,
        description="folder that gets the quantised model; unset: MODEL_DIR with -gptq behind its name",
    )
    bits: Annotated[Literal[4, 8], BeforeValidator(number_where_one)] = Field(4, description="bits a weight: 4 or 8")
    calibration_rows: int = Field(
        256, ge=LEAST_CALIBRATION_ROWS, description="views of memes, drawn from the train split, that calibrate"
    )
    max_text_tokens: int | None = Field(
        None,
        ge=8,
        description=f"token limit of a view for a model without scoring.json, {MAX_TEXT_TOKENS} when unset; any other "
        "model keeps its own",
    )
    seed: int = Field(1, description="seed of the choice of rows")

    @model_validator(mode="after")
    def max_text_tokens_changes_no_limit(self) -> Self:
        scoring, limit = read_scoring(self.model_dir), self.max_text_tokens
        if scoring and limit not in (None, scoring["max_text_tokens"]):
            raise ValueError(
                f"MAX_TEXT_TOKENS={limit}: the model has a limit of {scoring['max_text_tokens']} tokens a view "
                "(scoring.json), which its thresholds belong to; unset MAX_TEXT_TOKENS"
            )
        return self


def main() -> None:
    settings = Settings.read(__doc__)
    name_defaults(settings)
    results = claim_stdout()
    share_cpus()
    check_source(settings.model_dir)
    identity = {
        "source": weights_fingerprint(settings.model_dir),
        "bits": settings.bits,
        "calibration_rows": settings.calibration_rows,
        "seed": settings.seed,
        "languages": settings.languages,
        "max_text_tokens": settings.max_text_tokens or MAX_TEXT_TOKENS,
    }
    report_file = settings.output_dir / "quantization.json"
    if report_file.exists():
        former = json.loads(report_file.read_text(encoding="utf-8"))["identity"]
        if {"max_text_tokens": MAX_TEXT_TOKENS, "languages": "", **former} != identity:  # older reports lack them
            raise SystemExit(
                f"quantize_model.py: {settings.output_dir} was made of another model or with other "
                "settings; choose another OUTPUT_DIR or delete it"
            )
        print(f"kept {settings.output_dir}, quantised from this model already; delete it to do it anew", file=results)
        return
    with finished_folder(settings.output_dir) as folder:
        report = quantize(settings, identity, folder)
    cost = report["cost"]
    aurocs = (
        f"AUROC {cost['auroc_before']:.4f} to {cost['auroc_after']:.4f}, " if cost["auroc_before"] is not None else ""
    )
    print(
        f"wrote {settings.output_dir}: {report['megabytes_before']:.1f} MB to {report['megabytes_after']:.1f} MB; "
        f"validation {aurocs}|dp| mean {cost['mean_difference']:.4f}, largest {cost['largest_difference']:.4f}",
        file=results,
    )


def check_source(model_dir: Path) -> None:
    """SystemExit where MODEL_DIR is no model, or one that is quantised already."""
    check_model_folder(model_dir)
    if is_quantised(model_dir):
        raise SystemExit(f"quantize_model.py: {model_dir} is quantised already; set MODEL_DIR to the 16-bit model")


def quantize(settings: Settings, identity: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Quantise into `folder`, measure what it cost; returns the report that quantization.json holds."""
    from guard.template import encode_memes, load_guard_prompt
    from guard.tokenizer_files import hand_over

    splits = read_splits(named_paths(settings.dataset_dir), settings.languages)
    try:
        prompt, scoring = load_guard_prompt(settings.model_dir, settings.max_text_tokens)
    except ValueError as error:
        raise SystemExit(f"quantize_model.py: MODEL_DIR={settings.model_dir}: {error}") from error
    measured = encode_memes(prompt, drawn(splits["validation"], MEASURED_ROWS, settings.seed))
    calibration = calibration_prompts(prompt, splits["train"], settings)
    group_size = fitting_group_size(settings.model_dir)
    before = validation_probabilities(settings.model_dir, prompt, measured, scoring["temperature"])
    quantize_into(folder, settings, calibration, group_size)
    try:
        hand_over(prompt, scoring, settings.model_dir, folder)
    except ValueError as error:
        raise SystemExit(f"quantize_model.py: {error}") from error
    carry_training_record(settings.model_dir, folder)
    write_json(folder / SCORING_FILE, scoring)
    after = validation_probabilities(folder, prompt, measured, scoring["temperature"])
    report = {
        "identity": identity,
        "group_size": group_size,
        "calibration_prompts": len(calibration),
        "megabytes_before": folder_megabytes(settings.model_dir),
        "megabytes_after": folder_megabytes(folder),
        "cost": quantization_cost([meme.label for meme in measured], before, after),
    }
    write_json(folder / "quantization.json", report)
    return report


def read_splits(dataset_dirs: list[Path], languages: str) -> dict[str, list["MemeRow"]]:
    """Rows of train and validation with text or caption, of all folders; SystemExit where there are none."""
    from memes.rows import UnusableRows, of_languages, read_rows, with_content

    splits: dict[str, list[MemeRow]] = {}
    for name in ("train", "validation"):
        try:
            found = [
                with_content(of_languages(read_rows(path, name), languages), f"{path}, {name}") for path in dataset_dirs
            ]
        except UnusableRows as error:
            raise SystemExit(f"quantize_model.py: {error}") from error
        splits[name] = [row for rows in found for row in rows]
        if not splits[name]:
            where, of = ", ".join(map(str, dataset_dirs)), f" in {languages}" if languages else ""
            raise SystemExit(f"quantize_model.py: {where}: no row of the {name} split{of} has a text or a caption")
    return splits


def calibration_prompts(prompt: "GuardPrompt", train: list["MemeRow"], settings: Settings) -> list[list[int]]:
    """Token rows that calibrate: the policy, then as many views of memes as a row holds.

    GPTQ asks what each layer's inputs look like, for which the policy need not be read anew for every view. The views
    are drawn over the whole split: every language and label, both views.
    """
    from guard.template import encode_memes

    chosen = drawn(train, settings.calibration_rows, settings.seed)
    views = [suffix for meme in encode_memes(prompt, chosen) for suffix in meme.suffixes]
    if len(views) < settings.calibration_rows:
        print(
            f"the train split gives only {len(views)} views to calibrate on, of {settings.calibration_rows} wanted",
            file=sys.stderr,
        )
    rows: list[list[int]] = []
    for view in drawn(views, settings.calibration_rows, settings.seed):
        if not rows or len(rows[-1]) + len(view) > CALIBRATION_TOKENS_A_ROW:
            rows.append(list(prompt.prefix_ids))
        rows[-1] += view
    return rows


def drawn(given: Sequence[Given], count: int, seed: int) -> list[Given]:
    """So many of them, or all where there are fewer, in an order that the seed decides."""
    return random.Random(seed).sample(given, min(count, len(given)))


def quantize_into(folder: Path, settings: Settings, calibration: list[list[int]], group_size: int) -> None:
    import tempfile
    from contextlib import chdir

    import torch
    from gptqmodel import GPTQModel, QuantizeConfig

    # Left to itself GPTQModel takes bfloat16 on every CPU; where it is emulated, products take five times as long as in
    # float32.
    in_float32 = compute_dtype() == torch.float32
    folder, model_dir = folder.resolve(), settings.model_dir.resolve()
    # gptqmodel leaves a logs/ folder wherever it runs.
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
        model = GPTQModel.load(
            str(model_dir),
            QuantizeConfig(bits=settings.bits, group_size=group_size, sym=True, desc_act=False),
            trust_remote_code=False,
            dtype=torch.float32 if in_float32 else "auto",
        )
        model.quantize([{"input_ids": row, "attention_mask": [1] * len(row)} for row in calibration])
        model.save(str(folder))
    if in_float32:
        round_unquantised(folder)


def round_unquantised(folder: Path) -> None:
    """Embeddings, norms and what else is no quantised layer in bfloat16, as GPTQModel writes them on other processors.

    In the files, one after the other: what GPTQModel still holds of the model by then takes no other type.
    """
    import torch
    from safetensors.torch import load_file, save_file

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        tensors = load_file(path)
        rounded = {
            name: tensor.to(torch.bfloat16) if tensor.dtype == torch.float32 else tensor
            for name, tensor in tensors.items()
        }
        with finished_file(path) as unfinished:
            save_file(rounded, unfinished, metadata={"format": "pt"})
        total += sum(tensor.nbytes for tensor in rounded.values())
    index = folder / "model.safetensors.index.json"  # of several files, whose bytes it counts
    if index.exists():
        listed = json.loads(index.read_text(encoding="utf-8"))
        write_json(index, {**listed, "metadata": {**listed["metadata"], "total_size": total}})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, "dtype": "bfloat16"})


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
    raise SystemExit(
        f"quantize_model.py: layer widths {widths} divide by none of the groups {GROUP_SIZES}; "
        "this model cannot be quantised to GPTQ"
    )


def validation_probabilities(
    model_dir: Path, prompt: "GuardPrompt", memes: list["EncodedMeme"], temperature: float
) -> "np.ndarray":
    """Shape [memes]; the model is loaded from its folder, as predict.py loads it, and let go again."""
    from guard.scores import meme_probabilities, view_margins

    return meme_probabilities(view_margins(load_guard_model(model_dir, "auto"), prompt, memes), temperature)


def quantization_cost(labels: list[int], before: "np.ndarray", after: "np.ndarray") -> dict[str, float | None]:
    """What quantising changed on the validation split: AUROC (None for one label) and differences of probability."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    both = len(set(labels)) == 2
    return {
        "auroc_before": float(roc_auc_score(labels, before)) if both else None,
        "auroc_after": float(roc_auc_score(labels, after)) if both else None,
        "mean_difference": float(np.abs(after - before).mean()),
        "largest_difference": float(np.abs(after - before).max()),
    }


if __name__ == "__main__":
    main()
