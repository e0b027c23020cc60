"""One self-contained page of a run: the template, style and scripts of templates/, filled and inlined.

The page may show what attackers wrote, so three defences stand one behind another: Jinja escapes all text, the scripts
only ever set textContent, and a Content-Security-Policy allows the page's own script and style (by hash) and data:
pictures, nothing else. It works from file://, where there are no headers.
"""

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.meme import OcrLine, printed
from report.categories import predicted_categories
from report.review import LABEL_KEYS, category_keys, review_queue, run_id
from report.rows import Row, unseen_counts, valid_unicode
from report.thumbnails import Thumbnail

if TYPE_CHECKING:
    from jinja2 import Template

FOLDER = Path(__file__).resolve().parent / "templates"
STYLES = ("report.css", "gallery.css", "review.css")
SCRIPTS = ("page.js", "threshold.js", "gallery.js", "review.js", "details.js")
# Text beyond this is cut: it is evidence to look at, not a copy of the file.
MAX_CHARACTERS, MAX_LINES, MAX_CORNERS = 2000, 100, 8
LANGUAGES = {"en": "English", "zh": "Chinese", "ms": "Malay", "ta": "Tamil"}
VIEWS = {"text": "text alone", "image_text": "caption and text", "both": "both, as printed"}
RATES = [
    ("recall", "Recall", "harmful that are flagged"),
    ("precision", "Precision", "flagged that are harmful"),
    ("false_positive_rate", "False alarms", "harmless that are flagged (false positive rate)"),
    ("accuracy", "Accuracy", "rows judged as labelled"),
    ("f1", "F1", "harmonic mean of precision and recall"),
    ("flagged", "Flagged", "work for a moderator"),
]
SHOWS = [
    ("all", "All"),
    ("queue", "To review"),
    ("fp", "False positives"),
    ("fn", "False negatives"),
    ("uncertain", "Least certain"),
    ("failures", "Failures"),
    ("disagree", "Views disagree"),
    ("unseen", "Not all seen"),
    ("tp", "True positives"),
    ("tn", "True negatives"),
    ("unlabelled", "Unlabelled"),
    ("flagged", "Flagged"),
    ("passed", "Passed"),
    ("reviewed", "Reviewed"),
]
SORTS = [
    ("order", "as in the run"),
    ("high", "most harmful first"),
    ("low", "least harmful first"),
    ("wrong", "most wrong first"),
    ("uncertain", "closest to the threshold"),
    ("disagree", "views disagree most"),
    ("queue", "worth a review first"),
    ("random", "at random"),
]


def render_page(
    title: str,
    report: dict[str, Any],
    rows: list[Row],
    thumbnails: list[Thumbnail],
    charts: dict[str, str],
    *,
    unit: str,
    categories: list[str],
    headline: str,
    notes: list[str],
    sources: list[tuple[str, str]],
    resamples: int,
    seed: int,
) -> str:
    """The whole page as HTML. A row is a `unit`: a picture or a text; `sources`: (variable, file name); `categories`:
    those that a reviewer may give a row.
    """
    style, script = (
        "".join((FOLDER / name).read_text(encoding="utf-8") for name in names) for names in (STYLES, SCRIPTS)
    )
    keys = {"label": LABEL_KEYS, "category": category_keys(categories)}
    named = {name: charts.get(name) for name in ("histogram", "roc", "precision_recall", "reliability")}
    return page_template().render(
        title=valid_unicode(title),
        report=report,
        measured=report["measured"],
        charts=named,
        style=style,
        script=script,
        policy=content_security_policy(style, script),
        rates=RATES,
        shows=shows(rows),
        sorts=SORTS,
        choices={column: values_of(column, rows) for column in ("language", "category")}
        | {"predicted": predicted_categories(rows)},
        slices=[(column, report[f"by_{column}"]) for column in ("language", "category")],
        has_pictures=bool(thumbnails),
        language_names=LANGUAGES,
        view_names=VIEWS,
        review_keys=keys,
        run=run_record(report, rows, thumbnails, unit, keys),
        thumbnails=[thumbnail.webp for thumbnail in thumbnails],
        unit=unit,
        headline=headline,
        notes=notes,
        sources=sources,
        resamples=resamples,
        seed=seed,
    )


