"""Packed rows: the policy once, then every row's own tokens behind it, in one sequence.

Each row asks the same question about a few dozen tokens of its own. Instead of B rows of P + S tokens, one sequence
holds the P policy tokens and B suffixes of S. A suffix's positions restart behind the policy, and a 4-D mask lets it
see the policy and itself alone, so logits, loss and gradients equal those of B separate rows at P + B*S tokens.
Only the answer positions go through the LM head.

Prior art: Prefix Grouper (shared-prefix GRPO training), Tree Training, OpenPipe ART's shared-prefix packing.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PackedRow:
    """One sequence of L tokens that holds n suffixes behind a prefix of P tokens."""

    input_ids: torch.Tensor  # [1, L]
    position_ids: torch.Tensor  # [1, L], restarting at P for every suffix
    attention_mask: torch.Tensor  # [1, 1, L, L], added to the attention scores: 0 or the dtype's minimum
    answer_positions: torch.Tensor  # [n], each suffix's last token: its next-token logits are the answer

    def model_inputs(self, device) -> dict[str, torch.Tensor]:
        return {
            "input_ids": self.input_ids.to(device),
            "position_ids": self.position_ids.to(device),
            "attention_mask": self.attention_mask.to(device),
            "logits_to_keep": self.answer_positions.to(device),
        }


def pack_row(prefix_ids: list[int], suffixes: list[list[int]], dtype: torch.dtype = torch.float32) -> PackedRow:
    """Pack suffixes (token lists, none empty) behind one prefix."""
    prefix_length = len(prefix_ids)
    lengths = torch.tensor([len(suffix) for suffix in suffixes])
    flat = prefix_ids + [token for suffix in suffixes for token in suffix]
    # Owner 0 is the prefix, owner k the k-th suffix.
    owner = torch.cat([torch.zeros(prefix_length, dtype=torch.long),
                       torch.repeat_interleave(torch.arange(1, len(suffixes) + 1), lengths)])
    ends = prefix_length + lengths.cumsum(0)
    starts = torch.cat([torch.zeros(1, dtype=torch.long), ends - lengths])
    within = torch.arange(len(flat)) - starts[owner]
    positions = torch.where(owner == 0, within, within + prefix_length)
    return PackedRow(
        input_ids=torch.tensor([flat]),
        position_ids=positions[None],
        attention_mask=_owner_mask(owner, dtype),
        answer_positions=ends - 1,
    )


def _owner_mask(owner: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[1, 1, L, L]: causal, within one's own suffix and the prefix."""
    causal = torch.ones(len(owner), len(owner)).tril().bool()
    visible = causal & ((owner[None, :] == owner[:, None]) | (owner[None, :] == 0))
    return torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)[None, None]


def check_packable(config, longest: int) -> None:
    """Raise ValueError where a model's attention cannot be packed into rows whose longest path is `longest` tokens.

    A given 4-D mask replaces the model's own, so a sliding window is only honoured where it never bites; linear
    attention and state-space layers carry a running state that no mask can reset.
    """
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    foreign = kinds - {"full_attention", "sliding_attention"}
    if foreign:
        raise ValueError(f"layers of kind {', '.join(sorted(foreign))} cannot be packed; set PACKED_ROWS=0")
    window = getattr(config, "sliding_window", None)
    uses_window = "sliding_attention" in kinds or (getattr(config, "use_sliding_window", True) and window)
    if uses_window and window and window < longest:
        raise ValueError(f"a sliding window of {window} tokens is shorter than a row of {longest}; set PACKED_ROWS=0")
