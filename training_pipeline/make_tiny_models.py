"""Make the small stand-in models: a Mistral-type chat LLM and a BLIP captioner, trained from scratch on the CPU.

For whoever has no real weights at hand: the demo, the tests, a first walk through the code. Both folders are saved
exactly as Hugging Face saves real ones, so nothing downstream knows that they are small.

Reads   SAMPLES_DIR/train.parquet (pictures, captions, texts; never the labels)
Writes  OUTPUT_DIR/base-llm and OUTPUT_DIR/captioner; one that is there already is kept

    OUTPUT_DIR=artifacts/models python training_pipeline/make_tiny_models.py
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal

from pydantic import DirectoryPath, Field

from guard.model_folder import share_cpus
from guard.output_files import claim_stdout, finished_folder
from guard.script_settings import ScriptSettings

REPOSITORY_SAMPLES = Path(__file__).resolve().parents[1] / "datasets" / "sample_memes"


class Settings(ScriptSettings):
    output_dir: Path = Field(description="folder that gets base-llm/ and captioner/")
    models: Literal["both", "llm", "captioner"] = Field("both", description="which of the two to make")
    samples_dir: DirectoryPath = Field(
        REPOSITORY_SAMPLES, description="folder with train.parquet; render_memes.py makes one"
    )
    llm_steps: int = Field(400, ge=1, description="training steps of the LLM")
    captioner_steps: int = Field(0, ge=0, description="training steps of the captioner; 0 takes its own default")
    seed: int = Field(1, description="seed of initialisation and sampling")


def main() -> None:
    settings = Settings.read(__doc__)
    results = claim_stdout()
    share_cpus()
    train_parquet = settings.samples_dir / "train.parquet"
    if not train_parquet.exists():
        raise SystemExit(f"make_tiny_models.py: {train_parquet} does not exist; make it with render_memes.py")
    makes = {"llm": ("base-llm", make_llm), "captioner": ("captioner", make_captioner)}
    wanted = [make for model, make in makes.items() if settings.models in ("both", model)]
    # Side by side, each on its share of the cores: steps this small gain little from a second thread.
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as makers:
        lines = [
            makers.submit(make_folder, settings.output_dir / name, make, train_parquet, settings)
            for name, make in wanted
        ]
        for line in lines:
            print(line.result(), file=results)


def make_folder(
    folder: Path, make: Callable[[Path, Path, Settings], dict[str, float]], train_parquet: Path, settings: Settings
) -> str:
    """Make a model folder unless it is there; `make` writes it and gives its metrics. Returns the line that says so."""
    if folder.exists():
        return f"kept {folder}, which is there already; delete it to train it anew"
    import torch

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // (2 if settings.models == "both" else 1)))
    started = time.monotonic()
    with finished_folder(folder) as unfinished:
        metrics = make(train_parquet, unfinished, settings)
    listed = ", ".join(f"{name} {value}" for name, value in metrics.items())
    return f"wrote {folder} in {time.monotonic() - started:.0f} s ({listed})"


def make_llm(train_parquet: Path, folder: Path, settings: Settings) -> dict[str, float]:
    from datasets import load_dataset

    from guard.attaching import POLICY_FILE, policy_text
    from tiny.llm import train_llm

    policy = policy_text(POLICY_FILE.read_text(encoding="utf-8"))
    memes = load_dataset("parquet", data_files=str(train_parquet), split="train")
    memes = memes.select_columns(["text", "caption", "language"]).to_list()
    return train_llm(memes, policy, folder, settings.llm_steps, settings.seed)


def make_captioner(train_parquet: Path, folder: Path, settings: Settings) -> dict[str, float]:
    from tiny.captioner import train_captioner

    steps = {"steps": settings.captioner_steps} if settings.captioner_steps else {}
    return train_captioner(train_parquet, folder, seed=settings.seed, **steps)


if __name__ == "__main__":
    main()
