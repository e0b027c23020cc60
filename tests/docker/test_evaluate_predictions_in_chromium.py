"""The report in Debian's Chromium: slider, gallery, blur, outlines and details, as people use them."""

import os
import shutil

import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from made_up_run import BOX

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium (apt install chromium)")


@pytest.fixture
def expect():
    from playwright.sync_api import expect

    return expect


def shown(page) -> list[str]:
    return page.locator("#cards h3").all_inner_texts()


def show(page, kind):
    page.check(f"#show input[value={kind}]")


def matrix(page) -> dict[str, int]:
    return {kind: int(page.inner_text(f"#matrix [data-count={kind}]")) for kind in ("tp", "fp", "fn", "tn")}


def expected_matrix(report, threshold) -> dict[str, int]:
    _, lines, gold = report
    known = [(line["probability"], label) for line, label in zip(lines, gold, strict=True) if label is not None]
    flagged = [round(p, 4) >= threshold for p, _ in known]
    tn, fp, fn, tp = confusion_matrix([label for _, label in known], flagged).ravel().tolist()
    return {"tp": tp, "fp": fp, "fn": fn, "tn": tn}


def test_slider_and_field_move_matrix_rates_parts_and_marks(page, made_up_report):
    assert matrix(page) == expected_matrix(made_up_report, 0.5)
    page.fill("#slider", "0.3")
    counts = expected_matrix(made_up_report, 0.3)
    assert matrix(page) == counts != expected_matrix(made_up_report, 0.5)
    rate = counts["tp"] / (counts["tp"] + counts["fn"])
    assert page.inner_text("#rates [data-rate=recall] .value") == f"{100 * rate:.1f} %"
    bounds = binomtest(counts["tp"], counts["tp"] + counts["fn"]).proportion_ci(method="wilson")
    told = f"{100 * bounds.low:.1f} % to {100 * bounds.high:.1f} %"
    assert page.inner_text("#rates [data-rate=recall] .bounds") == told
    assert f"{counts['fp']} false positives" in page.inner_text("#standing")
    languages = page.evaluate("run.rows.map((row) => row.language)")
    tamil = [pair for *pair, language in zip(*made_up_report[1:], languages, strict=True) if language == "ta"]
    right = [(line["probability"] >= 0.3) == gold for line, gold in tamil]
    assert page.inner_text("[data-value=ta] [data-rate=accuracy]") == f"{100 * sum(right) / len(right):.1f} %"
    across = page.evaluate("""() => { const chart = document.querySelector('[data-chart=histogram]'), d = chart.dataset;
        return (chart.querySelector('.marker').getAttribute('x1') - d.x0) / (d.x1 - d.x0) }""")
    assert across == pytest.approx(0.3, abs=1e-3)
    page.fill("#exact", "0.7123")
    assert matrix(page) == expected_matrix(made_up_report, 0.7123)


def test_presets_keep_what_they_promise(page, made_up_report):
    for rate in ("0.05", "0.01"):
        page.click(f"[data-rate='{rate}']")
        chosen = page.evaluate("state.threshold")
        lower = max(p for line in made_up_report[1] if (p := round(line["probability"], 4)) < chosen)
        at, below = expected_matrix(made_up_report, chosen), expected_matrix(made_up_report, lower)
        assert at["fp"] / (at["fp"] + at["tn"]) <= float(rate) < below["fp"] / (below["fp"] + below["tn"])
    page.click("[data-preset=f1]")
    f1 = {
        t / 1000: 2 * m["tp"] / (2 * m["tp"] + m["fp"] + m["fn"])
        for t in range(0, 1001, 5)
        for m in [expected_matrix(made_up_report, t / 1000)]
    }
    best = matrix(page)
    assert 2 * best["tp"] / (2 * best["tp"] + best["fp"] + best["fn"]) >= max(f1.values())
    page.click("[data-preset=reported]")
    assert matrix(page) == expected_matrix(made_up_report, 0.5)


def test_the_marks_on_the_curves_are_where_the_rates_say(page, made_up_report):
    page.fill("#slider", "0.42")
    counts = expected_matrix(made_up_report, 0.42)
    spot = page.evaluate("""() => { const chart = document.querySelector('[data-chart=roc]'), d = chart.dataset;
        const mark = chart.querySelector('circle.marker');
        const [x, y] = ['cx', 'cy'].map((name) => mark.getAttribute(name));
        return [(x - d.x0) / (d.x1 - d.x0), (y - d.y0) / (d.y1 - d.y0)] }""")
    assert spot == pytest.approx(
        [counts["fp"] / (counts["fp"] + counts["tn"]), counts["tp"] / (counts["tp"] + counts["fn"])], abs=1e-3
    )


