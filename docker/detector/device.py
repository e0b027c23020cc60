"""The process, the device and the precision in which both models run.

GPTQModel's own choice of kernel on a GPU is compiled at first use and loaded from a cache folder: Machete, Marlin and
ExLlama V2 by nvcc, Triton's by a C compiler. A sealed container has neither compiler, nor a writable folder that
programs may be loaded from. The torch kernel needs neither, once torch.compile and its Triton dequantisation are off;
on packed rows of thousands of tokens, dequantising is little of the work.
"""

import ctypes
import logging
import os

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def go_offline() -> None:
    """No library may ask a hub for anything, whatever the caller's environment says."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ[name] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def compile_nothing() -> None:
    """Keep the torch kernel from compiling anything; to be called before torch is imported."""
    for name, value in (("TORCH_COMPILE_DISABLE", "1"), ("GPTQ_TORCH_TRITON_DEQUANT", "0")):
        os.environ.setdefault(name, value)


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks for the next batch, whose tensors have the same sizes.

    Given back to the kernel they are faulted in page by page again, which cost as much as the work on them (a product
    of 2,688 rows: 11 ms, kept 6.4).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, 1 << 30)


def quiet_libraries() -> None:
    """No progress bars and start-up warnings of the libraries on stderr; their errors still come through."""
    for name in ("transformers", "torchao", "torch.utils._pytree", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def pick_device(requested: str) -> str:
    """A torch device name; `auto` is the first GPU, else the CPU."""
    if requested != "auto":
        return requested
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def pick_dtype(device: str, requested: str) -> str:
    """The dtype's name in which both models run.

    `auto` is 16 bits where the device multiplies in them: bfloat16 on CPUs with its instructions and on GPUs from
    Ampere on, float16 on those before. In 16 bits the last digits of a score depend on how large its batch is.
    """
    if requested != "auto":
        return requested
    if device.startswith("cuda"):
        import torch

        return "bfloat16" if torch.cuda.get_device_capability(device)[0] >= 8 else "float16"
    return "bfloat16" if cpu_has_bfloat16() else "float32"


def cpu_has_bfloat16() -> bool:
    """AMX or AVX512-BF16: without them bfloat16 is emulated and slower than float32."""
    import torch

    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check is not None and check() for check in checks)
