"""add_reviews.py as a user runs it: what becomes of each review, what it leaves on disk, what it refuses."""

import csv
import json
from collections import Counter

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_from_disk

SCRIPT = "data_preparation/add_reviews.py"
TEXTS = [
    "my neighbour waters plants at midnight and calls it gardening",
    "the printer jams only on deadline day",
    "grandma beats everyone at chess and never gloats",
    "this bus has more plot twists than my favourite drama",
    "nobody warned me that adulthood is mostly folding laundry",
    "our office plant got promoted before I did",
]


def evidence(path, text, caption="a plant on a desk", **more):
    return {"path": path, "text": text, "caption": caption, "probability": 0.5, "label": 1, **more}


def review(path, label, category="", time="2026-11-20T10:00:00Z"):
    return {"path": path, "label": label, "category": category, "time": time}


def known_row(text, label, group, language="en"):
    row = {"id": text[:9], "image": "a bus", "text": text, "label": label, "language": language}
    return row | {"category": "general", "group": group, "source": "x"}


@pytest.fixture
def known_dir(tmp_path):
    """A data set that is there already: two groups to train on, one held out, and no validation."""
    features = Features(
        {name: Value("string") for name in known_row("", 0, "")} | {"label": ClassLabel(names=["ok", "offensive"])}
    )
    splits = {
        "train": [known_row(TEXTS[0], 0, "g0"), known_row(TEXTS[1], 0, "g1"), known_row("巴士又迟到了", 0, "g1", "zh")],
        "test": [known_row(TEXTS[2], 0, "g2")],
    }
    columns = {name: {key: [row[key] for row in rows] for key in features} for name, rows in splits.items()}
    tables = {name: Dataset.from_dict(table, features=features) for name, table in columns.items()}
    DatasetDict(tables).save_to_disk(str(tmp_path / "known"), num_shards=dict.fromkeys(splits, 1))
    return tmp_path / "known"


