"""Quantise a guard model to 4 bits by GPTQ, calibrated on rows of the very question that it will be asked.

Any chat model will do: a folder without scoring.json gets the guard template first. The format (symmetric, groups of
128 or, in narrow models, 32, desc_act off) is read by transformers, vLLM and auto-gptq, and is eligible for every
kernel.

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
    folder_megabytes,
    is_quantised,
    load_guard_model,
    number_where_one,
    read_scoring,
    share_cpus,
    weights_fingerprint,
)
from guard.output_files import claim_stdout, finished_folder, write_json
from guard.quantising import NARROW, fitting_group_size, quantize_into
from guard.script_settings import ScriptSettings
from memes.defaults import beside, existing_paths, name_defaults, named_paths, newest_dataset

if TYPE_CHECKING:
    import numpy as np

    from guard.template import EncodedMeme, GuardPrompt
    from memes.rows import MemeRow

Given = TypeVar("Given")
LEAST_CALIBRATION_ROWS = 256
# A policy of 220 tokens is then some two fifths of what is read, where a row a view would make it four fifths. Twice as
# long rows with as many more views moved a small model's margins as far.
CALIBRATION_TOKENS_A_ROW = 512
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
    group_size: Annotated[Literal[128, 64, 32] | None, BeforeValidator(number_where_one)] = Field(
        None,
        description="weights that share a scale; unset: 128, or 32 in models of less than "
        f"{NARROW:,} channels; if a layer does not divide by it, a smaller one",
    )
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
    splits = read_splits(named_paths(settings.dataset_dir), settings.languages)
    group_size = fitting_group_size(settings.model_dir, settings.group_size)
    identity = run_identity(settings, splits, group_size)
    if is_made(settings.output_dir, identity):
        print(f"kept {settings.output_dir}, quantised from this model already; delete it to do it anew", file=results)
        return
    with finished_folder(settings.output_dir) as folder:
        report = quantize(settings, splits, identity, folder)
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


def run_identity(settings: Settings, splits: dict[str, list["MemeRow"]], group_size: int) -> dict[str, Any]:
    """What a quantised folder is made of: another of these, and it is another model."""
    from training.splits import rows_fingerprint

    return {
        "source": weights_fingerprint(settings.model_dir),
        "dataset": rows_fingerprint(splits),
        "bits": settings.bits,
        "group_size": group_size,
        "calibration_rows": settings.calibration_rows,
        "seed": settings.seed,
        "languages": settings.languages,
        "max_text_tokens": settings.max_text_tokens or MAX_TEXT_TOKENS,
    }


def is_made(output_dir: Path, identity: dict[str, Any]) -> bool:
    """Whether the folder is quantised already, of all this; SystemExit where it is another quantised model."""
    report_file = output_dir / "quantization.json"
    if not report_file.exists():
        return False
    # Older reports lack these two; what else they lack is not known of them.
    former = {"max_text_tokens": MAX_TEXT_TOKENS, "languages": ""}
    former |= json.loads(report_file.read_text(encoding="utf-8"))["identity"]
    if changed := [name.upper() for name, value in identity.items() if former.get(name, value) != value]:
        raise SystemExit(
            f"quantize_model.py: {output_dir} was made of another model or with other settings "
            f"({', '.join(changed)}); choose another OUTPUT_DIR or delete it"
        )
    return True


def quantize(
    settings: Settings, splits: dict[str, list["MemeRow"]], identity: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Quantise into `folder`, measure what it cost; returns the report that quantization.json holds."""
    from guard.template import encode_memes, load_guard_prompt
    from guard.tokenizer_files import hand_over

    try:
        prompt, scoring = load_guard_prompt(settings.model_dir, settings.max_text_tokens)
    except ValueError as error:
        raise SystemExit(f"quantize_model.py: MODEL_DIR={settings.model_dir}: {error}") from error
    measured = encode_memes(prompt, drawn(splits["validation"], MEASURED_ROWS, settings.seed))
    calibration = calibration_prompts(prompt, splits["train"], settings)
    before = validation_probabilities(settings.model_dir, prompt, measured, scoring["temperature"])
    quantize_into(folder, settings.model_dir, calibration, settings.bits, identity["group_size"])
    try:
        hand_over(prompt, scoring, settings.model_dir, folder)
    except ValueError as error:
        raise SystemExit(f"quantize_model.py: {error}") from error
    carry_training_record(settings.model_dir, folder)
    write_json(folder / SCORING_FILE, scoring)
    after = validation_probabilities(folder, prompt, measured, scoring["temperature"])
    report = {
        "identity": identity,
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
