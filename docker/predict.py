"""Score memes: image paths in on stdin, one `probability<TAB>label` line out for each, in order.

Reads   stdin: one image path a line; LLM_DIR: a guard model folder (16-bit or GPTQ); CAPTION_MODEL_DIR: a BLIP folder.
Writes  stdout: exactly one "%.4f\\t%d\\n" for every line of stdin, flushed batch by batch, and nothing else;
        stderr: progress and a summary; DETAILS_PATH, when set: the evidence for each image as a JSON line.

    ls memes/*.png | LLM_DIR=llm-gptq CAPTION_MODEL_DIR=captioner python docker/predict.py > predictions.tsv

A line that cannot be scored (no such file, not an image, ...) still gets its line, FALLBACK_PROBABILITY; the exit
status is 0 all the same, unless STRICT=1. SIGTERM finishes the batch in hand and exits 143. No network is used.
"""

import ctypes
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import DirectoryPath, Field
from pydantic_settings import BaseSettings

from gptq_kernel import compile_nothing
from script_settings import ENVIRONMENT, read_settings

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    llm_dir: DirectoryPath = Field(description="guard model folder with scoring.json (quantize_model.py writes one)")
    caption_model_dir: DirectoryPath = Field(description="BLIP captioning model folder, safetensors")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    dtype: str = Field(
        "auto",
        pattern="^(auto|float32|bfloat16|float16)$",
        description="precision: auto, float32, bfloat16 or float16; auto: 16-bit where the device multiplies in it",
    )
    gptq_backend: str = Field(
        "auto",
        pattern="^(auto|torch|triton|exllama_v2|marlin|machete)$",
        description="kernel of a GPTQ model: auto and torch compile nothing; triton needs a C compiler at run time, "
        "exllama_v2, marlin and machete need nvcc",
    )
    batch_size: int = Field(32, ge=1, le=1024, description="images captioned and scored together")
    max_wait_ms: float = Field(20, ge=0, le=60_000, description="longest wait for a batch to fill, milliseconds")
    threshold: float | None = Field(None, ge=0, le=1, description="label 1 from here on; scoring.json's when unset")
    fallback_probability: float = Field(0.5, ge=0, le=1, description="printed for a line that cannot be scored")
    strict: bool = Field(False, description="1: exit 1 if any line fell back, wholly or in one stage")
    details_path: Path | None = Field(None, description="write each image's evidence here, a JSON line each")
    ocr_workers: int = Field(
        0, ge=0, le=256, description="threads that decode images and read text; 0 is one for each CPU"
    )
    tessdata_prefix: Path | None = Field(
        None, description="folder of tam.traineddata; when unset the usual folders (apt install tesseract-ocr-tam)"
    )
    max_megapixels: int = Field(120, ge=1, le=2000, description="larger images fall back instead of being decoded")
    max_text_tokens: int = Field(256, ge=8, le=8192, description="text beyond so many tokens a view is cut off")
    tokens_a_row: int = Field(4096, ge=64, le=131_072, description="tokens scored in one packed row")
    max_caption_tokens: int = Field(20, ge=1, le=100, description="longest caption, tokens")
    progress_seconds: float = Field(10, gt=0, description="seconds between two progress lines on stderr")


def main() -> int:
    settings = read_settings(Settings, __doc__)
    go_offline()
    compile_nothing()
    keep_freed_memory()
    from result_stream import take_stdout

    try:
        results = take_stdout()
    except OSError:
        print("predict.py: standard output is closed, nothing to do", file=sys.stderr)
        return 1
    from scoring_prompt import UnusableModel
    from scoring_session import ScoringSession, UnusableSetting

    try:
        with ThreadPoolExecutor(3, thread_name_prefix="load") as loading:
            return ScoringSession(settings, results, loading).run()
    except UnusableModel as unusable:
        print(f"predict.py: LLM_DIR={settings.llm_dir}: {unusable}", file=sys.stderr)
    except UnusableSetting as unusable:
        print(f"predict.py: {unusable}", file=sys.stderr)
    return 2


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


def go_offline() -> None:
    """No library may ask a hub for anything, whatever the caller's environment says."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ[name] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


if __name__ == "__main__":
    raise SystemExit(main())
