"""evaluate_predictions.py on runs that never were: its files, its numbers, and errors with their remedies."""

import base64
import csv
import io
import json
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, log_loss, roc_auc_score

from made_up_run import SCRIPT_TEXT, evidence, made_up_views, meme_evidence, sample_memes, write_run
from report.rows import UnusableRun, read_rows

REPORT = "docker/evaluate_predictions.py"
QUICK = {"BOOTSTRAP_SAMPLES": "100"}


@pytest.fixture(scope="module")
def memes(repo):
    """Every fourth sample meme: 15, both labels, all languages."""
    return [
        meme | {"category": f"kind {number % 2}"} for number, meme in enumerate(sample_memes(repo)[::4])
    ] + sample_memes(repo)[1:4]


@pytest.fixture
def run(memes, tmp_path):
    """Settings of a small run with everything there."""
    return write_run(tmp_path, meme_evidence(memes), memes) | QUICK


def page_data(settings):
    page = open(os.path.join(settings["OUTPUT_DIR"], "report.html"), encoding="utf-8").read()
    return json.loads(re.search(r'<script type="application/json" id="run">(.*?)</script>', page, re.S)[1]), page


def metrics(settings):
    return json.load(open(os.path.join(settings["OUTPUT_DIR"], "metrics.json"), encoding="utf-8"))


def without(settings, *names):
    return {name: value for name, value in settings.items() if name not in names}


def test_two_files_the_same_bytes_again_and_numbers_of_scikit_learn(run_script, run, memes):
    done = run_script(REPORT, run)
    assert done.returncode == 0, done.stderr.decode()
    names = sorted(os.listdir(run["OUTPUT_DIR"]))
    assert names == ["metrics.json", "report.html"]
    first = [open(os.path.join(run["OUTPUT_DIR"], name), "rb").read() for name in names]
    again = run_script(REPORT, run)
    assert again.returncode == 0 and again.stdout == done.stdout
    assert [open(os.path.join(run["OUTPUT_DIR"], name), "rb").read() for name in names] == first
    answers = [line.split("\t") for line in open(run["PREDICTIONS_PATH"], encoding="utf-8").read().splitlines()]
    scores, flagged = np.array([float(p) for p, _ in answers]), np.array([int(label) for _, label in answers])
    gold = np.array([meme["label"] == "offensive" for meme in memes])
    written = metrics(run)
    tn, fp, fn, tp = confusion_matrix(gold, flagged).ravel().tolist()
    assert written["confusion"] == {
        "true_positives": tp,
        "false_positives": fp,
        "false_negatives": fn,
        "true_negatives": tn,
    }
    expected = {
        "auroc": roc_auc_score(gold, scores),
        "f1": f1_score(gold, flagged),
        "log_loss": log_loss(gold, scores),
        "average_precision": average_precision_score(gold, scores),
        "accuracy": (gold == flagged).mean(),
    }
    assert {name: written[name] for name in expected} == pytest.approx(expected)
    low, high = written["auroc_interval"]
    assert low < written["auroc"] < high
    assert f"AUROC {written['auroc']:.4f} (95 % {low:.4f} to {high:.4f}, " in done.stdout.decode()
    assert sum(part["rows"] for part in written["by_language"].values()) == len(memes)
    assert set(written["by_category"]) == {"kind 0", "kind 1"}
    assert written["by_predicted_category"] == {} and written["predicted_category"] is None
    assert written["unseen"] == {"frames": 0, "text": 0}
    assert set(written["views"]) == {"text", "image_text", "both"}
    assert written["milliseconds"]["ocr"]["median"] == 280.4


def test_the_page_loads_nothing_and_carries_small_clean_pictures(run_script, tmp_path):
    secret = Image.new("RGB", (900, 300), "green")
    exif = secret.getexif()
    exif[0x010E] = "taken at 1.3521 N"
    secret.save(tmp_path / "secret.jpg", exif=exif)
    line = evidence(str(tmp_path / "secret.jpg"), "hi", "a field", (0.2, 0.3), (900, 300))
    run = write_run(tmp_path, [line], []) | QUICK
    assert run_script(REPORT, run).returncode == 0
    data, page = page_data(run)
    small = json.loads(re.search(r'id="thumbnails">(.*?)</script>', page, re.S)[1])
    with Image.open(io.BytesIO(base64.b64decode(small[0]))) as picture:
        assert picture.format == "WEBP" and picture.size == (320, 107) and not picture.getexif()
    assert data["rows"][0]["lines"][0]["box"] == [100, 50, 900, 50, 900, 200, 100, 200]
    assert not re.search(r'(?:src|href)="(?!data:|#)', page) and not re.search(r"url\((?!#)|@import", page)
    assert "default-src &#39;none&#39;" in page and "unsafe" not in re.search(r"default-src[^\"]*", page)[0]


