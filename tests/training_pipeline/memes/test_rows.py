"""Rows of any table with texts and labels: read as they stand, or refused with the remedy."""

import json

import pytest
from small_memes import meme_rows, save_dataset

from memes.rows import COLUMNS, UnusableRows, check_both_labels, read_rows

REQUIRED = {"text", "label"}


def read(path, positive_label=None, required=REQUIRED, **columns):
    return read_rows(path, "test", {**COLUMNS, **columns}, set(required), positive_label)


def write_csv(folder, content, name="set.csv"):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_a_table_with_other_names(tmp_path):
    path = write_csv(tmp_path, 'case,gold,kind\n"one, two",hateful,a\nNaN,non-hateful,b\n"",non-hateful,a\n')
    rows = read(path, "hateful", text="case", label="gold", category="kind")
    assert [(row["text"], row["label"], row["category"]) for row in rows] == [
        ("one, two", 1, "a"),
        ("NaN", 0, "b"),
        ("", 0, "a"),
    ]
    assert rows[0] == {
        "id": "0",
        "text": "one, two",
        "image": None,
        "label": 1,
        "language": None,
        "category": "a",
        "target": None,
        "group": f"{path.name}, row 0",
    }


def test_json_lines_with_missing_and_nan_cells_and_a_tab_separated_table(tmp_path):
    lines = [
        '{"id": 7, "text": "a", "label": 1, "image": "a cat", "group": "g"}',
        "",
        '{"text": NaN, "label": 0.0}',
        '{"text": null, "label": false, "image": " "}',
    ]
    rows = read(write_csv(tmp_path, "\n".join(lines), "set.jsonl"))
    assert [(row["text"], row["image"], row["label"]) for row in rows] == [
        ("a", "a cat", 1),
        ("", None, 0),
        ("", None, 0),
    ]
    assert (rows[0]["id"], rows[0]["group"]) == ("7", "g")
    rows = read(write_csv(tmp_path, "text\tlabel\na, b\t1\nc\t0\n", "set.tsv"))
    assert [row["text"] for row in rows] == ["a, b", "c"]


def test_a_text_of_a_hundred_thousand_characters_and_a_byte_order_mark(tmp_path):
    path = write_csv(tmp_path, "\ufefftext,label\n" + "x" * 200_000 + ",1\nb,0\n")
    assert [len(row["text"]) for row in read(path)] == [200_000, 1]


def test_rows_without_a_label_are_counted(tmp_path, capsys):
    assert len(read(write_csv(tmp_path, "text,label\na,1\nb,0\nc,\n"))) == 2
    assert "1 of 3 rows left out: no label" in capsys.readouterr().err


def test_a_saved_data_set_keeps_groups_and_both_ways_of_naming_labels(tmp_path):
    folder = save_dataset(tmp_path / "data", test=meme_rows(4, 1))
    assert [row["label"] for row in read(folder)] == [0, 1, 0, 1] == [row["label"] for row in read(folder, "offensive")]
    assert [row["group"] for row in read(folder)] == [row["group"] for row in meme_rows(4, 1)]


def test_labels_are_the_same_however_their_cells_were_typed(tmp_path, capsys):
    path = write_csv(tmp_path, "text,label\na,Hateful\nb,HATEFUL \nc,hateful\nd,Not  hateful\ne,spam\n")
    named = {"positive_label": " hateful", "negative_label": "NOT HATEFUL, spam"}
    assert [row["label"] for row in read_rows(path, "test", **named)] == [1, 1, 1, 0, 0]
    assert "hateful 3 harmful, not hateful 1 harmless, spam 1 harmless" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "settings", "words"),
    [
        (
            "text,label\na,hateful\nb,fine\n",
            {},
            "labels hateful (1), fine (1), not 0 and 1 or ok and offensive; evaluate_model.py's POSITIVE_LABEL",
        ),
        ("text,label\na,1\nb,0\n", {"positive_label": "hate"}, "POSITIVE_LABEL=hate is no label"),
        (
            "text,label\na,hate\nb,normal\nc,Spam\n",
            {"positive_label": "hate"},
            "POSITIVE_LABEL=hate leaves open what normal, spam mean; name the harmless ones in evaluate_model.py's",
        ),
        ("text,label\n", {}, "has no rows"),
        ("body,label\na,1\n", {}, "has no column text; its columns are body, label; set TEXT_COLUMN"),
        (
            "text,label\na,1\n",
            {"required": {*REQUIRED, "language"}},
            "has no column language; its columns are text, label; set LANGUAGE_COLUMN",
        ),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(content, settings, words, tmp_path):
    with pytest.raises(UnusableRows) as refused:
        read(write_csv(tmp_path, content), **settings)
    assert words in str(refused.value)


def test_a_single_label_is_refused(tmp_path):
    rows = read(write_csv(tmp_path, "text,label\na,1\nb,1\n"))
    with pytest.raises(UnusableRows, match=r"set.csv has 2 rows of label \{1\}; both labels"):
        check_both_labels(rows, "set.csv")
    check_both_labels([*rows, {**rows[0], "label": 0}], "set.csv")


def test_files_that_are_no_tables(tmp_path):
    (tmp_path / "latin.csv").write_bytes(b"text,label\ncaf\xe9,1\n")
    (tmp_path / "set.jsonl").write_text('{"text": "a", "label": 1}\nno json\n')
    (tmp_path / "list.jsonl").write_text(json.dumps(["a", 1]))
    (tmp_path / "set.xlsx").write_bytes(b"PK")
    (tmp_path / "folder").mkdir()
    for name, words in (
        ("latin.csv", "not UTF-8 (byte 14)"),
        ("set.jsonl", "line 2, is not JSON"),
        ("list.jsonl", "no JSON object"),
        ("set.xlsx", "no .csv"),
        ("folder", "no saved data set"),
    ):
        with pytest.raises(UnusableRows) as refused:
            read(tmp_path / name)
        assert words in str(refused.value), name
