"""learn_translations.py as a user runs it: it learns, train_model.py goes on from it, and a kill changes nothing."""

import json
import random
import shutil

import pytest
from safetensors.torch import load_file
from small_memes import TINY_RUN, save_dataset

SCRIPT = "training_pipeline/learn_translations.py"
MALAY = {"cat": "kucing", "dog": "anjing", "eats": "makan", "sees": "nampak", "fish": "ikan", "rice": "nasi"}
SHORT = {"EPOCHS": "3", "BATCH_SIZE": "8", "LEARNING_RATE": "5e-3", "SAVE_STEPS": "20"}  # 30 steps


def translated_rows(count, seed):
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        words = [draw.choice(pair) for pair in (("cat", "dog"), ("eats", "sees"), ("fish", "rice"))]
        shared = {"image": None, "label": number % 2, "category": "general", "group": f"{seed}-{number}", "source": "t"}
        malay = " ".join(MALAY[word] for word in words)
        rows.append({"id": f"m_ok/{number}#0", "text": " ".join(words), "language": "en", **shared})
        rows.append({"id": f"Malay_m_ok/{number}#0", "text": malay, "language": "ms", **shared})
    return rows


@pytest.fixture(scope="module")
def parallel_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel") / "dataset"
    return save_dataset(folder, train=translated_rows(80, 1), validation=translated_rows(12, 2))


@pytest.fixture(scope="module")
def settings(base_dir, parallel_dir):
    return {"MODEL_DIR": base_dir, "DATASET_DIR": parallel_dir, **SHORT}


@pytest.fixture(scope="module")
def learnt(settings, run_script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("translations") / "lora"
    done = run_script(SCRIPT, {**settings, "OUTPUT_DIR": folder})
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return folder, done


def test_it_learns_to_translate_and_says_how_well(learnt):
    folder, done = learnt
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "training.json", "run.json"} <= names
    record = json.loads((folder / "training.json").read_text())
    assert record["pairs"] == 80 and record["run"]["task"] == "translation"
    assert record["loss_after"]["ms"] < record["loss_before"]["ms"] - 0.5
    assert done.stdout.decode().startswith(f"wrote {folder}: held-out loss a token into English")
    assert done.stdout.count(b"\n") == 1


def test_train_model_goes_on_from_it(learnt, base_dir, dataset_dir, run_script, tmp_path):
    one_step = {**TINY_RUN, "MAX_STEPS": 1, "EVAL_STEPS": 1, "SAVE_STEPS": 1, "LEARNING_RATE": 1e-6}
    done = run_script(
        "training_pipeline/train_model.py",
        {
            "MODEL_DIR": base_dir,
            "DATASET_DIR": dataset_dir,
            "START_LORA_DIR": learnt[0],
            "OUTPUT_DIR": tmp_path / "lora",
            **one_step,
        },
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (learnt[0], tmp_path / "lora"))
    assert before.keys() == after.keys()
    assert all((before[name] - after[name]).abs().max() < 1e-5 for name in before)


def test_a_finished_run_is_kept_and_another_s_folder_refused(learnt, settings, run_script):
    folder, _ = learnt
    before = (folder / "adapter_model.safetensors").read_bytes()
    again = run_script(SCRIPT, {**settings, "OUTPUT_DIR": folder})
    assert again.returncode == 0 and again.stdout.startswith(b"kept")
    refused = run_script(SCRIPT, {**settings, "OUTPUT_DIR": folder, "LORA_R": "4"})
    assert refused.returncode == 1 and b"a run of other LORA_R" in refused.stderr
    assert (folder / "adapter_model.safetensors").read_bytes() == before


def test_a_killed_run_goes_on_to_the_same_weights(learnt, settings, run_script, tmp_path):
    """Killed while it saved step 30: what is torn is thrown away, and the 20 steps before are gone on from."""
    folder = tmp_path / "lora"
    shutil.copytree(learnt[0], folder)
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-20", "checkpoint-30"]
    (folder / "checkpoint-30" / "scoring.json").unlink()
    for finished in ("adapter_model.safetensors", "training.json"):
        (folder / finished).unlink()
    resumed = run_script(SCRIPT, {**settings, "OUTPUT_DIR": folder})
    assert resumed.returncode == 0, resumed.stderr.decode()[-2000:]
    assert (folder / "adapter_model.safetensors").read_bytes() == (learnt[0] / "adapter_model.safetensors").read_bytes()


def test_a_data_set_without_translations_is_refused(base_dir, dataset_dir, run_script, tmp_path):
    settings = {"MODEL_DIR": base_dir, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "lora"}
    refused = run_script(SCRIPT, settings)
    assert refused.returncode == 1 and b"has no translations in its train split" in refused.stderr
    assert not (tmp_path / "lora").exists()
