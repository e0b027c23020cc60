"""publish_adapter.py: half the weight, nothing of this machine, and the merge of it is the trained one's."""

import json

import torch
from safetensors.torch import load_file

SCRIPT = "training_pipeline/publish_adapter.py"


def test_what_is_published_is_small_merges_and_names_no_path_of_this_machine(
    base_dir, lora_run, run_script, tmp_path, merged_run
):
    settings = {"LORA_DIR": lora_run[0], "BASE_NAME": "a/base", "OUTPUT_DIR": tmp_path / "published"}
    done = run_script(SCRIPT, settings)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    published = {path.name: path for path in (tmp_path / "published").iterdir()}
    assert sorted(published) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "scoring.json",
        "training.json",
    ]
    trained, rounded = (
        load_file(folder / "adapter_model.safetensors") for folder in (lora_run[0], tmp_path / "published")
    )
    assert {name: tensor.to(torch.bfloat16) for name, tensor in trained.items()}.keys() == rounded.keys()
    assert all(torch.equal(trained[name].to(torch.bfloat16), rounded[name]) for name in trained)
    for name in ("adapter_config.json", "training.json"):
        assert str(base_dir) not in published[name].read_text() and str(lora_run[0]) not in published[name].read_text()
    assert json.loads(published["adapter_config.json"].read_text())["base_model_name_or_path"] == "a/base"
    merge = {"MODEL_DIR": base_dir, "LORA_DIR": tmp_path / "published", "OUTPUT_DIR": tmp_path / "merged"}
    merged = run_script("training_pipeline/load_lora.py", merge)
    assert merged.returncode == 0, merged.stderr.decode()[-2000:]
    for name in ("chat_template.jinja", "scoring.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (merged_run[0] / name).read_bytes()
    found, expected = (load_file(folder / "model.safetensors") for folder in (tmp_path / "merged", merged_run[0]))
    assert all(torch.allclose(found[name], expected[name], rtol=0.01, atol=1e-4) for name in expected)


def test_what_is_no_finished_training_is_refused(base_dir, run_script, tmp_path):
    settings = {"LORA_DIR": base_dir, "BASE_NAME": "a/base", "OUTPUT_DIR": tmp_path / "published"}
    refused = run_script(SCRIPT, settings)
    assert refused.returncode == 1 and b"lacks adapter_model.safetensors: take the folder" in refused.stderr
    assert not (tmp_path / "published").exists()
