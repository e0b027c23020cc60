"""Teach a chat LLM a data set's languages by its own translations, before it learns to judge in them.

A small model knows English above all. A data set of this project says each meme in several languages: LoRA adapters
learn to translate these texts into English (and some of them back), which tells more about every word than a verdict
does. train_model.py then goes on from the adapters (START_LORA_DIR). docs/results.md has what it is worth.

Reads   MODEL_DIR (as train_model.py gets it: spelling and limits are its policy's), DATASET_DIR
Writes  OUTPUT_DIR: the adapter, training.json (settings, held-out loss before and after), checkpoint-N/. A run that was
        killed goes on from the last; a finished one is not repeated.

    MODEL_DIR=artifacts/base DATASET_DIR=datasets/v3,datasets/v4,datasets/v5 OUTPUT_DIR=artifacts/translations \\
        python training_pipeline/learn_translations.py
    MODEL_DIR=artifacts/base START_LORA_DIR=artifacts/translations python training_pipeline/train_model.py
"""

import sys
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from guard.model_folder import TRAINING_FILE, check_model_folder, compute_dtype, share_cpus
from guard.output_files import claim_stdout, write_json
from memes.defaults import named_paths
from training.lora_settings import LoraSettings, run_identity, training_arguments

if TYPE_CHECKING:
    from transformers import Trainer

    from memes.rows import MemeRow
    from training.parallel_texts import Pair, ParallelTexts
    from training.run_folder import Run

# Held-out pairs of each language on which the loss is told.
MEASURED_PAIRS = 200


class Settings(LoraSettings):
    languages: str = Field("", description="languages that are learnt beside English, with commas; unset: all")


def main() -> None:
    settings = Settings.read(__doc__)
    results = claim_stdout()
    share_cpus()
    from memes.rows import UnusableRows
    from training.run_folder import carry_out
    from training.splits import read_splits

    check_model_folder(settings.model_dir)
    wanted = ",".join(["en", settings.languages]) if settings.languages else ""
    try:
        splits = read_splits(named_paths(settings.dataset_dir), False, settings.seed, wanted)
    except UnusableRows as error:
        raise SystemExit(f"learn_translations.py: {error}") from error
    pairs = checked_pairs(settings, splits)
    identity = run_identity(settings, splits, task="translation")
    carry_out(settings.output_dir, settings.model_dir, identity, partial(train, settings, pairs), results)


def checked_pairs(settings: Settings, splits: dict[str, list["MemeRow"]]) -> dict[str, list["Pair"]]:
    """The pairs of the train and the validation split; SystemExit where one of them has none."""
    from training.parallel_texts import translation_pairs

    pairs = {name: translation_pairs(splits[name]) for name in ("train", "validation")}
    for name, found in pairs.items():
        if not found:
            raise SystemExit(
                f"learn_translations.py: DATASET_DIR={settings.dataset_dir} has no translations in its {name} split: "
                "no row whose id is another row's with a language and `_` in front; translate_data.py makes them"
            )
    return pairs


def train(settings: Settings, pairs: dict[str, list["Pair"]], run: "Run") -> str | None:
    """Train, save and return the line that says what came of it; None in all processes but the first."""
    from guard.template import load_guard_prompt
    from training.parallel_texts import SHARE_OUT_OF_PIVOT, ParallelTexts
    from training.run_folder import CarryQuestion, installed_versions

    prompt, scoring = load_guard_prompt(settings.model_dir, settings.max_text_tokens)
    texts = ParallelTexts(prompt, pairs["train"], settings.seed, SHARE_OUT_OF_PIVOT)
    languages = sorted({pair.language for pair in pairs["validation"]})
    held_out = {
        language: ParallelTexts(prompt, of_language(pairs["validation"], language), settings.seed, 0)
        for language in languages
    }
    trainer = make_trainer(settings, texts, held_out)
    trainer.add_callback(CarryQuestion(prompt, scoring))
    before = losses(trainer, languages)
    print(f"{len(texts):,} pairs; held-out loss a token, before: {told(before)}", file=sys.stderr)
    trainer.train(resume_from_checkpoint=run.last_checkpoint)
    after = losses(trainer, languages)
    trainer.save_model(str(run.output_dir))
    if not trainer.is_world_process_zero():
        return None
    record = {"run": run.identity, "pairs": len(texts), "loss_before": before, "loss_after": after}
    write_json(run.output_dir / TRAINING_FILE, {**record, "versions": installed_versions()})
    return (
        f"wrote {settings.output_dir}: held-out loss a token into English, before and after {len(texts):,} pairs: "
        f"{told(before)}; {told(after)}"
    )


def of_language(pairs: list["Pair"], language: str) -> list["Pair"]:
    return [pair for pair in pairs if pair.language == language][:MEASURED_PAIRS]


def losses(trainer: "Trainer", languages: list[str]) -> dict[str, float]:
    found = trainer.evaluate()
    return {language: round(found[f"eval_{language}_loss"], 4) for language in languages}


def told(losses: dict[str, float]) -> str:
    return ", ".join(f"{language} {loss:.2f}" for language, loss in losses.items())


def make_trainer(settings: Settings, texts: "ParallelTexts", held_out: dict[str, "ParallelTexts"]) -> "Trainer":
    import torch
    from transformers import DataCollatorForSeq2Seq, Trainer

    from training.frozen_base import load_frozen_base
    from training.lora_linear import fresh_adapters
    from training.noisy_memes import CountEpochs
    from training.run_folder import TellProgress

    torch.manual_seed(settings.seed)
    base = load_frozen_base(settings.model_dir, compute_dtype(settings.dtype), settings.base_bits)
    tokenizer = texts.prompt.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, and its loss left out
    return Trainer(
        model=fresh_adapters(base, settings.lora_r, settings.lora_alpha, 0.0, settings.base_bits),
        args=training_arguments(settings, prediction_loss_only=True, report_to="none"),
        train_dataset=texts,
        eval_dataset=held_out,
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
        callbacks=[CountEpochs(texts), TellProgress()],
    )


if __name__ == "__main__":
    main()
