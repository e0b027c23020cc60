"""Three pictures of an evaluation: ROC, precision against recall, and reliability; the TF-IDF baseline beside."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from evaluation.metrics import CALIBRATION_BINS
from guard.output_files import finished_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_plots(folder: Path, labels: np.ndarray, curves: dict[str, np.ndarray]) -> None:
    """roc.png, precision_recall.png and reliability.png; `curves` holds scores [rows] by name, the model's first."""
    plots = {"roc": draw_roc, "precision_recall": draw_precision_recall, "reliability": draw_reliability}
    for name, draw in plots.items():
        figure = Figure(figsize=(5, 4.6), layout="constrained")
        draw(figure.subplots(), labels, curves)
        with finished_file(folder / f"{name}.png") as unfinished:
            FigureCanvasAgg(figure).print_png(str(unfinished))


def draw_roc(axes: "Axes", labels: np.ndarray, curves: dict[str, np.ndarray]) -> None:
    for name, scores in curves.items():
        false_rate, true_rate, _ = roc_curve(labels, scores)
        axes.plot(false_rate, true_rate, label=f"{name}, AUROC {roc_auc_score(labels, scores):.3f}")
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="chance")
    axes.set(xlabel="false-positive rate", ylabel="true-positive rate", aspect="equal")
    axes.legend(loc="lower right")


def draw_precision_recall(axes: "Axes", labels: np.ndarray, curves: dict[str, np.ndarray]) -> None:
    for name, scores in curves.items():
        precision, recall, _ = precision_recall_curve(labels, scores)
        area = average_precision_score(labels, scores)
        axes.step(recall, precision, where="post", label=f"{name}, average precision {area:.3f}")
    axes.axhline(labels.mean(), linestyle="--", color="grey", label="chance")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower left")


def draw_reliability(axes: "Axes", labels: np.ndarray, curves: dict[str, np.ndarray]) -> None:
    """The model's alone: share of offensive rows against mean probability, each dot as large as its bin's rows."""
    name, scores = next(iter(curves.items()))
    bins = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    filled = [bins == number for number in range(CALIBRATION_BINS) if (bins == number).any()]
    mean = [scores[chosen].mean() for chosen in filled]
    share = [labels[chosen].mean() for chosen in filled]
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="calibrated")
    axes.plot(mean, share, linewidth=0.8)
    axes.scatter(mean, share, s=[20 + 400 * chosen.mean() for chosen in filled], label=name)
    axes.set(xlabel="mean probability of its bin", ylabel="share of offensive rows", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left")
