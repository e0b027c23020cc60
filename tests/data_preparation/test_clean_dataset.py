"""clean_dataset.py as a user runs it: what it keeps, what it drops and why, and what it leaves on disk."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from datasets import ClassLabel, load_from_disk

SCRIPT = "data_preparation/clean_dataset.py"
FILES = {"README.md", "cleaning_report.json", "composition.png", "dataset_dict.json", "rejected.jsonl"} | {
    f"{split}/{name}"
    for split in ("train", "validation", "test")
    for name in ("data-00000-of-00001.arrow", "dataset_info.json", "state.json")
}
SENTENCES = [
    "my neighbour waters plants at midnight and calls it gardening",
    "the printer jams only on deadline day",
    "grandma beats everyone at chess and never gloats",
    "this bus has more plot twists than my favourite drama",
    "nobody warned me that adulthood is mostly folding laundry",
    "our office plant got promoted before I did",
]


def item(text, group=None, image="a plant on a desk", **more):
    return {"image": image, "text": text, **({"group": group} if group else {}), **more}


def write_raw(root, name, items, label="ok", language="en", **changed):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "asked": {"model": "some/model"},
                "label": label,
                "category": "general",
                "language": language,
                "source": None,
                "items": items,
                "reply": {},
                **changed,
            },
            ensure_ascii=False,
        )
    )


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_in(folder):
    return [{**row, "split": name} for name, split in load_from_disk(str(folder)).items() for row in split]


def rejected_in(folder):
    return [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]


@pytest.fixture
def clean(run_script, tmp_path):
    def run(**settings):
        return run_script(SCRIPT, {"RAW_ROOT": tmp_path / "raw", "OUTPUT_DIR": tmp_path / "dataset", **settings})

    return run


def test_all_of_it_from_the_phrasebook(run_script, clean, tmp_path):
    raw = tmp_path / "raw"
    run_script(
        "data_preparation/generate_data.py",
        {"PROMPT_KEY": "Singapore_ok,Reddit_offensive", "NUM_RUNS": 8, "OUTPUT_ROOT": raw},
    )
    folders = f"{raw}/phrasebook_Singapore_ok,{raw}/phrasebook_Reddit_offensive"
    run_script("data_preparation/translate_data.py", {"LANGUAGE": "Chinese,Malay,Tamil", "DIR_NAME": folders})
    done = clean(TEST_FRACTION=0.2, VALIDATION_FRACTION=0.2)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "dataset"
    before = files_in(output)
    assert set(before) == FILES and {path.name for path in tmp_path.iterdir()} == {"raw", "dataset"}
    rows = rows_in(output)
    assert list(rows[0]) == ["id", "image", "text", "label", "language", "category", "group", "source", "split"]
    assert load_from_disk(str(output))["train"].features["label"] == ClassLabel(names=["ok", "offensive"])
    assert Counter((row["label"], row["language"]) for row in rows) == {
        (label, language): 40 for label in (0, 1) for language in ("en", "zh", "ms", "ta")
    }
    splits_of_group = {}
    for row in rows:
        splits_of_group.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in splits_of_group.values()) and len({row["split"] for row in rows}) == 3
    report = json.loads(before["cleaning_report.json"])
    assert report["items_read"] == report["rows"] + sum(report["rejected"].values()) == 320
    assert f"wrote {len(rows):,} rows" in done.stdout.decode()
    again = clean(TEST_FRACTION=0.2, VALIDATION_FRACTION=0.2)
    assert again.stdout.startswith(b"unchanged: 320 rows") and files_in(output) == before


def test_with_nothing_set_it_cleans_what_generate_data_wrote_with_nothing_set(run_script, tmp_path):
    assert run_script("data_preparation/generate_data.py", cwd=tmp_path).returncode == 0
    done = run_script(SCRIPT, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == b"wrote 550 rows to dataset (0 dropped)\n", done.stderr
    assert {path.name.partition("_")[0] for path in tmp_path.iterdir()} == {"phrasebook", "dataset"}
    assert run_script(SCRIPT, cwd=tmp_path).stdout.startswith(b"unchanged: 550 rows in dataset")


def test_every_drop_has_its_reason_and_the_sum_adds_up(clean, tmp_path):
    raw = tmp_path / "raw"
    write_raw(
        raw,
        "a/0001.json",
        [
            item(SENTENCES[0]),
            item(SENTENCES[0].upper() + "!!"),
            item(SENTENCES[0] + " now"),
            item(" "),
            item("x" * 500),
            {"image": "no text"},
            "no item",
            item("我爱我的邻居"),
            item("I'm sorry, but I can't help with that."),
            item(SENTENCES[1]),
        ],
    )
    write_raw(raw, "b/0001.json", [item(SENTENCES[1]), item(SENTENCES[2])], label="offensive")
    write_raw(raw, "Chinese_a/0001.json", [item("我的邻居半夜浇花"), item("not translated at all")], language="zh")
    (raw / "a" / "0002.json").write_text('{"items": [')
    write_raw(raw, "a/0003.json", [item("never read")], label="fine")
    write_raw(raw, "a/failed/0004.json", [item("a failure is no data")])
    done = clean()
    assert done.returncode == 0, done.stderr
    output = tmp_path / "dataset"
    assert {row["text"] for row in rows_in(output)} == {SENTENCES[0], SENTENCES[2], "我的邻居半夜浇花"}
    reasons = {(entry.get("id"), entry["reason"]) for entry in rejected_in(output)}
    assert reasons == {
        ("a/0001#1", "duplicate"),
        ("a/0001#2", "near_duplicate"),
        ("a/0001#3", "empty"),
        ("a/0001#4", "over_long"),
        ("a/0001#5", "malformed"),
        ("a/0001#6", "malformed"),
        ("a/0001#7", "wrong_script"),
        ("a/0001#8", "refusal"),
        ("a/0001#9", "label_conflict"),
        ("b/0001#0", "label_conflict"),
        ("Chinese_a/0001#1", "wrong_script"),
        (None, "bad_file"),
    }
    report = json.loads((output / "cleaning_report.json").read_text())
    assert (report["items_read"], report["rows"], report["files_read"], report["files_refused"]) == (14, 3, 3, 2)
    assert sum(report["rejected"].values()) == 11
    near = next(entry for entry in rejected_in(output) if entry["reason"] == "near_duplicate")
    assert near["like"] == "a/0001#0"


def test_a_category_of_the_list_counts_and_any_other_leaves_the_area_and_is_told(clean, tmp_path):
    said = ["race", " Racial", "everyday", None, ["age"], "none"]
    items = [item(text, category=category) for text, category in zip(SENTENCES, said, strict=True)]
    write_raw(tmp_path / "raw", "a/0001.json", items, label="offensive")
    write_raw(tmp_path / "raw", "Chinese_a/0001.json", [item("邻居半夜浇花", category="sports")], language="zh")
    done = clean(LICENCE="mit")
    assert done.returncode == 0, done.stderr
    rows = {row["text"]: row["category"] for row in rows_in(tmp_path / "dataset")}
    assert [rows.pop(text) for text in SENTENCES] == ["race", "race", *["general"] * 4]
    assert rows == {"邻居半夜浇花": "general"}
    assert b"3 items name a category that CATEGORIES does not have" in done.stderr
    assert b"sports 1, everyday 1, ['age'] 1" in done.stderr
    report = json.loads((tmp_path / "dataset" / "cleaning_report.json").read_text())
    assert report["unlisted_categories"] == {"items": 3, "most_common": {"everyday": 1, "['age']": 1, "sports": 1}}
    card = (tmp_path / "dataset" / "README.md").read_text()
    assert "| category | ok | offensive |\n| --- | ---: | ---: |\n| general | 1 | 4 |\n| race | 0 | 2 |\n" in card
    assert "(3 items\nname something else)" in card
    clean(CATEGORIES="Everyday,sports")
    rows = {row["text"]: row["category"] for row in rows_in(tmp_path / "dataset")}
    assert Counter(rows.values()) == {"general": 5, "everyday": 1, "sports": 1} and rows[SENTENCES[2]] == "everyday"


def test_raw_files_without_categories_keep_their_areas_and_nothing_is_told(clean, tmp_path):
    write_raw(tmp_path / "raw", "a/0001.json", [item(text) for text in SENTENCES], category="religious_racial")
    done = clean()
    assert {row["category"] for row in rows_in(tmp_path / "dataset")} == {"religious_racial"}
    assert b"CATEGORIES does not have" not in done.stderr


def test_translations_that_read_alike_in_two_languages_are_both_kept(clean, tmp_path):
    write_raw(tmp_path / "raw", "a/0001.json", [item("Laksa at Bishan, Satay at Bedok")])
    write_raw(tmp_path / "raw", "Malay_a/0001.json", [item("Laksa at Bishan, Satay at Bedok")], language="ms")
    clean()
    assert len(rows_in(tmp_path / "dataset")) == 2


def test_texts_that_resemble_each_other_share_a_group_with_their_translations(clean, tmp_path):
    likes = [SENTENCES[0], SENTENCES[0].replace("gardening", "a hobby"), SENTENCES[1]]
    write_raw(tmp_path / "raw", "a/0001.json", [item(text, f"g{n}") for n, text in enumerate(likes)])
    write_raw(tmp_path / "raw", "Chinese_a/0001.json", [item("邻居半夜浇水", "g1")], language="zh")
    clean()
    groups = {row["text"]: row["group"] for row in rows_in(tmp_path / "dataset")}
    assert groups == {likes[0]: "g0", likes[1]: "g0", likes[2]: "g2", "邻居半夜浇水": "g0"}


def test_added_data_moves_no_row_and_a_bigger_test_part_only_adds(clean, tmp_path):
    words = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa".split()
    texts = [f"{one} {other} {one[::-1]} {other[::-1]}" for one in words for other in words if one < other]
    write_raw(tmp_path / "raw", "a/0001.json", [item(text, text) for text in texts[:80]])
    clean(TEST_FRACTION=0.2)
    before = {row["text"]: row["split"] for row in rows_in(tmp_path / "dataset")}
    write_raw(tmp_path / "raw", "a/0002.json", [item(text, text) for text in texts[80:]])
    assert b"wrote" in clean(TEST_FRACTION=0.2).stdout
    after = {row["text"]: row["split"] for row in rows_in(tmp_path / "dataset")}
    assert len(after) == len(texts) > len(before) and all(after[text] == split for text, split in before.items())
    clean(TEST_FRACTION=0.5)
    bigger = {row["text"]: row["split"] for row in rows_in(tmp_path / "dataset")}
    assert all(bigger[text] == "test" for text, split in after.items() if split == "test")
    assert Counter(bigger.values())["test"] > Counter(after.values())["test"]


@pytest.mark.parametrize("form", ["csv", "jsonl", "dataset"])
def test_what_an_evaluation_set_holds_is_dropped(clean, tmp_path, form):
    write_raw(tmp_path / "raw", "a/0001.json", [item(text) for text in SENTENCES])
    if form == "dataset":
        write_raw(tmp_path / "evaluation_raw", "a/0001.json", [item(SENTENCES[3] + "!")])
        clean(RAW_ROOT=tmp_path / "evaluation_raw", OUTPUT_DIR=tmp_path / "evaluation.dataset")
    elif form == "csv":
        (tmp_path / "evaluation.csv").write_text(f'id,text\n1,"{SENTENCES[3].upper()}"\n')
    else:
        (tmp_path / "evaluation.jsonl").write_text(json.dumps({"text": SENTENCES[3] + " ok"}) + "\n")
    done = clean(DECONTAMINATE=tmp_path / f"evaluation.{form}")
    assert done.returncode == 0, done.stderr
    assert [(entry["text"], entry["reason"]) for entry in rejected_in(tmp_path / "dataset")] == [
        (SENTENCES[3], "in_evaluation_set")
    ]
    assert len(rows_in(tmp_path / "dataset")) == 5


def test_translations_and_variants_of_an_evaluation_text_are_dropped_with_it(clean, tmp_path):
    write_raw(
        tmp_path / "raw", "a/0001.json", [item(SENTENCES[0], "g0"), item(SENTENCES[1], "g1"), item(SENTENCES[2], "g0")]
    )
    write_raw(tmp_path / "raw", "b/0001.json", [item(SENTENCES[0], "again"), item(SENTENCES[3], "g3")])
    write_raw(
        tmp_path / "raw",
        "Chinese_a/0001.json",
        [item("邻居半夜浇花", "g0"), item("打印机总在截止日坏", "g1")],
        language="zh",
    )
    write_raw(tmp_path / "raw", "Malay_b/0001.json", [item("Jiran saya menyiram pokok", "again")], language="ms")
    (tmp_path / "evaluation.csv").write_text(f'text\n"{SENTENCES[0]}"\n')
    done = clean(DECONTAMINATE=tmp_path / "evaluation.csv")
    assert done.returncode == 0, done.stderr
    assert {row["text"] for row in rows_in(tmp_path / "dataset")} == {SENTENCES[1], SENTENCES[3], "打印机总在截止日坏"}
    assert {(entry["id"], entry["reason"]) for entry in rejected_in(tmp_path / "dataset")} == {
        ("a/0001#0", "in_evaluation_set"),
        ("b/0001#0", "duplicate"),
        ("a/0001#2", "group_in_evaluation_set"),
        ("Chinese_a/0001#0", "group_in_evaluation_set"),
        ("Malay_b/0001#0", "group_in_evaluation_set"),
    }


def test_groups_that_an_evaluation_set_names_are_dropped_where_set(clean, tmp_path):
    write_raw(tmp_path / "raw", "a/0001.json", [item(text, f"g{number}") for number, text in enumerate(SENTENCES)])
    (tmp_path / "evaluation.jsonl").write_text(json.dumps({"text": "邻居半夜浇花", "group": "g0"}) + "\n")
    clean(DECONTAMINATE=tmp_path / "evaluation.jsonl")
    assert {row["text"] for row in rows_in(tmp_path / "dataset")} == set(SENTENCES)
    clean(DECONTAMINATE=tmp_path / "evaluation.jsonl", DECONTAMINATE_GROUPS=1)
    assert {row["text"] for row in rows_in(tmp_path / "dataset")} == set(SENTENCES[1:])
    assert [(entry["text"], entry["reason"]) for entry in rejected_in(tmp_path / "dataset")] == [
        (SENTENCES[0], "group_in_evaluation_set")
    ]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"DECONTAMINATE": "nowhere.csv"}, b"DECONTAMINATE=nowhere.csv"),
        ({"TEST_FRACTION": "0.6", "VALIDATION_FRACTION": "0.4"}, b"leave nothing to train on"),
        ({"RAW_ROOT": "nowhere"}, b"RAW_ROOT"),
        ({"CATEGORIES": "race,Race"}, b"one category twice"),
    ],
)
def test_unusable_settings_are_named(clean, tmp_path, settings, told):
    (tmp_path / "raw").mkdir()
    refused = clean(**settings)
    assert refused.returncode == 2 and told in refused.stderr


def test_a_folder_that_holds_something_else_is_not_replaced(clean, tmp_path):
    write_raw(tmp_path / "raw", "a/0001.json", [item(SENTENCES[0])])
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "thesis.txt").write_text("years of work")
    refused = clean()
    assert refused.returncode == 2 and b"set OUTPUT_DIR" in refused.stderr
    assert files_in(tmp_path / "dataset") == {"thesis.txt": b"years of work"}


def test_a_full_disk_keeps_the_earlier_data_set(repo, clean, tmp_path):
    write_raw(tmp_path / "raw", "a/0001.json", [item(SENTENCES[0])])
    clean()
    before = files_in(tmp_path / "dataset")
    write_raw(tmp_path / "raw", "a/0002.json", [item(text + str(n)) for n in range(20) for text in SENTENCES])
    full = subprocess.run(
        ["bash", "-c", f"ulimit -f 1; exec {sys.executable} {repo / SCRIPT}"],
        capture_output=True,
        env={
            "RAW_ROOT": str(tmp_path / "raw"),
            "OUTPUT_DIR": str(tmp_path / "dataset"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    assert full.returncode == 2 and b"free some space" in full.stderr and files_in(tmp_path / "dataset") == before
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "dataset"}


def test_nothing_left_keeps_the_earlier_data_set(clean, tmp_path):
    write_raw(tmp_path / "raw", "a/0001.json", [item(SENTENCES[0])])
    clean()
    before = files_in(tmp_path / "dataset")
    write_raw(tmp_path / "raw", "a/0001.json", [item("")])
    empty = clean()
    assert empty.returncode == 2 and b"nothing is left" in empty.stderr and files_in(tmp_path / "dataset") == before


def test_a_replacement_that_was_killed_between_its_renames_is_mended(clean, tmp_path):
    write_raw(tmp_path / "raw", "a/0001.json", [item(SENTENCES[0])])
    clean()
    before = files_in(tmp_path / "dataset")
    (tmp_path / "dataset").rename(tmp_path / ".dataset.earlier")
    (tmp_path / ".dataset.partial").mkdir()
    (tmp_path / ".dataset.partial" / "candidates.jsonl").write_text("left by a killed run")
    assert clean().stdout.startswith(b"unchanged")
    assert files_in(tmp_path / "dataset") == before
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "dataset"}


def test_the_card_tells_what_is_in_it(clean, tmp_path):
    write_raw(tmp_path / "raw", "a/0001.json", [item(text) for text in SENTENCES], source={"model": "first/model"})
    clean(LICENCE="cc-by-4.0")
    card = (tmp_path / "dataset" / "README.md").read_text()
    for told in (
        "license: cc-by-4.0",
        "| first/model > some/model | 6 |",
        "composition.png",
        "distinct 3-grams",
        "Intended use, and harms",
        "| en | ok |",
    ):
        assert told in card
    samples = card.split("## Samples")[1]
    assert samples.count("| en | ok |") == len(load_from_disk(str(tmp_path / "dataset"))["train"]) > 1
    assert (tmp_path / "dataset" / "composition.png").read_bytes().startswith(b"\x89PNG")
