"""A guard model's scores of a split, and predictions.jsonl: predict.py's record of evidence, a line a row."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from guard.model_folder import Scoring
from guard.output_files import finished_file
from guard.scores import ViewAnswers, meme_probabilities, predicted_labels, view_answers, view_probabilities
from guard.template import GuardPrompt, encode_windows, view_texts
from memes.rows import MemeRow

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Scores:
    margins: list[np.ndarray]  # per row, logit(offensive) - logit(ok) by view, float32 [views]
    categories: list[dict[str, float]]  # per row, P(category | offensive), the mean over its views; {} where unknown
    names: list[list[str]]  # per row, the names of its views
    unseen: list[float]  # per row, the share of its text that was in no window
    milliseconds: float  # a row

    def by_view(self, temperature: float) -> list[dict[str, float]]:
        """Per row, the probability of `offensive` by the name of the view."""
        return [
            dict(zip(names, view_probabilities(margins, temperature).tolist(), strict=True))
            for names, margins in zip(self.names, self.margins, strict=True)
        ]


def score_rows(model: "PreTrainedModel", prompt: GuardPrompt, rows: list[MemeRow]) -> Scores:
    started = time.monotonic()
    encoded = [encode_windows(prompt, row) for row in rows]
    of_windows = iter(view_answers(model, prompt, [view for views, _ in encoded for view in views]))
    answers = [[most_harmful(next(of_windows)) for _ in views] for views, _ in encoded]
    margins = [np.array([margin for margin, _ in views], dtype=np.float32) for views in answers]
    categories = [mean_categories(prompt, [chances for _, chances in views]) for views in answers]
    unseen = [share for _, share in encoded]
    print(
        f"{len(rows)} rows scored, {sum(share > 0 for share in unseen)} of them with text beyond all windows of "
        f"{prompt.max_text_tokens} tokens, "
        f"{sum(not len(views) for views in margins)} without text and caption",
        file=sys.stderr,
    )
    names = [list(view_texts(prompt, row["text"], row["image"])) for row in rows]
    return Scores(margins, categories, names, unseen, 1000 * (time.monotonic() - started) / len(rows))


def most_harmful(windows: ViewAnswers) -> tuple[float, np.ndarray]:
    """(margin, P(category | offensive) [categories]) of the most harmful of a view's windows: it is the view's."""
    chosen = int(windows.margins.argmax())
    return windows.margins[chosen], windows.categories[chosen]


def mean_categories(prompt: GuardPrompt, views: list[np.ndarray]) -> dict[str, float]:
    """P(category | offensive) of a meme by name: the mean over its views, which sums to 1; {} without views."""
    if not views:
        return {}
    mean = np.stack(views).astype(np.float64).mean(0)
    return {name: float(chance) for name, chance in zip(prompt.category_token_ids, mean, strict=True)}


def write_predictions(path: Path, rows: list[MemeRow], scores: Scores, scoring: Scoring) -> None:
    probabilities = meme_probabilities(scores.margins, scoring["temperature"])
    labels = predicted_labels(probabilities, scoring["threshold"])
    views = scores.by_view(scoring["temperature"])
    with finished_file(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        answers = zip(
            rows, views, probabilities.tolist(), labels.tolist(), scores.categories, scores.unseen, strict=True
        )
        for row, of_views, probability, label, categories, unseen in answers:
            record = evidence_record(row, of_views, probability, label, categories, unseen, scores.milliseconds)
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def evidence_record(
    row: MemeRow,
    views: dict[str, float],
    probability: float,
    label: int,
    categories: dict[str, float],
    unseen: float,
    milliseconds: float,
) -> dict[str, Any]:
    """predict.py's record, with what is known of the row; there is no picture, so no path and nothing read from it."""
    return {
        "id": row["id"],
        "path": None,
        "text": row["text"],
        "ocr": [],
        "caption": row["image"],
        "probability_text": views.get("text"),
        "probability_image_text": views.get("image_text"),
        "probability": probability,
        "label": label,
        "categories": categories,
        "unseen_frames": 0.0,
        "unseen_text": round(unseen, 4),
        "error": None if views else "nothing_to_score",
        "milliseconds": {"score": round(milliseconds, 1)},
        "gold": row["label"],
        "language": row["language"],
        "category": row["category"],
        "group": row["group"],
    }
