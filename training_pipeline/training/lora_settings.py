"""What all trainings of LoRA adapters share: their settings, what makes a run the same run, the Trainer's arguments."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, DirectoryPath, Field

from guard.model_folder import (
    DTYPE_MEANING,
    MAX_TEXT_TOKENS,
    Dtype,
    compute_dtype,
    number_where_one,
    weights_fingerprint,
)
from guard.script_settings import ScriptSettings
from memes.defaults import existing_paths

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from memes.rows import MemeRow


class LoraSettings(ScriptSettings):
    """Settings of every script that trains adapters on a frozen base; each adds its own."""

    # What may change when a run is taken up again (of the folders, what is in them is compared); all else must not.
    may_change: ClassVar[frozenset[str]] = frozenset({"model_dir", "dataset_dir", "output_dir", "save_steps"})

    model_dir: DirectoryPath = Field(description="folder of the chat LLM in Hugging Face layout, safetensors")
    dataset_dir: Annotated[str, AfterValidator(existing_paths)] = Field(
        description="folder of a data set that clean_dataset.py wrote, several with commas"
    )
    output_dir: Path = Field(description="folder that gets the adapter and its checkpoints")
    languages: str = Field("", description="languages of the rows that are taken, with commas; unset: all")
    epochs: float = Field(2.0, gt=0, description="passes over what is trained on")
    max_steps: int = Field(-1, description="optimizer steps; overrides EPOCHS when above 0")
    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate (linear warm-up, cosine decay)")
    batch_size: int = Field(16, ge=1, description="memes (or pairs of texts) a batch; a meme has up to two views")
    gradient_accumulation: int = Field(1, ge=1, description="batches an optimizer step")
    lora_r: int = Field(16, ge=1, description="rank of the adapters")
    lora_alpha: int = Field(32, ge=1, description="scale of the adapters is LORA_ALPHA / LORA_R")
    max_text_tokens: int = Field(
        MAX_TEXT_TOKENS, ge=8, description="token limit of a view, kept in scoring.json; longer texts are cut"
    )
    save_steps: int = Field(50, ge=1, description="optimizer steps between checkpoints")
    seed: int = Field(1, description="seed of the adapters, the order of what is trained on, and the dropout")
    base_bits: Annotated[Literal[4, 16], BeforeValidator(number_where_one)] = Field(
        4, description="bits of the frozen base: 4 (NF4) for what would not fit else, 16 for small models and CPUs"
    )
    dtype: Dtype = Field("auto", description=DTYPE_MEANING)


def run_identity(settings: LoraSettings, splits: dict[str, list["MemeRow"]], **further: Any) -> dict[str, Any]:
    """What must be the same for a run to be taken up again: settings, the weights begun with, and the rows."""
    from training.splits import rows_fingerprint

    return {
        **{name: getattr(settings, name) for name in type(settings).model_fields if name not in settings.may_change},
        "base_weights": weights_fingerprint(settings.model_dir),
        "dataset": rows_fingerprint(splits),
        **further,
    }


def training_arguments(settings: LoraSettings, **own: Any) -> "TrainingArguments":
    """The Trainer's arguments; `own` are those that a script sets beside what the settings say."""
    import torch
    from transformers import TrainingArguments

    from training.lora_linear import multiplies_as_loaded

    dtype, on_gpu = compute_dtype(settings.dtype), torch.cuda.is_available()
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
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_steps=10,
        remove_unused_columns=False,
        bf16=not multiplies_as_loaded(settings.base_bits) and dtype == torch.bfloat16,
        fp16=on_gpu and dtype == torch.float16,
        use_cpu=not on_gpu,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=on_gpu,
        disable_tqdm=not sys.stderr.isatty(),
        **own,
    )
