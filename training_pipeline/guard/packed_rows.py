"""Packed rows: the policy once, then every row's own tokens behind it, in one sequence.

Each row asks the same question about a few dozen tokens of its own. Instead of B rows of P + S tokens, one sequence
holds the P policy tokens and B suffixes of S. A suffix's positions restart behind the policy, and a 4-D mask lets it
see the policy and itself alone, so logits, loss and gradients equal those of B separate rows at P + B*S tokens.
Only the answer positions go through the LM head.

Prior art: Prefix Grouper (shared-prefix GRPO training), Tree Training, OpenPipe ART's shared-prefix packing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from guard.suffix_attention import SuffixLayout

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

# What each kind of layer with a bounded reach calls its reach in the config.
WINDOW_SETTINGS = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
# Between packed and separate logits, relative to their spread. Tiny random models of some 150 classes in float32: 1e-6
# at most where packing is right, 1e-3 and more where it is wrong (less only where attention hardly counts).
LARGEST_DIFFERENCE = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.1}


@dataclass(frozen=True)
class PackedRow:
    """One sequence of L tokens that holds n suffixes behind a prefix of P tokens."""

    input_ids: torch.Tensor  # [1, L]
    position_ids: torch.Tensor  # [1, L], restarting at P for every suffix
    answer_positions: torch.Tensor  # [n], then [m]: where the next-token logits are the first, or second, answer
    prefix_length: int
    suffix_lengths: list[int]

    def model_inputs(self, device: torch.device | str, dtype: torch.dtype, by_suffix: bool = False) -> dict[str, Any]:
        """Keyword arguments of a causal LM's forward pass.

        `by_suffix` is for a model that computes `suffix_attention`; any other needs the mask, [1, 1, L, L] of `dtype`.
        """
        seen: dict[str, Any]
        if by_suffix:
            seen = {"suffix_layout": SuffixLayout.of(self.prefix_length, self.suffix_lengths).to(device)}
        else:
            seen = {"attention_mask": self.attention_mask(dtype).to(device)}
        return {
            "input_ids": self.input_ids.to(device),
            "position_ids": self.position_ids.to(device),
            "logits_to_keep": self.answer_positions.to(device),
            **seen,
        }

    def attention_mask(self, dtype: torch.dtype) -> torch.Tensor:
        """[1, 1, L, L], added to the attention scores: 0, or the dtype's minimum for what a token must not see.

        A token sees what comes before it in the prefix and in its own suffix.
        """
        sizes = torch.tensor([self.prefix_length, *self.suffix_lengths])
        owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes)  # 0 is the prefix, k the k-th suffix
        causal = torch.ones(len(owner), len(owner)).tril().bool()
        visible = causal & ((owner[None, :] == owner[:, None]) | (owner[None, :] == 0))
        return torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)[None, None]


def pack_row(prefix_ids: list[int], suffixes: list[list[int]], answered: list[bool] | None = None) -> PackedRow:
    """Pack suffixes (token lists, none empty) behind one prefix.

    The last token of a suffix asks for the answer. One that is `answered` holds its first answer as its last token,
    which asks for the second: the n first answers come first in `answer_positions`, then the m second ones.
    """
    lengths = [len(suffix) for suffix in suffixes]
    second = torch.tensor(answered or [False] * len(suffixes), dtype=torch.bool)
    lasts = len(prefix_ids) + torch.tensor(lengths).cumsum(0) - 1
    positions = [*range(len(prefix_ids))]
    for length in lengths:
        positions.extend(range(len(prefix_ids), len(prefix_ids) + length))
    return PackedRow(
        input_ids=torch.tensor([prefix_ids + [token for suffix in suffixes for token in suffix]]),
        position_ids=torch.tensor([positions]),
        answer_positions=torch.cat([lasts - second.long(), lasts[second]]),
        prefix_length=len(prefix_ids),
        suffix_lengths=lengths,
    )


def check_packable(config: "PreTrainedConfig", longest: int) -> None:
    """Raise ValueError where a config says that rows whose longest path is `longest` tokens cannot be packed.

    A given 4-D mask replaces the model's own, so a sliding window (or a chunk) is only honoured where it never bites;
    linear attention, convolutions and state-space layers carry a running state that no mask can reset.
    """
    config = config.get_text_config()  # a model that also sees pictures keeps its chat model's settings in there
    kinds = set(getattr(config, "layer_types", None) or [])
    foreign = kinds - {"full_attention", *WINDOW_SETTINGS}
    if foreign:
        raise ValueError(f"layers of kind {', '.join(sorted(foreign))} cannot be packed; set PACKED_ROWS=0")
    if getattr(config, "use_sliding_window", True):  # older configs name a window without layer_types
        kinds.add("sliding_attention")
    for kind, setting in WINDOW_SETTINGS.items():
        window = getattr(config, setting, None)
        if kind in kinds and window and window < longest:
            raise ValueError(
                f"the {setting.replace('_', ' ')} of {window} tokens is shorter than a row of {longest}; "
                "set PACKED_ROWS=0"
            )


@torch.no_grad()
def prove_packable(
    model: "PreTrainedModel",
    prefix_ids: list[int],
    suffixes: list[list[int]],
    compute_dtype: torch.dtype = torch.float32,
) -> None:
    """Raise ValueError unless a packed row of `suffixes` (a batch's) gives what its two ends give alone.

    `compute_dtype` is what the linear layers multiply in (an NF4 model's weights do not tell): it sets the tolerance.

    No config tells everything: ALiBi measures distances within the row, RWKV hands a state from one suffix to the next
    without naming its layers, GPT-Neo counts its local window in the row. So the model itself is tried.
    """
    # The longest first and the shortest last: that one is the likeliest to lose sight of the policy.
    suffixes = sorted(suffixes, key=len, reverse=True)
    was_training = model.training
    model.eval()
    alone = torch.stack([_last_logits(model, prefix_ids + suffix) for suffix in (suffixes[0], suffixes[-1])])
    inputs = pack_row(prefix_ids, suffixes).model_inputs(model.device, model.dtype)
    try:
        packed = model(**inputs, use_cache=False).logits[0].float()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise ValueError(f"{type(model).__name__} does not take packed rows ({error}); set PACKED_ROWS=0") from error
    finally:
        model.train(was_training)
    if packed.shape[0] != len(suffixes):
        raise ValueError(f"{type(model).__name__} cannot give logits of chosen positions; set PACKED_ROWS=0")
    difference = (packed[[0, -1]] - alone).norm() / (alone - alone.mean(-1, keepdim=True)).norm()
    if not difference <= LARGEST_DIFFERENCE[compute_dtype]:
        raise ValueError(
            f"{type(model).__name__} answers otherwise in packed rows than in rows of their own (logits "
            f"differ by {difference:.1%}); set PACKED_ROWS=0"
        )


def _last_logits(model: "PreTrainedModel", token_ids: list[int]) -> torch.Tensor:
    """Float32 logits behind one ordinary row, shape [V]."""
    return model(torch.tensor([token_ids], device=model.device), use_cache=False).logits[0, -1].float()