def test_without_labels_there_is_a_page_and_no_measure(run_script, run):
    settings = without(run, "LABELS_PATH")
    done = run_script(REPORT, settings)
    assert done.returncode == 0 and b"no AUROC: no labels" in done.stdout
    assert metrics(settings)["auroc"] is None
    data, page = page_data(settings)
    assert {row["gold"] for row in data["rows"]} == {None} and "set LABELS_PATH" in page
    assert '<div class="operating" data-judged hidden>' in page, "rates come with a review alone"


def test_one_label_only_gives_a_page_without_curves(run_script, memes, tmp_path):
    harmful = [meme for meme in memes if meme["label"] == "offensive"]
    settings = write_run(tmp_path, meme_evidence(harmful), harmful) | QUICK
    done = run_script(REPORT, settings)
    assert done.returncode == 0 and b"no AUROC: one label only" in done.stdout, done.stderr.decode()
    written = metrics(settings)
    assert written["auroc"] is None and written["recall"] == written["accuracy"]
    charts = re.findall(r'<svg [^>]*data-chart="(\w+)"', page_data(settings)[1])
    assert charts == ["histogram", "reliability"]


def test_stdout_alone_is_enough_and_the_page_says_what_is_missing(run_script, run):
    settings = without(run, "LABELS_PATH", "DETAILS_PATH")
    assert run_script(REPORT, settings).returncode == 0
    page = page_data(settings)[1]
    assert "No evidence" in page and "No labels" in page and "Unknown without DETAILS_PATH" not in page


