"""quantize_model.py and evaluate_model.py on the road's own merged model."""

import json

import pytest
from small_memes import meme_rows, save_dataset

QUANTIZE, EVALUATE = "training_pipeline/quantize_model.py", "training_pipeline/evaluate_model.py"


@pytest.fixture(scope="module")
def quantised_run(merged_run, dataset_dir, run_script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gptq") / "llm-gptq"
    process = run_script(QUANTIZE, {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir, "OUTPUT_DIR": folder},
                         cwd=folder.parent)
    assert process.returncode == 0, process.stderr.decode()[-3000:]
    return folder, process


def test_the_4_bit_folder_is_whole_and_states_its_cost(quantised_run):
    folder, process = quantised_run
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "quantize_config.json", "tokenizer.json", "chat_template.jinja", "scoring.json",
            "training.json", "quantization.json"} <= names
    config = json.loads((folder / "quantize_config.json").read_text())
    assert (config["bits"], config["group_size"], config["sym"], config["desc_act"]) == (4, 128, True, False)
    report = json.loads((folder / "quantization.json").read_text())
    assert 0 < report["cost"]["mean_difference"] <= report["cost"]["largest_difference"] < 0.2
    assert process.stdout.decode().startswith(f"wrote {folder}: ") and process.stdout.count(b"\n") == 1
    assert [path.name for path in folder.parent.iterdir()] == ["llm-gptq"]  # nothing else where the script ran


def test_the_linear_layers_are_packed_integers(quantised_run):
    from safetensors import safe_open

    with safe_open(next(quantised_run[0].glob("*.safetensors")), "pt") as weights:
        packed = [name for name in weights.keys() if name.endswith("qweight")]
    assert len(packed) == 2 * 7


def test_a_second_run_keeps_the_folder(quantised_run, merged_run, dataset_dir, run_script):
    again = run_script(QUANTIZE, {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir,
                                  "OUTPUT_DIR": quantised_run[0]})
    assert again.returncode == 0 and b"kept" in again.stdout


@pytest.mark.parametrize("which", ["merged", "quantised"])
def test_evaluation_of_either_model(which, merged_run, quantised_run, dataset_dir, run_script, tmp_path):
    model_dir = {"merged": merged_run, "quantised": quantised_run}[which][0]
    done = run_script(EVALUATE, {"MODEL_DIR": model_dir, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "out"})
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"evaluation.json", "predictions.jsonl"}
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    low, high = report["auroc_interval"]
    assert low <= report["auroc"] <= high and report["rows"] == 24
    assert sum(part["rows"] for part in report["by_language"].values()) == 24
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 24
    for line in lines:
        mean = (line["probability_text"] + line["probability_image_text"]) / 2
        assert line["probability"] == pytest.approx(mean, abs=1e-6)


def test_the_auroc_is_that_of_the_predictions(merged_run, dataset_dir, run_script, tmp_path):
    from sklearn.metrics import roc_auc_score

    run_script(EVALUATE, {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path,
                          "SPLIT": "validation"})
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    report = json.loads((tmp_path / "evaluation.json").read_text())
    expected = roc_auc_score([line["gold"] for line in lines], [line["probability"] for line in lines])
    assert report["auroc"] == pytest.approx(expected)


def test_a_split_that_is_not_there_or_has_one_class_is_refused(merged_run, dataset_dir, run_script, tmp_path):
    settings = {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "out"}
    refused = run_script(EVALUATE, {**settings, "SPLIT": "tset"})
    assert refused.returncode == 1 and b"SPLIT=tset" in refused.stderr and b"validation" in refused.stderr
    single = save_dataset(tmp_path / "single", train=meme_rows(8, 1),
                          test=[row for row in meme_rows(8, 1) if row["label"]])
    refused = run_script(EVALUATE, {**settings, "DATASET_DIR": single})
    assert refused.returncode == 1 and b"AUROC needs both" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_bits_that_do_not_exist_are_refused_before_anything_loads(run_script, dataset_dir, tmp_path):
    refused = run_script(QUANTIZE, {"MODEL_DIR": tmp_path, "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "q",
                                    "BITS": "3"}, timeout=30)
    assert refused.returncode == 2 and b"BITS=3" in refused.stderr