@pytest.fixture
def add(run_script, tmp_path):
    """add(evidence lines, review lines of each reviewer, settings): the finished process."""

    def run(lines, *reviews, **settings):
        details = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "details.jsonl").write_text(details, encoding="utf-8")
        paths = []
        for number, rows in enumerate(reviews):
            paths.append(tmp_path / f"review{number}.csv")
            with paths[-1].open("w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, ["path", "label", "category", "time"])
                table.writeheader()
                table.writerows(rows)
        named = {"REVIEW_PATH": ",".join(map(str, paths)), "DETAILS_PATH": tmp_path / "details.jsonl"}
        return run_script(SCRIPT, named | {"OUTPUT_DIR": tmp_path / "reviewed"} | settings)

    return run


def rows_in(folder):
    return {row["id"]: row | {"split": name} for name, split in load_from_disk(str(folder)).items() for row in split}


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def labels_in(folder):
    with (folder / "labels.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as table:
        return {row["file_name"]: row for row in csv.DictReader(table)}


def reasons_in(folder):
    entries = map(json.loads, (folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines())
    return {entry["id"]: entry["reason"] for entry in entries}


def test_each_review_becomes_a_row_or_has_its_reason(add, known_dir, tmp_path):
    lines = [
        evidence("/a/1.png", f"{TEXTS[0].upper()}!"),
        evidence("/a/2.png", TEXTS[1]),
        evidence("/a/3.png", f"{TEXTS[2]}, not even to me"),
        evidence("/a/4.png", TEXTS[3]),
        evidence("/a/5.png", f"{TEXTS[3]} !"),
        evidence("/a/6.png", TEXTS[4]),
        evidence("/a/7.png", TEXTS[4]),
        evidence("/a/8.png", "", caption=None),
        evidence("/a/9.png", "", caption="two cats on a table"),
        evidence("/a/10.png", TEXTS[5]),
        evidence("/a/11.png", "Semua orang tahu dia tidak pernah sampai tepat pada masanya"),
        evidence("/a/12.png", "我的邻居半夜浇花"),
        evidence("/a/13.png", "never reviewed"),
    ]
    labels = "harmless harmful harmful harmful harmful harmful harmless harmful harmless unsure harmful harmless"
    reviews = [review(line["path"], label) for line, label in zip(lines, labels.split(), strict=False)]
    reviews[3]["category"], reviews[10]["category"] = "race", " Age "
    done = add(lines, reviews, DATASET_DIR=known_dir)
    assert done.returncode == 0, done.stderr.decode()
    assert b"wrote 5 rows" in done.stdout and b"(7 dropped" in done.stdout and b"11 labels" in done.stdout
    folder = tmp_path / "reviewed"
    rows = rows_in(folder)
    assert {path: (row["label"], row["language"], row["category"]) for path, row in rows.items()} == {
        "/a/3.png": (1, "en", ""),
        "/a/4.png": (1, "en", "race"),
        "/a/9.png": (0, "en", ""),
        "/a/11.png": (1, "ms", "age"),
        "/a/12.png": (0, "zh", ""),
    }
    assert rows["/a/4.png"]["image"] == "a plant on a desk" and rows["/a/9.png"]["text"] == ""
    assert {row["source"] for row in rows.values()} == {"review"}
    # It resembles a text that is held out there: it is held out with it.
    assert (rows["/a/3.png"]["group"], rows["/a/3.png"]["split"]) == ("g2", "test")
    assert reasons_in(folder) == {
        "/a/1.png": "in_dataset",
        "/a/2.png": "contradicts_dataset",
        "/a/5.png": "near_duplicate",
        "/a/6.png": "label_conflict",
        "/a/7.png": "label_conflict",
        "/a/8.png": "empty",
        "/a/10.png": "unsure",
    }
    told = labels_in(folder)
    assert len(told) == 11 and Counter(row["label"] for row in told.values()) == {"offensive": 7, "ok": 4}
    assert told["/a/4.png"]["group"] == told["/a/5.png"]["group"] and told["/a/1.png"]["group"] == "g0"
    assert "of\n12 memes in 1 review(s), 7 were dropped (1 contradicts_dataset" in (folder / "README.md").read_text()


def test_a_second_run_changes_nothing_and_the_folder_does_not_repeat_itself(add, known_dir, tmp_path):
    lines = [evidence(f"/a/{number}.png", text) for number, text in enumerate(TEXTS)]
    reviews = [review(line["path"], ("harmful", "harmless")[number % 2]) for number, line in enumerate(lines)]
    folder = tmp_path / "reviewed"
    first = add(lines, reviews, DATASET_DIR=known_dir)
    assert first.returncode == 0, first.stderr.decode()
    before = files_in(folder)
    assert {"README.md", "cleaning_report.json", "composition.png", "labels.csv", "rejected.jsonl"} < set(before)
    again = add(lines, reviews, DATASET_DIR=f"{known_dir},{folder}")
    assert again.stdout.startswith(b"unchanged: 3 rows") and files_in(folder) == before
    # Another round joins what the first made.
    more = add(lines, reviews, DATASET_DIR=folder, OUTPUT_DIR=tmp_path / "second")
    assert more.returncode == 0 and set(reasons_in(tmp_path / "second").values()) == {"in_dataset"}


def test_several_reviewers_must_agree_and_the_later_word_of_one_counts(add, tmp_path):
    lines = [evidence(f"/a/{number}.png", text) for number, text in enumerate(TEXTS)]
    late = "2026-11-21T10:00:00Z"
    one = [
        review("/a/0.png", "harmful", "age", late),
        review("/a/0.png", "harmless"),
        review("/a/1.png", "harmful", "age"),
        review("/a/2.png", "harmful"),
        review("/a/3.png", "unsure"),
    ]
    other = [
        review("/a/1.png", "harmful", "class", late),
        review("/a/2.png", "harmless"),
        review("/a/3.png", "harmless", "race"),
    ]
    done = add(lines, one, other)
    assert done.returncode == 0, done.stderr.decode()
    rows = rows_in(tmp_path / "reviewed")
    assert {path: (row["label"], row["category"]) for path, row in rows.items()} == {
        "/a/0.png": (1, "age"),
        "/a/1.png": (1, "class"),
        "/a/3.png": (0, "race"),
    }
    assert reasons_in(tmp_path / "reviewed") == {"/a/2.png": "reviewers_disagree"}


def test_a_path_that_is_no_utf8_keeps_its_bytes_in_the_labels(add, tmp_path):
    shown = "/a/caf\ufffd\ufffd\ufffd.png"  # as the report shows such a name
    lines = [evidence("/a/caf\udce9.png", TEXTS[0]), evidence("/a/1.png", TEXTS[1])]
    done = add(lines, [review(shown, "harmful"), review("/a/1.png", "harmless")])
    assert done.returncode == 0, done.stderr.decode()
    assert set(labels_in(tmp_path / "reviewed")) == {"/a/caf\udce9.png", "/a/1.png"}
    assert shown in rows_in(tmp_path / "reviewed")


def test_rows_of_evaluate_model_are_known_by_their_ids_and_keep_what_is_known_of_them(add, tmp_path):
    lines = [evidence(None, TEXTS[0], None, id="v3#7", language="ms", category="age", group="g")]
    done = add(lines, [review("v3#7", "harmful")])
    assert done.returncode == 0, done.stderr.decode()
    row = rows_in(tmp_path / "reviewed")["v3#7"]
    assert (row["language"], row["category"], row["group"], row["image"]) == ("ms", "age", "g", "")


@pytest.mark.parametrize(
    ("lines", "reviews", "settings", "words"),
    [
        ([], [review("/b.png", "harmful")], {}, ["names 1 memes", "'/b.png'", "the very run"]),
        (["no json"], [review("/a.png", "harmful")], {}, ["details.jsonl: line 2", "DETAILS_PATH set"]),
        ([], [review("/a.png", "bad")], {}, ["line 2", "'bad'", "harmful, harmless, unsure"]),
        ([], [review("/a.png", "harmful", "colour")], {}, ["line 2", "'colour'", "CATEGORIES"]),
        ([], [review("/a.png", "unsure")], {}, ["nothing is left of 1 reviews", "unsure"]),
        ([], [review("/a.png", "harmful")], {"DATASET_DIR": "tests"}, ["DATASET_DIR=", "clean_dataset.py"]),
        ([], [review("/a.png", "harmful")], {"DETAILS_PATH": "/nowhere"}, ["DETAILS_PATH=/nowhere"]),
        ([], [review("/a.png", "harmful")], {"REVIEW_PATH": "/void,"}, ["REVIEW_PATH=/void,: no such file: /void"]),
    ],
)
def test_what_cannot_be_used_is_named_with_the_remedy(add, repo, tmp_path, lines, reviews, settings, words):
    if "DATASET_DIR" in settings:
        settings = {"DATASET_DIR": repo / settings["DATASET_DIR"]}
    refused = add([evidence("/a.png", TEXTS[0]), *lines], reviews, **settings)
    assert refused.returncode == 2 and refused.stdout == b""
    assert all(word in refused.stderr.decode() for word in words), refused.stderr.decode()
    assert not (tmp_path / "reviewed").exists()


def test_a_table_of_other_columns_is_refused(add, run_script, tmp_path):
    add([evidence("/a.png", TEXTS[0])], [])
    (tmp_path / "review0.csv").write_text("file_name,label\n/a.png,harmful\n")
    refused = run_script(
        SCRIPT,
        {
            "REVIEW_PATH": tmp_path / "review0.csv",
            "DETAILS_PATH": tmp_path / "details.jsonl",
            "OUTPUT_DIR": tmp_path / "reviewed",
        },
    )
    assert refused.returncode == 2 and b"lacks the column(s) path" in refused.stderr


def test_a_folder_that_is_not_ours_is_left_alone(add, tmp_path):
    (tmp_path / "reviewed").mkdir()
    (tmp_path / "reviewed" / "thesis.txt").write_text("years of work")
    refused = add([evidence("/a.png", TEXTS[0])], [review("/a.png", "harmful")])
    assert refused.returncode == 2 and b"holds something that is no data set" in refused.stderr
    assert [path.name for path in (tmp_path / "reviewed").iterdir()] == ["thesis.txt"]
