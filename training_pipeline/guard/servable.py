"""Whether predict.py can serve a model, told from its config and the weights' names: attaching loads no weights.

predict.py computes attention itself, over policy keys and values that it keeps. So the model must call attention by
transformers' AttentionInterface, hand through the arguments that it does not know, and keep plain keys and values. A
forward pass without memory (torch's meta device) tells, in a second for a model of any size. What only numbers tell,
such as ALiBi, predict.py finds at its start. tests/test_contracts.py holds the two together.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from guard.whole_model import weight_files

LAYER_KINDS = {"full_attention", "sliding_attention"}
PROBE_NAME, PROBE_TOKENS = "attention_probe", 8


def unservable(model_dir: Path) -> str | None:
    """Why predict.py would refuse the model of a folder; None where nothing is known against it."""
    from safetensors import safe_open
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        return " ".join(str(error).split())[:400]
    names: set[str] = set()
    for path in weight_files(model_dir):
        with safe_open(path, "pt") as weights:
            names |= set(weights.keys())
    return unservable_config(config, names)


def unservable_config(config: Any, weight_names: Iterable[str] = ()) -> str | None:
    """The same for a config, and the names of its weights."""
    from transformers import AutoModelForCausalLM

    if foreign := set(getattr(config, "layer_types", None) or []) - LAYER_KINDS:
        return f"it has layers of kind {', '.join(sorted(foreign))}"
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    except (ValueError, ImportError, TypeError, AttributeError) as error:
        if "scaled_dot_product_attention" in str(error):
            return f"its kind ({config.model_type}) has no attention by PyTorch's scaled_dot_product_attention"
        return " ".join(str(error).split())[:400]
    head = model.get_output_embeddings()
    if any(f"{name}.qweight" in set(weight_names) for name, module in model.named_modules() if module is head):
        return "its output layer is quantised"
    return unservable_attention(model)


@torch.no_grad()
def unservable_attention(model: Any) -> str | None:
    """What is wrong with how a model (on the meta device) calls attention and keeps keys and values."""
    from transformers import AttentionInterface, DynamicCache

    found: list[str] = []
    sizes: dict[int, tuple[int, int, int]] = {}

    def probe(module: Any, query: Any, key: Any, value: Any, mask: Any, **others: Any) -> tuple[Any, None]:
        found.extend(f"its attention uses {name}" for name in ("softcap", "s_aux") if others.get(name) is not None)
        if "packed_row" not in others:
            found.append("its attention takes no further arguments")
        sizes[module.layer_idx] = (key.shape[1], key.shape[3], value.shape[3])
        return query.new_empty(1, query.shape[2], query.shape[1], value.shape[3]), None

    cache = DynamicCache()
    tokens = torch.zeros(1, PROBE_TOKENS, dtype=torch.long, device="meta")
    whole = forward(model, tokens, past_key_values=cache, use_cache=True)
    AttentionInterface.register(PROBE_NAME, probe)
    model.set_attn_implementation(PROBE_NAME)
    whole &= forward(model, tokens, use_cache=False, packed_row=True)
    if found:
        return found[0]
    if whole and not sizes:
        return "its attention is its own, not transformers' AttentionInterface"
    for index, layer in enumerate(cache.layers):
        kept = (layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]) if layer.is_initialized else None
        if index in sizes and kept not in (None, sizes[index]):
            return "it keeps no plain keys and values (multi-head latent attention)"
    return None


def forward(model: Any, tokens: torch.Tensor, **options: Any) -> bool:
    """Whether a forward pass came to its end: experts are chosen by numbers, which the meta device has none of."""
    try:
        model(input_ids=tokens, logits_to_keep=1, **options)
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return False
    return True
