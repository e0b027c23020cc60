"""The chat model as a classifier: one packed row of suffixes behind the policy's cached keys and values.

The policy's keys and values are computed once a process. A batch is one row that holds every view of every meme: a
suffix's positions restart behind the policy, and its attention sees the policy and itself only, so a meme's
probability does not depend on its neighbours. No token is decoded: the logits of the two label words at a suffix's
last position are the answer. Of the output layer only those two rows are kept, and the last layer's feed-forward
network is computed for those positions alone.

One dense mask over a row would spend most of its work on pairs of tokens that it then masks. Suffix by suffix there is
no padding and no waste. Each is written behind the policy, where the one before it was, so that PyTorch's fused kernel
finds all keys in one place and the policy's are never copied.
"""

import os
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from detector.device import config_with_kernel
from detector.prompt import ScoringPrompt, UnusableModel, build_prompt, content_ids, read_scoring
from detector.whole_model import UnusableFolder, check_tokenizer, check_weights, load_whole

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

PROBE = "Image: a cat on a table, Caption: when you wake up late again"
# A packed row and a plain one differ by rounding only: 1e-6 in float32, about a hundredth in 16 bits.
LARGEST_DIFFERENCE = 0.03


class ChatModel:
    """Scores suffixes (token lists of prompt.view_windows) on one device; `model` is changed for it."""

    def __init__(self, model: "PreTrainedModel", prompt: ScoringPrompt, tokens_a_row: int = 1024):
        from transformers import AttentionInterface

        self.model = model
        self.prompt = prompt
        self.tokens_a_row = tokens_a_row
        refuse_foreign_layers(model.config)
        model.set_output_embeddings(LabelHead(model.get_output_embeddings(), prompt.label_token_ids))
        self.policy = self._read_policy()
        probe = content_ids(prompt, PROBE) + prompt.suffix_ids
        plain = self._plain_logits(prompt.prefix_ids + probe)
        AttentionInterface.register("packed", packed_attention)
        model.set_attn_implementation("packed")
        self.last_layer = answer_only(model)
        self._compare(plain, probe)

    @torch.inference_mode()
    def probabilities(self, suffixes: list[list[int]]) -> list[float]:
        """P(offensive) of each suffix, in order, in rows of at most `tokens_a_row` tokens (a longer suffix alone)."""
        probabilities = []
        for row in cut_to_budget(suffixes, self.tokens_a_row):
            logits = self._label_logits(row) / self.prompt.temperature
            probabilities += torch.softmax(logits, dim=-1)[:, 1].tolist()
        return probabilities

    def _label_logits(self, suffixes: list[list[int]]) -> torch.Tensor:
        """Float32 logits of (ok, offensive), shape [suffixes, 2]."""
        device = self.model.device
        lengths = [len(suffix) for suffix in suffixes]
        policy_length = len(self.prompt.prefix_ids)
        bounds, positions = packed_layout(lengths, policy_length)
        self._make_room(max(lengths))
        answers = torch.tensor([end - 1 for _, end in bounds], device=device)
        if self.last_layer is not None:
            self.last_layer.positions = answers
        tokens = torch.tensor([[token for suffix in suffixes for token in suffix]])
        return (
            self.model(
                input_ids=tokens.to(device),
                position_ids=positions[None].to(device),
                use_cache=False,
                packed_row=PackedRow(bounds, policy_length, self.policy),
                logits_to_keep=answers,
            )
            .logits[0]
            .float()
        )

    @torch.inference_mode()
    def _read_policy(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of each layer, shape [1, key-value heads, policy, head size]."""
        from transformers import DynamicCache

        cache = DynamicCache()  # without a config every layer keeps all keys, whatever its window
        self._plain_logits(self.prompt.prefix_ids, past_key_values=cache, use_cache=True)
        return [(layer.keys, layer.values) for layer in cache.layers]

    def _make_room(self, tokens: int) -> None:
        """Let a suffix of so many tokens fit behind the policy's keys and values."""
        missing = len(self.prompt.prefix_ids) + tokens - self.policy[0][0].shape[2]
        if missing > 0:
            self.policy = [
                (pad(keys, (0, 0, 0, missing)), pad(values, (0, 0, 0, missing))) for keys, values in self.policy
            ]

    @torch.inference_mode()
    def _plain_logits(self, tokens: list[int], **cache: Any) -> torch.Tensor:
        """The label logits behind one whole row, by the model's own attention."""
        row = torch.tensor([tokens], device=self.model.device)
        return self.model(input_ids=row, logits_to_keep=1, **cache).logits[0].float()

    @torch.inference_mode()
    def _compare(self, plain: torch.Tensor, probe: list[int]) -> None:
        """Raises UnusableModel where a packed row gives the probe another probability than the model itself does."""
        try:
            packed = self._label_logits([probe, probe])  # two: a neighbour that is seen would show in the second
        except torch.OutOfMemoryError:
            raise
        except (UnpackableAttention, RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            # Attention that hands no arguments through, or whose cache holds no plain keys and values.
            reason = str(error).split("\n")[0]
            raise UnusableModel(f"its rows cannot be packed ({reason}): use another chat model") from error
        difference = (packed.softmax(-1) - plain.softmax(-1)).abs().max().item()
        if not difference <= LARGEST_DIFFERENCE:  # NaN is refused too
            raise UnusableModel(f"packed and plain rows of it differ by {difference:.3f}: use another chat model")


class UnpackableAttention(Exception):
    """The model's attention does something that packed rows do not; the message says what."""


@dataclass(frozen=True)
class PackedRow:
    """What a layer must know of the row: its suffixes' bounds and, a layer each, the policy's keys and values.

    Behind the policy these have room for the longest suffix: [1, key-value heads, policy + room, head size].
    """

    bounds: list[tuple[int, int]]
    policy_length: int
    policy: list[tuple[torch.Tensor, torch.Tensor]]
    masks: dict[int | None, torch.Tensor] = field(default_factory=dict)  # by sliding window

    def mask(self, window: int | None, like: torch.Tensor) -> torch.Tensor:
        """Additive [longest suffix, policy + longest suffix]; a shorter suffix takes the corner that it needs."""
        if window not in self.masks:
            longest = max(end - start for start, end in self.bounds)
            seen = suffix_mask(self.policy_length, longest, window).to(like.device)
            self.masks[window] = torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill(
                ~seen, float("-inf")
            )
        return self.masks[window]


def suffix_mask(policy_length: int, length: int, window: int | None) -> torch.Tensor:
    """True where a suffix's token (row) sees a token of policy and suffix (column): bool [length, policy + length]."""
    distance = torch.arange(length)[:, None] + policy_length - torch.arange(policy_length + length)[None, :]
    return (distance >= 0) & (distance < (window or policy_length + length + 1))


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    *,
    packed_row: PackedRow,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface: query [1, heads, row, size], key and value [1, key-value heads, row, size].

    Returns [1, row, heads, size]. Raises UnpackableAttention for soft-capped logits and attention sinks.
    """
    for name in ("softcap", "s_aux"):
        if others.get(name) is not None:
            raise UnpackableAttention(f"its attention uses {name}")
    keys, values = packed_row.policy[module.layer_idx]
    mask = packed_row.mask(sliding_window, query)
    attended = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
    for start, end in packed_row.bounds:
        seen = packed_row.policy_length + end - start
        keys[:, :, packed_row.policy_length : seen] = key[:, :, start:end]
        values[:, :, packed_row.policy_length : seen] = value[:, :, start:end]
        attended[:, start:end] = scaled_dot_product_attention(
            query[:, :, start:end],
            keys[:, :, :seen],
            values[:, :, :seen],
            attn_mask=mask[: end - start, :seen],
            scale=scaling,
            enable_gqa=True,
        ).transpose(1, 2)
    return attended, None


class LabelHead(torch.nn.Module):
    """The output layer's rows of the two label words, in float32: no other logit is computed, and none is rounded."""

    def __init__(self, head: torch.nn.Module, label_token_ids: tuple[int, int]):
        super().__init__()
        weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
        if not isinstance(weight, torch.Tensor):
            raise UnusableModel("its output layer is quantised: quantise it anew with quantize_model.py")
        rows = list(label_token_ids)
        self.weight = torch.nn.Parameter(weight[rows].detach().float(), requires_grad=False)
        self.bias = 0 if bias is None else bias[rows].detach().float()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Float32 [..., 2] of hidden states [..., hidden size]."""
        # Summed, not multiplied as matrices: a product's last bits would depend on how many states there are.
        return (states.float()[..., None, :] * self.weight).sum(-1) + self.bias


class AnswerOnly(torch.nn.Module):
    """A feed-forward network that is computed where its output is read, at `positions`; elsewhere it gives zeros."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network
        self.positions: torch.Tensor | None = None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[1, row, hidden size] in and out."""
        answers = torch.zeros_like(states)
        answers[:, self.positions] = self.network(states[:, self.positions])
        return answers


def answer_only(model: "PreTrainedModel") -> AnswerOnly | None:
    """Wrap the last layer's feed-forward network; None for a model that does not call it `mlp`."""
    last = getattr(model.base_model, "layers", [None])[-1]
    if not isinstance(getattr(last, "mlp", None), torch.nn.Module):
        return None
    last.mlp = AnswerOnly(last.mlp)
    return last.mlp


def packed_layout(lengths: list[int], policy_length: int) -> tuple[list[tuple[int, int]], torch.Tensor]:
    """((start, end) of each suffix, position of each token [L]) for suffixes of these lengths in one row."""
    ends = list(accumulate(lengths))
    bounds = [(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    return bounds, torch.cat([torch.arange(length) for length in lengths]) + policy_length


def cut_to_budget(suffixes: list[list[int]], tokens_a_row: int) -> list[list[list[int]]]:
    """Consecutive rows of at most `tokens_a_row` tokens; a suffix longer than that makes a row of its own."""
    rows: list[list[list[int]]] = []
    used = 0
    for suffix in suffixes:
        if not rows or used + len(suffix) > tokens_a_row:
            rows.append([])
            used = 0
        rows[-1].append(suffix)
        used += len(suffix)
    return rows


def refuse_foreign_layers(config: "PretrainedConfig") -> None:
    """Raises UnusableModel for layers that are no attention over all earlier tokens or a window of them."""
    foreign = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if foreign:
        raise UnusableModel(f"layers of kind {', '.join(sorted(foreign))} cannot be packed: use another chat model")


def load_chat_model(
    model_dir: Path, device: str, dtype: str, tokens_a_row: int, gptq_backend: str = "auto"
) -> ChatModel:
    """Load tokenizer and weights (safetensors, 16-bit or GPTQ) and compute the policy's cache; raises UnusableModel."""
    scoring = read_scoring(model_dir)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if (os.cpu_count() or 1) <= 2:  # gptqmodel's loader asks for two workers and dies where it counts fewer
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    try:
        check_weights(model_dir)
        check_tokenizer(model_dir)
        tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
        prompt = build_prompt(tokenizer, scoring)
        model = load_whole(
            AutoModelForCausalLM,
            model_dir,
            config=config_with_kernel(model_dir, device, gptq_backend),
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            device_map={"": device},
        )
    except (UnusableFolder, ImportError, OSError, ValueError, KeyError) as error:
        raise UnusableModel(str(error)) from error
    return ChatModel(model.eval(), prompt, tokens_a_row)
