"""The report in Debian's Chromium: keyboard, contrast, themes, hostile text, many pictures, and no network."""

import json
import os
import shutil

import pytest
from PIL import Image

from made_up_run import HOSTILE_NAME, SCRIPT_TEXT, evidence, meme_evidence, sample_memes, with_categories, write_run

REPORT = "docker/evaluate_predictions.py"
pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium (apt install chromium)")


def test_everything_is_reached_by_tab_and_shows_where_it_is(page):
    wanted = {"theme", "slider", "exact", "f1", "fn", "show", "search", "sort", "blur", "reveal", "open"}
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen |= set(
            page.evaluate("""() => { const at = document.activeElement;
            const ring = [at, at.nextElementSibling].some((it) => it && getComputedStyle(it).outlineStyle !== 'none');
            const names = [at.id, at.name, at.className, at.dataset.preset, at.dataset.show];
            return ring ? names : ['without ring ' + at.outerHTML] }""")
        )
    assert wanted <= seen and not [name for name in seen if name and name.startswith("without ring")]
    before = page.inner_text("#matrix")
    page.focus("#slider")
    for _ in range(3):
        page.keyboard.press("PageUp")
    assert page.inner_text("#matrix") != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_either_theme(visit, made_up_report, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(made_up_report[0]["OUTPUT_DIR"], color_scheme=scheme, reduced_motion="reduce")
    page.check("[name=boxes]")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.locator("#cards .open").first.click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_themes_follow_the_system_and_the_toggle_and_charts_follow_both(visit, made_up_report):
    looks = {}
    for scheme in ("light", "dark"):
        page = visit(made_up_report[0]["OUTPUT_DIR"], color_scheme=scheme)
        looks[scheme] = look(page)
        page.check("#theme [value=dark]")
        looks[f"{scheme}, dark asked"] = look(page)
        page.reload()
        assert look(page) == looks[f"{scheme}, dark asked"]
    assert looks["light"] != looks["dark"] == looks["light, dark asked"] == looks["dark, dark asked"]
    assert all(light != dark for light, dark in zip(looks["light"], looks["dark"], strict=True))


def look(page) -> list[str]:
    return page.evaluate("""() => [[document.body, 'backgroundColor'], [document.body, 'color'],
        [document.querySelector('[data-chart=histogram] path[fill="var(--harmful)"]'), 'fill'],
        [document.querySelector('[data-chart=roc] text'), 'fill']].map(([at, what]) => getComputedStyle(at)[what])""")


def test_motion_only_where_it_is_welcome(visit, made_up_report):
    for motion, expected in (("reduce", "auto"), ("no-preference", "smooth")):
        page = visit(made_up_report[0]["OUTPUT_DIR"], reduced_motion=motion)
        assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == expected


def test_what_a_picture_says_stays_text(page):
    page.fill("[name=search]", "window.hacked")
    card = page.locator("#cards .card").first
    assert card.locator(".read").text_content() == SCRIPT_TEXT
    assert card.locator("h3").text_content() == HOSTILE_NAME
    card.locator(".open").click()
    assert SCRIPT_TEXT in page.text_content("#details dl") and HOSTILE_NAME in page.text_content("#details dl")
    assert page.evaluate("window.hacked") is None and page.locator("script").count() == 3
    assert page.title() == "Sample memes with made-up scores </title><script>"
    assert '"><script>window.hacked=1' in page.inner_text("[data-column=category]")


def test_the_policy_stops_what_escaping_would_have_let_through(chromium, made_up_report):
    """A page of its own: here the console must complain."""
    page, refused = chromium.new_page(), []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(f"file://{made_up_report[0]['OUTPUT_DIR']}/report.html")
    written = open(f"{made_up_report[0]['OUTPUT_DIR']}/report.html", encoding="utf-8").read()
    broken = f"{made_up_report[0]['OUTPUT_DIR']}/broken.html"
    holes = "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'><p style='color:red' id=hole>"
    with open(broken, "w", encoding="utf-8") as file:
        file.write(written.replace("<main>", f"<main>{holes}"))
    page.goto(f"file://{broken}")
    os.unlink(broken)
    assert page.evaluate("window.hacked") is None and page.is_visible("#slider")
    assert page.evaluate("getComputedStyle(document.querySelector('#hole')).color") != "rgb(255, 0, 0)"
    assert page.evaluate("fetch('https://example.invalid/').then(() => 'sent', () => 'refused')") == "refused"
    assert len([line for line in refused if "Content Security Policy" in line]) >= 4
    page.close()


def test_two_thousand_pictures(visit, run_script, draw_meme, tmp_path):
    """All of them are there, few of them are in the document, and the page keeps to its budget."""
    for number in range(8):
        draw_meme("KOPI", (160, 120), (30 * number, 90, 120)).save(tmp_path / f"{number}.png")
    lines, labels = [], []
    for number in range(2000):
        path = str(tmp_path / f"m{number:04d}.png")
        os.symlink(tmp_path / f"{number % 8}.png", path)
        lines.append(evidence(path, f"text {number}", "a cat", (number % 997 / 997, number % 991 / 991), (160, 120)))
        labels.append({"file_name": os.path.basename(path), "label": number * 7 % 3 % 2, "language": "en"})
    settings = write_run(tmp_path, lines, labels) | {"BOOTSTRAP_SAMPLES": "100", "PICTURES_MEGABYTES": "5"}
    made = run_script(REPORT, settings)
    assert made.returncode == 0, made.stderr.decode()
    assert os.path.getsize(tmp_path / "report" / "report.html") < 5e6 + 2000 * 1000
    page = visit(tmp_path / "report")
    assert page.locator(".card").count() == 48 and page.locator("img").count() <= 49
    assert page.inner_text("#status") == "2,000 of 2,000 pictures"
    page.fill("[name=search]", "text 1999")
    assert page.locator("#cards h3").all_inner_texts() == ["m1999.png"]
    assert page.locator("#cards img").evaluate("image => image.decode()") is None
    page.fill("[name=search]", "")
    page.fill("#slider", "0.9")
    page.check("#show input[value=fn]")
    assert page.inner_text("[data-tally=fn]") == page.inner_text("#matrix [data-count=fn]") != "0"


def test_a_text_data_set_has_cards_without_pictures(visit, run_script, tmp_path):
    rows = [
        {
            "id": f"row-{number}",
            "text": f"text {number}",
            "caption": "a queue",
            "language": "en",
            "category": "age",
            "gold": number % 2,
            "probability": number / 40,
        }
        for number in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"DETAILS_PATH": tmp_path / "rows.jsonl", "OUTPUT_DIR": tmp_path, "BOOTSTRAP_SAMPLES": "100"}
    assert run_script(REPORT, settings).returncode == 0
    page = visit(tmp_path)
    page.select_option("[name=sort]", "high")
    assert page.locator("#cards h3").all_inner_texts()[0] == "row-39" and page.locator(".picture").count() == 0
    page.locator(".open").first.click()
    assert "text 39" in page.inner_text("#details dl")


def test_without_labels_the_slider_says_how_many_are_flagged(visit, run_script, made_up_report, tmp_path):
    settings = made_up_report[0] | {"LABELS_PATH": "", "OUTPUT_DIR": tmp_path, "BOOTSTRAP_SAMPLES": "100"}
    assert run_script(REPORT, settings).returncode == 0
    page = visit(tmp_path)
    page.fill("#slider", "0.7")
    flagged = sum(round(line["probability"], 4) >= 0.7 for line in made_up_report[1])
    assert page.inner_text("#flagged-share").startswith(f"{flagged} of {len(made_up_report[1])} are flagged")
    page.check("#show input[value=flagged]")
    assert page.locator(".card").count() == flagged


@pytest.mark.skipif("REPORT_SCREENSHOT" not in os.environ, reason="REPORT_SCREENSHOT names no file to write")
def test_screenshot_for_the_readme(visit, run_script, repo, tmp_path):
    """REPORT_SCREENSHOT=docs/report.webp: the top of the page and the gallery, light beside dark."""
    memes = sample_memes(repo)
    evidence = with_categories(meme_evidence(memes))
    settings = write_run(tmp_path, evidence, memes) | {"TITLE": "Sample memes with made-up scores"}
    assert run_script(REPORT, settings).returncode == 0
    halves = []
    for scheme, place in (("light", "#summary"), ("dark", "#gallery")):
        page = visit(tmp_path / "report", color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": 1180, "height": 1500})
        for name in ("meme_005.png", "meme_006.png"):
            assert name in page.locator("#cards h3").all_inner_texts()
        if place == "#gallery":
            page.evaluate(f"document.querySelector('{place}').scrollIntoView()")
        page.wait_for_timeout(500)
        page.screenshot(path=tmp_path / f"{scheme}.png")
        halves.append(Image.open(tmp_path / f"{scheme}.png").convert("RGB"))
    both = Image.new("RGB", (sum(half.width for half in halves), halves[0].height))
    both.paste(halves[0], (0, 0))
    both.paste(halves[1], (halves[0].width, 0))
    both.thumbnail((1800, 1800), Image.Resampling.LANCZOS)
    both.save(os.environ["REPORT_SCREENSHOT"], "WEBP", quality=78, method=6)
    assert os.path.getsize(os.environ["REPORT_SCREENSHOT"]) < 200_000
