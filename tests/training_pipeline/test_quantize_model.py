"""quantize_model.py on the merged model of the session's own training, and what it refuses."""

import json
import shutil

import pytest
from small_memes import meme_rows, save_dataset

from quantize_model import read_splits

SCRIPT = "training_pipeline/quantize_model.py"


@pytest.fixture(scope="module")
def quantised_run(merged_run, dataset_dir, run_script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gptq") / "llm-gptq"
    process = run_script(
        SCRIPT, {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir, "OUTPUT_DIR": folder}, cwd=folder.parent
    )
    assert process.returncode == 0, process.stderr.decode()[-3000:]
    return folder, process


def test_the_4_bit_folder_is_whole_and_states_its_cost(quantised_run, merged_run):
    folder, process = quantised_run
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.json",
        "quantize_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "scoring.json",
        "training.json",
        "quantization.json",
    } <= names
    for carried in ("scoring.json", "training.json"):
        assert (folder / carried).read_bytes() == (merged_run[0] / carried).read_bytes()
    config = json.loads((folder / "quantize_config.json").read_text())
    assert (config["bits"], config["group_size"], config["sym"], config["desc_act"]) == (4, 32, True, False)
    assert config["meta"]["true_sequential"] is False, "the rows are read anew behind each product of a layer"
    report = json.loads((folder / "quantization.json").read_text())
    assert 0 < report["cost"]["mean_difference"] <= report["cost"]["largest_difference"] < 0.2
    assert process.stdout.decode().startswith(f"wrote {folder}: ") and process.stdout.count(b"\n") == 1
    assert [path.name for path in folder.parent.iterdir()] == ["llm-gptq"]  # nothing else where the script ran


