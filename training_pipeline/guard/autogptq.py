"""AutoGPTQ's model folders: the settings that transformers does not find there, and whether their layers are whole."""

import json
from pathlib import Path
from typing import Any

from guard.whole_model import DOWNLOAD, UnusableFolder, has_weights, listed

QUANTIZE_CONFIG = "quantize_config.json"
# What AutoGPTQ's settings hold that GPTQConfig of transformers takes.
KEPT = ("bits", "group_size", "desc_act", "sym", "damp_percent", "true_sequential")
LAYER_PARTS = ("qzeros", "scales", "g_idx")  # beside qweight
REMEDY = "take the 16-bit model and quantise it with quantize_model.py"


def gptq_settings(model_dir: Path) -> dict[str, Any] | None:
    """quantization_config of a folder that AutoGPTQ wrote; None for any other, and for one that is read as it is.

    Its later versions wrote the settings into config.json, too, but kept their own names for the weights.
    """
    path, config = model_dir / QUANTIZE_CONFIG, model_dir / "config.json"
    own = read_json(config).get("quantization_config") if config.is_file() else None
    if own and has_weights(model_dir) or not (path.is_file() or any(model_dir.glob("gptq_model*"))):
        return None
    if not own and not path.is_file():
        raise UnusableFolder(f"lacks {QUANTIZE_CONFIG}, which says how it is quantised: {DOWNLOAD}")
    found = dict(own or read_json(path))
    made = (found.get("quant_method", "gptq"), found.get("checkpoint_format", "gptq"))
    if made not in (("gptq", "gptq"), ("gptq", "gptq_v2")) or found.get("is_marlin_format"):
        raise UnusableFolder(f"is quantised by {made[0]} in the format {made[1]}, which is not read here: {REMEDY}")
    if absent := [name for name in ("bits", "group_size") if type(found.get(name)) is not int]:
        raise UnusableFolder(f"holds {QUANTIZE_CONFIG} without {' and '.join(absent)}: {DOWNLOAD}")
    kept = {name: found[name] for name in KEPT if found.get(name) is not None}
    return {"quant_method": made[0], "checkpoint_format": made[1], **kept}


def read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UnusableFolder(f"holds {path.name} that is no JSON object ({error}): {DOWNLOAD}") from error


def shapes_of(path: Path) -> dict[str, list[int]]:
    """Name to shape of every tensor of a safetensors file, from its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as weights:
            return {name: list(weights.get_slice(name).get_shape()) for name in weights.keys()}
    except SafetensorError as error:
        raise UnusableFolder(f"holds weights that are not whole ({error}): {DOWNLOAD}") from error


def check_layers(weights: list[Path], settings: dict[str, Any]) -> None:
    """Raises UnusableFolder unless each quantised layer has all its tensors, in the shapes of these settings."""
    bits, group = settings["bits"], settings["group_size"]
    shapes: dict[str, list[int]] = {}
    for path in weights:
        shapes |= shapes_of(path)
    layers = [name.removesuffix(".qweight") for name in shapes if name.endswith(".qweight")]
    if not layers:
        raise UnusableFolder(f"holds {QUANTIZE_CONFIG}, but no quantised layer: {DOWNLOAD}")
    wanted = [f"{layer}.{part}" for layer in layers for part in LAYER_PARTS]
    if absent := [name for name in wanted if name not in shapes]:
        raise UnusableFolder(f"lacks {listed(absent, 'tensor')} of AutoGPTQ's layout: {REMEDY}")
    for layer in layers:
        (inputs,) = shapes[f"{layer}.g_idx"]
        groups = -(-inputs // group) if group > 0 else 1
        if shapes[f"{layer}.qweight"][0] * 32 != inputs * bits or shapes[f"{layer}.scales"][0] != groups:
            raise UnusableFolder(
                f"holds {layer} in another shape than its {QUANTIZE_CONFIG} says ({bits} bits, groups of {group}): "
                f"{DOWNLOAD}"
            )
