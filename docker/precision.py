"""Device and precision: what `auto` means on the machine at hand."""

import torch


def pick_device(asked: str) -> str:
    """A torch device name; `auto` is the first GPU, else the CPU."""
    if asked != "auto":
        return asked
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def pick_dtype(device: str, asked: str) -> str:
    """The dtype's name in which both models run.

    `auto` is 16 bits where the device multiplies in them: bfloat16 on CPUs with its instructions and on GPUs from
    Ampere on, float16 on those before. In 16 bits the last digits of a score depend on how large its batch is.
    """
    if asked != "auto":
        return asked
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.get_device_capability(device)[0] >= 8 else "float16"
    return "bfloat16" if cpu_has_bfloat16() else "float32"


def cpu_has_bfloat16() -> bool:
    """AMX or AVX512-BF16: without them bfloat16 is emulated and slower than float32."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check is not None and check() for check in checks)
