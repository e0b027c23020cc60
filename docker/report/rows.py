"""The rows of a run, one a picture: input lines, stdout, labels and evidence, checked against one another.

Files of different runs look alike, so nothing is matched by hope: counts, names and probabilities must agree, and what
does not is named with its line and a remedy.
"""

import csv
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from detector.meme import Evidence, label_of
from detector.stream import line_to_path, read_lines

LABEL_WORDS = {"offensive": 1, "unsafe": 1, "harmful": 1, "1": 1, "ok": 0, "safe": 0, "harmless": 0, "0": 0}
# stdout has four decimals, the evidence all of them.
LAST_DIGIT = 1e-4
ERRORS_NAMED = 3


class UnusableRun(Exception):
    """The message names the file, what is wrong with it, and the remedy."""


@dataclass(kw_only=True)
class RunEvidence(Evidence):
    """A line of DETAILS_PATH: what predict.py writes, and what evaluate_model.py adds to it."""

    id: str | None = None
    gold: Annotated[int, Field(ge=0, le=1)] | None = None
    language: str | None = None
    category: str | None = None
    group: str | None = None


@dataclass
class Row:
    """One picture (or one text of a data set): what was answered, what is known, and why."""

    path: str  # as read, undecodable bytes kept as surrogates; empty for a text without picture
    name: str  # for people, valid Unicode
    probability: float
    printed_label: int | None = None
    gold: int | None = None
    language: str | None = None
    category: str | None = None
    group: str | None = None
    evidence: RunEvidence | None = None

    @property
    def predicted(self) -> str | None:
        """The category that is the most probable one if the row is harmful; None where none was asked for."""
        shares = self.evidence.categories if self.evidence else {}
        return max(shares, key=lambda name: shares[name], default=None)


def read_rows(
    input_path: Path | None, predictions_path: Path | None, labels_path: Path | None, details_path: Path | None
) -> list[Row]:
    """Rows in the order of the run; raises UnusableRun."""
    evidence = read_evidence(details_path) if details_path else []
    if input_path and predictions_path:
        rows = printed_rows(input_path, predictions_path)
        attach_evidence(rows, evidence, details_path)
    else:
        rows = [row_of(path, line, number) for number, (path, line) in enumerate(evidence, 1)]
    if not rows:
        raise UnusableRun(f"{predictions_path or details_path} is empty: there is nothing to report on")
    if labels_path:
        attach_labels(rows, read_labels(labels_path), labels_path)
    return rows


def printed_rows(input_path: Path, predictions_path: Path) -> list[Row]:
    """A row for each line of stdin, with the answer that stands on the same line of stdout."""
    with input_path.open("rb") as lines:
        paths = [line_to_path(line) for line in read_lines(lines.fileno())]
    answers = read_predictions(predictions_path)
    if len(paths) != len(answers):
        raise UnusableRun(
            f"INPUT_PATH={input_path} has {len(paths):,} lines, PREDICTIONS_PATH={predictions_path} {len(answers):,}: "
            "they are of different runs, or the run was cut off; predict.py answers every line, run it again"
        )
    return [
        Row(path, valid_unicode(path) or f"(empty line {number})", *answer)
        for number, (path, answer) in enumerate(zip(paths, answers, strict=True), 1)
    ]


def read_predictions(path: Path) -> list[tuple[float, int]]:
    """(probability, label) of each `probability<TAB>label` line."""
    lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    answers, wrong = [], []
    for number, line in enumerate(lines, 1):
        if answer := parse_answer(line):
            answers.append(answer)
        else:
            wrong.append(f"line {number} is {line[:60]!r}")
    if wrong:
        raise UnusableRun(
            f"PREDICTIONS_PATH={path}: {listed(wrong)}; every line must be `probability<TAB>label` (0 to 1, then 0 or "
            "1), as predict.py prints it. A data set's predictions.jsonl goes into DETAILS_PATH, alone"
        )
    return answers


def parse_answer(line: str) -> tuple[float, int] | None:
    probability, tab, label = line.partition("\t")
    try:
        number = float(probability)
    except ValueError:
        return None
    return (number, int(label)) if tab and label in ("0", "1") and 0 <= number <= 1 else None


def read_evidence(path: Path) -> list[tuple[str, RunEvidence]]:
    """(path as written, evidence) of each JSON line."""
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    checked = TypeAdapter(RunEvidence)
    found, wrong = [], []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            given = record.get("path") or ""
            found.append((given, checked.validate_python(valid_unicode({**record, "path": given}))))
        except ValidationError as invalid:
            error = invalid.errors()[0]
            wrong.append(f"line {number}, {'.'.join(map(str, error['loc']))}: {error['msg']}")
        except (ValueError, AttributeError, RecursionError):
            wrong.append(f"line {number} is no JSON object")
    if wrong:
        raise UnusableRun(
            f"DETAILS_PATH={path}: {listed(wrong)}; it must be what predict.py wrote with DETAILS_PATH "
            "set, or evaluate_model.py's predictions.jsonl"
        )
    return found


def row_of(path: str, evidence: RunEvidence, number: int) -> Row:
    name = valid_unicode(path) or evidence.id or f"line {number}"
    return Row(
        path,
        name,
        evidence.probability,
        evidence.label,
        evidence.gold,
        evidence.language,
        evidence.category,
        evidence.group,
        evidence,
    )


