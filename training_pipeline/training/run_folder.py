"""A training run on disk: its settings, whether it is finished, where it stopped, what came of it, and its curves."""

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from transformers import TrainerCallback

from guard.model_folder import SCORING_FILE, TRAINING_FILE, Scoring
from guard.output_files import explained_write_errors, finished_file, script_name, write_json
from guard.progress import Progress
from guard.template import GuardPrompt
from guard.tokenizer_files import TEMPLATE_FILE, chat_template_of, hand_over_adapter

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

RUN_FILE = "run.json"
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "datasets")


@dataclass(frozen=True)
class Run:
    output_dir: Path
    identity: dict[str, Any]  # settings, base and data set that make this run what it is
    is_finished: bool
    last_checkpoint: str | None


def carry_out(
    output_dir: Path, model_dir: Path, identity: dict[str, Any], train: Callable[[Run], str | None], results: TextIO
) -> None:
    """Train what of the run in OUTPUT_DIR is not done yet and print what `train` says of it; a finished run is kept.

    Of several processes the first opens the folder, and it alone prints. SystemExit where OUTPUT_DIR holds another
    run or cannot be written to, and where `train` raises ValueError: MODEL_DIR is then no model that it can train.
    """
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())  # told so, CPUs wait for one another
    with state.main_process_first():
        run = open_run(output_dir, identity)
    if run.is_finished:
        if state.is_main_process:
            kept = f"kept {output_dir}: this very run is finished (training.json); delete it to train anew"
            print(kept, file=results)
        return
    try:
        with explained_write_errors(output_dir):
            summary = train(run)
    except ValueError as error:
        raise SystemExit(f"{script_name()}: MODEL_DIR={model_dir}: {error}") from error
    if summary:
        print(summary, file=results)


def open_run(output_dir: Path, identity: dict[str, Any]) -> Run:
    """The state of OUTPUT_DIR for a run of this identity; SystemExit where it holds a run of another."""
    path = output_dir / RUN_FILE
    if path.exists():
        former = json.loads(path.read_text(encoding="utf-8"))
        changed = [name.upper() for name in identity if former.get(name) != identity[name]]
        if changed:
            raise SystemExit(
                f"{output_dir} holds a run of other {', '.join(changed)}; choose another OUTPUT_DIR or delete it"
            )
    else:
        start_folder(output_dir, identity)
    finished = (output_dir / TRAINING_FILE).exists()
    return Run(output_dir, identity, finished, last_whole_checkpoint(output_dir))


def start_folder(output_dir: Path, identity: dict[str, Any]) -> None:
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(output_dir / RUN_FILE, identity)
    except OSError as error:
        raise SystemExit(
            f"OUTPUT_DIR={output_dir} cannot be written to ({error.strerror}); choose another folder"
        ) from None


def last_whole_checkpoint(output_dir: Path) -> str | None:
    """The latest checkpoint-N that was saved to its end; what a kill left of a later one is removed."""
    by_step = sorted(output_dir.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    for folder in reversed(by_step):
        if (folder / SCORING_FILE).exists():  # CarryQuestion writes it when all else is there
            return str(folder)
        print(f"removed {folder}, which was never saved to its end", file=sys.stderr)
        shutil.rmtree(folder)
    return None


class TellProgress(TrainerCallback):
    """Steps done and time left, a line every ten seconds, where there is no terminal for the Trainer's own bar."""

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        shown = args.disable_tqdm and state.is_world_process_zero
        self.progress = Progress(state.max_steps - state.global_step, "steps") if shown else None

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        if self.progress:
            loss = next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None)
            self.progress.advance(f"loss {loss:.3f}" if loss is not None else "")


class CarryQuestion(TrainerCallback):
    """Every checkpoint gets the guard template and, last of all, scoring.json: it describes itself and is whole."""

    def __init__(self, prompt: GuardPrompt, scoring: Scoring) -> None:
        self.chat_template, self.scoring = chat_template_of(prompt), scoring

    def on_save(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / TEMPLATE_FILE).write_text(self.chat_template, encoding="utf-8")
            write_json(folder / SCORING_FILE, self.scoring)


def finish_run(
    run: Run,
    trainer: "Trainer",
    prompt: GuardPrompt,
    scoring: Scoring,
    metrics: dict[str, float],
    sources: dict[str, str],
) -> None:
    """Save the best adapter, the curves and, last, training.json, which says that the folder is whole.

    `sources` are the base and the data sets as the settings named them.
    """
    trainer.save_model(str(run.output_dir))
    if not trainer.is_world_process_zero():
        return
    hand_over_adapter(prompt, scoring, Path(sources["model_dir"]), run.output_dir)
    write_json(run.output_dir / SCORING_FILE, scoring)
    draw_curves(run.output_dir / "training.png", trainer.state.log_history, metrics["tfidf_auroc"])
    write_json(
        run.output_dir / TRAINING_FILE,
        {
            "run": run.identity,
            **sources,
            "processes": trainer.args.world_size,
            "best_checkpoint": Path(trainer.state.best_model_checkpoint or "").name,
            "metrics": {name: value for name, value in metrics.items() if isinstance(value, int | float)},
            "history": trainer.state.log_history,
            "versions": installed_versions(),
        },
    )


def installed_versions() -> dict[str, str]:
    """Of the libraries that a training uses; one of 16 bits does without bitsandbytes."""
    versions = {}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def draw_curves(path: Path, history: list[dict[str, float]], baseline_auroc: float) -> None:
    """PNG of the Trainer's log history: the loss on the left, the validation AUROC on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    loss, auroc = figure.subplots(1, 2)
    for name, label in (("loss", "training"), ("eval_loss", "validation")):
        loss.plot(*logged(history, name), label=label)
    loss.set(xlabel="optimizer step", ylabel="cross-entropy of the answer")
    loss.legend()
    auroc.plot(*logged(history, "eval_auroc"), marker="o", markersize=3, label="all languages")
    for name in sorted({name for entry in history for name in entry if name.startswith("eval_auroc_")}):
        auroc.plot(*logged(history, name), linewidth=0.8, alpha=0.6, label=name.removeprefix("eval_auroc_"))
    auroc.axhline(baseline_auroc, linestyle="--", color="grey", label="TF-IDF baseline")
    auroc.set(xlabel="optimizer step", ylabel="validation AUROC")
    auroc.legend(fontsize="small")
    with finished_file(path) as unfinished:
        FigureCanvasAgg(figure).print_png(str(unfinished))


def logged(history: Iterable[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of one figure of the log history."""
    found = [(entry["step"], entry[name]) for entry in history if name in entry]
    return [step for step, _ in found], [value for _, value in found]
