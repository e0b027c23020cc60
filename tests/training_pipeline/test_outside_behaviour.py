"""Full disks, killed runs, places that are no folders, strange rows: a sentence, and no half-written model."""

import shutil
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file, save_file
from small_memes import TINY_RUN, meme_rows, save_dataset

from conftest import bare_environment

SCRIPTS = ("train_model", "load_lora", "quantize_model", "evaluate_model")
# No file may grow over so many bytes: how a full disk looks to one process. The tiny model's weights are larger.
FULL_DISK = (
    "-c",
    "import os, resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
    "sys.argv = sys.argv[1:]; sys.path[0] = os.path.dirname(sys.argv[0]); "
    "runpy.run_path(sys.argv[0], run_name='__main__')",
)


@pytest.fixture
def variables(base_dir, lora_run, merged_run, dataset_dir):
    """What each script needs, but OUTPUT_DIR."""
    return {
        "train_model": {
            "MODEL_DIR": base_dir,
            "DATASET_DIR": dataset_dir,
            **TINY_RUN,
            "MAX_STEPS": "1",
            "EVAL_STEPS": "1",
            "SAVE_STEPS": "1",
        },
        "load_lora": {"MODEL_DIR": base_dir, "LORA_DIR": lora_run[0]},
        "quantize_model": {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir},
        "evaluate_model": {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir},
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_full_disk(script, variables, run_script, tmp_path):
    failed = run_script(
        f"training_pipeline/{script}.py", {**variables[script], "OUTPUT_DIR": tmp_path / "out"}, launcher=FULL_DISK
    )
    errors = failed.stderr.decode()
    assert failed.returncode == 1 and failed.stdout == b""
    assert "could not be written" in errors and "Traceback" not in errors.splitlines()[-1], errors[-2000:]
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert not left & {"training.json", "merge.json", "quantization.json", "evaluation.json", "model.safetensors"}
    assert script in ("train_model", "evaluate_model") or not list(tmp_path.iterdir())


def lose_a_layer(model):
    weights = model / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("model.layers.1.")}
    save_file(tensors, weights, metadata={"format": "pt"})


def leave_a_pointer(model):
    (model / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def leave_sentencepiece_alone(model):
    (model / "tokenizer.json").rename(model / "tokenizer.model")


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lose_a_layer, "lacks 9 tensors (model.layers.1.input_layernorm.weight, "),
        (leave_a_pointer, "holds model.safetensors as a Git LFS pointer, not the file: run `git lfs pull` in it"),
        (leave_sentencepiece_alone, "holds tokenizer.model but no tokenizer.json: copy that file"),
    ],
)
def test_a_model_that_is_not_whole(script, change, named, variables, run_script, tmp_path):
    """The adapter is one that names no base, or its base's fingerprint would be the first to tell."""
    settings, model = {**variables[script], "OUTPUT_DIR": tmp_path / "out"}, tmp_path / "model"
    shutil.copytree(settings["MODEL_DIR"], model)
    change(model)
    if script == "load_lora":
        names = shutil.ignore_patterns("run.json", "training.json", "checkpoint-*")
        settings["LORA_DIR"] = shutil.copytree(settings["LORA_DIR"], tmp_path / "lora", ignore=names)
    refused = run_script(f"training_pipeline/{script}.py", {**settings, "MODEL_DIR": model})
    errors = refused.stderr.decode()
    assert refused.returncode == 1 and refused.stdout == b""
    assert f"{script}.py: MODEL_DIR={model} {named}" in errors and "Traceback" not in errors, errors[-2000:]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_file_in_the_place_of_the_output_folder(script, variables, run_script, tmp_path):
    (tmp_path / "file").write_text("precious")
    started = time.monotonic()
    settings = {**variables[script], "OUTPUT_DIR": tmp_path / "file" / "out"}
    failed = run_script(f"training_pipeline/{script}.py", settings)
    assert failed.returncode == 1 and b"OUTPUT_DIR" in failed.stderr.splitlines()[-1]
    assert (tmp_path / "file").read_text() == "precious" and time.monotonic() - started < 120


def test_a_killed_merge_leaves_no_model_and_the_next_run_cleans_up(variables, run_script, repo, tmp_path):
    settings = {**variables["load_lora"], "OUTPUT_DIR": tmp_path / "out"}
    process = subprocess.Popen(
        [sys.executable, str(repo / "training_pipeline/load_lora.py")],
        env=bare_environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(tmp_path.glob(".out.*.unfinished")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    again = run_script("training_pipeline/load_lora.py", settings)
    assert again.returncode == 0 and b"which a killed run left" in again.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and (tmp_path / "out" / "merge.json").exists()


def test_strange_rows_are_trained_on_or_counted(variables, run_script, tmp_path):
    """No text, no caption, neither, and a text of 100,000 characters."""
    rows = meme_rows(24, 5)
    rows[0]["text"], rows[1]["image"], rows[3]["text"] = None, None, "lazy people " * 8_400
    rows[2].update(text="", image="")
    folder = save_dataset(tmp_path / "data", train=rows, validation=meme_rows(8, 6))
    done = run_script(
        "training_pipeline/train_model.py",
        {**variables["train_model"], "DATASET_DIR": folder, "OUTPUT_DIR": tmp_path / "lora"},
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert b"train: 1 of 24 rows left out" in done.stderr and b"1 of 31 memes cut to 256 tokens" in done.stderr


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"train": meme_rows(8, 1), "validation": []}, "validation"),
        ({"train": meme_rows(8, 1), "validation": [row for row in meme_rows(8, 1) if row["label"]]}, None),
    ],
)
def test_quantising_needs_validation_rows_but_not_both_labels(splits, words, tmp_path):
    from quantize_model import read_splits

    folder = save_dataset(tmp_path / "data", **splits)
    if words is None:
        assert len(read_splits([folder], "")["validation"]) == 4
    else:
        with pytest.raises(SystemExit, match="has a split without rows"):
            read_splits([folder], "")


def test_no_validation_rows_to_train_with(variables, run_script, tmp_path):
    folder = save_dataset(tmp_path / "data", train=meme_rows(8, 1), validation=[])
    refused = run_script(
        "training_pipeline/train_model.py",
        {**variables["train_model"], "DATASET_DIR": folder, "OUTPUT_DIR": tmp_path / "lora"},
    )
    assert refused.returncode == 1 and b"has a split without rows" in refused.stderr
    assert not (tmp_path / "lora").exists()
