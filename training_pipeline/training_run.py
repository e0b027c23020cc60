"""A training run on disk: what it was asked, whether it is finished, where it stopped, and its sanity figures."""

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from model_folder import weights_fingerprint, write_json

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "datasets")


@dataclass(frozen=True)
class Run:
    identity: dict  # settings, base and data set that make this run what it is
    is_finished: bool
    last_checkpoint: str | None


def read_splits(dataset_dir: Path, shuffle_labels: bool, seed: int) -> dict[str, list[dict]]:
    """Rows by split (`train`, `validation`, `test`); SystemExit naming the remedy where training makes no sense."""
    from datasets import load_from_disk

    dataset = load_from_disk(str(dataset_dir))
    missing = {"train", "validation"} - set(dataset)
    if missing:
        raise SystemExit(f"{dataset_dir} has no {' and no '.join(sorted(missing))} split; "
                         "make it with clean_dataset.py")
    splits = {name: rows.select_columns(["image", "text", "label", "language"]).to_list()
              for name, rows in dataset.items()}
    for name in ("train", "validation"):
        labels = {row["label"] for row in splits[name]}
        if labels != {0, 1}:
            raise SystemExit(f"{dataset_dir}: the {name} split has {len(splits[name])} rows of labels "
                             f"{sorted(labels)}; both labels (0 ok, 1 offensive) are needed")
    if shuffle_labels:
        # Validation too: choosing the best checkpoint by true labels would let them in again.
        for number, name in enumerate(("train", "validation")):
            labels = np.random.default_rng(seed + number).permutation([row["label"] for row in splits[name]])
            splits[name] = [{**row, "label": int(label)} for row, label in zip(splits[name], labels, strict=True)]
    return splits


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
            raise SystemExit(f"{settings.output_dir} holds a run of other {', '.join(changed)}; "
                             "choose another OUTPUT_DIR or delete it")
    else:
        settings.output_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, identity)
    finished = (settings.output_dir / "training.json").exists()
    return Run(identity, finished, get_last_checkpoint(str(settings.output_dir)))


def rows_fingerprint(splits: dict) -> str:
    digest = hashlib.sha256()
    for name in sorted(splits):
        for row in splits[name]:
            digest.update(json.dumps([name, row["text"], row["image"], row["label"]]).encode())
    return digest.hexdigest()[:16]


def ranking_metrics(predictions) -> dict[str, float]:
    """AUROC, accuracy at 0.5 and log-loss of probabilities [memes] against labels [memes]."""
    probabilities, labels = predictions
    return {
        "auroc": float(roc_auc_score(labels, probabilities)),
        "accuracy": float(accuracy_score(labels, probabilities >= 0.5)),
        "log_loss": float(log_loss(labels, np.clip(probabilities, 1e-7, 1 - 1e-7))),
    }


def tfidf_floor(splits: dict, split: str) -> float:
    """AUROC of TF-IDF character n-grams plus logistic regression: what no language model should fall below."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    floor = make_pipeline(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
                          LogisticRegression(max_iter=1000, class_weight="balanced"))
    floor.fit([row["text"] for row in splits["train"]], [row["label"] for row in splits["train"]])
    scores = floor.predict_proba([row["text"] for row in splits[split]])[:, 1]
    return float(roc_auc_score([row["label"] for row in splits[split]], scores))


class CarryScoring(TrainerCallback):
    """Every checkpoint gets scoring.json, so that it describes itself."""

    def __init__(self, scoring: dict):
        self.scoring = scoring

    def on_save(self, args, state, control, **kwargs):
        write_json(Path(args.output_dir) / f"checkpoint-{state.global_step}" / "scoring.json", self.scoring)


def finish_run(settings, run: Run, trainer, tokenizer, scoring: dict, metrics: dict) -> None:
    """Save the best adapter; training.json comes last and says that the folder is whole."""
    trainer.save_model(str(settings.output_dir))
    tokenizer.save_pretrained(settings.output_dir)
    write_json(settings.output_dir / "scoring.json", scoring)
    write_json(settings.output_dir / "training.json", {
        "run": run.identity,
        "model_dir": str(settings.model_dir),
        "best_checkpoint": Path(trainer.state.best_model_checkpoint or "").name,
        "metrics": {name: value for name, value in metrics.items() if isinstance(value, int | float)},
        "history": trainer.state.log_history,
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    })
