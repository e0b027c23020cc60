"""Make a model folder of safetensors of one that the other scripts refuse: pickled weights, or AutoGPTQ's layout.

Pickled weights are pytorch_model.bin, in one file or in shards, of any model (a BLIP captioner's too), and an adapter's
adapter_model.bin. They are read with weights_only=True, which runs no code of theirs; every tensor is written under its
own name, read anew and compared bit by bit. Matrices that share memory (tied embeddings) are written one by one.

AutoGPTQ kept a model as gptq_model-4bit-128g.safetensors and its settings in quantize_config.json alone. Here the file
gets the name, and config.json the settings, that transformers reads; every layer must have all its tensors, in the
shapes that the settings say.

All other files are linked where the file system can, else copied; pickles and other formats stay behind. A second run
with the same files keeps the folder.

Reads   MODEL_DIR
Writes  OUTPUT_DIR: the same folder with model.safetensors (adapter_model.safetensors), and conversion.json

    MODEL_DIR=models/blip OUTPUT_DIR=models/blip-safetensors python training_pipeline/convert_weights.py
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import DirectoryPath, Field

from guard.autogptq import check_layers, gptq_settings, read_json, shapes_of
from guard.gguf_source import fingerprint
from guard.model_folder import refused_folder
from guard.output_files import claim_stdout, finished_folder, link_or_copy, write_json
from guard.script_settings import ScriptSettings
from guard.whole_model import DOWNLOAD, INDEX, UnusableFolder, listed, pointer_faults, weight_faults

RECORD = "conversion.json"
PICKLED = ("pytorch_model*.bin", "adapter_model.bin")
AUTOGPTQ = ("*.safetensors", "gptq_model*.bin")
# Optimisers, settings of a training, other frameworks' weights: pickles, or nothing that is read here.
LEFT_BEHIND = {".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack", ".onnx", ".ot"}


class Settings(ScriptSettings):
    model_dir: DirectoryPath = Field(description="folder with pytorch_model.bin, adapter_model.bin or AutoGPTQ's files")
    output_dir: Path = Field(description="folder that gets the same model as safetensors")


@dataclass(frozen=True)
class Source:
    """The weights of MODEL_DIR: each file with its name in OUTPUT_DIR, and the settings of AutoGPTQ, if it made it."""

    files: dict[Path, str]
    gptq: dict[str, Any] | None


def main() -> None:
    settings = Settings.read(__doc__)
    results = claim_stdout()
    with refused_folder(settings.model_dir):
        source = find_source(settings.model_dir)
        identity = {path.name: fingerprint(path) for path in source.files}
        if is_converted(settings.output_dir, identity):
            print(f"kept {settings.output_dir}, converted from these files already", file=results)
            return
        with finished_folder(settings.output_dir) as folder:
            tensors = convert(settings.model_dir, source, folder)
            write_json(folder / RECORD, {"identity": identity, "tensors": tensors})
    print(f"wrote {settings.output_dir}: {tensors} tensors in {', '.join(source.files.values())}", file=results)


def is_converted(output_dir: Path, identity: dict[str, str]) -> bool:
    record = output_dir / RECORD
    return record.exists() and bool(json.loads(record.read_text(encoding="utf-8"))["identity"] == identity)


def find_source(model_dir: Path) -> Source:
    """What is to be converted; raises UnusableFolder where that is nothing, or lacks a part."""
    gptq = gptq_settings(model_dir)
    if not gptq and any(model_dir.glob("*model*.safetensors")):
        raise UnusableFolder("holds safetensors already: nothing is to be converted")
    files, stem = named_weights(model_dir, AUTOGPTQ if gptq else PICKLED)
    if absent := [path.name for path in files if not path.is_file()]:
        raise UnusableFolder(f"lacks {', '.join(absent)}, which its index names: {DOWNLOAD}")
    for fault in pointer_faults(files):
        raise UnusableFolder(fault)
    target = stem if stem == "adapter_model" else "model"
    if len(files) == 1:
        return Source({files[0]: f"{target}.safetensors"}, gptq)
    return Source({path: f"{target}{path.stem.removeprefix(stem)}.safetensors" for path in files}, gptq)


def named_weights(model_dir: Path, patterns: tuple[str, str]) -> tuple[list[Path], str]:
    """(the files of the first pattern that any fits: those of an index, or one; what their names begin with)."""
    for pattern in patterns:
        files, indices = sorted(model_dir.glob(pattern)), sorted(model_dir.glob(f"{pattern}.index.json"))
        if indices:
            try:
                named = set(json.loads(indices[0].read_text(encoding="utf-8"))["weight_map"].values())
            except (ValueError, KeyError, AttributeError) as error:
                raise UnusableFolder(f"holds {indices[0].name} that cannot be read ({error}): {DOWNLOAD}") from error
            stem = indices[0].name.removesuffix(f"{Path(pattern).suffix}.index.json")
            return [model_dir / name for name in sorted(named)], stem
        if len(files) > 1:
            raise UnusableFolder(f"holds {listed([path.name for path in files], 'weight file')} without their index")
        if files:
            return files, files[0].stem
    raise UnusableFolder(f"holds none of {', '.join(patterns)}: {DOWNLOAD}")


def convert(model_dir: Path, source: Source, folder: Path) -> int:
    """Write the whole folder; returns the number of tensors."""
    from guard.pickled_weights import read_pickled, write_tensors

    for path in sorted(model_dir.iterdir()):
        is_weights = path in source.files or path.suffix in LEFT_BEHIND or path.name.endswith(".index.json")
        if path.is_file() and not is_weights:
            link_or_copy(path, folder / path.name)
    weight_map: dict[str, str] = {}
    for number, (path, name) in enumerate(source.files.items(), 1):
        print(f"{number} of {len(source.files)}: {path.name} becomes {name}", file=sys.stderr)
        if path.suffix == ".bin":
            write_tensors(read_pickled(path), folder / name)
        else:
            link_or_copy(path, folder / name)
        weight_map |= dict.fromkeys(shapes_of(folder / name), name)
    if len(source.files) > 1:
        write_json(folder / INDEX, {"metadata": {}, "weight_map": weight_map})
    if source.gptq:
        check_layers([folder / name for name in source.files.values()], source.gptq)
        (folder / "config.json").unlink()  # it may be a second name of MODEL_DIR's
        config = read_json(model_dir / "config.json")
        write_json(folder / "config.json", {**config, "quantization_config": source.gptq})
    if "adapter_model.safetensors" not in source.files.values():
        for fault in weight_faults(folder):
            raise UnusableFolder(fault)
    return len(weight_map)


if __name__ == "__main__":
    main()
