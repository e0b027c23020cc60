"""train_model.py as a user runs it: what it leaves, what it refuses, and that a rerun or a resumed run is the same."""

import json
import shutil

import pytest
from small_memes import TINY_RUN, meme_rows, save_dataset

SCRIPT = "training_pipeline/train_model.py"


def adapter_bytes(folder):
    return (folder / "adapter_model.safetensors").read_bytes()


def largest_difference(folder, other):
    """Between two adapters' weights. The aim is bit for bit; 4e-6 was seen once, its cause not yet found."""
    from safetensors.torch import load_file

    ours, theirs = (load_file(path / "adapter_model.safetensors") for path in (folder, other))
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def test_a_run_leaves_a_folder_that_describes_itself(lora_run):
    folder, process = lora_run
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "chat_template.jinja",
            "scoring.json", "training.json", "run.json"} <= names
    training = json.loads((folder / "training.json").read_text())
    assert 0 <= training["metrics"]["eval_auroc"] <= 1
    assert "tfidf_floor_auroc" in training["metrics"]
    checkpoints = [path for path in folder.iterdir() if path.name.startswith("checkpoint-")]
    for part in ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "scoring.json"):
        assert all((checkpoint / part).exists() for checkpoint in checkpoints), part
    assert process.stdout.decode().startswith(f"wrote {folder}: validation AUROC")


def test_the_adapter_reaches_every_linear_layer(lora_run):
    from safetensors import safe_open

    with safe_open(lora_run[0] / "adapter_model.safetensors", "pt") as weights:
        names = set(weights.keys())
        moved = [name for name in names if "lora_B" in name and weights.get_tensor(name).abs().max() > 0]
    assert len(moved) == 2 * 7  # B starts at zero: seven linear layers in each of two blocks have learnt


def test_a_second_run_changes_nothing(lora_run, base_dir, dataset_dir, run_script):
    folder, _ = lora_run
    before = adapter_bytes(folder)
    again = run_script(SCRIPT, {"MODEL_DIR": base_dir, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": folder, **TINY_RUN})
    assert again.returncode == 0 and b"kept" in again.stdout
    assert adapter_bytes(folder) == before


def test_a_killed_run_goes_on_to_nearly_the_same_weights(lora_run, base_dir, dataset_dir, run_script, tmp_path):
    folder = tmp_path / "lora"
    shutil.copytree(lora_run[0], folder)
    for finished in ("adapter_model.safetensors", "training.json", "scoring.json"):
        (folder / finished).unlink()
    shutil.rmtree(max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])))
    assert list(folder.glob("checkpoint-*"))
    resumed = run_script(SCRIPT, {"MODEL_DIR": base_dir, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": folder, **TINY_RUN})
    assert resumed.returncode == 0, resumed.stderr.decode()[-2000:]
    assert largest_difference(folder, lora_run[0]) < 5e-5


def test_a_folder_of_other_settings_is_refused(lora_run, base_dir, dataset_dir, run_script):
    refused = run_script(SCRIPT, {"MODEL_DIR": base_dir, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": lora_run[0],
                                  **TINY_RUN, "LORA_R": "4"})
    assert refused.returncode == 1
    assert b"LORA_R" in refused.stderr and b"choose another OUTPUT_DIR" in refused.stderr


@pytest.mark.parametrize(("settings", "words"), [
    ({"MODEL_DIR": "/nowhere"}, ["MODEL_DIR=/nowhere", "DATASET_DIR: is not set"]),
    ({"EPOCHS": "-1", "LORA_DROPOUT": "2"}, ["EPOCHS=-1", "LORA_DROPOUT=2"]),
])
def test_unusable_settings_are_named_all_at_once(run_script, settings, words):
    refused = run_script(SCRIPT, settings, timeout=30)
    assert refused.returncode == 2 and refused.stdout == b""
    assert all(word in refused.stderr.decode() for word in words)


def test_one_class_is_refused_with_the_remedy(base_dir, run_script, tmp_path):
    rows = [row for row in meme_rows(20, 1) if row["label"] == 0]
    folder = save_dataset(tmp_path / "dataset", train=rows, validation=rows, test=rows)
    refused = run_script(SCRIPT, {"MODEL_DIR": base_dir, "DATASET_DIR": folder, "OUTPUT_DIR": tmp_path / "lora"})
    assert refused.returncode == 1 and b"both labels" in refused.stderr
    assert not (tmp_path / "lora").exists()


def test_unpacked_rows_learn_the_same_as_packed_rows(lora_run, base_dir, dataset_dir, run_script, tmp_path):
    settings = {**TINY_RUN, "LORA_DROPOUT": "0", "MAX_STEPS": "5"}
    losses = {}
    for packed in ("1", "0"):
        folder = tmp_path / f"lora{packed}"
        run = run_script(SCRIPT, {"MODEL_DIR": base_dir, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": folder, **settings,
                                  "PACKED_ROWS": packed})
        assert run.returncode == 0, run.stderr.decode()[-2000:]
        losses[packed] = json.loads((folder / "training.json").read_text())["metrics"]["eval_loss"]
    assert losses["1"] == pytest.approx(losses["0"], abs=1e-3)


def test_shuffled_labels_keep_their_balance_and_lose_their_rows(dataset_dir):
    from training_run import read_splits

    true, shuffled = (read_splits(dataset_dir, shuffle_labels, seed=1) for shuffle_labels in (False, True))
    for name in ("train", "validation"):
        pairs = [(row["label"], other["label"]) for row, other in zip(true[name], shuffled[name], strict=True)]
        assert sum(a for a, _ in pairs) == sum(b for _, b in pairs)
        assert 0.2 < sum(a != b for a, b in pairs) / len(pairs) < 0.8
    assert shuffled["test"] == true["test"]
