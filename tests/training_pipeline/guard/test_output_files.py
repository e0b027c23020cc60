"""What a script writes is whole or absent, nothing is replaced, and what cannot be written is named."""

import os
import subprocess
import sys

import pytest

from guard.output_files import finished_folder, write_json


def test_a_folder_takes_its_name_when_it_is_whole(tmp_path):
    with finished_folder(tmp_path / "deep" / "model") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "deep" / "model").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), finished_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("1")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_there_is_never_replaced(kind, tmp_path):
    place = tmp_path / "model"
    if kind == "folder":
        place.mkdir()
        (place / "precious").write_text("1")
    else:
        place.write_text("1")
    with pytest.raises(SystemExit, match="choose another OUTPUT_DIR"), finished_folder(place):
        raise AssertionError("the slow work began")
    assert (place / "precious" if kind == "folder" else place).read_text() == "1"


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("1")
    with pytest.raises(SystemExit, match="could not be written"), finished_folder(tmp_path / "file" / "model"):
        raise AssertionError("the slow work began")


def test_a_full_disk_is_named_in_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match="could not be written .*No space left"), finished_folder(tmp_path / "model"):
        with open("/dev/full", "w") as full:
            full.write("1")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_removed_and_what_a_running_one_writes_is_kept(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for process in (dead.pid, os.getppid()):
        (tmp_path / f".model.{process}.unfinished").mkdir()
    with finished_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("1")
    assert {path.name for path in tmp_path.iterdir()} == {"model", f".model.{os.getppid()}.unfinished"}


def test_a_json_file_is_old_or_new(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert (tmp_path / "a.json").read_text() == '{\n "a": 1\n}\n' and len(list(tmp_path.iterdir())) == 1
