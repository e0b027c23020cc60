"""GPTQ by GPTQModel: groups that fit the layers, the type that this processor calibrates in, what stays unquantised."""

import json
import sys
from pathlib import Path

from guard.model_folder import compute_dtype
from guard.output_files import finished_file, script_name, write_json

GROUP_SIZES = (128, 64, 32)
# Narrower layers have less to spare: with groups of 64 the margins of a model of 576 channels moved a third more.
NARROW = 2048


def quantize_into(folder: Path, model_dir: Path, calibration: list[list[int]], bits: int, group_size: int) -> None:
    """Quantise MODEL_DIR's linear layers into `folder`, calibrated on rows of tokens."""
    import tempfile
    from contextlib import chdir

    import torch
    from gptqmodel import GPTQModel, QuantizeConfig

    # Left to itself GPTQModel takes bfloat16 on every CPU; where it is emulated, products take five times as long as in
    # float32.
    in_float32 = compute_dtype() == torch.float32
    folder, model_dir = folder.resolve(), model_dir.resolve()
    # gptqmodel leaves a logs/ folder wherever it runs.
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
        model = GPTQModel.load(
            str(model_dir),
            # True, which is GPTQModel's default, reads the rows four times a layer: anew behind each product.
            QuantizeConfig(bits=bits, group_size=group_size, sym=True, desc_act=False, true_sequential=False),
            trust_remote_code=False,
            dtype=torch.float32 if in_float32 else "auto",
        )
        model.quantize([{"input_ids": row, "attention_mask": [1] * len(row)} for row in calibration])
        model.save(str(folder))
    if in_float32:
        round_unquantised(folder)


def round_unquantised(folder: Path) -> None:
    """Embeddings, norms and what else is no quantised layer in bfloat16, as GPTQModel writes them on other processors.

    In the files, one after the other: what GPTQModel still holds of the model by then takes no other type.
    """
    import torch
    from safetensors.torch import load_file, save_file

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        tensors = load_file(path)
        rounded = {
            name: tensor.to(torch.bfloat16) if tensor.dtype == torch.float32 else tensor
            for name, tensor in tensors.items()
        }
        with finished_file(path) as unfinished:
            save_file(rounded, unfinished, metadata={"format": "pt"})
        total += sum(tensor.nbytes for tensor in rounded.values())
    index = folder / "model.safetensors.index.json"  # of several files, whose bytes it counts
    if index.exists():
        listed = json.loads(index.read_text(encoding="utf-8"))
        write_json(index, {**listed, "metadata": {**listed["metadata"], "total_size": total}})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, "dtype": "bfloat16"})


def fitting_group_size(model_dir: Path, wanted: int | None = None) -> int:
    """`wanted`, or what suits the model's width; a smaller one where it divides not every layer's input.

    SystemExit where none does.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model_dir)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    widths = (config.hidden_size, config.intermediate_size, config.num_attention_heads * head_size)
    largest = wanted or (GROUP_SIZES[-1] if config.hidden_size < NARROW else GROUP_SIZES[0])
    for group_size in GROUP_SIZES:
        if group_size <= largest and not any(width % group_size for width in widths):
            if group_size != largest:
                print(f"layer widths {widths} do not divide by {largest}: groups of {group_size}", file=sys.stderr)
            return group_size
    raise SystemExit(
        f"{script_name()}: layer widths {widths} divide by none of the groups {GROUP_SIZES}; "
        "this model cannot be quantised to GPTQ"
    )