def attach_evidence(rows: list[Row], evidence: list[tuple[str, RunEvidence]], details_path: Path | None) -> None:
    """Line by line; fewer lines than rows is what a full disk leaves, the page says so."""
    wrong = [f"it has {len(evidence):,} lines, the predictions {len(rows):,}"] if len(evidence) > len(rows) else []
    for number, (row, (path, line)) in enumerate(zip(rows, evidence, strict=False), 1):
        if os.path.basename(path) != os.path.basename(row.path):
            wrong.append(f"line {number} is about {valid_unicode(path)!r}, INPUT_PATH says {row.name!r}")
        elif abs(line.probability - row.probability) > LAST_DIGIT:
            wrong.append(f"line {number} has probability {line.probability:.4f}, the predictions {row.probability:.4f}")
        row.evidence, row.gold = line, line.gold
        row.language, row.category, row.group = line.language, line.category, line.group
    if wrong:
        raise UnusableRun(
            f"DETAILS_PATH={details_path}: {listed(wrong)}; give the evidence of the very run that "
            "printed the predictions"
        )


def read_labels(path: Path) -> dict[str, dict[str, Any]]:
    """file_name to its line of the CSV, with `gold` 0 or 1."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as table:
        reader = csv.DictReader(table)
        missing = {"file_name", "label"} - set(reader.fieldnames or ())
        if missing:
            raise UnusableRun(
                f"LABELS_PATH={path} lacks the column(s) {', '.join(sorted(missing))}; it must be a "
                "CSV with file_name,label and, where known, language,category,group"
            )
        lines = [(reader.line_num, line) for line in reader]
    labels: dict[str, dict[str, Any]] = {}
    wrong = []
    for number, line in lines:
        gold = LABEL_WORDS.get((line["label"] or "").strip().lower())
        known = labels.setdefault(line["file_name"], line | {"gold": gold})
        if gold is None:
            wrong.append(f"line {number} has label {line['label']!r}")
        elif known["gold"] != gold:
            wrong.append(f"line {number} contradicts an earlier line on {line['file_name']!r}")
    if wrong:
        raise UnusableRun(f"LABELS_PATH={path}: {listed(wrong)}; a file has one label, of {', '.join(LABEL_WORDS)}")
    return labels


def attach_labels(rows: list[Row], labels: dict[str, dict[str, Any]], labels_path: Path) -> None:
    """Each row gets the label of its path, or of the longest end of its path that has one."""
    owners: dict[str, set[str]] = {}
    for row in rows:
        key = next((end for end in path_ends(row.path or row.name) if end in labels), None)
        if key is None:
            continue
        owners.setdefault(key, set()).add(row.path or row.name)
        line = labels[key]
        row.gold = line["gold"]
        for column in ("language", "category", "group"):
            setattr(row, column, valid_unicode(line.get(column) or "") or getattr(row, column))
    unknown = [repr(valid_unicode(name)) for name in labels.keys() - owners.keys()]
    if unknown:
        raise UnusableRun(
            f"LABELS_PATH={labels_path} labels {len(unknown):,} files that the run never saw: "
            f"{listed(sorted(unknown))}; take their lines out, or give the labels of this run"
        )
    shared = [repr(valid_unicode(key)) for key, paths in owners.items() if len(paths) > 1]
    if shared:
        raise UnusableRun(
            f"LABELS_PATH={labels_path}: several pictures are named {listed(sorted(shared))}; write "
            "file_name with enough of its folders to tell them apart"
        )


def path_ends(path: str) -> list[str]:
    """`a/b/c.png`, `b/c.png`, `c.png`."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def reported_threshold(rows: list[Row], requested: float | None) -> float:
    """The threshold of the printed labels: THRESHOLD, else 0.5 where it agrees with them all, else one that does."""
    printed = [(row.probability, row.printed_label) for row in rows if row.printed_label is not None]
    if requested is not None:
        return requested
    if all(label_of(probability, 0.5) == label for probability, label in printed):
        return 0.5
    threshold = min((probability for probability, label in printed if label), default=1.0)
    wrong = sum(label_of(probability, threshold) != label for probability, label in printed)
    if wrong:
        raise UnusableRun(
            f"no threshold gives the labels that were printed ({wrong:,} lines disagree with "
            f"{threshold:.4f}): lines of two runs are mixed; set THRESHOLD to judge all by one"
        )
    return threshold


def failures(rows: list[Row]) -> dict[str, int]:
    """Rows by the first reason why something about them fell back, most frequent first."""
    return dict(Counter(row.evidence.error for row in rows if row.evidence and row.evidence.error).most_common())


def unseen_counts(rows: list[Row]) -> dict[str, int]:
    """Rows of whose `frames`, and of whose `text`, the detector left something out."""
    found = [row.evidence for row in rows if row.evidence]
    return {
        "frames": sum(evidence.unseen_frames > 0 for evidence in found),
        "text": sum(evidence.unseen_text > 0 for evidence in found),
    }


def valid_unicode(value: Any) -> Any:
    """The same value with lone surrogates, which no UTF-8 file can hold, as replacement characters."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, list):
        return [valid_unicode(item) for item in value]
    if isinstance(value, dict):
        return {valid_unicode(key): valid_unicode(item) for key, item in value.items()}
    return value


def listed(errors: list[str]) -> str:
    more = len(errors) - ERRORS_NAMED
    return "; ".join(errors[:ERRORS_NAMED]) + (f"; and {more:,} more" if more > 0 else "")
