"""What a GPTQ model's products are computed by: a kernel of GPTQModel's, or on CPUs plain products of 16-bit weights.

GPTQModel's kernels for CPUs unpack the weights at every product. Dequantised once they take the memory of the 16-bit
model and its time. By hand, in two runs on a busy core with AMX, SmolLM2-135M scored 13.5 views a second so, 3.8 by the
torch kernel, and 1.8 by PyTorch's int4 product, which `auto` is where memory is short, and which rounds on its own.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

DEQUANTISED = "dequantised"
CGROUP = Path("/sys/fs/cgroup")


def chosen_kernel(model_dir: Path, device: str, dtype: "torch.dtype", requested: str = "auto") -> str:
    """`requested`; for `auto`, which compiles nothing, the torch kernel on a GPU, on a CPU `dequantised` if it fits."""
    if requested != "auto":
        return requested
    if device != "cpu":
        return "torch"
    # A byte holds two weights of 4 bits; what has more bits grows by less.
    needed = 2 * dtype.itemsize * sum(path.stat().st_size for path in model_dir.glob("*.safetensors"))
    return DEQUANTISED if needed <= free_memory() / 2 else "auto"


def free_memory() -> int:
    """Bytes that this process may still take: what the machine has left, or less if its control group ends sooner."""
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    try:
        limit, used = ((CGROUP / f"memory.{name}").read_text(encoding="utf-8") for name in ("max", "current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # another kind of control groups, or no limit: "max"
        return free


def config_with_kernel(model_dir: Path, kernel: str) -> "PretrainedConfig":
    """The folder's model config; a GPTQ model's names the kernel, any other is as it was read."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
    quantization = getattr(config, "quantization_config", None) or {}
    if quantization.get("quant_method") == "gptq":
        quantization["backend"] = "torch" if kernel == DEQUANTISED else kernel
    return config


def with_kernel(model: "PreTrainedModel", kernel: str, dtype: "torch.dtype") -> "PreTrainedModel":
    """The model as it was loaded or, for `dequantised`, a GPTQ model with plain linear layers of `dtype`."""
    quantization = getattr(model.config, "quantization_config", None)
    if kernel != DEQUANTISED or getattr(quantization, "quant_method", None) != "gptq":
        return model
    from gptqmodel.nn_modules.qlinear.torch import dequantize_model
    from torch import nn

    dequantize_model(model)
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.to(dtype)
    return model
