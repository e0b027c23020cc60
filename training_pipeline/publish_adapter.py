"""Make an adapter small enough to be published: LoRA weights in 16 bits, the question asked, what it was trained on.

What a training leaves for its own resumption (optimizer, checkpoints, tokenizer, base paths of this machine) stays
behind; whoever takes the adapter has the base, and load_lora.py checks by fingerprint that it is the right one.

Reads   LORA_DIR (OUTPUT_DIR of train_model.py)
Writes  OUTPUT_DIR: adapter_model.safetensors (bfloat16), adapter_config.json, chat_template.jinja, scoring.json,
        training.json (settings, fingerprints of base and data, metrics; no paths)

    LORA_DIR=artifacts/lora BASE_NAME=openchat/openchat-3.5-0106 OUTPUT_DIR=models/my-guard \\
        python training_pipeline/publish_adapter.py
    MODEL_DIR=models/openchat LORA_DIR=models/my-guard OUTPUT_DIR=llm python training_pipeline/load_lora.py
"""

import json
import shutil
from pathlib import Path

from pydantic import DirectoryPath, Field

from guard.model_folder import SCORING_FILE, TRAINING_FILE, folder_megabytes
from guard.output_files import claim_stdout, finished_folder, script_name, write_json
from guard.script_settings import ScriptSettings

WEIGHTS, CONFIG, TEMPLATE = "adapter_model.safetensors", "adapter_config.json", "chat_template.jinja"
# What whoever takes the adapter can use; the curves and this machine's paths are not among it.
PUBLISHED = ("run", "processes", "metrics", "versions")


class Settings(ScriptSettings):
    lora_dir: DirectoryPath = Field(description="the adapter: train_model.py's OUTPUT_DIR")
    base_name: str = Field(description="name that the base is known by, such as its hub name; written into the config")
    output_dir: Path = Field(description="folder that gets the adapter")


def main() -> None:
    settings = Settings.read(__doc__)
    results = claim_stdout()
    for name in (WEIGHTS, CONFIG, TEMPLATE, SCORING_FILE, TRAINING_FILE):
        if not (settings.lora_dir / name).exists():
            raise SystemExit(
                f"{script_name()}: LORA_DIR={settings.lora_dir} lacks {name}: take the folder of a finished training"
            )
    with finished_folder(settings.output_dir) as folder:
        publish(settings, folder)
    print(f"wrote {settings.output_dir}: {folder_megabytes(settings.output_dir):.1f} MB", file=results)


def publish(settings: Settings, folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(settings.lora_dir / WEIGHTS)
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}, folder / WEIGHTS)
    config = json.loads((settings.lora_dir / CONFIG).read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    write_json(folder / CONFIG, {**config, "base_model_name_or_path": settings.base_name})
    shutil.copyfile(settings.lora_dir / TEMPLATE, folder / TEMPLATE)
    shutil.copyfile(settings.lora_dir / SCORING_FILE, folder / SCORING_FILE)
    record = json.loads((settings.lora_dir / TRAINING_FILE).read_text(encoding="utf-8"))
    write_json(folder / TRAINING_FILE, {name: record[name] for name in PUBLISHED})


if __name__ == "__main__":
    main()
