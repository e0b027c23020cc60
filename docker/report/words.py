"""What the numbers say, and what they do not, in sentences for the report."""

from collections import Counter
from typing import Any

from report.measures import MAX_PARTS
from report.rows import Row

# Below so many rows of a label, an interval is wide whatever the detector does.
FEW = 100


def counted(count: int, thing: str) -> str:
    """`1 picture`, `2,000 pictures`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def headline(report: dict[str, Any], unit: str) -> str:
    """The finding in one or two sentences; never more than the interval allows."""
    measured = report["measured"]
    if measured is None:
        return (
            f"{counted(report['rows_in_run'], unit)} scored, {report['flagged']:,} of them flagged at "
            f"{report['threshold']:.4g}. None has a label: nothing on this page says whether that is right."
        )
    harmless = measured["rows"] - measured["harmful"]
    sizes = f"{counted(measured['rows'], f'labelled {unit}')} ({measured['harmful']:,} harmful, {harmless:,} harmless)"
    if measured["auroc"] is None:
        return f"On {sizes} there is one label only, so nothing can be said about telling them apart."
    low, high = measured["auroc_interval"]
    finding = (
        f"On {sizes}, a harmful {unit} scores above a harmless one {100 * measured['auroc']:.0f} times in 100 "
        f"(95 % interval {100 * low:.0f} to {100 * high:.0f})."
    )
    if low <= 0.5 <= high:
        finding += " The interval includes 50: on these rows the detector cannot be told from chance."
    elif high < 0.5:
        finding += " That is worse than chance: labels or probabilities may be the wrong way round."
    return finding


def notes(report: dict[str, Any], rows: list[Row], missing_pictures: Counter[str], unit: str) -> list[str]:
    """What a reader must know before trusting the page: what is missing, small or assumed."""
    found = [*label_notes(report, rows, unit), *evidence_notes(report, rows, unit)]
    if report["threshold_is_inferred"]:
        found.append(
            f"The printed labels follow some threshold that is not 0.5; {report['threshold']:.4g} agrees with "
            "all of them. Set THRESHOLD to the one that was used."
        )
    if missing_pictures:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in missing_pictures.most_common())
        found.append(
            f"{counted(missing_pictures.total(), 'picture')} cannot be shown here ({reasons}). If files lie "
            "elsewhere now, set IMAGES_DIR."
        )
    return found or ["Labels, languages, categories, groups and evidence are all there."]


def label_notes(report: dict[str, Any], rows: list[Row], unit: str) -> list[str]:
    measured = report["measured"]
    if measured is None:
        return ["No labels: set LABELS_PATH (a CSV with file_name,label) for measures."]
    found = []
    if unlabelled := len(rows) - measured["rows"]:
        found.append(f"Without a label, and left out of all measures: {unlabelled:,} of {counted(len(rows), unit)}.")
    smaller = min(measured["harmful"], measured["rows"] - measured["harmful"])
    if smaller < FEW:
        found.append(f"The rarer label has {smaller:,} rows: read the intervals, not the numbers.")
    if not any(row.group for row in rows):
        found.append(
            "No groups are known, so intervals take all rows as independent. Translations or variants "
            "of one meme are not: give them a group in LABELS_PATH, or the intervals are too narrow."
        )
    found += [
        f"Of {column}, the {MAX_PARTS} commonest values are shown."
        for column in ("language", "category")
        if len(report[f"by_{column}"]) == MAX_PARTS
    ]
    found += [
        f"No {column} is known: nothing can be said by {column}."
        for column in ("language", "category")
        if not any(getattr(row, column) for row in rows)
    ]
    if report["by_predicted_category"] and report["by_category"] and not report["predicted_category"]:
        found.append("No harmful row's label has a category that the model knows: whether its own is right is unknown.")
    return found


def evidence_notes(report: dict[str, Any], rows: list[Row], unit: str) -> list[str]:
    if not report["evidence_rows"]:
        doubtful = sum(row.probability == 0.5 for row in rows)
        return [
            "No evidence: what was read, captions, the views' scores and failures are unknown. Set DETAILS_PATH, "
            f"for predict.py and here. {counted(doubtful, 'line')} at exactly 0.5000, which is also what "
            "predict.py prints by default for what it cannot score."
        ]
    found = []
    if any(report["unseen"].values()):
        parts = " and ".join(f"{part} of {counted(count, unit)}" for part, count in report["unseen"].items() if count)
        found.append(f"Not all was seen: some {parts} (unseen_frames, unseen_text). What stands there was not judged.")
    if behind := len(rows) - report["evidence_rows"]:
        found.append(f"The evidence ends {behind:,} lines before the predictions do: what failed there is unknown.")
    if failed := sum(report["failures"].values()):
        without = report["without_failures"]
        found.append(
            f"Failed, wholly or in one stage: {counted(failed, unit)}. Failures count in all measures, as "
            "they do for whoever reads stdout."
            + (
                f" Without them the AUROC is {without['auroc']:.3f}."
                if without and without["auroc"] is not None
                else ""
            )
        )
    if changed := report["judged_anew"]:
        found.append(f"THRESHOLD={report['threshold']:.4g} gives {changed:,} rows another label than was printed.")
    return found
