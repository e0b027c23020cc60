"""train_model.py as a user runs it: what it leaves, what it refuses, and that a rerun or a resumed run is the same."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from small_memes import TINY_RUN, meme_rows, save_dataset

SCRIPT = "training_pipeline/train_model.py"


def adapter_bytes(folder):
    return (folder / "adapter_model.safetensors").read_bytes()


def test_a_run_leaves_a_folder_that_describes_itself(lora_run):
    folder, process = lora_run
    names = {path.name for path in folder.iterdir()}
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "scoring.json",
        "training.json",
        "run.json",
    } <= names
    training = json.loads((folder / "training.json").read_text())
    # The words tell the labels apart: the baseline finds that, and the best checkpoint is the best of the history.
    assert training["metrics"]["tfidf_auroc"] > 0.9
    evaluated = [entry["eval_auroc"] for entry in training["history"] if "eval_auroc" in entry]
    assert training["metrics"]["eval_auroc"] == pytest.approx(max(evaluated))
    scoring = json.loads((folder / "scoring.json").read_text())
    assert scoring["max_text_tokens"] == 256 and scoring["categories"]["race"] == " race"
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


def test_a_training_goes_on_from_an_adapter(lora_run, base_dir, dataset_dir, run_script, tmp_path):
    """From its weights, and with its rank, whatever LORA_R says."""
    start, settings = lora_run[0], {"MODEL_DIR": base_dir, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "lora"}
    few = {**TINY_RUN, "MAX_STEPS": 1, "EVAL_STEPS": 1, "SAVE_STEPS": 1, "LORA_R": 64, "LEARNING_RATE": 1e-6}
    done = run_script(SCRIPT, {**settings, **few, "START_LORA_DIR": start})
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (start, tmp_path / "lora"))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)
    run = json.loads((tmp_path / "lora" / "run.json").read_text())
    assert len(run["start_weights"]) == 16 != json.loads((start / "run.json").read_text())["start_weights"]


def test_rows_without_categories_train_the_verdict_alone(base_dir, run_script, tmp_path):
    """A data set whose column names areas, as all did once: nothing teaches a category, so none is asked for."""
    rows = [{**row, "category": "general"} for row in meme_rows(24, 1)]
    folder = save_dataset(tmp_path / "dataset", train=rows[:16], validation=rows[16:])
    one_step = {**TINY_RUN, "MAX_STEPS": 1, "EVAL_STEPS": 1, "SAVE_STEPS": 1}
    done = run_script(
        SCRIPT, {"MODEL_DIR": base_dir, "DATASET_DIR": folder, "OUTPUT_DIR": tmp_path / "lora", **one_step}
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert "categories" not in json.loads((tmp_path / "lora" / "scoring.json").read_text())


def test_a_second_run_changes_nothing(lora_run, base_dir, dataset_dir, run_script):
    folder, _ = lora_run
    before = adapter_bytes(folder)
    again = run_script(SCRIPT, {"MODEL_DIR": base_dir, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": folder, **TINY_RUN})
    assert again.returncode == 0 and b"kept" in again.stdout
    assert adapter_bytes(folder) == before


def test_a_killed_run_goes_on_to_the_same_weights(lora_run, base_dir, dataset_dir, run_script, tmp_path):
    """Killed while it saved its last checkpoint: what is torn is thrown away, the one before is taken up."""
    folder = tmp_path / "lora"
    shutil.copytree(lora_run[0], folder)
    for finished in ("adapter_model.safetensors", "training.json", "scoring.json"):
        (folder / finished).unlink()
    torn = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (torn / "scoring.json").unlink()
    (torn / "optimizer.pt").write_bytes(b"half")
    resumed = run_script(SCRIPT, {"MODEL_DIR": base_dir, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": folder, **TINY_RUN})
    assert resumed.returncode == 0, resumed.stderr.decode()[-2000:]
    assert f"removed {torn}" in resumed.stderr.decode()
    assert adapter_bytes(folder) == adapter_bytes(lora_run[0])


def test_a_folder_of_other_settings_is_refused(lora_run, base_dir, dataset_dir, run_script):
    refused = run_script(
        SCRIPT,
        {"MODEL_DIR": base_dir, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": lora_run[0], **TINY_RUN, "LORA_R": "4"},
    )
    assert refused.returncode == 1
    assert b"LORA_R" in refused.stderr and b"choose another OUTPUT_DIR" in refused.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"MODEL_DIR": "/nowhere", "DATASET_DIR": "/tmp,/void"},
            ["2 unusable", "MODEL_DIR=/nowhere", "DATASET_DIR=/tmp,/void: is not there: /void."],
        ),
        ({"EPOCHS": "-1", "LORA_DROPOUT": "2"}, ["EPOCHS=-1", "LORA_DROPOUT=2"]),
    ],
)
def test_unusable_settings_are_named_all_at_once(run_script, settings, words):
    refused = run_script(SCRIPT, settings, timeout=120)
    assert refused.returncode == 2 and refused.stdout == b""
    assert all(word in refused.stderr.decode() for word in words)


def test_the_newest_data_set_is_taken_and_the_output_lies_beside_it(base_dir, run_script, tmp_path):
    """Named before anything heavy is imported; SAVE_STEPS ends the run there."""
    save_dataset(tmp_path / "dataset", train=meme_rows(4, 1), validation=meme_rows(4, 2))
    ended = run_script(SCRIPT, {"MODEL_DIR": base_dir, "EVAL_STEPS": "2", "SAVE_STEPS": "3"}, cwd=tmp_path)
    assert ended.returncode == 1 and b"SAVE_STEPS must be a multiple" in ended.stderr
    told = f"train_model.py: not set, so taken: DATASET_DIR={tmp_path}/dataset OUTPUT_DIR={tmp_path}/dataset-lora\n"
    assert told in ended.stderr.decode()
    named = {"MODEL_DIR": base_dir, "DATASET_DIR": "dataset,dataset", "EVAL_STEPS": "2", "SAVE_STEPS": "3"}
    ended = run_script(SCRIPT, named, cwd=tmp_path)
    assert f"not set, so taken: OUTPUT_DIR={tmp_path}/dataset-lora\n" in ended.stderr.decode()


def test_a_flag_beats_the_variable(run_script):
    refused = run_script(SCRIPT, {"EPOCHS": "-1", "LORA_R": "0"}, arguments=("--epochs", "-2"), timeout=120)
    assert refused.returncode == 2 and b"EPOCHS=-2" in refused.stderr and b"LORA_R=0" in refused.stderr


def test_one_class_is_refused_with_the_remedy(base_dir, run_script, tmp_path):
    rows = [row for row in meme_rows(20, 1) if row["label"] == 0]
    folder = save_dataset(tmp_path / "dataset", train=rows, validation=rows, test=rows)
    refused = run_script(SCRIPT, {"MODEL_DIR": base_dir, "DATASET_DIR": folder, "OUTPUT_DIR": tmp_path / "lora"})
    assert refused.returncode == 1 and b"both labels" in refused.stderr
    assert not (tmp_path / "lora").exists()


def history_of(folder, figure):
    history = json.loads((folder / "training.json").read_text())["history"]
    return [entry[figure] for entry in history if figure in entry]


@pytest.fixture(scope="module")
def plain_run(base_dir, dataset_dir, run_script, tmp_path_factory):
    """A function: train with these settings on top of a run without dropout, give its folder."""

    def train(launcher=(), says="wrote", **settings):
        folder = tmp_path_factory.mktemp("plain") / "lora"
        variables = {
            "MODEL_DIR": base_dir,
            "DATASET_DIR": dataset_dir,
            "OUTPUT_DIR": folder,
            **TINY_RUN,
            "LORA_DROPOUT": "0",
            "DTYPE": "float32",
            **settings,
        }
        process = run_script(SCRIPT, variables, launcher=launcher)
        assert process.returncode == 0, process.stderr.decode()[-20000:]
        assert process.stdout.decode().count(says) == process.stdout.count(b"\n") == 1
        return folder

    return train


@pytest.fixture(scope="module")
def reference(plain_run):
    return plain_run()


@pytest.mark.parametrize(
    "settings",
    [{"PACKED_ROWS": "0"}, {"BATCH_SIZE": "4", "GRADIENT_ACCUMULATION": "2"}],
    ids=["one example a row", "accumulated gradients"],
)
def test_other_ways_to_the_same_losses(plain_run, reference, settings):
    folder = plain_run(**settings)
    for figure in ("loss", "eval_loss"):
        assert history_of(folder, figure) == pytest.approx(history_of(reference, figure), abs=1e-4)
    assert sum(history_of(folder, "rows")) == sum(history_of(reference, "rows")) == 2 * 96


def test_two_processes_train_as_one(plain_run, reference):
    """accelerate launch, gloo: the same rows, the same losses at the same global batch."""
    launcher = (
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
    )
    settings = {"BATCH_SIZE": "4", "ACCELERATE_USE_CPU": "true"}
    one, two = reference, plain_run(launcher, **settings)
    assert json.loads((two / "training.json").read_text())["processes"] == 2
    assert sum(history_of(two, "rows")) == sum(history_of(one, "rows")) == 2 * 96
    assert history_of(two, "loss") == pytest.approx(history_of(one, "loss"), abs=1e-3)
    assert history_of(two, "eval_loss") == pytest.approx(history_of(one, "eval_loss"), abs=1e-3)
    plain_run(launcher, says="kept", OUTPUT_DIR=two, **settings)  # one line, however many processes


def test_training_stops_early_when_nothing_gets_better(plain_run):
    folder = plain_run(LEARNING_RATE="1e-9", EVAL_STEPS="1", SAVE_STEPS="1", EARLY_STOPPING="2")
    assert len(history_of(folder, "eval_auroc")) < 6  # of twelve steps


def test_noisy_texts_are_trained_on(plain_run, reference):
    clean, noisy = reference, plain_run(TEXT_NOISE="1")
    assert history_of(noisy, "loss") != history_of(clean, "loss")
    assert history_of(noisy, "rows") == history_of(clean, "rows")


def test_the_history_tells_languages_pace_and_memory(lora_run):
    folder, _ = lora_run
    for figure in (
        "loss",
        "learning_rate",
        "grad_norm",
        "rows_per_second",
        "tokens_per_second",
        "peak_memory_gb",
        "eval_auroc",
        "eval_accuracy",
        "eval_log_loss",
        "eval_auroc_en",
        "eval_auroc_ms",
    ):
        assert history_of(folder, figure), figure
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_that_cannot_be_packed_is_refused_with_the_remedy(base_dir, dataset_dir, run_script, tmp_path):
    narrow = tmp_path / "narrow"
    shutil.copytree(base_dir, narrow)
    config = json.loads((narrow / "config.json").read_text())
    (narrow / "config.json").write_text(json.dumps({**config, "sliding_window": 64}))
    refused = run_script(SCRIPT, {"MODEL_DIR": narrow, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "lora"})
    assert refused.returncode == 1
    assert refused.stderr.decode().splitlines()[-1].endswith("set PACKED_ROWS=0")
