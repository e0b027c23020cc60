"""Which of GPTQModel's kernels a GPTQ model runs on, and why `auto` on a GPU is not left to GPTQModel.

Its own choice on a GPU is compiled at first use and loaded from a cache folder: Machete, Marlin and ExLlama V2 by
nvcc, Triton's by a C compiler. A sealed container has neither compiler, nor a writable folder that programs may be
loaded from. The torch kernel needs neither, once torch.compile and its Triton dequantisation are off; on packed rows
of thousands of tokens, dequantising is little of the work. All kernels for the CPU come compiled with torch.
"""

import os
from pathlib import Path


def compile_nothing() -> None:
    """Keep the torch kernel from compiling anything; to be called before torch is imported."""
    for name, value in (("TORCH_COMPILE_DISABLE", "1"), ("GPTQ_TORCH_TRITON_DEQUANT", "0")):
        os.environ.setdefault(name, value)


def config_with_kernel(model_dir: Path, device: str, kernel: str):
    """The folder's model config; a GPTQ model's names the kernel, any other is as it was read."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
    quantization = getattr(config, "quantization_config", None) or {}
    if quantization.get("quant_method") == "gptq":
        quantization["backend"] = "torch" if kernel == "auto" and device.startswith("cuda") else kernel
    return config
