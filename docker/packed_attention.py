"""Attention of a packed row: a suffix sees the policy's cached keys and values and itself; nothing else is computed.

One dense mask over a row would spend most of its work on pairs of tokens that it then masks. Suffix by suffix there is
no padding and no waste (the idea of Hydragen, Juravsky et al. 2024, and of FlashInfer's cascades: a shared prefix is
attended to once for all); heads that share keys are folded into the rows of one product, so keys are never repeated.
"""

from dataclasses import dataclass, field

import torch
from torch.nn.functional import scaled_dot_product_attention


class UnpackableAttention(Exception):
    """The model's attention does something that this file does not; the message says what."""


@dataclass(frozen=True)
class PackedRow:
    """What a layer must know of the row: its suffixes' bounds and, a layer each, the policy's keys and values."""

    bounds: list[tuple[int, int]]
    policy: list[tuple[torch.Tensor, torch.Tensor]]  # [key-value heads, policy, head size]
    masks: dict[int | None, torch.Tensor] = field(default_factory=dict)  # by sliding window

    def mask(self, window: int | None, like: torch.Tensor) -> torch.Tensor:
        """Additive [longest suffix, policy + longest suffix]; a shorter suffix takes the corner that it needs."""
        if window not in self.masks:
            longest = max(end - start for start, end in self.bounds)
            policy_length = self.policy[0][0].shape[1]
            seen = suffix_mask(policy_length, longest, window).to(like.device)
            self.masks[window] = torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill(
                ~seen, float("-inf"))
        return self.masks[window]


def suffix_mask(policy_length: int, length: int, window: int | None) -> torch.Tensor:
    """True where a suffix's token (row) sees a token of policy and suffix (column): bool [length, policy + length]."""
    distance = torch.arange(length)[:, None] + policy_length - torch.arange(policy_length + length)[None, :]
    return (distance >= 0) & (distance < (window or policy_length + length + 1))


def packed_attention(module, query, key, value, attention_mask, scaling=None, packed_row: PackedRow | None = None,
                     sliding_window=None, **others) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface: query [1, heads, row, size], key and value [1, key-value heads, row, size].

    Returns [1, row, heads, size]. Raises UnpackableAttention for soft-capped logits and attention sinks.
    """
    for name in ("softcap", "s_aux"):
        if others.get(name) is not None:
            raise UnpackableAttention(f"its attention uses {name}")
    policy_keys, policy_values = packed_row.policy[module.layer_idx]
    mask = packed_row.mask(sliding_window, query)
    attended = []
    for start, end in packed_row.bounds:
        keys = torch.cat([policy_keys, key[0, :, start:end]], dim=1)
        values = torch.cat([policy_values, value[0, :, start:end]], dim=1)
        attended.append(scaled_dot_product_attention(
            query[:, :, start:end], keys[None], values[None], attn_mask=mask[:end - start, :keys.shape[1]],
            scale=scaling, enable_gqa=True))
    return torch.cat(attended, dim=2).transpose(1, 2), None
