"""How long quantising takes as quantize_model.py does it, beside the ordinary way, and what each costs in answers.

The ordinary way is what a user of GPTQModel writes first: a row of the whole question for every view, batches of 8,
layers in the order of their computation, and the type that GPTQModel chooses. quantize_model.py packs the views behind
one policy a row and reads each layer's inputs once. ORDINARY_DTYPE=float32 leaves the type out of the comparison.

Reads   MODEL_DIR (a 16-bit guard model), DATASET_DIR
Writes  stdout: Markdown; docs/results.md has it

    LAYERS=4 MODEL_DIR=artifacts/guard python benchmarks/bench_quantize.py      # the first four layers alone
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "training_pipeline"))

from pydantic import DirectoryPath, Field  # noqa: E402

import quantize_model  # noqa: E402
from guard.model_folder import load_guard_model, load_model, share_cpus  # noqa: E402
from guard.output_files import claim_stdout  # noqa: E402
from guard.quantising import fitting_group_size, quantize_into  # noqa: E402
from guard.scores import view_margins  # noqa: E402
from guard.script_settings import ScriptSettings  # noqa: E402
from guard.template import encode_memes, load_guard_prompt  # noqa: E402
from memes.defaults import named_paths  # noqa: E402

if TYPE_CHECKING:
    import numpy as np

    from guard.template import GuardPrompt

Way = Callable[[Path, Path, list[list[int]], int, int], None]
ORDINARY = "a row a view"


class Settings(ScriptSettings):
    model_dir: DirectoryPath = Field(ROOT / "artifacts" / "guard", description="a 16-bit guard model")
    dataset_dir: str = Field(str(ROOT / "datasets" / "v3"), description="data sets that calibrate and measure")
    layers: int = Field(0, ge=0, description="layers of the model that are taken, the first ones; 0: all")
    rounds: int = Field(1, ge=1, description="measurements of each way, in turns")
    ordinary_dtype: Literal["auto", "float32"] = Field("auto", description="type of the ordinary way's products")
    calibration_rows: int = Field(256, description="views that calibrate, as quantize_model.py's setting")
    seed: int = Field(1, description="seed of their choice")
    measured_rows: int = Field(100, ge=1, description="validation memes whose answers are compared with 16 bits")


def main() -> None:
    settings = Settings.read(__doc__)
    results = claim_stdout()  # GPTQModel writes there, too
    share_cpus()
    prompt, _ = load_guard_prompt(settings.model_dir)
    splits = quantize_model.read_splits(named_paths(settings.dataset_dir), "")
    packed = quantize_model.calibration_prompts(prompt, splits["train"], settings)
    measured = encode_memes(prompt, quantize_model.drawn(splits["validation"], settings.measured_rows, settings.seed))
    ways: dict[str, tuple[list[list[int]], Way]] = {
        ORDINARY: (rows_of_their_own(prompt, splits["train"], settings), ordinary_way(settings.ordinary_dtype)),
        "quantize_model.py": (packed, quantize_into),
    }
    with tempfile.TemporaryDirectory() as scratch:
        seconds, moved = compare(settings, ways, prompt, measured, Path(scratch))
    print(f"{settings.calibration_rows} views, {settings.layers or 'all'} layers\n", file=results)
    print(
        "| way | tokens | seconds | times faster | margins moved, rms |\n| --- | ---: | --- | ---: | ---: |",
        file=results,
    )
    for name, (rows, _) in ways.items():
        print(
            f"| {name} | {sum(map(len, rows)):,} | {median(seconds[name]):.0f} "
            f"({min(seconds[name]):.0f} to {max(seconds[name]):.0f}) | "
            f"{median(seconds[ORDINARY]) / median(seconds[name]):.1f} | {moved[name]:.3f} |",
            file=results,
        )


def compare(
    settings: Settings,
    ways: dict[str, tuple[list[list[int]], Way]],
    prompt: "GuardPrompt",
    measured: list,
    scratch: Path,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each round, and the root mean square of how far the margins move from those of 16 bits, by way."""
    model_dir = first_layers(settings.model_dir.resolve(), settings.layers, scratch / "16-bit")
    group_size, before = fitting_group_size(model_dir), margins(model_dir, prompt, measured)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    moved = {}
    for turn in range(settings.rounds):
        for number, (name, (rows, way)) in enumerate(ways.items()):
            folder = scratch / f"{turn}-{number}"
            started = time.perf_counter()
            way(folder, model_dir, rows, 4, group_size)
            seconds[name].append(time.perf_counter() - started)
            moved[name] = float(((margins(folder, prompt, measured) - before) ** 2).mean() ** 0.5)
    return seconds, moved


def rows_of_their_own(prompt: "GuardPrompt", train: list, settings: Settings) -> list[list[int]]:
    """The whole question of each view, as many views as quantize_model.py takes."""
    chosen = encode_memes(prompt, quantize_model.drawn(train, settings.calibration_rows, settings.seed))
    views = [suffix for meme in chosen for suffix in meme.suffixes]
    return [prompt.prefix_ids + view for view in quantize_model.drawn(views, settings.calibration_rows, settings.seed)]


def ordinary_way(dtype: str) -> Way:
    def quantize(folder: Path, model_dir: Path, calibration: list[list[int]], bits: int, group_size: int) -> None:
        import torch
        from gptqmodel import GPTQModel, QuantizeConfig

        config = QuantizeConfig(bits=bits, group_size=group_size, sym=True, desc_act=False)
        with tempfile.TemporaryDirectory() as scratch, chdir(scratch):  # gptqmodel leaves a logs/ folder where it runs
            model = GPTQModel.load(str(model_dir), config, dtype=torch.float32 if dtype == "float32" else "auto")
            model.quantize([{"input_ids": row, "attention_mask": [1] * len(row)} for row in calibration], batch_size=8)
            model.save(str(folder))

    return quantize


def first_layers(model_dir: Path, layers: int, folder: Path) -> Path:
    """A copy of the model that ends after so many layers; the model itself for 0."""
    if not layers:
        return model_dir
    shutil.copytree(model_dir, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    model = load_model(model_dir, dtype="auto")
    decoder = model.get_decoder()
    decoder.layers = decoder.layers[:layers]
    model.config.num_hidden_layers = layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:layers]
    model.save_pretrained(folder)
    return folder


def margins(model_dir: Path, prompt: "GuardPrompt", measured: list) -> "np.ndarray":
    """Of every view, logit(offensive) - logit(ok)."""
    import numpy as np

    return np.concatenate(view_margins(load_guard_model(model_dir, "auto"), prompt, measured))


if __name__ == "__main__":
    main()
