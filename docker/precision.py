"""Device and precision: what `auto` means on the machine at hand."""

import torch


def pick_device(asked: str) -> str:
    """A torch device name; `auto` is the first GPU, else the CPU."""
    if asked != "auto":
        return asked
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def pick_dtypes(device: str, asked: str) -> tuple[str, str]:
    """(captioner's, chat model's) dtype names.

    GPUs before Ampere have no bfloat16 and get float16. A CPU captions in bfloat16 where it has the instructions.
    """
    if asked != "auto":
        return asked, asked
    if device.startswith("cuda"):
        half = "bfloat16" if torch.cuda.get_device_capability(device)[0] >= 8 else "float16"
        return half, half
    return ("bfloat16" if cpu_has_bfloat16() else "float32"), "float32"


def speed_up_float32(device: str, asked: str) -> bool:
    """Let a CPU with bfloat16 instructions multiply float32 matrices by them; True where it will.

    Factors are rounded to bfloat16, sums and all that is kept between two products stay float32. Unlike 16-bit weights
    that rounds each number by itself, so a score still does not depend on its neighbours, to the last bit. Asked for
    float32, float32 it is.
    """
    faster = asked == "auto" and device == "cpu" and cpu_has_bfloat16()
    torch.backends.mkldnn.matmul.fp32_precision = "bf16" if faster else "ieee"
    return faster


def cpu_has_bfloat16() -> bool:
    """AMX or AVX512-BF16: without them bfloat16 is emulated and slower than float32."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check is not None and check() for check in checks)
