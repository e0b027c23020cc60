"""evaluate_model.py as a user runs it: on the project's own splits, on a foreign table, fitting scoring.json."""

import json
import shutil

import pytest
from pydantic import ValidationError
from sklearn.metrics import average_precision_score, roc_auc_score
from small_memes import meme_rows, save_dataset

from evaluate_model import Settings, read_evaluation_rows

SCRIPT = "training_pipeline/evaluate_model.py"
FILES = {"evaluation.json", "predictions.jsonl", "roc.png", "precision_recall.png", "reliability.png"}


def outputs(folder):
    report = json.loads((folder / "evaluation.json").read_text())
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    return report, lines


@pytest.fixture(scope="module")
def fitted_run(merged_run, dataset_dir, run_script, tmp_path_factory):
    """(model folder, output folder, process) of a run on the validation split; the model is a copy."""
    folder = tmp_path_factory.mktemp("fitted")
    shutil.copytree(merged_run[0], folder / "model")
    process = run_script(
        SCRIPT,
        {
            "MODEL_DIR": folder / "model",
            "DATASET_DIR": dataset_dir,
            "OUTPUT_DIR": folder / "out",
            "SPLIT": "validation",
        },
    )
    assert process.returncode == 0, process.stderr.decode()[-3000:]
    return folder / "model", folder / "out", process


