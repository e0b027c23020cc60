"""The report's charts: matplotlib draws, and every colour becomes a CSS variable, so that they follow the page's theme.

An SVG of matplotlib styles itself by `style` attributes, which the page's Content-Security-Policy forbids; the same
properties as plain attributes are allowed.
"""

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

from report.measures import BAND_POINTS, Labelled, reliability, roc_band

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# Colours that matplotlib is given, and the CSS variables that they stand for.
INK, LINE, HARMFUL, HARMLESS, ACCENT = "#010203", "#020304", "#030405", "#040506", "#050607"
VARIABLES = {INK: "--ink-soft", LINE: "--line-strong", HARMFUL: "--harmful", HARMLESS: "--harmless", ACCENT: "--accent"}
SQUARE, WIDE = (4.3, 3.9), (11, 2.7)
HISTOGRAM_BINS = 40
STYLE = {
    "svg.fonttype": "none",
    "figure.dpi": 72,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.linewidth": 0.8,
    "legend.frameon": False,
}


def draw_charts(sample: Labelled, scores: np.ndarray, threshold: float, resamples: int, seed: int) -> dict[str, str]:
    """Chart name to inline SVG; the curves only where both labels occur. `scores`: those of all rows, shape [rows]."""
    import matplotlib

    matplotlib.use("Agg")
    with matplotlib.rc_context(STYLE):
        charts = {"histogram": histogram(sample, scores)}
        if sample.has_both:
            charts["roc"] = roc_chart(sample, threshold, roc_band(sample, resamples, seed))
            charts["precision_recall"] = precision_recall_chart(sample, threshold)
        if len(sample):
            charts["reliability"] = reliability_chart(sample)
    return charts


def histogram(sample: Labelled, scores: np.ndarray) -> str:
    """Harmful rows upwards, harmless ones downwards; all rows upwards where nothing is labelled."""
    figure, axes = new_axes(WIDE, left=0.05, right=0.98, bottom=0.17, top=0.97)
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    kinds = (
        [(sample.scores[sample.labels == 1], 1, HARMFUL), (sample.scores[sample.labels == 0], -1, HARMLESS)]
        if len(sample)
        else [(scores, 1, ACCENT)]
    )
    heights = [np.histogram(values, edges)[0] for values, _, _ in kinds]
    for height, (_, direction, colour) in zip(heights, kinds, strict=True):
        axes.bar(edges[:-1] + 0.5 / HISTOGRAM_BINS, direction * height, width=0.8 / HISTOGRAM_BINS, color=colour)
    highest = max(1, max(height.max() for height in heights))
    axes.set_ylim(-1.08 * highest if len(kinds) == 2 else 0, 1.08 * highest)
    axes.axhline(0, color=LINE, linewidth=0.8)
    axes.set_xticks(np.linspace(0, 1, 11))
    axes.yaxis.set_major_locator(whole_numbers())
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axes.set_xlabel("probability of harm")
    return themed_svg(figure, axes, "histogram", x_only=True)


def roc_chart(sample: Labelled, threshold: float, band: np.ndarray) -> str:
    from sklearn.metrics import roc_curve

    figure, axes = square_axes("false positive rate", "true positive rate (recall)")
    rate, recall, _ = roc_curve(sample.labels, sample.scores, drop_intermediate=False)
    axes.fill_between(BAND_POINTS, *band, color=ACCENT, alpha=0.16, linewidth=0)
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot(rate, recall, color=ACCENT, linewidth=2)
    flagged = sample.flagged(threshold)
    mark_reported(axes, flagged[sample.labels == 0].mean(), flagged[sample.labels == 1].mean())
    return themed_svg(figure, axes, "roc")


