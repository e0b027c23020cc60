"""Attention of a packed row, with gradients: a suffix sees the policy and itself; nothing else is computed.

A dense mask spends most of its work on pairs of tokens that it then masks, and PyTorch's fused CPU kernel is slow
backwards (37 ms a layer in bfloat16 for 16 suffixes of 47 tokens behind 223, 9 heads of 64; 8 ms here). The suffixes
are gathered into one batch, padded at their ends, and attend to policy + themselves by plain matrix products, which
oneDNN multiplies in AMX tiles where the processor has them.
"""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from guard.packed_rows import PackedRow

ATTENTION_NAME = "packed_suffixes"
# Of the suffixes in one product, the longest against the shortest: a CPU pays for padding, a GPU for each product. On
# an H200, 64 views a step of a model of 135M parameters: 172 views/s with 2, 204 with 4, 229 with 16, whose padding
# costs memory where one text is long.
TIMES_AS_LONG = {"cpu": 4 / 3, "cuda": 4}


@dataclass(frozen=True)
class SuffixLayout:
    """Where the suffixes of one packed row lie behind P policy tokens, in batches of about the same length."""

    policy_length: int
    batches: list[torch.Tensor]  # each [n, S]: the row's position of each token; padding repeats the suffix's last
    taken: torch.Tensor  # [row - P]: for each token of the row behind the policy, its place among all slots

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "SuffixLayout":
        """On another device; the name and arguments are those by which accelerate moves a batch."""
        batches = [slots.to(device, non_blocking=non_blocking) for slots in self.batches]
        return SuffixLayout(self.policy_length, batches, self.taken.to(device, non_blocking=non_blocking))

    @classmethod
    def of(cls, policy_length: int, lengths: list[int]) -> "SuffixLayout":
        sizes = torch.tensor(lengths)
        starts = policy_length + sizes.cumsum(0) - sizes
        batches, places, slots_before = [], torch.empty(int(sizes.sum()), dtype=torch.long), 0
        for members in similar_lengths(lengths):
            within = torch.arange(int(sizes[members].max()))
            real = within < sizes[members][:, None]
            slots = starts[members][:, None] + within.clamp(max=sizes[members][:, None] - 1)
            places[slots[real] - policy_length] = slots_before + real.flatten().nonzero()[:, 0]
            slots_before += slots.numel()
            batches.append(slots)
        return cls(policy_length, batches, places)


def similar_lengths(lengths: list[int]) -> list[list[int]]:
    """Indices of the suffixes, shortest first, in batches whose longest is at most so many times the shortest."""
    times = TIMES_AS_LONG["cuda" if torch.cuda.is_available() else "cpu"]
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and lengths[index] <= times * lengths[batches[-1][0]]:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def try_suffix_attention(model: Any, row: "PackedRow", tolerance: float) -> bool:
    """Have `model` compute `suffix_attention` if `row` then gets the same answers; returns whether it does.

    From then on it takes `row.model_inputs(..., by_suffix=True)`, and any other row as before. `tolerance` is the
    logits' difference relative to their spread.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION_NAME, suffix_attention)
    AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)  # for the rows without a layout
    own, was_training = model.config._attn_implementation, model.training
    model.eval()
    expected = _logits(model, row, by_suffix=False)
    try:
        model.set_attn_implementation(ATTENTION_NAME)
        found = _logits(model, row, by_suffix=True)
        difference = (found - expected).norm() / (expected - expected.mean(-1, keepdim=True)).norm()
        reason = None if difference <= tolerance else f"its logits would differ by {difference:.1%}"
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = str(error)
    model.train(was_training)
    if reason is not None:
        model.set_attn_implementation(own)
        print(f"{type(model).__name__} keeps its own, slower attention: {reason}", file=sys.stderr)
    return reason is None


def attends_by_suffix(model: Any) -> bool:
    """Whether a model takes packed rows without a mask, after `try_suffix_attention`."""
    return bool(model.config._attn_implementation == ATTENTION_NAME)


@torch.no_grad()
def _logits(model: Any, row: "PackedRow", by_suffix: bool) -> torch.Tensor:
    return model(**row.model_inputs(model.device, model.dtype, by_suffix), use_cache=False).logits.float()


def suffix_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    suffix_layout: SuffixLayout | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface: query [1, heads, row, size], key and value [1, key-value heads, row, size].

    Returns [1, row, heads, size]. Without a layout the rows are ordinary ones, which get PyTorch's own attention with
    their mask. Raises ValueError for soft-capped logits and attention sinks, which it does not compute.
    """
    if any(others.get(name) is not None for name in ("softcap", "s_aux")):
        raise ValueError("soft-capped attention logits or attention sinks")
    if suffix_layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        ordinary: torch.Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling)[0]
        return ordinary, None
    scale = scaling or query.shape[-1] ** -0.5
    length = suffix_layout.policy_length
    # Autocast leaves queries and keys in float32, by the rotations, and values in 16 bits.
    query, key = query.to(value.dtype), key.to(value.dtype)
    policy = (query[:, :, :length], key[:, :, :length], value[:, :, :length])
    with torch.autocast(value.device.type, enabled=False):
        attended = attend(*policy, scale).transpose(1, 2)
        suffixes = [_attend_behind(policy, query, key, value, slots, scale) for slots in suffix_layout.batches]
    rows = torch.cat(suffixes).index_select(0, suffix_layout.taken)  # [row - P, heads, size]
    return torch.cat([attended, rows[None]], 1), None


def _attend_behind(
    policy: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    slots: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """One batch of suffixes against policy and themselves: [n * S, heads, size]."""
    keys, values = (
        torch.cat([shared.expand(len(slots), -1, -1, -1), _gathered(row, slots)], 2)
        for shared, row in ((policy[1], key), (policy[2], value))
    )
    return attend(_gathered(query, slots), keys, values, scale).transpose(1, 2).flatten(0, 1)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Causal attention whose last query sees the last key: query [b, heads, S, d], key [b, key-value heads, T, d]."""
    batch, heads, length, size = query.shape
    grouped = (query * scale).reshape(batch, key.shape[1], -1, size)  # the heads of one key-value head are more rows
    mask = torch.full((length, key.shape[2]), float("-inf"), dtype=query.dtype, device=query.device)
    mask = mask.triu(key.shape[2] - length + 1)
    attended = _Attention.apply(grouped, key, value, mask)
    return attended.view(batch, heads, length, value.shape[-1])


class _Attention(torch.autograd.Function):
    """softmax(query @ key^T + mask) @ value; its backward pass needs no softmax_backward, slow in bfloat16."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        scores = query @ key.transpose(-1, -2)
        scores.view(*scores.shape[:2], -1, *mask.shape).add_(mask)
        weights = scores.softmax(-1)
        attended = weights @ value
        ctx.save_for_backward(query, key, value, weights, attended)
        return attended

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        query, key, value, weights, attended = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_scores = gradient @ value.transpose(-1, -2)
        of_scores.sub_((gradient * attended).sum(-1, keepdim=True)).mul_(weights)
        return (of_scores @ key, of_scores.transpose(-1, -2) @ query, weights.transpose(-1, -2) @ gradient, None)


def _gathered(row: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """[1, heads, row, size] -> [n, heads, S, size]."""
    return row[0].index_select(1, slots.flatten()).view(row.shape[1], *slots.shape, row.shape[3]).transpose(0, 1)
