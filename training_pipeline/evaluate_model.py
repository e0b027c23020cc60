"""Measure a guard model on a split, with an interval, by language, category and view, beside a TF-IDF baseline.

If the model gives categories, they are measured as well, over the offensive rows whose group attacked is known.

On the validation split (SPLIT=validation) it also fits the temperature and three thresholds (high recall, balanced,
high precision) and writes them into MODEL_DIR/scoring.json, from where the container reads them; the balanced one
decides the label. Measure on another split afterwards: figures on the rows of a fit flatter it.

An outside test set is any CSV, TSV or JSON Lines file; without a caption column the text view is scored alone, as the
container does where it has no caption. Its TF-IDF baseline needs BASELINE_DATASET_DIR, the data that the model learnt
from.

Reads   MODEL_DIR (16-bit or GPTQ), DATASET_DIR
Writes  OUTPUT_DIR: evaluation.json (`auroc` at its top level), predictions.jsonl (a line a row, predict.py's evidence
        format plus id, gold, language, category, group), roc.png, precision_recall.png, reliability.png

    MODEL_DIR=artifacts/llm-gptq DATASET_DIR=datasets/v3 OUTPUT_DIR=artifacts/evaluation \\
        python training_pipeline/evaluate_model.py
    MODEL_DIR=artifacts/llm-gptq DATASET_DIR=hatecheck.csv TEXT_COLUMN=test_case LABEL_COLUMN=label_gold \\
        POSITIVE_LABEL=hateful CATEGORY_COLUMN=functionality GROUP_COLUMN=templ_id OUTPUT_DIR=artifacts/hatecheck \\
        python training_pipeline/evaluate_model.py
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from evaluation.summary import summary_lines
from guard.model_folder import (
    DTYPE_MEANING,
    MAX_TEXT_TOKENS,
    Dtype,
    Scoring,
    check_model_folder,
    load_guard_model,
    read_scoring,
    share_cpus,
)
from guard.output_files import check_writable, claim_stdout, explained_write_errors, write_json
from guard.script_settings import ScriptSettings
from memes.defaults import existing_paths, named_paths

if TYPE_CHECKING:
    import numpy as np

    from evaluation.predictions import Scores
    from memes.rows import MemeRow


class Settings(ScriptSettings):
    model_dir: Path = Field(description="folder of the guard model")
    dataset_dir: Annotated[str, AfterValidator(existing_paths)] = Field(
        description="data set that clean_dataset.py wrote, or a CSV, TSV or JSON Lines file; several with commas"
    )
    split: str = Field("test", description="split that is measured; validation fits scoring.json, from a file too")
    languages: str = Field("", description="languages of the rows that are measured, with commas; unset: all")
    output_dir: Path = Field(description="folder that gets evaluation.json, predictions.jsonl and the plots")
    baseline_dataset_dir: Annotated[str, AfterValidator(existing_paths)] | None = Field(
        None, description="data sets whose train split the TF-IDF baseline learns from; DATASET_DIR's own when unset"
    )
    max_text_tokens: int | None = Field(
        None, ge=8, description="token limit of a view; unset: the model's own (scoring.json), which it may only lower"
    )
    text_column: str = Field("text", description="column of the texts")
    label_column: str = Field("label", description="column of the labels")
    positive_label: str | None = Field(
        None, description="label that means harmful, several with commas; when unset 1, true or offensive"
    )
    negative_label: str | None = Field(
        None, description="label that means harmless, several with commas; needed where two are not POSITIVE_LABEL"
    )
    image_column: str = Field("image", description="column of the captions, if there is one")
    language_column: str = Field("language", description="column of the languages, if there is one")
    category_column: str = Field("category", description="column of the categories, if there is one")
    target_column: str = Field(
        "category", description="column of the groups attacked, compared with the model's categories, if there is one"
    )
    target_names: str = Field(
        "", description="what the model calls the groups of TARGET_COLUMN, such as women:gender,Muslims:religion"
    )
    group_column: str = Field("group", description="column of what belongs together (translations), if there is one")
    least_recall: float = Field(0.95, gt=0, le=1, description="what the high-recall threshold must find")
    least_precision: float = Field(
        0.95, gt=0, le=1, description="share of right alarms at the high-precision threshold"
    )
    dtype: Dtype = Field("auto", description=DTYPE_MEANING)
    bootstrap_samples: int = Field(1000, ge=100, description="resamples of groups behind each 95 % interval")
    seed: int = Field(1, description="seed of the resampling")

    @field_validator("target_names")
    @classmethod
    def pairs(cls, names: str) -> str:
        if wrong := [pair for pair in names.split(",") if names and pair.count(":") != 1]:
            raise ValueError(f"{wrong[0]!r} is no pair of a group and a category with a colon between them")
        return names

    @field_validator("model_dir")
    @classmethod
    def is_there(cls, path: Path) -> Path:
        if not path.exists():
            raise ValueError("is not there")
        return path

    @model_validator(mode="after")
    def target_names_are_the_models(self) -> Self:
        scoring = read_scoring(self.model_dir)
        categories = scoring.get("categories", {}) if scoring else {}
        named = {pair.split(":")[1].strip() for pair in self.target_names.split(",") if pair}
        if unknown := sorted(named - categories.keys()):
            raise ValueError(
                f"TARGET_NAMES: no category {', '.join(unknown)}; the model has {', '.join(categories) or 'none'}"
            )
        return self

    @model_validator(mode="after")
    def max_text_tokens_only_lowers(self) -> Self:
        scoring, lowered = read_scoring(self.model_dir), self.max_text_tokens
        limit = scoring["max_text_tokens"] if scoring else MAX_TEXT_TOKENS
        if lowered is not None and lowered > limit:
            raise ValueError(f"MAX_TEXT_TOKENS={lowered}: the model's limit is {limit} tokens a view; set at most that")
        if lowered not in (None, limit) and self.split == "validation":
            raise ValueError(
                f"MAX_TEXT_TOKENS={lowered}: SPLIT=validation fits the thresholds for the {limit} tokens a view that "
                "the container reads; unset MAX_TEXT_TOKENS"
            )
        if lowered not in (None, limit):
            print(
                f"evaluate_model.py: MAX_TEXT_TOKENS={lowered} lowers the model's limit of {limit} tokens a view",
                file=sys.stderr,
            )
        return self


def main() -> None:
    settings = Settings.read(__doc__)
    results = claim_stdout()
    share_cpus()
    check_model_folder(settings.model_dir)
    check_places(settings)
    rows, train = read_evaluation_rows(settings)
    scores, scoring = score(settings, rows)
    report, baseline_scores = evaluate(settings, rows, train, scores, scoring)
    with explained_write_errors(settings.output_dir):
        write_outputs(settings, report, rows, scores, scoring, baseline_scores)
    print("\n".join(summary_lines(report)), file=results)


def check_places(settings: Settings) -> None:
    """SystemExit where OUTPUT_DIR, or a scoring.json that shall be fitted, cannot be written."""
    check_writable(settings.output_dir)
    if settings.split == "validation":
        if not (settings.model_dir / "scoring.json").exists():
            raise SystemExit(
                f"evaluate_model.py: {settings.model_dir} has no scoring.json to hold what is fitted; "
                "make a guard model of it with attach_policy.py"
            )
        check_writable(settings.model_dir)


def read_evaluation_rows(settings: Settings) -> tuple[list["MemeRow"], list["MemeRow"] | None]:
    """(rows of the split, rows of the train split for the baseline or None)."""
    from memes.rows import COLUMNS, REQUIRED, UnusableRows, check_both_labels, of_languages, read_rows

    columns = {name: getattr(settings, f"{name}_column") for name in COLUMNS}
    required = REQUIRED | {name for name in COLUMNS if f"{name}_column" in settings.model_fields_set}
    measured = named_paths(settings.dataset_dir)
    learnt = named_paths(settings.baseline_dataset_dir or "") or [path for path in measured if path.is_dir()]

    def rows_of(paths: list[Path], split: str) -> list["MemeRow"]:
        found = []
        for path in paths:
            own_columns = path.is_dir() and path not in measured
            asked = () if own_columns else (columns, required, settings.positive_label, settings.negative_label)
            found += of_languages(read_rows(path, split, *asked), settings.languages)
        check_both_labels(found, f"{', '.join(map(str, paths))}, {split}")
        return found

    try:
        rows = with_named_targets(rows_of(measured, settings.split), settings.target_names)
        return rows, rows_of(learnt, "train") if learnt and settings.split != "train" else None
    except UnusableRows as error:
        raise SystemExit(f"evaluate_model.py: {error}") from error


def with_named_targets(rows: list["MemeRow"], target_names: str) -> list["MemeRow"]:
    """The rows with their groups attacked named as the model names its categories."""
    pairs = [pair.split(":") for pair in target_names.split(",") if pair]
    categories = {group.strip().casefold(): category.strip() for group, category in pairs}
    for row in rows:
        row["target"] = categories.get((row["target"] or "").strip().casefold(), row["target"])
    return rows


def score(settings: Settings, rows: list["MemeRow"]) -> tuple["Scores", Scoring]:
    """Scores of the rows, and the scoring settings of the model that gave them."""
    from evaluation.predictions import score_rows
    from guard.scores import label_share, share_sentence
    from guard.template import SAMPLE_MEMES, describe_question, encode_memes, load_guard_prompt

    try:
        prompt, scoring = load_guard_prompt(settings.model_dir, settings.max_text_tokens)
    except ValueError as error:
        raise SystemExit(f"evaluate_model.py: MODEL_DIR={settings.model_dir}: {error}") from error
    model = load_guard_model(settings.model_dir, settings.dtype)
    share = label_share(model, prompt, encode_memes(prompt, SAMPLE_MEMES))
    print(f"{describe_question(prompt)}; {share_sentence(share)}", file=sys.stderr)
    return score_rows(model, prompt, rows), scoring


def evaluate(
    settings: Settings, rows: list["MemeRow"], train: list["MemeRow"] | None, scores: "Scores", scoring: Scoring
) -> tuple[dict[str, Any], "np.ndarray | None"]:
    """What evaluation.json holds, and the baseline's scores; on the validation split `scoring` gets what is fitted."""
    import numpy as np

    from evaluation.calibration import fit_scoring, threshold_report
    from evaluation.categories import category_report
    from evaluation.metrics import calibration_metrics, evaluation_report
    from evaluation.tfidf_baseline import baseline_report
    from guard.scores import meme_probabilities

    labels = np.array([row["label"] for row in rows])
    fits = settings.split == "validation"
    if fits:
        scoring.update(fit_scoring(scores.margins, labels, settings.least_recall, settings.least_precision))
    temperature, threshold = scoring["temperature"], scoring["threshold"]
    probabilities = meme_probabilities(scores.margins, temperature)
    views = scores.by_view(temperature)
    baseline, baseline_scores = baseline_report(train, rows, settings.seed) if train else (None, None)
    report = {
        **evaluation_report(rows, views, probabilities, threshold, settings.bootstrap_samples, settings.seed),
        "split": settings.split,
        "dataset": settings.dataset_dir,
        "model": str(settings.model_dir),
        "unscored_rows": sum(not names for names in scores.names),
        "cut_rows": sum(share > 0 for share in scores.unseen),
        "max_text_tokens": scoring["max_text_tokens"],
        "temperature": temperature,
        "fitted_on_these_rows": fits,
        "without_temperature": calibration_metrics(labels, meme_probabilities(scores.margins, 1.0)),
        "at_thresholds": threshold_report(labels, probabilities, scoring.get("thresholds", {})),
        "tfidf_auroc": baseline["auroc"] if baseline else None,
        "tfidf_baseline": baseline,
        "categories": category_report(rows, scores.categories, train, settings.bootstrap_samples, settings.seed),
    }
    return report, baseline_scores


def write_outputs(
    settings: Settings,
    report: dict[str, Any],
    rows: list["MemeRow"],
    scores: "Scores",
    scoring: Scoring,
    baseline_scores: "np.ndarray | None",
) -> None:
    """evaluation.json last: it says that the others, and what was fitted, are whole."""
    import numpy as np

    from evaluation.plots import draw_plots
    from evaluation.predictions import write_predictions
    from guard.scores import meme_probabilities

    folder = settings.output_dir
    write_predictions(folder / "predictions.jsonl", rows, scores, scoring)
    curves = {"model": meme_probabilities(scores.margins, scoring["temperature"])}
    if baseline_scores is not None:
        curves["TF-IDF baseline"] = baseline_scores
    draw_plots(folder, np.array([row["label"] for row in rows]), curves)
    if report["fitted_on_these_rows"]:
        write_json(settings.model_dir / "scoring.json", scoring)
    write_json(folder / "evaluation.json", report)


if __name__ == "__main__":
    main()
