"""Measure training on packed rows against TRL's SFTTrainer: same NF4 model, LoRA settings, rows, order and threads.

Every side trains in a process of its own (training_sides.py), a round each in turns, so that a busy machine slows all
alike. Then packed against padded steps over batch size, suffix and policy length (packing_sweep.py). On the CPU,
without gradient checkpointing; a Mistral of LLM_SIZE with random weights and a vocabulary of 32,000, or the model of
MODEL_DIR. In float32 all sides must lose the same at the first step; with DTYPE=auto ours computes as train_model.py
does on this CPU, the others stay in float32. SIDES=ours,qlora leaves out TRL: what our own training gained since its
first version, which put bitsandbytes' 4-bit weights and peft's adapters together as they come.

Writes  stdout: Markdown; PLOT_PATH: an SVG of the second comparison

    pip install -r benchmarks/requirements.txt
    python benchmarks/bench_training.py              # some six minutes on two cores
    QUICK=1 python benchmarks/bench_training.py      # one minute, to see that it runs
"""

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docker"))

from pydantic import DirectoryPath, Field  # noqa: E402

from detector.script_settings import ScriptSettings  # noqa: E402

SIDES = ("ours", "qlora", "trl", "padded")
TRIED_ONCE = ("trl-padding-free", "trl-packing")  # after the rounds: slower on the CPU, and slow to measure
NAMES = {
    "ours": "ours: packed rows",
    "qlora": "packed rows, bitsandbytes and peft as they come",
    "padded": "ours, PACKED_ROWS=0: padded rows, LM head at the answers",
    "trl": "TRL SFTTrainer: padded rows",
    "trl-padding-free": "TRL SFTTrainer, padding_free=True",
    "trl-packing": "TRL SFTTrainer, packing=True, two rows a sequence",
}
VERSIONS = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")
TARGET_GAIN = 4
QUICK = {
    "llm_size": "tiny",
    "batch_size": 4,
    "prefix_tokens": 100,
    "suffix_tokens": 20,
    "steps": 2,
    "rounds": 2,
    "sweep_repeats": 1,
}
LARGEST_LOSS_DIFFERENCE = 1e-3


class Settings(ScriptSettings):
    llm_size: str = Field("56m", pattern="^(tiny|56m|100m|135m)$", description="tiny, 56m, 100m or 135m")
    model_dir: DirectoryPath | None = Field(None, description="a chat model to train in the place of a random one")
    dtype: str = Field("float32", pattern="^(float32|bfloat16|auto)$", description="type that ours computes in")
    lora_dropout: float = Field(0, ge=0, lt=1, description="dropout of ours and qlora; above 0 the losses differ")
    sides: str = Field(",".join(SIDES), description="sides to measure; without trl its other settings and the sweep go")
    batch_size: int = Field(16, ge=2, multiple_of=2, description="rows a step")
    prefix_tokens: int = Field(250, ge=1, description="tokens of the policy")
    suffix_tokens: int = Field(40, ge=8, description="mean tokens of a row's own; they vary by a quarter each way")
    steps: int = Field(2, ge=2, description="steps a round; the first warms up and is not counted")
    rounds: int = Field(2, ge=1, description="rounds a side")
    sweep_repeats: int = Field(1, ge=1, description="timed steps a shape and kind in the sweep")
    quick: bool = Field(False, description="1: a tiny model, small batches and few steps, to see that it runs")
    plot_path: Path = Field(ROOT / "docs" / "training.svg", description="the plot of packed against padded steps")


def main() -> int:
    settings = Settings.read(__doc__)
    if settings.quick:
        settings = settings.model_copy(update=QUICK)
    with tempfile.TemporaryDirectory() as scratch:
        task = make_task(settings, Path(scratch))
        figures = summarise(compare(settings, task))
        print("\n".join([*heading(settings), *side_table(figures)]), flush=True)
        if "trl" not in figures:
            return 0
        shapes = run_lines("packing_sweep.py", {**task, "side": "sweep"})
    print("\n".join([*verdict(figures), *sweep_table(shapes)]))
    plot(shapes, settings.plot_path)
    return 0 if passes(figures) else 1


