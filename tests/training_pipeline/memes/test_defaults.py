"""Where nothing is named: the newest finished data set in reach, and an output beside it."""

import os
from pathlib import Path

import pytest

from memes import defaults
from memes.defaults import beside, newest_dataset


@pytest.fixture
def places(tmp_path, monkeypatch):
    """(working directory, checkout), both empty; and a function that makes a data set of an age in seconds."""
    here, checkout = tmp_path / "here", tmp_path / "checkout"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(defaults, "CHECKOUT", checkout)

    def make(folder: Path, age: int) -> Path:
        folder.mkdir(parents=True)
        (folder / "dataset_dict.json").write_text("{}")
        os.utime(folder / "dataset_dict.json", (2_000_000_000 - age, 2_000_000_000 - age))
        return folder

    return here, checkout, make


def test_the_newest_finished_data_set_is_taken(places):
    here, checkout, make = places
    assert newest_dataset() == checkout / "datasets" / "v3"
    make(checkout / "elsewhere", 0)
    for age, folder in (
        (9, checkout / "artifacts" / "demo" / "dataset"),
        (8, here / "dataset"),
        (7, here / "artifacts" / "other" / "dataset"),
        (6, checkout / "data_preparation" / "dataset"),
        (5, checkout / "dataset"),
    ):
        make(folder, age)
        assert newest_dataset() == folder
    (here / "data_preparation" / "dataset").mkdir(parents=True)  # not finished
    assert newest_dataset() == checkout / "dataset"


@pytest.mark.parametrize("folder", [".", "../here/", "/somewhere/dataset"])
def test_an_output_lies_beside(folder, places):
    expected = Path("/somewhere/dataset-lora") if folder.startswith("/") else places[0].with_name("here-lora")
    assert beside(Path(folder), "-lora") == expected