def test_a_test_split_is_measured_and_the_model_left_alone(merged_run, dataset_dir, run_script, tmp_path):
    before = (merged_run[0] / "scoring.json").read_bytes()
    done = run_script(SCRIPT, {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "out"})
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert all((tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG") for name in FILES if name.endswith("png"))
    report, lines = outputs(tmp_path / "out")
    gold, scores = [line["gold"] for line in lines], [line["probability"] for line in lines]
    assert report["auroc"] == pytest.approx(roc_auc_score(gold, scores))
    assert report["average_precision"] == pytest.approx(average_precision_score(gold, scores))
    assert report["auroc_interval"][0] <= report["auroc"] <= report["auroc_interval"][1] and report["rows"] == 24
    assert sum(part["rows"] for part in report["by_language"].values()) == 24
    assert report["by_view"].keys() == {"text", "image_text"} and report["by_category"].keys() == {
        "race",
        "religion",
        "general",
    }
    assert report["tfidf_baseline"]["shuffled"]["shuffles"] == 5 and report["tfidf_auroc"] > 0.9
    assert not report["fitted_on_these_rows"] and (merged_run[0] / "scoring.json").read_bytes() == before
    assert len({line["group"] for line in lines}) == report["groups"] == 24
    categories = report["categories"]
    known = [line for line in lines if line["gold"] and line["category"] != "general"]
    right = [max(line["categories"], key=line["categories"].get) == line["category"] for line in known]
    assert categories["rows"] == len(known) < 12 and categories["top_1"] == pytest.approx(sum(right) / len(right))
    assert categories["tfidf_baseline"]["top_1"] == 1.0 and b"category of" in done.stdout
    for line in lines:
        assert len(line["categories"]) == 9 and sum(line["categories"].values()) == pytest.approx(1, abs=1e-6)
        assert line["probability"] == pytest.approx((line["probability_text"] + line["probability_image_text"]) / 2)
        assert line["path"] is None and line["ocr"] == [] and line["error"] is None
        assert line["label"] == int(float(f"{line['probability']:.4f}") >= 0.5)
    assert done.stdout.decode().startswith("test: AUROC")


def test_the_validation_split_fits_the_models_scoring(fitted_run):
    model, out, process = fitted_run
    scoring, (report, lines) = json.loads((model / "scoring.json").read_text()), outputs(out)
    assert scoring["temperature"] == report["temperature"] != 1.0
    assert scoring["threshold"] == scoring["thresholds"]["balanced"] == report["threshold"]
    assert scoring["thresholds"].keys() == {"high_recall", "balanced", "high_precision"}
    assert report["at_thresholds"].keys() == scoring["thresholds"].keys()
    assert scoring["fitted_on"] == {"rows": 24, "offensive": 12}
    assert scoring["label_words"] == {"offensive": "unsafe", "ok": "safe"}
    assert report["log_loss"] <= report["without_temperature"]["log_loss"]
    assert report["at_thresholds"]["high_recall"]["recall"] >= 0.95
    assert [line["label"] for line in lines] == [
        int(float(f"{line['probability']:.4f}") >= scoring["threshold"]) for line in lines
    ]
    assert b"temperature" in process.stdout and not list(model.glob(".*"))


def test_a_second_fit_changes_nothing(fitted_run, dataset_dir, run_script):
    model, out, _ = fitted_run
    before = [(model / "scoring.json").read_bytes(), (out / "predictions.jsonl").read_text().split('"milliseconds"')[0]]
    again = run_script(
        SCRIPT, {"MODEL_DIR": model, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": out, "SPLIT": "validation"}
    )
    assert again.returncode == 0
    assert before == [
        (model / "scoring.json").read_bytes(),
        (out / "predictions.jsonl").read_text().split('"milliseconds"')[0],
    ]


def test_a_foreign_table_of_texts_is_one_command(fitted_run, dataset_dir, run_script, tmp_path):
    """No captions: the text view alone. A huge text is cut, an empty one is answered as the container answers it."""
    table = tmp_path / "outside.csv"
    cases = [
        (row["text"], "hateful" if row["label"] else "fine", f"case {row['label']}", "Old People")
        for row in meme_rows(10, 9)
    ]
    cases += [("", "fine", "empty", ""), ("lazy people " * 10_000, "hateful", "long", "")]
    table.write_text("case,gold,kind,whom\n" + "".join(f"{','.join(cells)}\n" for cells in cases))
    settings = {
        "MODEL_DIR": fitted_run[0],
        "DATASET_DIR": table,
        "OUTPUT_DIR": tmp_path / "out",
        "TEXT_COLUMN": "case",
        "LABEL_COLUMN": "gold",
        "POSITIVE_LABEL": "hateful",
        "CATEGORY_COLUMN": "kind",
        "TARGET_COLUMN": "whom",
        "TARGET_NAMES": "old people:age,women:gender",
        "BASELINE_DATASET_DIR": dataset_dir,
    }
    done = run_script(SCRIPT, settings)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    report, lines = outputs(tmp_path / "out")
    assert all(line["probability_image_text"] is None and line["caption"] is None for line in lines)
    assert all(line["probability"] == line["probability_text"] for line in lines[:10])
    assert (lines[10]["probability"], lines[10]["error"], report["unscored_rows"]) == (0.5, "nothing_to_score", 1)
    assert (
        report["cut_rows"] == 1
        and b"1 of them with text beyond all windows of 256 tokens, 1 without text" in done.stderr
    )
    assert report["by_language"] == {} and report["by_view"].keys() == {"text"}
    assert report["by_category"]["case 1"]["auroc"] is None
    gold, scores = [line["gold"] for line in lines], [line["probability"] for line in lines]
    against = [number for number, line in enumerate(lines) if line["category"] == "case 1" or not line["gold"]]
    expected = roc_auc_score([gold[number] for number in against], [scores[number] for number in against])
    assert report["by_category"]["case 1"]["auroc_against_other_label"] == pytest.approx(expected)
    assert report["tfidf_baseline"]["train_rows"] == 96
    assert report["categories"]["rows"] == 5 and report["categories"]["by_category"]["age"]["rows"] == 5
    refused = run_script(SCRIPT, {**settings, "TEXT_COLUMN": "body"})
    assert (
        refused.returncode == 1
        and b"no column body; its columns are case, gold, kind, whom; set TEXT_COLUMN" in refused.stderr
    )


def test_a_split_that_is_not_there_or_has_one_class_is_refused(merged_run, dataset_dir, run_script, tmp_path):
    settings = {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "out"}
    refused = run_script(SCRIPT, {**settings, "SPLIT": "tset"})
    assert refused.returncode == 1 and b"has no tset split; it has train, validation, test" in refused.stderr
    single = save_dataset(
        tmp_path / "single", train=meme_rows(8, 1), test=[row for row in meme_rows(8, 1) if row["label"]]
    )
    refused = run_script(SCRIPT, {**settings, "DATASET_DIR": single})
    assert refused.returncode == 1 and b"both labels" in refused.stderr
    assert not list((tmp_path / "out").iterdir())


def test_a_model_without_scoring_cannot_be_fitted(base_dir, dataset_dir, run_script, tmp_path):
    refused = run_script(
        SCRIPT,
        {"MODEL_DIR": base_dir, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "out", "SPLIT": "validation"},
        timeout=120,
    )
    assert refused.returncode == 1 and b"attach_policy.py" in refused.stderr
    assert not (base_dir / "scoring.json").exists()


def test_a_lower_token_limit_takes_effect_and_is_said(merged_run, dataset_dir, run_script, tmp_path):
    settings = {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "out"}
    done = run_script(SCRIPT, {**settings, "MAX_TEXT_TOKENS": "8"})
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert b"evaluate_model.py: MAX_TEXT_TOKENS=8 lowers the model's limit of 256 tokens a view\n" in done.stderr
    report, _ = outputs(tmp_path / "out")
    assert report["cut_rows"] == 0 and report["max_text_tokens"] == 8


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"MAX_TEXT_TOKENS": "257"}, b"MAX_TEXT_TOKENS=257: the model's limit is 256 tokens a view; set at most that"),
        ({"MAX_TEXT_TOKENS": "128", "SPLIT": "validation"}, b"unset MAX_TEXT_TOKENS"),
    ],
)
def test_a_token_limit_that_is_not_served_is_refused(settings, words, merged_run, dataset_dir, run_script, tmp_path):
    places = {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "out"}
    refused = run_script(SCRIPT, {**places, **settings}, timeout=120)
    assert refused.returncode == 2 and words in refused.stderr and not (tmp_path / "out").exists()


