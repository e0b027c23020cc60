"""A model's folder: what must be in it, its scoring.json, its fingerprint, and how a guard model is loaded from it."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from guard.gptq_kernel import chosen_kernel, config_with_kernel, with_kernel
from guard.output_files import script_name
from guard.whole_model import UnusableFolder, check_tokenizer, check_weights, has_weights, load_whole, weight_files

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SCORING_FILE = "scoring.json"
TRAINING_FILE = "training.json"
# Longer texts are cut. Also the limit of a scoring.json that is older than the field.
MAX_TEXT_TOKENS = 256
SAMPLED_BYTES = 4096
Dtype = Literal["auto", "bfloat16", "float16", "float32"]
DTYPE_MEANING = "what the model multiplies in; auto is 16 bits where the device multiplies in them"


def number_where_one(text: object) -> object:
    """For settings that are a Literal of numbers, which takes no text; the environment gives nothing else."""
    return int(str(text)) if str(text).strip().isdigit() else text


class Scoring(TypedDict):
    """scoring.json: what everyone who scores with the model must know beside its weights and its chat template."""

    label_words: dict[str, str]  # the answer token's text by label, `offensive` and `ok`
    views: dict[str, str]  # the text of each view, with {text} and {caption}
    threshold: float  # label 1 from this probability on
    temperature: float
    max_text_tokens: int  # of one view; what is longer is cut
    categories: NotRequired[dict[str, str]]  # by name, the text of the token behind the harmful label's; may be absent
    thresholds: NotRequired[dict[str, float]]  # these two are fitted by evaluate_model.py
    fitted_on: NotRequired[dict[str, int]]


def read_scoring(model_dir: Path) -> Scoring | None:
    """The scoring.json of a model folder; None where there is none. ValueError, with the remedy, for a broken one."""
    path = model_dir / SCORING_FILE
    if not path.exists():
        return None
    remedy = "make the folder anew with attach_policy.py, load_lora.py or quantize_model.py"
    try:
        scoring = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); {remedy}") from None
    absent = [name for name in ("label_words", "views", "threshold", "temperature") if name not in scoring]
    if absent:
        raise ValueError(f"{path} lacks {', '.join(absent)}; {remedy}")
    if not {"offensive", "ok"} <= set(scoring["label_words"]):
        raise ValueError(f"{path}: label_words must hold the words for offensive and ok; {remedy}")
    limit = scoring.setdefault("max_text_tokens", MAX_TEXT_TOKENS)
    if type(limit) is not int or limit < 1:
        raise ValueError(f"{path}: max_text_tokens must be a whole number of tokens, not {limit!r}; {remedy}")
    return scoring


def share_cpus() -> None:
    """Make computing share CPUs and memory with other work; what the user has set stays. Call before torch is loaded.

    Waiting threads sleep: where a core has other work, too, spinning ones made a training step five times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # oneDNN keeps 1,024 compiled products, but packed rows hardly ever have a length twice: 500 training steps grew a
    # process from 3.4 to 7.6 GB, with 100 kept it stayed at 4.6.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "100")
    os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # gptqmodel would compile what unpacks a weight, by g++
    if (os.cpu_count() or 1) <= 2:
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # gptqmodel's loader asks for two and dies on fewer


def check_model_folder(model_dir: Path) -> None:
    """SystemExit, with the remedy, where a folder's safetensors or its tokenizer cannot be read."""
    with refused_folder(model_dir):
        check_weights(model_dir)
        check_tokenizer(model_dir)


@contextmanager
def refused_folder(folder: Path, variable: str = "MODEL_DIR") -> Iterator[None]:
    """Turn UnusableFolder into SystemExit with a sentence that names the folder by its variable."""
    try:
        yield
    except UnusableFolder as error:
        raise SystemExit(f"{script_name()}: {variable}={folder} {error}") from error


def is_quantised(model_dir: Path) -> bool:
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    return bool(config.get("quantization_config"))


def weights_fingerprint(model_dir: Path) -> str:
    """Hash of a model's or an adapter's weights: each file's name and header, and the first 4 kB of every tensor.

    Reads about a megabyte of a 14 GB model, and sees a change in any tensor that training moved as a whole.
    """
    digest = hashlib.sha256()
    for path in weight_files(model_dir) if has_weights(model_dir) else sorted(model_dir.glob("*.safetensors")):
        with path.open("rb") as weights:
            header = weights.read(int.from_bytes(weights.read(8), "little"))
            digest.update(path.name.encode() + header)
            for name, tensor in sorted(json.loads(header).items()):
                if name != "__metadata__":
                    start, end = tensor["data_offsets"]
                    weights.seek(8 + len(header) + start)
                    digest.update(weights.read(min(SAMPLED_BYTES, end - start)))
    return digest.hexdigest()[:16]


def carry_training_record(source_dir: Path, target_dir: Path) -> None:
    """Copy training.json, if there is one: the libraries' own saving leaves it behind."""
    if (source_dir / TRAINING_FILE).exists():
        shutil.copyfile(source_dir / TRAINING_FILE, target_dir / TRAINING_FILE)


def folder_megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def compute_dtype(requested: Dtype = "auto") -> "torch.dtype":
    """What a model multiplies in, as predict.py picks it: `auto` is 16 bits where the device multiplies in them.

    bfloat16 on GPUs from Ampere on, float16 on those before (Volta, Turing); on the CPU bfloat16 with AMX or
    AVX512-BF16, else float32, since PyTorch emulates bfloat16 there.
    """
    import torch

    if requested != "auto":
        found: torch.dtype = getattr(torch, requested)
        return found
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    multiplies = any(check is not None and check() for check in checks)
    return torch.bfloat16 if multiplies else torch.float32


def load_guard_model(model_dir: Path, dtype: Dtype) -> "PreTrainedModel":
    """A guard model for scoring, 16-bit or GPTQ, that multiplies in `dtype`."""
    import torch

    device = 0 if torch.cuda.is_available() else "cpu"
    kernel = chosen_kernel(model_dir, str(device), compute_dtype(dtype))
    model = load_model(
        model_dir,
        config=config_with_kernel(model_dir, kernel),
        dtype=compute_dtype(dtype),
        attn_implementation="sdpa",
        device_map={"": device},
    )
    return with_kernel(model, kernel, compute_dtype(dtype))


def load_model(model_dir: Path, **options: Any) -> "PreTrainedModel":
    """The chat model of MODEL_DIR by from_pretrained's `options`; SystemExit where any tensor of it is not there."""
    from transformers import AutoModelForCausalLM

    with refused_folder(model_dir):
        model: PreTrainedModel = load_whole(AutoModelForCausalLM, model_dir, **options)
    return model