def test_filters_show_what_they_say_at_the_threshold_of_the_slider(page, made_up_report):
    _, lines, gold = made_up_report
    names = [os.path.basename(line["path"]) for line in lines]
    for threshold in (0.5, 0.35):
        page.fill("#slider", str(threshold))
        wanted = {
            "fp": lambda p, g, line, t=threshold: g == 0 and p >= t,
            "fn": lambda p, g, line, t=threshold: g == 1 and p < t,
            "failures": lambda p, g, line: line["error"],
            "unlabelled": lambda p, g, line: g is None,
            "uncertain": lambda p, g, line, t=threshold: abs(p - t) <= 0.1,
        }
        for kind, matches in wanted.items():
            show(page, kind)
            expected = [
                name
                for name, line, label in zip(names, lines, gold, strict=True)
                if matches(round(line["probability"], 4), label, line)
            ]
            assert sorted(shown(page)) == sorted(expected) and expected, kind
            assert page.inner_text(f"[data-tally={kind}]") == str(len(expected))
    assert page.input_value("[name=sort]") == "uncertain"


def test_sorts_language_search_and_pages(page, made_up_report):
    _, lines, gold = made_up_report
    page.select_option("[name=sort]", "high")
    scores = [float(score) for score in page.locator("#cards .score").all_inner_texts()]
    assert len(scores) == 48 and scores == sorted((round(line["probability"], 4) for line in lines), reverse=True)[:48]
    page.locator("[data-pager] >> nth=1").locator("[data-step='1']").click()
    assert len(shown(page)) == len(lines) - 48 and f"49–{len(lines)} of {len(lines)}" in page.inner_text("#gallery")
    page.select_option("[name=sort]", "wrong")
    known = [(line, label) for line, label in zip(lines, gold, strict=True) if label is not None]
    worst = max(known, key=lambda pair: abs(pair[1] - pair[0]["probability"]))[0]
    assert shown(page)[0] == os.path.basename(worst["path"])
    page.select_option("[name=language]", "zh")
    assert len(shown(page)) == 15
    page.select_option("[name=language]", "")
    page.fill("[name=search]", "FOOTBALL")
    found = [line for line in lines if "football" in f"{line['text']} {line['caption']}".lower()]
    assert 0 < len(shown(page)) == len(found) < len(lines)
    page.fill("[name=search]", "no such words")
    assert shown(page) == [] and "None of the pictures" in page.inner_text("#status")


def test_a_cell_of_the_matrix_opens_its_pictures(page, made_up_report, expect):
    page.click("#matrix [data-show=fn]")
    assert page.is_checked("#show input[value=fn]")
    assert len(shown(page)) == expected_matrix(made_up_report, 0.5)["fn"]
    expect(page.locator("#controls")).to_be_in_viewport()


def test_harmful_pictures_are_blurred_until_clicked(page, expect):
    card = page.locator("#cards .card", has_text="meme_001.png")
    picture = card.locator(".picture")
    assert "blurred" in picture.get_attribute("class") and "blur(" in filter_of(card)
    assert card.locator("img").get_attribute("alt") == "blurred picture"
    card.locator(".reveal").click()
    assert "blurred" not in picture.get_attribute("class")
    expect(card.locator("img")).to_have_css("filter", "none")
    card.locator(".reveal").click()
    assert "blurred" in picture.get_attribute("class")
    harmless = page.locator("#cards .card", has_text="labelled harmless").filter(has_text="passed").first
    assert filter_of(harmless) == "none"
    page.uncheck("[name=blur]")
    assert page.locator(".blurred").count() == 0
    page.check("[name=blur]")
    show(page, "failures")
    assert page.locator("#cards .card", has_text="caption_failed").locator(".blurred").count() == 1


def filter_of(card) -> str:
    return card.locator("img").evaluate("element => getComputedStyle(element).filter")


def test_boxes_are_drawn_on_request_where_the_text_was_read(page):
    card = page.locator("#cards .card", has_text="labelled harmless").filter(has_text="passed").first
    assert not card.locator(".frame svg").is_visible()
    page.check("[name=boxes]")
    assert card.locator(".frame svg").bounding_box() == card.locator("img").bounding_box()
    assert card.locator("polygon.box").get_attribute("points").split() == [str(corner) for corner in BOX]


def test_details_by_keyboard(page, made_up_report, expect):
    page.locator("#cards .card .open").first.focus()
    page.keyboard.press("Enter")
    assert page.inner_text("#details h3") == "meme_001.png" and "blurred" in page.inner_html("#details .sheet")
    first = made_up_report[1][0]
    facts = page.inner_text("#details dl")
    assert f"{first['probability']:.4f}" in facts and f"text alone {first['probability_text']:.4f}" in facts
    assert first["text"] in facts and first["caption"] in facts and first["path"] in facts
    assert page.locator("#details tbody tr").count() == 1
    page.locator("#details tbody tr").focus()
    assert page.locator("#details .lit polygon.box").count() == 1
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#details h3") == "meme_002.png"
    page.locator("#details .reveal").press("Enter")
    assert page.locator("#details .blurred").count() == 0
    page.keyboard.press("Escape")
    assert not page.is_visible("#details")
    card = page.locator("#cards .card", has_text="meme_002.png")
    # A dialog tells of its closing in a task of its own, after it has gone from view.
    expect(card.locator(".blurred")).to_have_count(0)
    expect(card.locator(".open")).to_be_focused()
