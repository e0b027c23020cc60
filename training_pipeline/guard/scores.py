"""Score memes with a guard model: packed rows in, one probability of `offensive` a view out."""

import sys
from typing import TYPE_CHECKING

import numpy as np
import torch

from guard.packed_rows import check_packable, pack_row, prove_packable
from guard.template import EncodedMeme, GuardPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The mask's cost grows with the square of the row: 8 memes took 0.7 of the time of 16 on the CPU, 32 1.7 times as long.
MEMES_A_ROW = 8
# What predict.py answers (its FALLBACK_PROBABILITY) for a meme that has neither text nor caption.
UNSCORED = 0.5


@torch.no_grad()
def view_margins(model: "PreTrainedModel", prompt: GuardPrompt, memes: list[EncodedMeme]) -> list[np.ndarray]:
    """Per meme, logit(offensive) - logit(ok) by view, float32, shape [views]."""
    model.eval()
    packed = is_packable(model, prompt, memes)
    margins: list[np.ndarray] = []
    for start in range(0, len(memes), MEMES_A_ROW):
        batch = memes[start : start + MEMES_A_ROW]
        suffixes = [suffix for meme in batch for suffix in meme.suffixes]
        logits = label_logits(model, prompt, suffixes, packed) if suffixes else torch.zeros(0, 2)
        ends = np.cumsum([len(meme.suffixes) for meme in batch])
        margins.extend(np.split((logits[:, 1] - logits[:, 0]).cpu().numpy(), ends[:-1]))
    return margins


def is_packable(model: "PreTrainedModel", prompt: GuardPrompt, memes: list[EncodedMeme]) -> bool:
    """False for attention that packed rows would change (short windows, linear attention): then a row a view."""
    suffixes = [suffix for meme in memes for suffix in meme.suffixes]
    try:
        check_packable(model.config, len(prompt.prefix_ids) + max(map(len, suffixes), default=0))
        if suffixes:
            prove_packable(model, prompt.prefix_ids, suffixes[:MEMES_A_ROW], model.dtype)
    except ValueError as error:
        print(f"scoring one view a row, which is slower: {str(error).split(';')[0]}", file=sys.stderr)
        return False
    return True


def label_logits(
    model: "PreTrainedModel", prompt: GuardPrompt, suffixes: list[list[int]], packed: bool
) -> torch.Tensor:
    """Float32 logits of (ok, offensive) at each suffix's answer position, shape [n, 2]."""
    if packed:
        row = pack_row(prompt.prefix_ids, suffixes, model.dtype)
        logits = model(**row.model_inputs(model.device), use_cache=False).logits[0]
    else:
        rows = [torch.tensor([prompt.prefix_ids + suffix], device=model.device) for suffix in suffixes]
        logits = torch.cat([model(row, use_cache=False, logits_to_keep=1).logits[0] for row in rows])
    return logits[:, list(prompt.label_token_ids)].float()


def view_probabilities(margins: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax over the two label words of logits divided by the temperature, from their difference; shape [views]."""
    return 1 / (1 + np.exp(-margins.astype(np.float64) / temperature))


def meme_probabilities(margins: list[np.ndarray], temperature: float) -> np.ndarray:
    """Probability of `offensive` a meme, shape [memes]: the mean over its views."""
    views = [view_probabilities(meme, temperature) for meme in margins]
    return np.array([meme.mean() if len(meme) else UNSCORED for meme in views])


def printed_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """The numbers that predict.py prints, four decimals; rounding by numpy differs from them half-way."""
    return np.array([float(f"{probability:.4f}") for probability in probabilities])


def predicted_labels(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """The label rule, here as in predict.py: the printed probability decides; shape [memes], 0 or 1."""
    return (printed_probabilities(probabilities) >= threshold).astype(int)