def test_several_data_sets_are_measured_as_one(merged_run, dataset_dir, tmp_path):
    """Rows of both, and a baseline that learns from both; a row without a group belongs to its own table's."""
    table = tmp_path / "more.csv"
    table.write_text("text,label\nkopi time,ok\nthey ruin it all,offensive\n", encoding="utf-8")
    settings = {"MODEL_DIR": merged_run[0], "OUTPUT_DIR": tmp_path / "out", "POSITIVE_LABEL": "offensive"}
    rows, train = read_evaluation_rows(Settings(**settings, DATASET_DIR=f"{dataset_dir},{table}"))
    alone, train_alone = read_evaluation_rows(Settings(**settings, DATASET_DIR=str(dataset_dir)))
    assert rows[:-2] == alone and [row["label"] for row in rows[-2:]] == [0, 1] and train == train_alone
    assert [row["group"] for row in rows[-2:]] == ["more.csv, row 0", "more.csv, row 1"]
    with pytest.raises(ValueError, match="is not there: /void"):
        Settings(**settings, DATASET_DIR=f"{dataset_dir},/void")


def test_only_rows_in_the_named_languages_are_measured(merged_run, dataset_dir, tmp_path):
    settings = {"model_dir": merged_run[0], "dataset_dir": str(dataset_dir), "output_dir": tmp_path}
    measured, _ = read_evaluation_rows(Settings(**settings, languages="ms"))
    everything, _ = read_evaluation_rows(Settings(**settings))
    assert {row["language"] for row in measured} == {"ms"} and len(measured) < len(everything)


@pytest.mark.parametrize(
    ("names", "words"),
    [("women:gendr", "no category gendr; the model has race, religion"), ("women", "'women' is no pair")],
)
def test_a_group_that_the_model_has_no_name_for_is_refused(merged_run, dataset_dir, tmp_path, names, words):
    """Its rows would be left out, and nobody told."""
    with pytest.raises(ValidationError, match=words):
        Settings(model_dir=merged_run[0], dataset_dir=str(dataset_dir), output_dir=tmp_path, target_names=names)