def test_a_text_data_set_is_drawn_from_evaluate_models_rows(run_script, tmp_path):
    draws = random.Random(2)
    with (tmp_path / "predictions.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(40):
            views = made_up_views(number % 2 == 1, draws)
            row = {
                "id": f"row-{number}",
                "text": SCRIPT_TEXT if number == 3 else f"text {number}",
                "caption": "a queue",
                "language": "ms" if number % 4 < 2 else "en",
                "category": "age",
                "gold": number % 2,
                "probability_text": views[0],
                "probability_image_text": views[1],
                "probability": sum(views) / 2,
            }
            lines.write(json.dumps(row) + "\n")
    settings = {"DETAILS_PATH": tmp_path / "predictions.jsonl", "OUTPUT_DIR": tmp_path / "report", **QUICK}
    done = run_script(REPORT, settings)
    assert done.returncode == 0, done.stderr.decode()
    data, page = page_data(settings)
    assert data["unit"] == "text" and data["rows"][3]["text"] == SCRIPT_TEXT and data["rows"][3]["name"] == "row-3"
    assert 'id="thumbnails">[]<' in page and 'name="blur"' not in page
    assert {name: part["rows"] for name, part in metrics(settings)["by_language"].items()} == {"en": 20, "ms": 20}


def test_failures_are_counted_by_reason_and_measured_both_ways(run_script, memes, tmp_path):
    lines = meme_evidence(memes)
    lines[0] |= {
        "probability": 0.5,
        "probability_text": None,
        "probability_image_text": None,
        "label": 1,
        "error": "not_an_image",
    }
    lines[1]["error"] = "caption_failed"
    settings = write_run(tmp_path, lines, memes) | QUICK
    assert run_script(REPORT, settings).returncode == 0
    written = metrics(settings)
    assert written["failures"] == {"not_an_image": 1, "caption_failed": 1}
    assert written["rows"] == len(memes) and written["without_failures"]["rows"] == len(memes) - 2
    assert "wholly or in one stage: 2 pictures" in page_data(settings)[1]


def test_pictures_that_moved_are_found_by_images_dir(run_script, memes, tmp_path, repo):
    lines = [line | {"path": "/images/" + os.path.basename(line["path"])} for line in meme_evidence(memes)]
    settings = write_run(tmp_path, lines, memes) | QUICK
    assert run_script(REPORT, settings).returncode == 0
    assert {row["missing"] for row in page_data(settings)[0]["rows"]} == {"missing"}
    moved = settings | {"IMAGES_DIR": repo / "datasets" / "sample_memes" / "held_out"}
    assert run_script(REPORT, moved).returncode == 0
    assert {row["missing"] for row in page_data(settings)[0]["rows"]} == {None}


def test_names_of_any_bytes_and_lines_without_name(run_script, tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    Image.new("RGB", (50, 50)).save(os.fsdecode(name), "PNG")
    (tmp_path / "stdin.csv").write_bytes(name + b"\r\n\n/none/\x00.png\n")
    (tmp_path / "predictions.tsv").write_text("0.2000\t0\n0.5000\t1\n0.5000\t1\n")
    line = {"path": os.fsdecode(name), "probability": 0.2, "text": "kopi \ud83d"}
    (tmp_path / "details.jsonl").write_text(json.dumps(line) + "\n")
    settings = {
        "INPUT_PATH": tmp_path / "stdin.csv",
        "PREDICTIONS_PATH": tmp_path / "predictions.tsv",
        "DETAILS_PATH": tmp_path / "details.jsonl",
        "OUTPUT_DIR": tmp_path / "report",
        **QUICK,
    }
    done = run_script(REPORT, settings)
    assert done.returncode == 0, done.stderr.decode()
    data, page = page_data(settings)
    assert [row["missing"] for row in data["rows"]] == [None, "empty_path", "unreadable"]
    assert data["rows"][0]["name"].startswith("caf\ufffd") and data["rows"][1]["name"] == "(empty line 2)"
    assert "evidence ends 2 lines before" in page


def test_the_threshold_is_that_of_the_printed_labels(run_script, run, memes):
    def printed_at(threshold):
        scores = [line.split("\t")[0] for line in open(run["PREDICTIONS_PATH"], encoding="utf-8")]
        with open(run["PREDICTIONS_PATH"], "w", encoding="utf-8") as lines:
            lines.writelines(f"{score}\t{int(float(score) >= threshold)}\n" for score in scores)
        return sorted(float(score) for score in scores)

    scores = printed_at(0.3)
    assert run_script(REPORT, run).returncode == 0
    assert metrics(run)["threshold"] == min(score for score in scores if score >= 0.3)
    assert "Set THRESHOLD to the one that was used" in page_data(run)[1]
    assert run_script(REPORT, run | {"THRESHOLD": "0.6"}).returncode == 0
    assert metrics(run)["threshold"] == 0.6
    assert metrics(run)["judged_anew"] == sum(0.3 <= score < 0.6 for score in scores)


def change(path, line, content):
    lines = open(path, encoding="utf-8").read().splitlines()
    lines[line : line + 1] = content
    open(path, "w", encoding="utf-8").write("\n".join(lines) + "\n")


ERRORS = [
    ("PREDICTIONS_PATH", 3, [], ["18 lines", "17", "run it again"]),
    ("PREDICTIONS_PATH", 3, ["0.5000 1"], ["line 4 is '0.5000 1'", "probability<TAB>label"]),
    ("PREDICTIONS_PATH", 3, ["nan\t1"], ["line 4 is 'nan\\t1'"]),
    ("PREDICTIONS_PATH", 3, ["1.2000\t1"], ["line 4"]),
    ("PREDICTIONS_PATH", 3, ["0.9000\t2"], ["line 4"]),
    ("PREDICTIONS_PATH", 3, ["0.0001\t1"], ["line 4 has probability", "the very run"]),
    ("LABELS_PATH", 2, ["other.png,ok,,,"], ["never saw", "'other.png'", "take their lines out"]),
    ("LABELS_PATH", 2, ["meme_005.png,perhaps,,,"], ["line 3 has label 'perhaps'", "offensive"]),
    ("LABELS_PATH", 2, ["meme_001.png,ok,,,"], ["contradicts", "meme_001.png"]),
    ("LABELS_PATH", 0, ["file,verdict"], ["file_name, label"]),
    ("DETAILS_PATH", 1, ["{"], ["line 2 is no JSON object"]),
    ("DETAILS_PATH", 1, ['{"path": "x", "probability": NaN}'], ["line 2, probability"]),
    ("DETAILS_PATH", 1, ['{"path": "x", "probability": 1.5}'], ["line 2, probability"]),
    ("DETAILS_PATH", 1, ['{"path": "x.png", "probability": 0.5}'], ["line 2 is about 'x.png'", "the very run"]),
    ("DETAILS_PATH", 1, ["[1]"], ["line 2 is no JSON object"]),
]


@pytest.mark.parametrize(("file", "line", "content", "named"), ERRORS)
def test_an_error_is_named_with_its_line_and_remedy(run, file, line, content, named):
    change(run[file], line, content)
    with pytest.raises(UnusableRun) as error:
        read_rows(*(Path(run[name]) for name in ("INPUT_PATH", "PREDICTIONS_PATH", "LABELS_PATH", "DETAILS_PATH")))
    assert re.match("(INPUT|PREDICTIONS|LABELS|DETAILS)_PATH=", str(error.value))
    assert all(part in str(error.value) for part in named), error.value


def test_an_error_ends_the_script_with_one_line_and_no_file(run_script, run):
    change(run["PREDICTIONS_PATH"], 3, [])
    done = run_script(REPORT, run)
    assert done.returncode == 1 and done.stdout == b"" and done.stderr.count(b"\n") == 2
    assert b"evaluate_predictions.py: INPUT_PATH=" in done.stderr and b"Traceback" not in done.stderr
    assert not os.path.exists(run["OUTPUT_DIR"])


def test_a_label_must_say_which_of_two_files_it_means(run_script, tmp_path):
    (tmp_path / "stdin.csv").write_text("a/1.png\nb/1.png\na/1.png\n")
    (tmp_path / "predictions.tsv").write_text("0.1000\t0\n0.9000\t1\n0.1000\t0\n")
    (tmp_path / "labels.csv").write_text("file_name,label\n1.png,ok\n")
    settings = {
        "INPUT_PATH": tmp_path / "stdin.csv",
        "PREDICTIONS_PATH": tmp_path / "predictions.tsv",
        "LABELS_PATH": tmp_path / "labels.csv",
        "OUTPUT_DIR": tmp_path / "report",
        **QUICK,
    }
    refused = run_script(REPORT, settings)
    assert refused.returncode == 1 and b"several pictures are named '1.png'" in refused.stderr
    (tmp_path / "labels.csv").write_text("file_name,label\na/1.png,ok\n1.png,offensive\n")
    assert run_script(REPORT, settings).returncode == 0
    assert [row["gold"] for row in page_data(settings)[0]["rows"]] == [0, 1, 0]


def test_labels_of_two_runs_mixed_are_refused(run_script, run):
    settings = without(run, "DETAILS_PATH", "LABELS_PATH")
    change(run["PREDICTIONS_PATH"], 0, ["0.4000\t1"])
    change(run["PREDICTIONS_PATH"], 1, ["0.6000\t0"])
    refused = run_script(REPORT, settings)
    assert refused.returncode == 1 and b"set THRESHOLD" in refused.stderr
    assert run_script(REPORT, settings | {"THRESHOLD": "0.5"}).returncode == 0


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"OUTPUT_DIR": "out"}, [b"INPUT_PATH", b"PREDICTIONS_PATH", b"DETAILS_PATH"]),
        ({"OUTPUT_DIR": "out", "INPUT_PATH": __file__}, [b"belong together"]),
        ({"INPUT_PATH": "/none", "THUMBNAIL_SIDE": "1"}, [b"INPUT_PATH", b"OUTPUT_DIR", b"THUMBNAIL_SIDE"]),
    ],
)
def test_bad_settings_are_named(run_script, settings, named):
    done = run_script(REPORT, settings, timeout=120)
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert all(part in done.stderr for part in named), done.stderr.decode()


