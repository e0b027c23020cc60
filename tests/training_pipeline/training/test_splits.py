"""Data sets as train_model.py reads them: one or several, checked, with what is left out counted."""

import pytest
from small_memes import meme_rows, save_dataset

from memes.rows import UnusableRows
from training.splits import read_splits, rows_fingerprint


def test_shuffled_labels_keep_the_groups_balance_and_lose_their_rows(tmp_path):
    """A meme and its translations share a label, so the control must keep that: they would contradict each other."""
    memes = {
        name: [
            {**row, "text": f"{row['text']} {language}", "language": language}
            for row in meme_rows(60, seed)
            for language in ("en", "zh", "ms", "ta")
        ]
        for seed, name in enumerate(("train", "validation", "test"))
    }
    folder = save_dataset(tmp_path / "data", **memes)
    true, shuffled = (read_splits([folder], shuffle_labels, seed=1) for shuffle_labels in (False, True))
    for name in ("train", "validation"):
        before, after = ({(row["group"], row["label"]) for row in splits[name]} for splits in (true, shuffled))
        assert len(after) == len(before) == 60, "one label a group"
        assert sum(label for _, label in after) == sum(label for _, label in before) == 30
        assert 0.2 < len(after - before) / 60 < 0.8
    assert shuffled["test"] == true["test"]
    assert rows_fingerprint(true) != rows_fingerprint(shuffled)


def test_several_folders_are_one_and_what_is_held_out_in_one_is_trained_on_in_none(dataset_dir, tmp_path, capsys):
    held_out = read_splits([dataset_dir], False, seed=1)["test"][:3]
    other = save_dataset(tmp_path / "other", train=meme_rows(10, 7) + held_out, validation=meme_rows(4, 8))
    one, both = read_splits([dataset_dir], False, seed=1), read_splits([dataset_dir, other], False, seed=1)
    assert len(both["train"]) == len(one["train"]) + 10 and len(both["validation"]) == len(one["validation"]) + 4
    assert not {row["group"] for row in both["train"]} & {row["group"] for row in held_out}
    assert "3 training rows left out" in capsys.readouterr().err


def test_only_the_named_languages_are_taken(tmp_path):
    rows = [{**row, "language": language} for row in meme_rows(6, 1) for language in ("en", "zh", "ta")]
    folder = save_dataset(tmp_path / "data", train=rows, validation=rows)
    found = read_splits([folder], False, seed=1, languages="zh, ta")
    assert [row["language"] for row in found["validation"]] == ["zh", "ta"] * 6
    with pytest.raises(UnusableRows, match="the train split has 0 rows"):
        read_splits([folder], False, seed=1, languages="ms")


def test_rows_without_label_or_content_are_left_out_and_counted(tmp_path, capsys):
    """A row without text has its image view all the same, as at inference."""
    rows = meme_rows(10, 1)
    rows[0]["text"] = None
    rows[1].update(text=" ", image=None)
    rows[2]["label"], rows[3]["label"] = None, -1
    folder = save_dataset(tmp_path / "data", train=rows, validation=meme_rows(4, 2))
    train = read_splits([folder], False, seed=1)["train"]
    assert [row["group"] for row in train] == [f"1-{number}" for number in (0, 4, 5, 6, 7, 8, 9)]
    assert train[0]["text"] == "" and train[0]["image"]
    told = capsys.readouterr().err
    assert "2 of 10 rows left out: no label" in told and "1 of 8 rows left out: neither text nor caption" in told


def test_the_balance_of_labels_is_printed(dataset_dir, capsys):
    read_splits([dataset_dir], False, seed=1)
    assert "train: 96 rows, 50.0% offensive" in capsys.readouterr().err


@pytest.mark.parametrize("splits", [{"train": meme_rows(4, 1)}, {"validation": meme_rows(4, 1)}])
def test_a_missing_split_is_refused_with_the_remedy(splits, tmp_path):
    with pytest.raises(UnusableRows, match="lacks a train or a validation split; make it with clean_dataset.py"):
        read_splits([save_dataset(tmp_path / "data", **splits)], False, seed=1)


def test_a_missing_column_is_named(tmp_path):
    from datasets import Dataset, DatasetDict

    folder = tmp_path / "data"
    table = Dataset.from_list([{"text": "a", "label": 0}])
    DatasetDict({"train": table, "validation": table}).save_to_disk(folder)
    with pytest.raises(UnusableRows, match="no column image, language, group.*clean_dataset.py"):
        read_splits([folder], False, seed=1)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(UnusableRows, match="no saved data set"):
        read_splits([tmp_path], False, seed=1)
