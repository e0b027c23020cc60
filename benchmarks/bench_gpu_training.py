"""How fast a GPU trains on packed rows: train_model.py's own steps in one process, one setting changed at a time.

A small model's step is launches of kernels more than arithmetic, so what counts is how few there are: attention suffix
by suffix instead of a dense mask, products of all suffixes at once, no casts. Each setting trains STEPS steps from the
same adapters; the last ten are told. The losses say that all train alike.

Reads   MODEL_DIR (a chat model, such as artifacts/smollm2), DATASET_DIR
Writes  stdout: Markdown; docs/results.md has it. Some three minutes on an H200.

    MODEL_DIR=artifacts/smollm2 python benchmarks/bench_gpu_training.py
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "training_pipeline"))

from pydantic import DirectoryPath, Field  # noqa: E402

import train_model  # noqa: E402
from guard import suffix_attention  # noqa: E402
from guard.script_settings import ScriptSettings  # noqa: E402
from guard.template import encode_memes, load_guard_prompt  # noqa: E402

AS_IT_IS: dict = {}
TIMES = {f"suffixes of one product at most {times} times as long": times for times in (2, 16)}
CHANGES = {
    "as train_model.py does": AS_IT_IS,
    **dict.fromkeys(TIMES, AS_IT_IS),
    "autocast and peft's own adapters": AS_IT_IS,
    "a dense mask, autocast, peft's own adapters": AS_IT_IS,
    "4-bit base (NF4), checkpointing": {"base_bits": 4},
    "float16": {"dtype": "float16"},
    "twice the memes a step": {"batch": 2},
    "both views of each meme": {"views_a_step": "all"},
}


class Settings(ScriptSettings):
    model_dir: DirectoryPath = Field(description="a chat model")
    dataset_dir: DirectoryPath = Field(ROOT / "datasets" / "v5", description="data set that is trained on")
    rows: int = Field(3000, ge=64, description="rows of it that are taken")
    batch_size: int = Field(64, ge=1, description="memes a step")
    steps: int = Field(30, ge=10, multiple_of=10, description="steps of each setting")


def main() -> None:
    settings = Settings.read(__doc__)
    import torch

    from training.splits import read_splits

    if not torch.cuda.is_available():
        raise SystemExit("bench_gpu_training.py needs a GPU; bench_training.py measures on CPUs")
    splits = read_splits([settings.dataset_dir], False, 1, "")
    splits = {"train": splits["train"][: settings.rows], "validation": splits["validation"][:128]}
    prompt, scoring = load_guard_prompt(settings.model_dir)
    memes = {name: encode_memes(prompt, rows) for name, rows in splits.items()}
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {settings.batch_size} memes a step\n")
    print("| setting | views/s | tokens/s | GPU memory, GB | loss |\n| --- | ---: | ---: | ---: | ---: |", flush=True)
    for name, changes in CHANGES.items():
        found = paced(settings, name, changes, (prompt, memes, splits, scoring))
        print(
            f"| {name} | {found['rows_per_second']:.0f} | {found['tokens_per_second']:.0f} | "
            f"{found['peak_memory_gb']:.1f} | {found['loss']:.3f} |",
            flush=True,
        )
        torch.cuda.reset_peak_memory_stats()


def paced(settings: Settings, name: str, changes: dict, task: tuple) -> dict[str, float]:
    """What the Trainer logs of the last ten steps."""
    prompt, memes, splits, scoring = task
    changes = dict(changes)
    with tempfile.TemporaryDirectory() as scratch, changed_parts(name):
        asked = train_model.Settings(
            model_dir=settings.model_dir,
            dataset_dir=str(settings.dataset_dir),
            output_dir=Path(scratch),
            batch_size=settings.batch_size * changes.pop("batch", 1),
            max_steps=settings.steps,
            eval_steps=10**6,
            save_steps=10**6,
            **{"base_bits": 16, "lora_dropout": 0, "views_a_step": "one", "text_noise": 0.2, **changes},
            report_to="none",
        )
        model = train_model.load_lora_model(asked, prompt, memes["train"])
        trainer = train_model.make_trainer(asked, model, prompt, memes, splits, scoring)
        trainer.train()
        return [entry for entry in trainer.state.log_history if "loss" in entry][-1]


@contextmanager
def changed_parts(name: str) -> Iterator[None]:
    """While it lasts, train_model.py goes without what a setting is named for, or takes another number for it."""
    with ExitStack() as changes:
        if name in TIMES:
            changes.enter_context(mock.patch.dict(suffix_attention.TIMES_AS_LONG, cuda=TIMES[name]))
        if "peft's" in name:
            changes.enter_context(mock.patch("training.lora_linear.multiplies_as_loaded", lambda base_bits: False))
        if "dense mask" in name:
            changes.enter_context(mock.patch.object(suffix_attention, "try_suffix_attention", lambda *_: False))
        yield


if __name__ == "__main__":
    main()
