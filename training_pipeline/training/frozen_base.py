"""The frozen base under the adapters: in 4 bits or as it is, multiplied in the type that the device is fastest in."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from guard.gptq_kernel import free_memory
from guard.model_folder import load_model
from guard.output_files import script_name
from guard.whole_model import DOWNLOAD, listed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_frozen_base(model_dir: Path, dtype: torch.dtype, bits: int) -> "PreTrainedModel":
    """The base in NF4 (4 bits, double quantised) or in `dtype` (16 bits), nothing in it trained.

    16 bits are what the adapter is merged into, and what a small base needs: rounding costs it more than a large one,
    and on the CPU 4 bits save nothing. There the 4-bit weights are dequantised once, where memory allows: bitsandbytes
    would do it at every step, forwards and backwards, with the same numbers.
    """
    from accelerate import PartialState
    from peft import prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    on_gpu = torch.cuda.is_available()
    device_map = {"": PartialState().local_process_index if on_gpu else "cpu"}
    if bits == 16:
        whole: PreTrainedModel = load_model(model_dir, dtype=dtype, device_map=device_map).requires_grad_(False)
        return whole
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    base = load_model(model_dir, quantization_config=quantization, dtype=dtype, device_map=device_map)
    refuse_other_shapes(base, model_dir)
    if on_gpu or not fits_dequantised(base, dtype):
        keep_weights_as_loaded(base)
        # Checkpointing saves memory that only a GPU is short of.
        return prepare_model_for_kbit_training(base, use_gradient_checkpointing=on_gpu)
    plain: PreTrainedModel = base.dequantize(dtype)
    return plain.requires_grad_(False)


def refuse_other_shapes(base: "PreTrainedModel", model_dir: Path) -> None:
    """SystemExit where a 4-bit weight is not of its layer's shape, which transformers does not look at there."""
    from bitsandbytes.nn import Linear4bit

    layers: dict[str, Any] = {name: layer for name, layer in base.named_modules() if isinstance(layer, Linear4bit)}
    others = [
        f"{name}.weight {list(layer.weight.quant_state.shape)} for {[layer.out_features, layer.in_features]}"
        for name, layer in layers.items()
        if list(layer.weight.quant_state.shape) != [layer.out_features, layer.in_features]
    ]
    if others:
        raise SystemExit(
            f"{script_name()}: MODEL_DIR={model_dir} holds {listed(others, 'tensor')} of another shape than its "
            f"config.json says: {DOWNLOAD}"
        )


def fits_dequantised(base: "PreTrainedModel", dtype: torch.dtype) -> bool:
    """Whether half of the free memory holds the weights in `dtype`; the rest is for the training itself."""
    needed, free = base.num_parameters() * dtype.itemsize, free_memory()
    if needed <= free / 2:
        return True
    print(
        f"the weights stay in 4 bits, which is slower: they are {needed / 1e9:.1f} GB in {dtype}, and "
        f"{free / 1e9:.1f} GB of memory are free",
        file=sys.stderr,
    )
    return False


def keep_weights_as_loaded(base: "PreTrainedModel") -> None:
    """Keep bitsandbytes from repacking the 4-bit weights at the first evaluation on CPUs with AVX512-BF16.

    Its bfloat16 kernel rounds the scales, so training would go on with another base than it began with, and a resumed
    run, which loads the weights anew, would differ from an unbroken one.
    """
    from bitsandbytes.nn import Linear4bit

    for module in base.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