def page_template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    return environment.get_template("page.html.j2")


def content_security_policy(style: str, script: str) -> str:
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)
    )
    return (
        f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def shows(rows: list[Row]) -> list[tuple[str, str]]:
    """The gallery's filters that the evidence allows; scripts hide those that no row can meet for want of labels."""
    impossible = set()
    if not any(row.evidence for row in rows):
        impossible.add("failures")
    if not any(
        row.evidence and None not in (row.evidence.probability_text, row.evidence.probability_image_text)
        for row in rows
    ):
        impossible.add("disagree")
    if not any(unseen_counts(rows).values()):
        impossible.add("unseen")
    return [(key, name) for key, name in SHOWS if key not in impossible]


def values_of(column: str, rows: list[Row]) -> list[str]:
    return sorted({value for row in rows if (value := getattr(row, column))})


def run_record(
    report: dict[str, Any], rows: list[Row], thumbnails: list[Thumbnail], unit: str, keys: dict[str, dict[str, str]]
) -> dict[str, Any]:
    """What the scripts read; `keys`: for each field of a review, the key that gives it a value."""
    shown = thumbnails or [Thumbnail()] * len(rows)
    return {
        "threshold": report["threshold"],
        "unit": unit,
        "languages": LANGUAGES,
        "id": run_id(rows),
        "labelled": report["measured"] is not None,
        "keys": {key: [field, value] for field, of in keys.items() for value, key in of.items() if key},
        "queue": review_queue(rows, report["threshold"]),
        "rows": [row_record(row, thumbnail) for row, thumbnail in zip(rows, shown, strict=True)],
    }


def row_record(row: Row, thumbnail: Thumbnail) -> dict[str, Any]:
    evidence = row.evidence
    record = {
        "name": row.name.rpartition("/")[2] or row.name,
        "path": valid_unicode(row.path),
        "id": None if row.path else row.name,
        "p": printed(row.probability),
        "gold": row.gold,
        "printed": row.printed_label,
        "language": row.language,
        "category": row.category,
        "predicted": row.predicted,
        "missing": thumbnail.reason,
        "text": "",
        "caption": "",
        "error": None,
        "pt": None,
        "pi": None,
        "uf": 0.0,
        "ut": 0.0,
        "categories": {},
        "lines": [],
        "milliseconds": {},
    }
    if evidence:
        record |= {
            "text": cut(evidence.text),
            "caption": cut(evidence.caption),
            "error": evidence.error,
            "pt": rounded(evidence.probability_text),
            "pi": rounded(evidence.probability_image_text),
            "uf": evidence.unseen_frames,
            "ut": evidence.unseen_text,
            "categories": {name: printed(share) for name, share in evidence.categories.items()},
            "milliseconds": {stage: round(spent, 1) for stage, spent in evidence.milliseconds.items()},
            "lines": [line_record(line, thumbnail.size) for line in evidence.ocr[:MAX_LINES]],
        }
    return record


def line_record(line: OcrLine, size: tuple[int, int]) -> dict[str, Any]:
    """Corners in thousandths of the picture's sides."""
    width, height = (max(1, side) for side in size)
    box = [
        coordinate
        for x, y in line.box[:MAX_CORNERS]
        for coordinate in (round(1000 * x / width), round(1000 * y / height))
    ]
    return {"text": cut(line.text), "confidence": round(line.confidence, 3), "engine": line.engine, "box": box}


def cut(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}… ({len(text):,} characters)"


def rounded(probability: float | None) -> float | None:
    return None if probability is None else printed(probability)
