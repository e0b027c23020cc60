"""A model folder is loaded whole or refused in one sentence: its files before anything is read, its tensors after.

What transformers does not find in the weights it fills with random numbers, and only warns; what it does not know it
leaves out. A model that lost a layer so, or whose quantised weights lie under another name, gives other probabilities
at every start.

The same file lies in docker/detector/ and training_pipeline/guard/, because each folder can be lifted out by itself;
tests/test_contracts.py holds the copies alike.
"""

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LFS_POINTER = b"version https://git-lfs"
DOWNLOAD = "download the model again, whole"
SMALL_FILES = (".json", ".model", ".txt", ".jinja")
# Suffixes of what GPTQ and AWQ, bitsandbytes, FP8 and compressed-tensors write beside a weight or in its place.
QUANTISED = re.compile(
    r"\.(qweight|qzeros|(\w+_)?scales|\w+_blocks|g_idx|absmax|quant_map|nested_\w+|quant_state\.\w+|SCB"
    r"|(weight|input)_scale(_inv)?|weight_(packed|shape|zero_point))$"
)
NAMED_TENSORS = 3


class UnusableFolder(Exception):
    """No whole model can be loaded from a folder; the message goes on from the folder's name and ends in a remedy."""


def check_weights(folder: Path) -> None:
    """Raises UnusableFolder for the first of `weight_faults`."""
    for fault in weight_faults(folder):
        raise UnusableFolder(fault)


def check_tokenizer(folder: Path) -> None:
    """Raises UnusableFolder for the first of `tokenizer_faults`."""
    for fault in tokenizer_faults(folder):
        raise UnusableFolder(fault)


def weight_faults(folder: Path) -> list[str]:
    """What keeps a folder's weights from being read, each as a sentence that goes on from the folder's name."""
    if faults := pointer_faults(path for path in folder.iterdir() if path.suffix in SMALL_FILES):
        return faults
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            return ["holds an adapter, which is no model: merge it into its base with load_lora.py"]
        return ["lacks config.json: it is no model folder"]
    if not has_weights(folder):
        return absent_weights(folder)
    try:
        shards = weight_files(folder)
    except (ValueError, KeyError, AttributeError) as error:
        return [f"holds {INDEX} that cannot be read ({error}): {DOWNLOAD}"]
    if absent := [path.name for path in shards if not path.is_file()]:
        return [f"lacks {name}, which {INDEX} names: {DOWNLOAD}" for name in absent]
    return pointer_faults(shards) or [*filter(None, map(broken_file, shards))] or unread_gptq(folder)


def has_weights(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() or (folder / INDEX).is_file()


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers reads: model.safetensors, or else those that the index names."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return [folder / name for name in sorted(set(index["weight_map"].values()))]


def absent_weights(folder: Path) -> list[str]:
    """Why there is no model.safetensors, by what lies there instead."""
    others = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    if not others:
        return [f"lacks {WEIGHTS}: {DOWNLOAD}"]
    if faults := pointer_faults(others):
        return faults
    if (folder / "quantize_config.json").is_file() or others[0].name.startswith("gptq_model"):
        return [f"holds {others[0].name}, a name that AutoGPTQ gave: {conversion(folder)}"]
    if any(path.name.startswith("pytorch_model") for path in others):
        return [f"lacks {WEIGHTS}, its weights are pickled, which may run any code: {conversion(folder)}"]
    return [f"lacks {WEIGHTS}, and {others[0].name} is no name of Hugging Face's layout: {DOWNLOAD}"]


def unread_gptq(folder: Path) -> list[str]:
    """AutoGPTQ kept its settings in quantize_config.json alone, where transformers does not look."""
    if not (folder / "quantize_config.json").is_file():
        return []
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("quantization_config"):
        return []
    return [f"holds quantize_config.json, but no quantization_config in config.json: {conversion(folder)}"]


def conversion(folder: Path) -> str:
    """The command that makes a folder which can be read, with its variables filled in."""
    target = folder.with_name(f"{folder.resolve().name}-safetensors")
    return (
        f"MODEL_DIR={shlex.quote(str(folder))} OUTPUT_DIR={shlex.quote(str(target))} "
        "python training_pipeline/convert_weights.py"
    )


def pointer_faults(paths: Iterable[Path]) -> list[str]:
    """A sentence for each file that is what a checkout without Git LFS holds in its place."""
    return [
        f"holds {path.name} as a Git LFS pointer, not the file: run `git lfs pull` in it"
        for path in sorted(paths)
        if is_lfs_pointer(path)
    ]


def is_lfs_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:  # a folder, or a file that may not be read
        return False


def broken_file(path: Path) -> str | None:
    """A sentence where a safetensors file is none or was cut short; its header alone is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):
            return None
    except (SafetensorError, OSError) as error:
        return f"holds {path.name} that is not whole ({error}): {DOWNLOAD}"


def tokenizer_faults(folder: Path) -> list[str]:
    """What keeps a folder's tokenizer from being read, as `weight_faults` says it."""
    if any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "vocab.txt")):
        return []
    for name in ("tokenizer.model", "tekken.json"):
        if (folder / name).is_file():
            return [f"holds {name} but no tokenizer.json: copy that file from the model's repository, or its base's"]
    return ["lacks tokenizer.json: copy the model's folder whole"]


def load_whole(model_class: Any, folder: Path, **options: Any) -> Any:
    """The model of a folder's safetensors, every tensor of it read from there; raises UnusableFolder.

    `model_class` is a class of transformers, `options` go to its from_pretrained. Nothing is fetched, no code of the
    folder is run. Tied weights may lie there once.
    """
    from safetensors import SafetensorError

    check_weights(folder)
    try:
        model, found = model_class.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            **options,
        )
    except (ImportError, OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        # transformers' longest message names every kind of model that there is
        raise UnusableFolder(f"cannot be loaded: {' '.join(str(error).split())[:400]}") from error
    if fault := loading_fault(found):
        raise UnusableFolder(fault)
    return model


def loading_fault(found: dict[str, Any]) -> str | None:
    """What is wrong with the weights by transformers' own account of loading them (output_loading_info)."""
    mismatched = [f"{name} {list(there)} for {list(wanted)}" for name, there, wanted in found["mismatched_keys"]]
    if quantised := [name for name in found["unexpected_keys"] if QUANTISED.search(name)]:
        return (
            f"holds {listed(quantised, 'quantised tensor')} that its config.json does not speak of "
            f"(quantization_config): {DOWNLOAD}"
        )
    if found["missing_keys"]:
        return f"lacks {listed(found['missing_keys'], 'tensor')} of its weights: {DOWNLOAD}"
    if mismatched:
        return f"holds {listed(mismatched, 'tensor')} of another shape than its config.json says: {DOWNLOAD}"
    return None


def listed(names: Any, kind: str) -> str:
    """`9 tensors (a, b, c, ...)`: how many, and the first few."""
    names = sorted(names)
    more = ", ..." if len(names) > NAMED_TENSORS else ""
    return f"{len(names)} {kind}{'s' * (len(names) > 1)} ({', '.join(names[:NAMED_TENSORS])}{more})"
