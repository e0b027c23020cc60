"""Predicted categories in the report: printed, in metrics.json and on the page; and what was not seen."""

import json
import os
import shutil

import pytest

from made_up_run import meme_evidence, sample_memes, with_categories, write_run

REPORT = "docker/evaluate_predictions.py"
in_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium (apt install chromium)")


def predicted(line) -> str | None:
    return max(line.get("categories", {}), key=line.get("categories", {}).get, default=None)


def parts_of(lines, gold):
    """Category to [harmful, flagged of them, harmless, flagged of them]."""
    parts = {}
    for line, label in zip(lines, gold, strict=True):
        if (name := predicted(line)) and label is not None:
            counts = parts.setdefault(name, [0, 0, 0, 0])
            counts[0 if label else 2] += 1
            counts[1 if label else 3] += round(line["probability"], 4) >= 0.5
    return parts


def test_what_is_printed_and_written_is_what_the_evidence_says(run_script, made_up_report, tmp_path):
    settings, lines, gold = made_up_report
    done = run_script(REPORT, settings | {"OUTPUT_DIR": tmp_path, "BOOTSTRAP_SAMPLES": "100"})
    assert done.returncode == 0, done.stderr.decode()
    rates, accuracy, last = done.stdout.decode().splitlines()
    written = json.loads((tmp_path / "metrics.json").read_text())
    parts = parts_of(lines, gold)
    assert list(parts) == list(written["by_predicted_category"]) == ["race", "religion", "health"]
    for name, (harmful, right, harmless, wrong) in parts.items():
        part = written["by_predicted_category"][name]
        assert (part["recall"], part["false_positive_rate"]) == (right / harmful, wrong / harmless)
        assert f"{name} {right} of {harmful} and {wrong} of {harmless}" in rates
    known = written["predicted_category"]
    assert (
        f"right in {known['right']} of {known['rows']} harmful rows that have one: {known['accuracy']:.4f}" in accuracy
    )
    assert last.startswith("AUROC") and written["unseen"] == {"frames": 1, "text": 1}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "some frames of 1 picture and text of 1 picture (unseen_frames, unseen_text)" in page


def test_evidence_of_a_run_without_categories_gives_a_page_without_them(run_script, repo, tmp_path):
    memes = [meme | {"category": "general"} for meme in sample_memes(repo)[:8]]
    lines = meme_evidence(memes)
    pages = []
    for number, evidence in enumerate((lines, with_categories(lines), [line | {"categories": {}} for line in lines])):
        settings = write_run(tmp_path / str(number), evidence, memes) | {"BOOTSTRAP_SAMPLES": "100"}
        done = run_script(REPORT, settings)
        assert done.returncode == 0 and (b"predicted" in done.stdout) == (number == 1)
        pages.append((tmp_path / str(number) / "report" / "report.html").read_text(encoding="utf-8"))
    for part in (
        "has a category that the model knows",
        'data-column="predicted"',
        'name="predicted"',
        'class="predicted"',
        'value="unseen"',
    ):
        assert [part in page for page in pages] == [False, part != 'value="unseen"', False]


def test_a_share_beyond_its_bounds_is_named(run_script, repo, tmp_path):
    memes = sample_memes(repo)[:2]
    lines = meme_evidence(memes)
    lines[1]["categories"] = {"race": 1.5}
    done = run_script(REPORT, write_run(tmp_path, lines, memes))
    assert done.returncode == 1 and b"line 2, categories.race: Input should be less than" in done.stderr


def shown(page) -> list[str]:
    return page.locator("#cards h3").all_inner_texts()


@in_chromium
def test_the_gallery_filters_by_predicted_category_and_shows_it_where_flagged(page, made_up_report):
    lines = made_up_report[1]
    assert page.locator("[name=predicted] option").all_inner_texts() == ["all", "race", "religion", "health"]
    page.select_option("[name=predicted]", "religion")
    wanted = [os.path.basename(line["path"]) for line in lines if predicted(line) == "religion"]
    assert shown(page) == wanted
    for card in page.locator("#cards .card").all():
        flagged = card.locator(".badge").inner_text() == "flagged"
        assert card.locator(".predicted").inner_text() == ("religion 70.0 %" if flagged else "")
    page.fill("#slider", "1")
    page.locator("#cards .badge.flagged").first.wait_for(state="detached")
    assert set(page.locator("#cards .predicted").all_inner_texts()) == {""}
    page.select_option("[name=predicted]", "")
    page.check("#show input[value=unseen]")
    assert shown(page) == [os.path.basename(lines[4]["path"])]
    assert "not seen: 25.0 % of its frames, 50.0 % of its text" in page.inner_text("#cards .tags")


@in_chromium
def test_rates_by_predicted_category_follow_the_slider(page, made_up_report):
    _, lines, gold = made_up_report
    line = page.locator("table[data-column=predicted] [data-value=religion]")
    harmful, right, harmless, wrong = parts_of(lines, gold)["religion"]
    assert line.locator("[data-reach=recall]").inner_text().endswith(f"; {right} of {harmful}")
    assert line.locator("[data-rate=recall]").inner_text() == f"{100 * right / harmful:.1f} %"
    assert line.locator("[data-reach=false_positive_rate]").inner_text().endswith(f"; {wrong} of {harmless}")
    page.fill("#slider", "0")
    assert line.locator("[data-reach=recall]").inner_text().endswith(f" to 100.0 %; {harmful} of {harmful}")


@in_chromium
def test_a_review_offers_the_predicted_category_first_and_the_details_have_all(page):
    def offered(holder):
        return holder.locator("[data-field=category]").evaluate_all("found => found.map((it) => it.dataset.value)")

    cards, dialog = page.locator("#cards .card"), page.locator("#details")
    cards.nth(2).locator(".open").click()
    rest = ["race", "religion", "nationality", "orientation", "gender", "age", "class", "other"]
    assert offered(dialog) == ["health", *rest] == offered(cards.nth(2))
    facts = page.inner_text("#details dl")
    assert "health 70.0 %, race 10.0 %, religion 10.0 %, other 10.0 %" in facts
    page.keyboard.press("ArrowRight")
    assert offered(dialog)[0] == "race" and dialog.locator("[title='predicted by the detector']").count() == 1
