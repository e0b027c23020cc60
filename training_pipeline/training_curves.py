"""One picture of a training: the loss on the left, the validation AUROC with its floor on the right."""

import os
from pathlib import Path


def draw_curves(path: Path, history: list[dict], floor_auroc: float) -> None:
    """PNG of the Trainer's log history; written aside and renamed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    loss, auroc = figure.subplots(1, 2)
    for name, label in (("loss", "training"), ("eval_loss", "validation")):
        loss.plot(*_points(history, name), label=label)
    loss.set(xlabel="optimizer step", ylabel="cross-entropy of the answer")
    loss.legend()
    auroc.plot(*_points(history, "eval_auroc"), marker="o", markersize=3, label="all languages")
    for name in sorted({name for entry in history for name in entry if name.startswith("eval_auroc_")}):
        auroc.plot(*_points(history, name), linewidth=0.8, alpha=0.6, label=name.removeprefix("eval_auroc_"))
    auroc.axhline(floor_auroc, linestyle="--", color="grey", label="TF-IDF floor")
    auroc.set(xlabel="optimizer step", ylabel="validation AUROC")
    auroc.legend(fontsize="small")
    aside = path.with_name(f".{path.name}.unfinished")
    FigureCanvasAgg(figure).print_png(str(aside))
    os.replace(aside, path)


def _points(history: list[dict], name: str) -> tuple[list, list]:
    found = [(entry["step"], entry[name]) for entry in history if name in entry]
    return [step for step, _ in found], [value for _, value in found]
