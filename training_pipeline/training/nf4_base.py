"""The base of a training: a chat LLM in 4-bit NF4 (double quantised), as bitsandbytes loads it."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import PartialState
from bitsandbytes.nn import Linear4bit
from peft import prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from guard.model_folder import compute_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_nf4_base(model_dir: Path) -> "PreTrainedModel":
    """The base with frozen 4-bit weights, ready for adapters; on a GPU, this process's own."""
    dtype = compute_dtype()
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    base = AutoModelForCausalLM.from_pretrained(
        model_dir,
        quantization_config=quantization,
        dtype=dtype,
        use_safetensors=True,
        device_map={"": PartialState().local_process_index if torch.cuda.is_available() else "cpu"},
    )
    keep_weights_as_loaded(base)
    # Checkpointing saves memory that only a GPU is short of.
    return prepare_model_for_kbit_training(base, use_gradient_checkpointing=torch.cuda.is_available())


def keep_weights_as_loaded(base: "PreTrainedModel") -> None:
    """Keep bitsandbytes from repacking the 4-bit weights at the first evaluation on CPUs with AVX512-BF16.

    Its bfloat16 kernel rounds the scales, so training would go on with another base than it began with, and a resumed
    run, which loads the weights anew, would differ from an unbroken one.
    """
    for module in base.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