def test_the_linear_layers_are_packed_integers(quantised_run):
    from safetensors import safe_open

    with safe_open(next(quantised_run[0].glob("*.safetensors")), "pt") as weights:
        names = [name.rpartition(".")[2] for name in weights.keys()]
        types = {str(weights.get_tensor(name).dtype) for name in weights.keys()}
    # The four tensors of the GPTQ format that auto-gptq and vLLM read, for seven linear layers in each of two blocks.
    assert {part: names.count(part) for part in ("qweight", "qzeros", "scales", "g_idx")} == dict.fromkeys(
        ("qweight", "qzeros", "scales", "g_idx"), 2 * 7
    )
    assert types == {"torch.int32", "torch.float16", "torch.bfloat16"}, "whatever the processor calibrates in"
    config = json.loads((quantised_run[0] / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    config = config["quantization_config"]
    assert (config["quant_method"], config["bits"], config["group_size"], config["sym"], config["desc_act"]) == (
        "gptq",
        4,
        32,
        True,
        False,
    )


def test_a_second_run_keeps_the_folder_and_one_of_other_rows_or_groups_is_refused(
    quantised_run, merged_run, dataset_dir, run_script, tmp_path
):
    settings = {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir, "OUTPUT_DIR": quantised_run[0]}
    again = run_script(SCRIPT, settings)
    assert again.returncode == 0 and b"kept" in again.stdout
    save_dataset(tmp_path / "other", train=meme_rows(4, 1), validation=meme_rows(4, 2))
    for changed, named in (
        ({"GROUP_SIZE": "64"}, b"other settings (GROUP_SIZE)"),
        ({"DATASET_DIR": tmp_path / "other"}, b"other settings (DATASET)"),
    ):
        refused = run_script(SCRIPT, {**settings, **changed})
        assert refused.returncode == 1 and named in refused.stderr and not refused.stdout


def test_what_an_older_report_does_not_tell_is_not_held_against_it(tmp_path):
    from quantize_model import is_made

    identity = {"source": "a", "dataset": "b", "bits": 4, "group_size": 32, "languages": "", "max_text_tokens": 256}
    assert not is_made(tmp_path, identity)
    (tmp_path / "quantization.json").write_text(json.dumps({"identity": {"source": "a", "bits": 4}}))
    assert is_made(tmp_path, identity)
    for changed in ({"bits": 8}, {"languages": "ms"}, {"max_text_tokens": 64}):
        with pytest.raises(SystemExit, match=f"other settings .{next(iter(changed)).upper()}"):
            is_made(tmp_path, {**identity, **changed})


def test_eight_bits_other_groups_and_a_plain_chat_model(base_dir, dataset_dir, run_script, tmp_path):
    """A chat model without policy gets it first; its folder then serves as any other, dequantised on a CPU."""
    from guard.model_folder import load_guard_model

    plain = tmp_path / "plain"
    shutil.copytree(base_dir, plain, ignore=shutil.ignore_patterns("scoring.json"))
    done = run_script(
        SCRIPT,
        {
            "MODEL_DIR": plain,
            "DATASET_DIR": dataset_dir,
            "OUTPUT_DIR": tmp_path / "q8",
            "BITS": "8",
            "GROUP_SIZE": "64",
            "MAX_TEXT_TOKENS": "64",
        },
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    config = json.loads((tmp_path / "q8" / "quantize_config.json").read_text())
    assert (config["bits"], config["group_size"]) == (8, 64)
    assert json.loads((tmp_path / "q8" / "scoring.json").read_text())["label_words"]["offensive"] == "unsafe"
    assert json.loads((tmp_path / "q8" / "scoring.json").read_text())["max_text_tokens"] == 64
    assert "You moderate memes" in (tmp_path / "q8" / "chat_template.jinja").read_text()
    assert not (plain / "scoring.json").exists()
    assert json.loads((tmp_path / "q8" / "quantization.json").read_text())["cost"]["largest_difference"] < 0.02
    assert json.loads((tmp_path / "q8" / "config.json").read_text())["quantization_config"]["bits"] == 8
    assert not hasattr(load_guard_model(tmp_path / "q8", "float32").config, "quantization_config")
    assert done.stdout.count(b"\n") == 1 and b"192 views to calibrate on" in done.stderr


def test_calibration_asks_the_real_question_in_both_views(base_dir, dataset_dir):
    from guard.template import load_guard_prompt
    from quantize_model import Settings, calibration_prompts

    prompt, _ = load_guard_prompt(base_dir)
    settings = Settings(MODEL_DIR=base_dir, DATASET_DIR=str(dataset_dir), OUTPUT_DIR="q")
    train = read_splits([dataset_dir], "")["train"]
    rows = calibration_prompts(prompt, train * 4, settings)
    # The policy once a row, then whole views, 256 in all.
    assert all(row[: len(prompt.prefix_ids)] == prompt.prefix_ids and len(row) <= 512 for row in rows)
    texts = [prompt.tokenizer.decode(row) for row in rows]
    assert [text.count("<meme>") for text in texts] == [1] * len(rows)
    assert sum(text.count("</meme>") for text in texts) == 256
    assert 64 < sum(text.count("Image:") for text in texts) < 192


def test_a_quantised_model_is_not_quantised_again(quantised_run, dataset_dir, run_script, tmp_path):
    refused = run_script(
        SCRIPT, {"MODEL_DIR": quantised_run[0], "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "q"}, timeout=120
    )
    assert refused.returncode == 1 and b"is quantised already" in refused.stderr and not (tmp_path / "q").exists()


def test_a_folder_with_something_else_in_it_is_never_replaced(merged_run, dataset_dir, run_script):
    """OUTPUT_DIR=MODEL_DIR by mistake must not cost the 16-bit model."""
    before = sorted(path.name for path in merged_run[0].iterdir())
    refused = run_script(
        SCRIPT, {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir, "OUTPUT_DIR": merged_run[0]}, timeout=120
    )
    assert refused.returncode == 1 and b"choose another OUTPUT_DIR" in refused.stderr
    assert sorted(path.name for path in merged_run[0].iterdir()) == before


def test_a_guard_models_own_token_limit_cannot_be_changed(merged_run, dataset_dir, run_script, tmp_path):
    settings = {"MODEL_DIR": merged_run[0], "DATASET_DIR": dataset_dir, "OUTPUT_DIR": tmp_path / "q"}
    refused = run_script(SCRIPT, {**settings, "MAX_TEXT_TOKENS": "128"}, timeout=120)
    assert refused.returncode == 2 and b"MAX_TEXT_TOKENS=128: the model has a limit of 256" in refused.stderr


def test_only_rows_in_the_named_languages_calibrate_and_measure(dataset_dir):
    splits = read_splits([dataset_dir], "ms")
    assert {row["language"] for rows in splits.values() for row in rows} == {"ms"}
    with pytest.raises(SystemExit, match="no row of the train split in fr has a text"):
        read_splits([dataset_dir], "fr")


def test_several_data_sets_calibrate_and_measure_together(dataset_dir, tmp_path):
    save_dataset(tmp_path / "other", train=meme_rows(4, 1), validation=meme_rows(4, 2))
    one, other, both = (
        read_splits(folders, "") for folders in ([dataset_dir], [tmp_path / "other"], [dataset_dir, tmp_path / "other"])
    )
    assert both == {name: one[name] + other[name] for name in ("train", "validation")}


def test_the_data_sets_of_the_training_come_before_the_newest(dataset_dir, run_script, tmp_path):
    """Named before anything is read; the folder is no model, which ends the run."""
    model = tmp_path / "model"
    model.mkdir()
    save_dataset(tmp_path / "dataset", train=meme_rows(4, 1), validation=meme_rows(4, 2))
    save_dataset(tmp_path / "second", train=meme_rows(4, 1), validation=meme_rows(4, 2))
    for named, taken in (
        (f"/nowhere, {dataset_dir}", dataset_dir),
        (f"{dataset_dir},{tmp_path / 'second'}", f"{dataset_dir},{tmp_path / 'second'}"),
        ("/nowhere", tmp_path / "dataset"),
    ):
        (model / "training.json").write_text(json.dumps({"dataset_dir": named}))
        ended = run_script(SCRIPT, {"MODEL_DIR": model}, cwd=tmp_path, timeout=120)
        assert ended.returncode == 1 and b"it is no model folder" in ended.stderr
        assert f"not set, so taken: DATASET_DIR={taken} OUTPUT_DIR={model}-gptq\n" in ended.stderr.decode()


def test_bits_that_do_not_exist_are_refused_before_anything_loads(run_script, dataset_dir, tmp_path):
    refused = run_script(
        SCRIPT,
        {
            "MODEL_DIR": tmp_path,
            "DATASET_DIR": dataset_dir,
            "OUTPUT_DIR": tmp_path / "q",
            "BITS": "3",
            "CALIBRATION_ROWS": "255",
        },
        timeout=120,
    )
    assert refused.returncode == 2 and b"BITS=3" in refused.stderr and b"CALIBRATION_ROWS=255" in refused.stderr
