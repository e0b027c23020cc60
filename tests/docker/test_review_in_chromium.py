"""Reviewing in Debian's Chromium: by keyboard and by button, kept over a reload, written out, and trained on."""

import csv
import json
import os
import re
import shutil

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from made_up_run import HOSTILE_NAME

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium (apt install chromium)")
REPORT = "docker/evaluate_predictions.py"


def mark_by_keys(page, *marks):
    """Open the queue by keyboard; each of `marks` is pressed on one picture. Gives the names of these."""
    names = []
    page.focus("#start-review")
    page.keyboard.press("Enter")
    for keys in marks:
        names.append(page.inner_text("#details h3"))
        for key in keys:
            page.keyboard.press(key)
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    return names


def written(page, folder):
    """review.csv as the page writes it."""
    with page.expect_download() as download:
        page.click("#write-review")
    assert download.value.suggested_filename == "review.csv"
    path = folder / "review.csv"
    download.value.save_as(path)
    return path


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def pressed(holder) -> list[str]:
    return holder.locator("[aria-pressed=true]").evaluate_all("found => found.map((it) => it.dataset.value)")


def test_the_whole_loop_from_six_keystrokes_to_three_training_steps(
    visit, made_up_report, run_script, tiny_models_dir, repo, tmp_path
):
    settings = made_up_report[0]
    page = visit(settings["OUTPUT_DIR"])
    names = mark_by_keys(page, "1r", "2", "1g", "2a", "h", "3")
    assert len(set(names)) == 6
    page.reload()
    told = "6 reviewed: 3 harmful, 2 harmless, 1 unsure."
    assert page.inner_text("#reviewed") == told
    review = written(page, tmp_path)
    rows = rows_of(review)
    said = {os.path.basename(row["path"]): (row["label"], row["category"]) for row in rows}
    assert list(rows[0]) == ["path", "label", "category", "time"]
    assert [said[name] for name in names] == [
        ("harmful", "race"),
        ("harmless", ""),
        ("harmful", "gender"),
        ("harmless", "age"),
        ("harmful", "health"),
        ("unsure", ""),
    ]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["time"]) for row in rows)
    reviewed = tmp_path / "reviewed"
    added = run_script(
        "data_preparation/add_reviews.py",
        {
            "REVIEW_PATH": review,
            "DETAILS_PATH": settings["DETAILS_PATH"],
            "OUTPUT_DIR": reviewed,
            "VALIDATION_FRACTION": "0",
            "TEST_FRACTION": "0",
        },
    )
    assert added.returncode == 0, added.stderr.decode()
    assert b"wrote 5 rows" in added.stdout and b"labels.csv: 5 labels" in added.stdout
    measured = run_script(
        REPORT, settings | {"LABELS_PATH": reviewed / "labels.csv", "OUTPUT_DIR": tmp_path, "BOOTSTRAP_SAMPLES": "100"}
    )
    assert measured.returncode == 0, measured.stderr.decode()
    assert json.loads((tmp_path / "metrics.json").read_text())["rows"] == 5
    trained = run_script(
        "training_pipeline/train_model.py",
        {
            "MODEL_DIR": tiny_models_dir / "base-llm",
            "DATASET_DIR": f"{small_part(repo, tmp_path)},{reviewed}",
            "OUTPUT_DIR": tmp_path / "lora",
            "MAX_STEPS": "3",
            "EVAL_STEPS": "3",
            "SAVE_STEPS": "3",
            "BATCH_SIZE": "4",
            "REPORT_TO": "none",
        },
    )
    assert trained.returncode == 0, trained.stderr.decode()[-3000:]
    assert b"after 3 steps" in trained.stdout and b"train: 29 rows" in trained.stderr


def small_part(repo, folder):
    """24 training rows and 8 validation rows of a shipped data set, saved as one of its own."""
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(str(repo / "datasets" / "v3"))
    parts = {"train": 12, "validation": 4}
    DatasetDict(
        {
            split: saved[split].select(
                [number for label in (0, 1) for number in np.flatnonzero(np.array(saved[split]["label"]) == label)[:n]]
            )
            for split, n in parts.items()
        }
    ).save_to_disk(str(folder / "part"))
    return folder / "part"


def test_the_queue_is_what_is_uncertain_and_what_disagrees_and_shrinks_by_what_is_reviewed(page, made_up_report):
    _, lines, _ = made_up_report
    page.check("#show input[value=queue]")
    assert page.input_value("[name=sort]") == "queue"
    seen = {os.path.basename(line["path"]): line for line in lines if line["text"] or line["caption"]}
    least_certain = min(seen, key=lambda name: abs(seen[name]["probability"] - 0.5))
    shown = page.locator("#cards h3").all_inner_texts()
    assert shown[0] == least_certain
    first = page.locator("#cards .card").first
    first.locator("[data-value=harmless]").click()
    assert page.locator("#cards h3").all_inner_texts() == shown, "nothing moves while one is at work"
    assert page.inner_text("[data-tally=queue]") == str(len(lines) - 1)
    page.check("#show input[value=all]")
    page.check("#show input[value=queue]")
    assert page.locator("#cards h3").all_inner_texts()[0] == shown[1]
    page.check("#show input[value=reviewed]")
    assert page.locator("#cards h3").all_inner_texts() == [least_certain]


