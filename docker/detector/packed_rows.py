"""Packed rows: many suffixes in one row, each seeing the policy's cached keys and values and itself.

One dense mask over a row would spend most of its work on pairs of tokens that it then masks. Suffix by suffix there is
no padding and no waste. Each is written behind the policy, where the one before it was, so that PyTorch's fused kernel
finds all keys in one place and the policy's are never copied.
"""

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention


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
    attended: set[int] = field(default_factory=set)  # layers that called packed_attention

    def mask(self, window: int | None, like: torch.Tensor) -> torch.Tensor:
        """Additive [longest suffix, policy + longest suffix]; a shorter suffix takes the corner that it needs."""
        if window not in self.masks:
            longest = max(end - start for start, end in self.bounds)
            seen = suffix_mask(self.policy_length, longest, window).to(like.device)
            self.masks[window] = torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill(
                ~seen, float("-inf")
            )
        return self.masks[window]

    def refuse_layers_of_their_own(self, layers: int) -> None:
        """Raises UnpackableAttention where one of so many layers attended by itself: its suffixes saw one another."""
        own = layers - len(self.attended)
        if own:
            raise UnpackableAttention(f"{own} of its {layers} layers have attention of their own")


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
    packed_row.attended.add(module.layer_idx)
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