def precision_recall_chart(sample: Labelled, threshold: float) -> str:
    from sklearn.metrics import precision_recall_curve

    figure, axes = square_axes("recall", "precision")
    precision, recall, _ = precision_recall_curve(sample.labels, sample.scores)
    axes.axhline(sample.labels.mean(), color=LINE, linewidth=1, linestyle=(0, (4, 3)))
    axes.step(recall, precision, where="post", color=ACCENT, linewidth=2)
    flagged = sample.flagged(threshold)
    if flagged.any():
        mark_reported(axes, flagged[sample.labels == 1].mean(), sample.labels[flagged].mean())
    return themed_svg(figure, axes, "precision_recall")


def reliability_chart(sample: Labelled) -> str:
    """Each bin's share of harmful rows against its mean score, with Wilson intervals and the bin's rows on top."""
    figure, axes = square_axes("mean probability in the bin", "share that is harmful")
    bins = reliability(sample)
    scores, shares = (np.array([part[name] for part in bins]) for name in ("mean_score", "share_harmful"))
    low, high = np.array([part["interval"] for part in bins]).T
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle=(0, (4, 3)))
    errors = np.clip([shares - low, high - shares], 0, 1)
    axes.errorbar(scores, shares, yerr=errors, color=ACCENT, fmt="o-", linewidth=2, elinewidth=1.2, markersize=5)
    for part in bins:
        axes.text(part["mean_score"], 1.035, f"{part['rows']:,}", ha="center", fontsize=8, color=INK)
    return themed_svg(figure, axes, "reliability")


def square_axes(x_label: str, y_label: str) -> "tuple[Figure, Axes]":
    figure, axes = new_axes(SQUARE, left=0.13, right=0.97, bottom=0.13, top=0.94)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def new_axes(size: tuple[float, float], **margins: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    axes = figure.subplots()
    figure.subplots_adjust(**margins)
    axes.set_xlim(0, 1)
    axes.tick_params(length=3)
    return figure, axes


def whole_numbers() -> "Locator":
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, nbins=6, min_n_ticks=1)


def mark_reported(axes: "Axes", x: float, y: float) -> None:
    axes.plot([x], [y], marker="o", markersize=9, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.2)


def themed_svg(figure: "Figure", axes: "Axes", name: str, x_only: bool = False) -> str:
    """The figure as SVG without style attributes; its data attributes say where 0 and 1 of each axis lie, in points."""
    import matplotlib

    written = io.BytesIO()
    # The salt makes ids differ from chart to chart, and alike from run to run.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(written.getvalue())
    for child in [child for child in root.iter() if local_name(child) in ("metadata", "defs")]:
        for style in [part for part in child if local_name(part) in ("style", "RDF")]:
            child.remove(style)
    for element in root.iter():
        unstyle(element)
    drop_unused_ids(root)
    height = figure.bbox.height
    (x0, y0), (x1, y1) = axes.transData.transform([(0, 0), (1, 0 if x_only else 1)])
    top, bottom = (axes.bbox.y1, axes.bbox.y0) if x_only else (y1, y0)
    places = {"x0": x0, "x1": x1, "y0": height - bottom, "y1": height - top}
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "class": "chart",
        "aria-hidden": "true",
        "data-chart": name,
        **{f"data-{place}": f"{value:.2f}" for place, value in places.items()},
    }
    return ElementTree.tostring(root, encoding="unicode")


def local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def unstyle(element: ElementTree.Element) -> None:
    """`style="fill: #010203"` becomes `fill="var(--ink-soft)"`; of a font only the size is kept."""
    for declaration in filter(None, element.attrib.pop("style", "").split(";")):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            name, value = "font-size", re.findall(r"([\d.]+)px", value)[0]
        element.set(name, value)
    for name in ("fill", "stroke"):
        if variable := VARIABLES.get(element.get(name, "")):
            element.set(name, f"var({variable})")


def drop_unused_ids(root: ElementTree.Element) -> None:
    """Ids such as figure_1 recur in every chart; only those that are referred to are kept."""
    values = " ".join(value for element in root.iter() for value in element.attrib.values())
    used = set(re.findall(r"#([\w-]+)", values))
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