def make_task(settings, scratch: Path) -> dict:
    """What the children are told; makes the model's folder (in a process of its own: this one stays small)."""
    making = (
        f"import random_models, pathlib; random_models.save_random_llm(pathlib.Path({str(scratch / 'llm')!r}), "
        f"{settings.llm_size!r}, 'float32')"
    )
    if not settings.model_dir:
        subprocess.run([sys.executable, "-c", making], cwd=ROOT / "benchmarks", check=True, stderr=subprocess.DEVNULL)
    return {
        "model_dir": str((settings.model_dir or scratch / "llm").resolve()),
        "dtype": settings.dtype,
        "lora_dropout": settings.lora_dropout,
        "scratch": str(scratch / "trainer"),
        "quick": settings.quick,
        "batch_size": settings.batch_size,
        "steps": settings.steps,
        "prefix_tokens": settings.prefix_tokens,
        "suffix_tokens": settings.suffix_tokens,
        "repeats": settings.sweep_repeats,
    }


def compare(settings, task: dict) -> list[dict]:
    """Figures of every round of every side, taken in turns."""
    sides = settings.sides.split(",")
    once = TRIED_ONCE if "trl" in sides else ()
    children = {name: start("training_sides.py", {**task, "side": name}) for name in (*sides, *once)}
    for child in children.values():
        answer(child)
    found = []
    for name in (*sides * settings.rounds, *once):
        children[name].stdin.write("round\n")
        children[name].stdin.flush()
        found.append(answer(children[name]))
        print(found[-1], file=sys.stderr)
    for child in children.values():
        child.communicate()
    return found


def start(script: str, task: dict) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "benchmarks" / script), json.dumps(task)],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def answer(child: subprocess.Popen) -> dict:
    line = child.stdout.readline()
    if not line:
        raise SystemExit(
            f"{' '.join(child.args[1:])} ended without an answer: run it alone to see why "
            "(pip install -r benchmarks/requirements.txt ?)"
        )
    return json.loads(line)


def run_lines(script: str, task: dict) -> list[dict]:
    child = start(script, task)
    child.stdin.close()
    found = [json.loads(line) for line in child.stdout]
    if child.wait() or not found:
        raise SystemExit(f"{' '.join(child.args[1:])} failed: run it alone to see why")
    return found


def summarise(rounds: list[dict]) -> dict[str, dict]:
    """By side: median rows a second with its range, highest memory, the first round's first loss."""
    by_side = defaultdict(list)
    for found in rounds:
        by_side[found["side"]].append(found)
    return {
        name: {
            "rows_per_second": statistics.median(speeds := [found["rows_per_second"] for found in several]),
            "rows_per_cpu_second": statistics.median(found["rows_per_cpu_second"] for found in several),
            "range": (min(speeds), max(speeds)),
            "first_loss": several[0]["first_loss"],
            "before_mb": several[0]["before_mb"],
            "peak_mb": max(found["peak_mb"] for found in several),
        }
        for name, several in by_side.items()
    }


def best_of_trl(figures: dict) -> str:
    return max((name for name in figures if name.startswith("trl")), key=lambda name: figures[name]["rows_per_second"])


def passes(figures: dict) -> bool:
    fastest = best_of_trl(figures)
    same_loss = abs(figures["ours"]["first_loss"] - figures["trl"]["first_loss"]) <= LARGEST_LOSS_DIFFERENCE
    return same_loss and gain(figures, fastest) >= TARGET_GAIN


