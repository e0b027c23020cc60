"""Fine-tune a chat LLM into a guard model: QLoRA on packed rows.

The base is loaded in 4-bit NF4 (double quantised), LoRA adapters on all its linear layers are trained to answer
`unsafe` or `safe` behind the policy, for both views of every meme. Rows are packed: the policy once a batch, every
view behind it (packed_rows.py), so a step costs P + B*S tokens instead of B*(P + S).

Reads   MODEL_DIR (a chat model; one without guard template and scoring.json gets them), DATASET_DIR (clean_dataset.py)
Writes  OUTPUT_DIR: the adapter of the best evaluation (validation AUROC), tokenizer, scoring.json, training.json,
        training.png, checkpoint-N/ (complete: a run that was killed goes on from the last and ends with the same
        weights). A finished run is not repeated.

    MODEL_DIR=models/openchat DATASET_DIR=datasets/v3 OUTPUT_DIR=artifacts/lora python training_pipeline/train_model.py
    accelerate launch training_pipeline/train_model.py      # the same on several GPUs, BATCH_SIZE memes on each
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, DirectoryPath, Field
from pydantic_settings import BaseSettings

from result_output import claim_stdout
from script_settings import ENVIRONMENT, read_settings

# What must be the same for a run to be taken up again; the rest (steps of saving, reporting) may change.
RUN_IDENTITY = (
    "epochs",
    "max_steps",
    "learning_rate",
    "batch_size",
    "gradient_accumulation",
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "max_text_tokens",
    "text_noise",
    "views_a_step",
    "seed",
    "shuffle_labels",
    "packed_rows",
    "dtype",
)


def existing_folders(value: str) -> str:
    """Folders with commas between them; ValueError names those that are not there."""
    missing = [name.strip() for name in value.split(",") if not Path(name.strip()).is_dir()]
    if missing:
        raise ValueError(f"no such folder: {', '.join(missing)}")
    return value


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    model_dir: DirectoryPath = Field(description="folder of the chat LLM in Hugging Face layout, safetensors")
    dataset_dir: Annotated[str, AfterValidator(existing_folders)] = Field(
        description="folder of a data set that clean_dataset.py wrote, several with commas"
    )
    output_dir: Path = Field(description="folder that gets the adapter and its checkpoints")
    epochs: float = Field(2.0, gt=0, description="passes over the training rows")
    max_steps: int = Field(-1, description="optimizer steps; overrides EPOCHS when above 0")
    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate (linear warm-up, cosine decay)")
    batch_size: int = Field(16, ge=1, description="memes a packed row (each has up to two views)")
    gradient_accumulation: int = Field(1, ge=1, description="packed rows an optimizer step")
    lora_r: int = Field(16, ge=1, description="rank of the adapters")
    lora_alpha: int = Field(32, ge=1, description="scale of the adapters is LORA_ALPHA / LORA_R")
    lora_dropout: float = Field(0.05, ge=0, lt=1, description="dropout in front of the adapters")
    max_text_tokens: int = Field(256, ge=8, description="longer texts are cut, never the policy or the answer")
    text_noise: float = Field(0.0, ge=0, le=1, description="share of the texts trained on as OCR might misread them")
    views_a_step: Literal["all", "one"] = Field(
        "all", description="one: a view of each meme, drawn anew every epoch, for half the time; evaluations use all"
    )
    eval_steps: int = Field(50, ge=1, description="optimizer steps between evaluations on the validation split")
    save_steps: int = Field(50, ge=1, description="optimizer steps between checkpoints; a multiple of EVAL_STEPS")
    early_stopping: int = Field(
        0, ge=0, description="stop after so many evaluations in a row without a better AUROC; 0 never stops early"
    )
    seed: int = Field(1, description="seed of the adapters, the order of rows and the dropout")
    shuffle_labels: bool = Field(
        False, description="1 trains on labels shuffled among the groups: a control, AUROC must come to 0.5"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="what the frozen base multiplies in; auto is 16 bits where the device has them"
    )
    packed_rows: bool = Field(True, description="0 trains one example a row, for attention that cannot be packed")
    report_to: str = Field("tensorboard", description="where the Trainer reports: tensorboard, wandb or none")


def main() -> None:
    settings = read_settings(Settings, __doc__)
    results = claim_stdout()
    if settings.save_steps % settings.eval_steps:
        raise SystemExit("train_model.py: SAVE_STEPS must be a multiple of EVAL_STEPS, so that the best is kept")
    import torch
    from accelerate import PartialState

    from dataset_rows import read_splits
    from model_folder import check_model_folder, clear_write_faults
    from training_run import open_run

    check_model_folder(settings.model_dir)
    folders = [Path(name.strip()) for name in settings.dataset_dir.split(",")]
    splits = read_splits(folders, settings.shuffle_labels, settings.seed)
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():  # told so, CPUs wait for one another
        run = open_run(settings, splits, RUN_IDENTITY)
    if run.is_finished:
        print(
            f"kept {settings.output_dir}: this very run is finished (training.json); delete it to train anew",
            file=results,
        )
        return
    try:
        with clear_write_faults(settings.output_dir):
            summary = train(settings, splits, run)
    except ValueError as fault:
        raise SystemExit(f"train_model.py: MODEL_DIR={settings.model_dir}: {fault}") from fault
    if summary:
        print(summary, file=results)


def train(settings: Settings, splits: dict, run) -> str | None:
    """Train, save and return the line that says what came of it; None in all processes but the first."""
    from guard_scores import encode_memes
    from guard_template import load_guard_tokenizer, read_guard_prompt
    from tfidf_floor import tfidf_floor
    from training_run import finish_run

    tokenizer, scoring = load_guard_tokenizer(settings.model_dir)
    prompt = read_guard_prompt(tokenizer, scoring)
    memes = {name: encode_memes(prompt, splits[name], settings.max_text_tokens) for name in ("train", "validation")}
    cut = sum(meme.cut_tokens > 0 for split in memes.values() for meme in split)
    print(
        f"{cut} of {sum(map(len, memes.values()))} memes cut to {settings.max_text_tokens} tokens; "
        f"policy {len(prompt.prefix_ids)} tokens",
        file=sys.stderr,
    )
    model = load_lora_model(settings, prompt, memes)
    trainer = make_trainer(settings, model, prompt, memes, splits, scoring)
    trainer.train(resume_from_checkpoint=run.last_checkpoint)
    metrics = metrics_of_best(trainer.state) or trainer.evaluate()
    metrics["tfidf_floor_auroc"] = tfidf_floor(splits, "validation")
    finish_run(settings, run, trainer, tokenizer, scoring, metrics)
    if not trainer.is_world_process_zero():
        return None
    return (
        f"wrote {settings.output_dir}: validation AUROC {metrics['eval_auroc']:.4f} "
        f"(TF-IDF floor {metrics['tfidf_floor_auroc']:.4f}) after {trainer.state.global_step} steps"
    )


def metrics_of_best(state) -> dict[str, float] | None:
    """The evaluation of the weights that the Trainer loaded at its end; None where it never evaluated."""
    found = [entry for entry in state.log_history if "eval_auroc" in entry and entry["step"] == state.best_global_step]
    return dict(found[-1]) if found else None


def load_lora_model(settings: Settings, prompt, memes: dict):
    """The NF4 base with fresh LoRA adapters on all linear layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig

    from packed_rows import LARGEST_DIFFERENCE, check_packable, pack_row, prove_packable
    from training.frozen_base import load_frozen_base, pick_dtype
    from training.lora_linear import speed_up_adapters
    from training.suffix_attention import try_suffix_attention

    longest = len(prompt.prefix_ids) + settings.max_text_tokens + len(prompt.suffix_ids)
    if settings.packed_rows:
        check_packable(AutoConfig.from_pretrained(settings.model_dir), longest)
    torch.manual_seed(settings.seed)
    dtype = pick_dtype(settings.dtype)
    base = load_frozen_base(settings.model_dir, dtype)
    if settings.packed_rows:
        batch = [suffix for meme in memes["train"][: settings.batch_size] for suffix in meme.suffixes]
        prove_packable(base, prompt.prefix_ids, batch, dtype)
        if base.device.type == "cpu":
            try_suffix_attention(base, pack_row(prompt.prefix_ids, batch), LARGEST_DIFFERENCE[dtype])
    model = get_peft_model(
        base,
        LoraConfig(
            r=settings.lora_r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    if base.device.type == "cpu":
        speed_up_adapters(model)
    return model


def make_trainer(settings: Settings, model, prompt, memes: dict, splits: dict, scoring: dict):
    from transformers import EarlyStoppingCallback

    from packed_trainer import PackedTrainer, RowCollator
    from training.frozen_base import pick_dtype
    from training.suffix_attention import ATTENTION_NAME
    from training_memes import CountEpochs, NoisyMemes
    from training_run import CarryScoring, ranking_metrics

    noisy = NoisyMemes(
        prompt,
        splits["train"],
        memes["train"],
        settings.text_noise,
        settings.max_text_tokens,
        settings.seed,
        one_view=settings.views_a_step == "one",
    )
    by_suffix = model.config._attn_implementation == ATTENTION_NAME
    stopping = [EarlyStoppingCallback(settings.early_stopping)] if settings.early_stopping else []
    return PackedTrainer(
        model=model,
        args=training_arguments(settings),
        prompt=prompt,
        train_dataset=noisy,
        eval_dataset=memes["validation"],
        data_collator=RowCollator(prompt, pick_dtype(settings.dtype), settings.packed_rows, by_suffix),
        processing_class=prompt.tokenizer,
        compute_metrics=ranking_metrics([row["language"] for row in splits["validation"]]),
        callbacks=[CountEpochs(noisy), *stopping, CarryScoring(scoring)],
    )


def training_arguments(settings: Settings):
    import torch
    from transformers import TrainingArguments

    from training.frozen_base import pick_dtype

    dtype, on_gpu = pick_dtype(settings.dtype), torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(settings.output_dir),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        max_grad_norm=1.0,
        seed=settings.seed,
        eval_strategy="steps",
        eval_steps=settings.eval_steps,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="auroc",
        greater_is_better=True,
        logging_steps=10,
        report_to=settings.report_to,
        remove_unused_columns=False,
        label_names=["labels"],
        # On the CPU everything but the adapters is in the type already, and these cast for themselves.
        bf16=on_gpu and dtype == torch.bfloat16,
        fp16=on_gpu and dtype == torch.float16,
        use_cpu=not on_gpu,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=on_gpu,
        disable_tqdm=not sys.stderr.isatty(),
    )


if __name__ == "__main__":
    main()
