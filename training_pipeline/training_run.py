"""A training run on disk: what it was asked, whether it is finished, where it stopped, and what came of it."""

import importlib.metadata
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from transformers import TrainerCallback

from dataset_rows import rows_fingerprint
from model_folder import weights_fingerprint, write_json

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "datasets")


@dataclass(frozen=True)
class Run:
    identity: dict  # settings, base and data set that make this run what it is
    is_finished: bool
    last_checkpoint: str | None


def open_run(settings, splits: dict, identity_settings: tuple[str, ...]) -> Run:
    """The state of OUTPUT_DIR for these settings; SystemExit where it holds a run of other settings."""
    identity = {name: getattr(settings, name) for name in identity_settings}
    identity["base_weights"] = weights_fingerprint(settings.model_dir)
    identity["dataset"] = rows_fingerprint(splits)
    path = settings.output_dir / "run.json"
    if path.exists():
        former = json.loads(path.read_text(encoding="utf-8"))
        changed = [name.upper() for name in identity if former.get(name) != identity[name]]
        if changed:
            raise SystemExit(
                f"{settings.output_dir} holds a run of other {', '.join(changed)}; "
                "choose another OUTPUT_DIR or delete it"
            )
    else:
        start_folder(settings.output_dir, identity)
    finished = (settings.output_dir / "training.json").exists()
    return Run(identity, finished, last_whole_checkpoint(settings.output_dir))


def start_folder(output_dir: Path, identity: dict) -> None:
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(output_dir / "run.json", identity)
    except OSError as fault:
        raise SystemExit(
            f"OUTPUT_DIR={output_dir} cannot be written to ({fault.strerror}); choose another folder"
        ) from None


def last_whole_checkpoint(output_dir: Path) -> str | None:
    """The latest checkpoint-N that was saved to its end; what a kill left of a later one is removed."""
    by_step = sorted(output_dir.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    for folder in reversed(by_step):
        if (folder / "scoring.json").exists():  # CarryScoring writes it when all else is there
            return str(folder)
        print(f"removed {folder}, which was never saved to its end", file=sys.stderr)
        shutil.rmtree(folder)
    return None


def ranking_metrics(languages: list[str]):
    """compute_metrics for the Trainer: probabilities [memes] against labels [memes], by language too.

    AUROC, accuracy at 0.5 and log-loss; a language with one label only has no AUROC.
    """
    of_language = {language: np.array(languages) == language for language in sorted(set(languages))}

    def metrics(predictions) -> dict[str, float]:
        probabilities, labels = predictions
        found = {
            "auroc": float(roc_auc_score(labels, probabilities)),
            "accuracy": float(accuracy_score(labels, probabilities >= 0.5)),
            "log_loss": float(log_loss(labels, np.clip(probabilities, 1e-7, 1 - 1e-7))),
        }
        for language, chosen in of_language.items():
            if len(set(labels[chosen])) == 2:
                found[f"auroc_{language}"] = float(roc_auc_score(labels[chosen], probabilities[chosen]))
        return found

    return metrics


class CarryScoring(TrainerCallback):
    """Every checkpoint gets scoring.json, last of all: the checkpoint describes itself and is whole."""

    def __init__(self, scoring: dict):
        self.scoring = scoring

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            write_json(Path(args.output_dir) / f"checkpoint-{state.global_step}" / "scoring.json", self.scoring)


def finish_run(settings, run: Run, trainer, tokenizer, scoring: dict, metrics: dict) -> None:
    """Save the best adapter, the curves and, last, training.json, which says that the folder is whole."""
    from training_curves import draw_curves

    trainer.save_model(str(settings.output_dir))
    if not trainer.is_world_process_zero():
        return
    tokenizer.save_pretrained(settings.output_dir)
    write_json(settings.output_dir / "scoring.json", scoring)
    draw_curves(settings.output_dir / "training.png", trainer.state.log_history, metrics["tfidf_floor_auroc"])
    write_json(
        settings.output_dir / "training.json",
        {
            "run": run.identity,
            "model_dir": str(settings.model_dir),
            "dataset_dir": settings.dataset_dir,
            "processes": trainer.args.world_size,
            "best_checkpoint": Path(trainer.state.best_model_checkpoint or "").name,
            "metrics": {name: value for name, value in metrics.items() if isinstance(value, int | float)},
            "history": trainer.state.log_history,
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        },
    )
