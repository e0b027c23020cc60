"""Fine-tune a chat LLM into a guard model: QLoRA on packed rows.

The base is loaded in 4-bit NF4 (double quantised), or in 16 bits (BASE_BITS); LoRA adapters on all its linear layers
are trained to answer `unsafe` or `safe` behind the policy, for both views of every meme. Rows are packed: the policy
once a batch, every view behind it (guard/packed_rows.py), so a step costs P + B*S tokens instead of B*(P + S). On a CPU
the 4-bit weights are dequantised once, products are in bfloat16 where the processor multiplies in it, and attention is
computed view by view (guard/suffix_attention.py).

Reads   MODEL_DIR (a chat model; one without guard template and scoring.json gets them), DATASET_DIR (clean_dataset.py)
Writes  OUTPUT_DIR: the adapter of the best evaluation (validation AUROC), tokenizer, scoring.json, training.json,
        training.png, checkpoint-N/ (complete: a run that was killed goes on from the last and ends with the same
        weights). A finished run is not repeated.

    MODEL_DIR=models/openchat python3 train_model.py        # the newest data set; the adapter comes to lie beside it
    MODEL_DIR=models/openchat DATASET_DIR=datasets/v3 OUTPUT_DIR=artifacts/lora python training_pipeline/train_model.py
    accelerate launch training_pipeline/train_model.py      # the same on several GPUs, BATCH_SIZE memes on each
    OMP_NUM_THREADS=1 torchrun --nproc_per_node 2 training_pipeline/train_model.py      # two processes of one core each
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, DirectoryPath, Field

from guard.model_folder import (
    Scoring,
    check_model_folder,
    compute_dtype,
    refused_folder,
    share_cpus,
    weights_fingerprint,
)
from guard.output_files import claim_stdout
from guard.whole_adapter import check_adapter, load_adapter
from memes.defaults import beside, existing_paths, name_defaults, named_paths, newest_dataset
from training.lora_settings import LoraSettings, run_identity, training_arguments

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import TrainerState

    from guard.template import EncodedMeme, GuardPrompt
    from memes.rows import MemeRow
    from training.packed_trainer import PackedTrainer
    from training.run_folder import Run


def newest_in_reach() -> str:
    return str(newest_dataset())


def lora_beside_dataset(settings: dict[str, Any]) -> Path:
    return beside(named_paths(settings["dataset_dir"])[0], "-lora")


class Settings(LoraSettings):
    may_change = LoraSettings.may_change | {"start_lora_dir", "eval_steps", "early_stopping", "report_to"}

    dataset_dir: Annotated[str, AfterValidator(existing_paths)] = Field(
        default_factory=newest_in_reach,
        validate_default=True,
        description="folder of a data set that clean_dataset.py wrote, several with commas; unset: the newest in "
        "dataset/, data_preparation/dataset/ or artifacts/*/dataset/, else datasets/v3",
    )
    output_dir: Path = Field(
        default_factory=lora_beside_dataset,
        description="folder that gets the adapter and its checkpoints; unset: DATASET_DIR with -lora behind its name",
    )
    start_lora_dir: DirectoryPath | None = Field(
        None,
        description="adapter to go on from, with its own rank and scale, such as one trained on one language first",
    )
    lora_dropout: float = Field(0.05, ge=0, lt=1, description="dropout in front of the adapters")
    text_noise: float = Field(0.0, ge=0, le=1, description="share of the texts trained on as OCR might misread them")
    views_a_step: Literal["all", "one"] = Field(
        "all", description="one: a view of each meme, drawn anew every epoch, for half the time; evaluations use all"
    )
    eval_steps: int = Field(
        50, ge=1, description="optimizer steps between evaluations on the validation split; divides SAVE_STEPS"
    )
    early_stopping: int = Field(
        0, ge=0, description="stop after so many evaluations in a row without a better AUROC; 0 never stops early"
    )
    shuffle_labels: bool = Field(
        False, description="1 trains on labels shuffled among the groups: a control, AUROC must come to 0.5"
    )
    packed_rows: bool = Field(True, description="0 trains one example a row, for attention that cannot be packed")
    report_to: str = Field("tensorboard", description="where the Trainer reports: tensorboard, wandb or none")


def main() -> None:
    settings = Settings.read(__doc__)
    name_defaults(settings)
    results = claim_stdout()
    share_cpus()
    if settings.save_steps % settings.eval_steps:
        raise SystemExit("train_model.py: SAVE_STEPS must be a multiple of EVAL_STEPS, so that the best is kept")
    from guard.servable import unservable
    from memes.rows import UnusableRows
    from training.run_folder import carry_out
    from training.splits import read_splits

    check_model_folder(settings.model_dir)
    if settings.start_lora_dir:
        with refused_folder(settings.start_lora_dir, "START_LORA_DIR"):
            check_adapter(settings.start_lora_dir)
    if reason := unservable(settings.model_dir):
        print(f"train_model.py: predict.py will not serve what is trained here: {reason}", file=sys.stderr)
    try:
        splits = read_splits(
            named_paths(settings.dataset_dir), settings.shuffle_labels, settings.seed, settings.languages
        )
    except UnusableRows as error:
        raise SystemExit(f"train_model.py: {error}") from error
    start = settings.start_lora_dir
    identity = run_identity(settings, splits, start_weights=weights_fingerprint(start) if start else None)
    carry_out(settings.output_dir, settings.model_dir, identity, partial(train, settings, splits), results)


def train(settings: Settings, splits: dict[str, list["MemeRow"]], run: "Run") -> str | None:
    """Train, save and return the line that says what came of it; None in all processes but the first."""
    from evaluation.tfidf_baseline import tfidf_auroc
    from guard.scores import label_share, share_sentence
    from guard.template import describe_question, encode_memes, load_guard_prompt
    from training.run_folder import finish_run

    prompt, scoring = load_guard_prompt(settings.model_dir, settings.max_text_tokens)
    memes = {name: encode_memes(prompt, splits[name]) for name in ("train", "validation")}
    if not any(meme.category_token is not None for meme in memes["train"]):
        # What nothing teaches is not asked: the model would answer something all the same.
        prompt = replace(prompt, category_token_ids={})
        scoring.pop("categories", None)
    cut = sum(meme.cut_tokens > 0 for split in memes.values() for meme in split)
    print(
        f"{cut} of {sum(map(len, memes.values()))} memes cut to {prompt.max_text_tokens} tokens; "
        f"policy {len(prompt.prefix_ids)} tokens; {describe_question(prompt)}",
        file=sys.stderr,
    )
    model = load_lora_model(settings, prompt, memes["train"])
    print(f"before training, {share_sentence(label_share(model, prompt, memes['train']))}", file=sys.stderr)
    trainer = make_trainer(settings, model, prompt, memes, splits, scoring)
    trainer.train(resume_from_checkpoint=run.last_checkpoint)
    metrics = metrics_of_best(trainer.state) or trainer.evaluate()
    metrics["tfidf_auroc"] = tfidf_auroc(splits["train"], splits["validation"])
    sources = {"model_dir": str(settings.model_dir), "dataset_dir": settings.dataset_dir}
    finish_run(run, trainer, prompt, scoring, metrics, sources)
    if not trainer.is_world_process_zero():
        return None
    return (
        f"wrote {settings.output_dir}: validation AUROC {metrics['eval_auroc']:.4f} "
        f"(TF-IDF baseline {metrics['tfidf_auroc']:.4f}) after {trainer.state.global_step} steps"
    )


def metrics_of_best(state: "TrainerState") -> dict[str, float] | None:
    """The evaluation of the weights that the Trainer loaded at its end; None where it never evaluated."""
    found = [entry for entry in state.log_history if "eval_auroc" in entry and entry["step"] == state.best_global_step]
    return dict(found[-1]) if found else None


def load_lora_model(settings: Settings, prompt: "GuardPrompt", memes: list["EncodedMeme"]) -> "PeftModel":
    """The frozen base with LoRA adapters, fresh ones on all linear layers or those of START_LORA_DIR.

    `memes` are those to be trained on.
    """
    import torch
    from transformers import AutoConfig

    from guard.packed_rows import LARGEST_DIFFERENCE, check_packable, pack_row, prove_packable
    from guard.suffix_attention import try_suffix_attention
    from training.frozen_base import load_frozen_base
    from training.lora_linear import fresh_adapters, multiplies_as_loaded, speed_up_adapters

    longest = len(prompt.prefix_ids) + prompt.max_text_tokens + len(prompt.suffix_ids)
    if settings.packed_rows:
        check_packable(AutoConfig.from_pretrained(settings.model_dir), longest)
    torch.manual_seed(settings.seed)
    dtype = compute_dtype(settings.dtype)
    base = load_frozen_base(settings.model_dir, dtype, settings.base_bits)
    if settings.packed_rows:
        batch = [suffix for meme in memes[: settings.batch_size] for suffix in meme.suffixes]
        prove_packable(base, prompt.prefix_ids, batch, dtype)
        try_suffix_attention(base, pack_row(prompt.prefix_ids, batch), LARGEST_DIFFERENCE[dtype])
    if not settings.start_lora_dir:
        return fresh_adapters(base, settings.lora_r, settings.lora_alpha, settings.lora_dropout, settings.base_bits)
    with refused_folder(settings.start_lora_dir, "START_LORA_DIR"):
        model = load_adapter(base, settings.start_lora_dir, is_trainable=True)
    if multiplies_as_loaded(settings.base_bits):
        speed_up_adapters(model)
    return model


def make_trainer(
    settings: Settings,
    model: "PeftModel",
    prompt: "GuardPrompt",
    memes: dict[str, list["EncodedMeme"]],
    splits: dict[str, list["MemeRow"]],
    scoring: Scoring,
) -> "PackedTrainer":
    from transformers import EarlyStoppingCallback

    from guard.suffix_attention import attends_by_suffix
    from training.noisy_memes import CountEpochs, NoisyMemes
    from training.packed_trainer import PackedTrainer, RowCollator, ranking_metrics
    from training.run_folder import CarryQuestion, TellProgress

    one_view = settings.views_a_step == "one"
    noisy = NoisyMemes(prompt, splits["train"], memes["train"], settings.text_noise, settings.seed, one_view)
    by_suffix = attends_by_suffix(model)
    stopping = [EarlyStoppingCallback(settings.early_stopping)] if settings.early_stopping else []
    return PackedTrainer(
        model=model,
        args=training_arguments(
            settings,
            eval_strategy="steps",
            eval_steps=settings.eval_steps,
            load_best_model_at_end=True,
            metric_for_best_model="auroc",
            greater_is_better=True,
            report_to=settings.report_to,
            label_names=["labels"],
        ),
        prompt=prompt,
        train_dataset=noisy,
        eval_dataset=memes["validation"],
        data_collator=RowCollator(prompt, compute_dtype(settings.dtype), settings.packed_rows, by_suffix),
        compute_metrics=ranking_metrics([row["language"] or "unknown" for row in splits["validation"]]),
        callbacks=[CountEpochs(noisy), TellProgress(), *stopping, CarryQuestion(prompt, scoring)],
    )


if __name__ == "__main__":
    main()
