"""Fine-tune a chat LLM into a guard model: QLoRA on packed rows.

The base is loaded in 4-bit NF4 (double quantised), LoRA adapters on all its linear layers are trained to answer
`unsafe` or `safe` behind the policy, for both views of every meme. Rows are packed: the policy once a batch, every
view behind it (packed_rows.py), so a step costs P + B*S tokens instead of B*(P + S).

Reads   MODEL_DIR (a chat model; one without guard template and scoring.json gets them), DATASET_DIR (clean_dataset.py)
Writes  OUTPUT_DIR: the adapter of the best evaluation (validation AUROC), tokenizer, scoring.json, training.json,
        checkpoint-N/ (complete: a run that was killed goes on from the last). A finished run is not repeated.

    MODEL_DIR=models/openchat DATASET_DIR=datasets/v3 OUTPUT_DIR=artifacts/lora python training_pipeline/train_model.py
"""

import sys
from pathlib import Path

from pydantic import DirectoryPath, Field
from pydantic_settings import BaseSettings

from result_output import claim_stdout
from script_settings import ENVIRONMENT, read_settings

# What must be the same for a run to be taken up again; the rest (steps of saving, reporting) may change.
RUN_IDENTITY = ("epochs", "max_steps", "learning_rate", "batch_size", "gradient_accumulation", "lora_r", "lora_alpha",
                "lora_dropout", "max_text_tokens", "seed", "shuffle_labels", "packed_rows")


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    model_dir: DirectoryPath = Field(description="folder of the chat LLM in Hugging Face layout, safetensors")
    dataset_dir: DirectoryPath = Field(description="folder of the data set that clean_dataset.py wrote")
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
    eval_steps: int = Field(50, ge=1, description="optimizer steps between evaluations on the validation split")
    save_steps: int = Field(50, ge=1, description="optimizer steps between checkpoints; a multiple of EVAL_STEPS")
    seed: int = Field(1, description="seed of the adapters, the order of rows and the dropout")
    shuffle_labels: bool = Field(False, description="1 trains on shuffled labels: a control, AUROC must come to 0.5")
    packed_rows: bool = Field(True, description="0 trains one example a row, for attention that cannot be packed")
    report_to: str = Field("tensorboard", description="where the Trainer reports: tensorboard, wandb or none")


def main() -> None:
    settings = read_settings(Settings, __doc__)
    results = claim_stdout()
    if settings.save_steps % settings.eval_steps:
        raise SystemExit("train_model.py: SAVE_STEPS must be a multiple of EVAL_STEPS, so that the best is kept")
    from training_run import open_run, read_splits

    splits = read_splits(settings.dataset_dir, settings.shuffle_labels, settings.seed)
    run = open_run(settings, splits, RUN_IDENTITY)
    if run.is_finished:
        print(f"kept {settings.output_dir}: this very run is finished (training.json); delete it to train anew",
              file=results)
        return
    print(train(settings, splits, run), file=results)


def train(settings: Settings, splits: dict, run) -> str:
    """Train, save and return the line that says what came of it."""
    from guard_scores import encode_memes
    from guard_template import load_guard_tokenizer, read_guard_prompt
    from training_run import finish_run, tfidf_floor

    tokenizer, scoring = load_guard_tokenizer(settings.model_dir)
    prompt = read_guard_prompt(tokenizer, scoring)
    memes = {name: encode_memes(prompt, rows, settings.max_text_tokens)
             for name, rows in splits.items() if name in ("train", "validation")}
    cut = sum(meme.cut_tokens > 0 for split in memes.values() for meme in split)
    print(f"{len(memes['train'])} training and {len(memes['validation'])} validation memes, {cut} of them cut to "
          f"{settings.max_text_tokens} tokens; policy {len(prompt.prefix_ids)} tokens", file=sys.stderr)
    model = load_lora_model(settings, prompt, memes)
    trainer = make_trainer(settings, model, prompt, memes, scoring)
    trainer.train(resume_from_checkpoint=run.last_checkpoint)
    metrics = trainer.evaluate()
    floor = tfidf_floor(splits, "validation")
    finish_run(settings, run, trainer, tokenizer, scoring, {**metrics, "tfidf_floor_auroc": floor})
    return (f"wrote {settings.output_dir}: validation AUROC {metrics['eval_auroc']:.4f} "
            f"(TF-IDF floor {floor:.4f}) after {trainer.state.global_step} steps")


def load_lora_model(settings: Settings, prompt, memes: dict):
    """The NF4 base with fresh LoRA adapters on all linear layers."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    from packed_rows import check_packable

    longest = len(prompt.prefix_ids) + max(len(suffix) for split in memes.values() for meme in split
                                           for suffix in meme.suffixes)
    if settings.packed_rows:
        check_packable(AutoConfig.from_pretrained(settings.model_dir), longest)
    torch.manual_seed(settings.seed)
    dtype = compute_dtype()
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    base = AutoModelForCausalLM.from_pretrained(
        settings.model_dir, quantization_config=quantization, dtype=dtype, attn_implementation="sdpa",
        use_safetensors=True, device_map={"": 0 if torch.cuda.is_available() else "cpu"})
    # Checkpointing saves memory that only a GPU is short of.
    base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=torch.cuda.is_available())
    return get_peft_model(base, LoraConfig(
        r=settings.lora_r, lora_alpha=settings.lora_alpha, lora_dropout=settings.lora_dropout,
        target_modules="all-linear", task_type="CAUSAL_LM"))


def compute_dtype():
    """bfloat16 where the GPU has it, float16 on older ones (Volta, Turing), float32 on the CPU."""
    import torch

    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16


def make_trainer(settings: Settings, model, prompt, memes: dict, scoring: dict):
    import torch
    from transformers import TrainingArguments

    from packed_trainer import PackedTrainer, RowCollator
    from training_run import CarryScoring, ranking_metrics

    dtype = compute_dtype()
    arguments = TrainingArguments(
        output_dir=str(settings.output_dir), num_train_epochs=settings.epochs, max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size, per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation, learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine", warmup_steps=0.05, max_grad_norm=1.0, seed=settings.seed,
        eval_strategy="steps", eval_steps=settings.eval_steps, save_strategy="steps", save_steps=settings.save_steps,
        save_total_limit=2, load_best_model_at_end=True, metric_for_best_model="auroc", greater_is_better=True,
        logging_steps=10, report_to=settings.report_to, remove_unused_columns=False, label_names=["labels"],
        bf16=dtype == torch.bfloat16, fp16=dtype == torch.float16, use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(), disable_tqdm=not sys.stderr.isatty())
    return PackedTrainer(
        model=model, args=arguments, prompt=prompt, train_dataset=memes["train"], eval_dataset=memes["validation"],
        data_collator=RowCollator(prompt, dtype, settings.packed_rows), processing_class=prompt.tokenizer,
        compute_metrics=ranking_metrics, callbacks=[CarryScoring(scoring)])


if __name__ == "__main__":
    main()