def test_an_empty_run_is_refused(run_script, tmp_path):
    for name in ("stdin.csv", "predictions.tsv"):
        (tmp_path / name).write_text("")
    done = run_script(
        REPORT,
        {
            "INPUT_PATH": tmp_path / "stdin.csv",
            "PREDICTIONS_PATH": tmp_path / "predictions.tsv",
            "OUTPUT_DIR": tmp_path / "report",
        },
    )
    assert done.returncode == 1 and b"is empty" in done.stderr


def test_the_sample_labels_fit_the_sample_input(run_script, repo, tmp_path):
    """The demo's last step: names relative to stdin.csv, labels.csv as the sample memes have it."""
    samples = repo / "datasets" / "sample_memes" / "held_out"
    with (samples / "labels.csv").open(encoding="utf-8", newline="") as table:
        gold = [row["label"] == "offensive" for row in csv.DictReader(table)]
    (tmp_path / "predictions.tsv").write_text("".join("0.9000\t1\n" if harmful else "0.1000\t0\n" for harmful in gold))
    settings = {
        "INPUT_PATH": samples / "stdin.csv",
        "PREDICTIONS_PATH": tmp_path / "predictions.tsv",
        "LABELS_PATH": samples / "labels.csv",
        "OUTPUT_DIR": tmp_path / "report",
        **QUICK,
    }
    done = run_script(REPORT, settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    written = metrics(settings)
    assert written["auroc"] == 1.0 and written["rows"] == written["groups"] == 60
    assert {row["missing"] for row in page_data(settings)[0]["rows"]} == {None}