def heading(settings) -> list[str]:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS)
    changed = " ".join(
        f"{name.upper()}={getattr(settings, name)}"
        for name in sorted(settings.model_fields_set)
        if name != "results_dir"
    )
    if "OMP_NUM_THREADS" in os.environ:
        changed = f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} {changed}".strip()
    model = settings.model_dir or f"A Mistral of {settings.llm_size} with random weights"
    return [
        "# Training on packed rows",
        "",
        f"{datetime.date.today()}; {platform.machine()} with {widest_vectors()}, {len(os.sched_getaffinity(0))} CPUs; "
        f"{versions}.",
        f"Command: `{(changed + ' ').lstrip()}python benchmarks/bench_training.py`",
        "",
        f"{model} (NF4, double quantised), LoRA rank 16 on all linear layers, ours in {settings.dtype}, "
        f"P = {settings.prefix_tokens} policy tokens, S = {settings.suffix_tokens} of a row's own on the mean, "
        f"B = {settings.batch_size} rows a step. {settings.rounds} rounds of {settings.steps} steps a side, "
        "the first not counted, in turns; TRL's other settings once, behind them. Memory is the process's "
        "resident set: before training, and its peak while it trains.",
        "",
    ]


def widest_vectors() -> str:
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    return next((name for name in ("amx_tile", "avx512f", "avx2") if name in flags), "no vectors known")


def side_table(figures: dict) -> list[str]:
    lines = [
        "| side | rows/s (range) | ours is faster by | rows a CPU second | ours by | memory before, MB | peak, MB "
        "| first-step loss |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in figures.items():
        low, high = found["range"]
        lines.append(
            f"| {NAMES[name]} | {found['rows_per_second']:.2f} ({low:.2f} to {high:.2f}) | "
            f"{gain(figures, name):.1f} | {found['rows_per_cpu_second']:.2f} | "
            f"{gain(figures, name, 'rows_per_cpu_second'):.1f} | {found['before_mb']:.0f} | "
            f"{found['peak_mb']:.0f} | {found['first_loss']:.5f} |"
        )
    return [*lines, ""]


def gain(figures: dict, name: str, unit: str = "rows_per_second") -> float:
    """Times that ours is faster than side `name`."""
    return figures["ours"][unit] / figures[name][unit]


def verdict(figures: dict) -> list[str]:
    fastest = best_of_trl(figures)
    differs = abs(figures["ours"]["first_loss"] - figures["trl"]["first_loss"])
    return [
        f"{gain(figures, fastest):.1f} times the rows a second of TRL's fastest setting ({fastest}), target "
        f"{TARGET_GAIN}; first-step losses of ours and TRL's padded rows differ by {differs:.1e}, target at most "
        f"{LARGEST_LOSS_DIFFERENCE:.0e}.",
        "",
        "TRL's packing chooses its own order of rows, so its first loss is another batch's. Without a GPU "
        "SFTTrainer puts every token through the LM head, which a GPU with Triton spares it; padded rows with the LM "
        "head at the answers alone show what of the gain is the packing's. On a busy machine compare the processor "
        "time.",
        "",
    ]


def sweep_table(shapes: list[dict]) -> list[str]:
    lines = [
        "## Packed against padded steps, both with the LM head at the answers",
        "",
        "| B | S | P | packed, CPU s | padded, CPU s | times faster | bound B(P+S)/(P+B*S) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {found['batch']} | {found['suffix']} | {found['prefix']} | {found['packed_s']:.2f} | "
        f"{found['padded_s']:.2f} | {found['gain']:.1f} | {found['bound']:.1f} |"
        for found in shapes
    ]
    return [*lines, "", "![times faster by shape, with the bound](training.svg)"]


def plot(shapes: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
    middle = {"batch": 16, "suffix": 40, "prefix": 250}
    labels = {"batch": "B, rows a step", "suffix": "S, tokens of a row's own", "prefix": "P, tokens of the policy"}
    for panel, axis in zip(panels, middle, strict=True):
        others = [name for name in middle if name != axis]
        line = sorted(
            (found for found in shapes if all(found[name] == middle[name] for name in others)),
            key=lambda found: found[axis],
        )
        panel.plot([found[axis] for found in line], [found["bound"] for found in line], "--", label="bound by tokens")
        panel.plot([found[axis] for found in line], [found["gain"] for found in line], "o-", label="measured")
        panel.set_xlabel(labels[axis])
    panels[0].set_ylabel("packed: times faster")
    panels[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    raise SystemExit(main())