def test_buttons_and_keys_at_a_card_set_change_and_take_back(page):
    card = page.locator("#cards .card").first
    assert not card.locator(".category").is_visible()
    card.locator("[data-value=harmful]").click()
    assert pressed(card) == ["harmful"] and card.locator(".category").is_visible()
    card.locator("[data-value=religion]").click()
    assert pressed(card) == ["harmful", "religion"]
    page.keyboard.press("2")
    page.keyboard.press("x")
    page.keyboard.press("Control+1")
    assert pressed(card) == ["harmless", "religion"]
    page.keyboard.press("e")
    assert pressed(card) == ["harmless"]
    page.keyboard.press("2")
    assert pressed(card) == [] and page.inner_text("#reviewed") == "0 reviewed so far."
    assert page.is_disabled("#write-review")
    page.fill("[name=search]", "1")  # a digit that is typed is no verdict
    assert page.inner_text("#reviewed") == "0 reviewed so far."


def test_b_shows_a_blurred_picture_in_the_dialog_and_at_its_card(page):
    page.locator("#cards .card", has_text="meme_001.png").locator(".open").click()
    for blurred in (0, 1, 0):
        page.keyboard.press("b")
        assert page.locator("#details .blurred").count() == blurred
    page.keyboard.press("Escape")
    card = page.locator("#cards .card", has_text="meme_001.png")
    card.locator(".open").focus()
    page.keyboard.press("b")
    assert card.locator(".blurred").count() == 1


def test_measures_are_taken_over_the_reviewed_ones(page, made_up_report):
    """Against scikit-learn, and the interval against DeLong's formula in numpy."""
    page.check("#truth [value=review]")
    assert page.is_hidden("#matrix") and "Without a review nobody knows" in page.inner_text("#flagged-share")
    labels = {}
    for number in range(24):
        card = page.locator("#cards .card").nth(number)
        label = ("harmful", "harmless", "unsure")[number * 5 % 7 % 3]
        card.locator(f"[data-value={label}]").click()
        labels[number] = label
    lines = made_up_report[1]
    known = [(round(lines[n]["probability"], 4), int(v == "harmful")) for n, v in labels.items() if v != "unsure"]
    scores, gold = map(np.array, zip(*known, strict=True))
    tn, fp, fn, tp = confusion_matrix(gold, scores >= 0.5).ravel().tolist()
    found = {kind: int(page.inner_text(f"#matrix [data-count={kind}]")) for kind in ("tp", "fp", "fn", "tn")}
    assert found == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    assert page.inner_text("[data-tally=fp]") == str(fp)
    value = roc_auc_score(gold, scores)
    wins = scores[gold == 1][:, None] > scores[gold == 0]
    spread = wins.mean(1).var(ddof=1) / (gold == 1).sum() + wins.mean(0).var(ddof=1) / (gold == 0).sum()
    bounds = np.clip([value - 1.959964 * spread**0.5, value + 1.959964 * spread**0.5], 0, 1)
    told = page.inner_text("#ranking")
    assert f"AUROC {value:.3f} (95 %: {bounds[0]:.3f} to {bounds[1]:.3f})" in told
    assert f"{len(gold)} reviewed pictures, {gold.sum()} harmful" in told
    page.check("#truth [value=labels]")
    assert page.is_hidden("#ranking")


def test_a_run_without_labels_gets_its_rates_from_the_review(visit, run_script, made_up_report, tmp_path):
    settings = made_up_report[0] | {"LABELS_PATH": "", "OUTPUT_DIR": tmp_path, "BOOTSTRAP_SAMPLES": "100"}
    assert run_script(REPORT, settings).returncode == 0
    page = visit(tmp_path)
    assert page.is_hidden("#matrix") and page.is_hidden("[data-preset=f1]") and page.is_hidden("[data-tally=fp]")
    mark_by_keys(page, "1", "2", "1")
    assert sum(int(count) for count in page.locator("#matrix [data-count]").all_inner_texts()) == 3
    assert page.is_visible("[data-preset=f1]") and page.is_visible("[data-tally=fp]")
    assert "AUROC" in page.inner_text("#ranking")


def test_a_hostile_name_comes_out_of_the_file_as_it_went_in(page, tmp_path, made_up_report):
    page.fill("[name=search]", "window.hacked")
    page.locator("#cards .card").first.locator("[data-value=harmful]").click()
    (row,) = rows_of(written(page, tmp_path))
    assert os.path.basename(row["path"]) == HOSTILE_NAME and page.evaluate("window.hacked") is None


def test_another_window_adds_to_the_same_review_and_all_is_taken_back(page):
    page.locator("#cards .card").first.locator("[data-value=harmful]").click()
    other = page.context.new_page()
    other.goto(page.url)
    assert other.inner_text("#reviewed").startswith("1 reviewed")
    other.locator("#cards .card").nth(1).locator("[data-value=harmless]").click()
    page.locator("#reviewed", has_text="2 reviewed").wait_for()
    page.locator("#cards .card").nth(2).locator("[data-value=unsure]").click()
    assert page.inner_text("#reviewed") == "3 reviewed: 1 harmful, 1 harmless, 1 unsure."
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#forget-review")
    assert page.inner_text("#reviewed") == "0 reviewed so far."
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('report-review')).length") == 0


def test_a_browser_that_keeps_nothing_says_so(visit, made_up_report, tmp_path):
    page = visit(made_up_report[0]["OUTPUT_DIR"])
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('no', 'QuotaExceededError') } }")
    mark_by_keys(page, "1", "2")
    assert page.inner_text("#reviewed").endswith("write review.csv before you leave.")
    assert len(rows_of(written(page, tmp_path))) == 2
