"""load_lora.py: the merge holds, describes itself, and refuses an adapter of another base."""

import json
import shutil

from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from tiny.llm import new_model

SCRIPT = "training_pipeline/load_lora.py"


def test_the_merged_folder_is_whole_and_proves_itself(merged_run, lora_run):
    folder, process = merged_run
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "scoring.json",
        "training.json",
        "merge.json",
    } <= names
    assert not any(name.startswith(".") for name in names)
    for carried in ("scoring.json", "training.json"):
        assert (folder / carried).read_bytes() == (lora_run[0] / carried).read_bytes()
    proof = json.loads((folder / "merge.json").read_text())
    assert proof["largest_difference"] <= 1e-5 < proof["difference_from_base"]
    assert b"differ by at most" in process.stdout


def test_a_second_run_keeps_the_folder(merged_run, base_dir, lora_run, run_script):
    folder, _ = merged_run
    before = (folder / "model.safetensors").stat().st_mtime_ns
    again = run_script(SCRIPT, {"MODEL_DIR": base_dir, "LORA_DIR": lora_run[0], "OUTPUT_DIR": folder})
    assert again.returncode == 0 and b"kept" in again.stdout
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_single_checkpoint_can_be_merged(base_dir, lora_run, run_script, tmp_path):
    checkpoint = min(lora_run[0].glob("checkpoint-*"))
    merged = run_script(SCRIPT, {"MODEL_DIR": base_dir, "LORA_DIR": checkpoint, "OUTPUT_DIR": tmp_path / "merged"})
    assert merged.returncode == 0, merged.stderr.decode()[-2000:]
    assert (tmp_path / "merged" / "scoring.json").exists()


def test_an_adapter_of_another_base_is_refused(base_dir, lora_run, run_script, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(base_dir, other)
    new_model(AutoTokenizer.from_pretrained(base_dir)).save_pretrained(other)
    refused = run_script(SCRIPT, {"MODEL_DIR": other, "LORA_DIR": lora_run[0], "OUTPUT_DIR": tmp_path / "merged"})
    assert refused.returncode == 1 and b"set MODEL_DIR to the base of the training" in refused.stderr
    assert not (tmp_path / "merged").exists()


def test_a_folder_without_adapter_is_refused(base_dir, run_script, tmp_path):
    refused = run_script(SCRIPT, {"MODEL_DIR": base_dir, "LORA_DIR": base_dir, "OUTPUT_DIR": tmp_path / "merged"})
    assert refused.returncode == 1 and b"lacks adapter_model.safetensors: it is the folder that" in refused.stderr


def test_an_adapter_that_lacks_tensors_is_refused_by_name(base_dir, lora_run, run_script, tmp_path):
    adapter = shutil.copytree(lora_run[0], tmp_path / "adapter")
    tensors = load_file(adapter / "adapter_model.safetensors")
    lost = sorted(name for name in tensors if "layers.1.mlp" in name)
    kept = {name: tensor for name, tensor in tensors.items() if name not in lost}
    save_file(kept, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {"MODEL_DIR": base_dir, "LORA_DIR": adapter, "OUTPUT_DIR": tmp_path / "merged"}
    refused = run_script(SCRIPT, settings)
    assert refused.returncode == 1 and f"lacks {len(lost)} tensors ({lost[0]}, ".encode() in refused.stderr
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    refused = run_script(SCRIPT, settings)
    command = f"MODEL_DIR={adapter} OUTPUT_DIR={adapter}-safetensors python training_pipeline/convert_weights.py"
    assert refused.returncode == 1 and command.encode() in refused.stderr


def test_an_adapter_without_tokenizer_takes_the_bases_and_its_own_question(base_dir, lora_run, run_script, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "scoring.json", "chat_template.jinja"):
        shutil.copyfile(lora_run[0] / name, adapter / name)
    done = run_script(SCRIPT, {"MODEL_DIR": base_dir, "LORA_DIR": adapter, "OUTPUT_DIR": tmp_path / "merged"})
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert "You moderate memes" in (tmp_path / "merged" / "chat_template.jinja").read_text()
    assert (tmp_path / "merged" / "tokenizer.json").exists()
    (adapter / "scoring.json").unlink()
    refused = run_script(SCRIPT, {"MODEL_DIR": base_dir, "LORA_DIR": adapter, "OUTPUT_DIR": tmp_path / "again"})
    assert refused.returncode == 1 and b"take the whole folder" in refused.stderr


def test_the_merged_config_names_no_attention_of_this_project(merged_run):
    """It would be unknown to whoever else loads the folder."""
    assert "suffix" not in (merged_run[0] / "config.json").read_text()
