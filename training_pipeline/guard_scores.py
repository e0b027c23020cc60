"""Score memes with a guard model: packed rows in, one probability of `offensive` a view out."""

import sys
from dataclasses import dataclass

import numpy as np
import torch

from guard_template import GuardPrompt, encode_content, view_texts
from packed_rows import check_packable, pack_row, prove_packable

# The mask's cost grows with the square of the row: 8 memes took 0.7 of the time of 16 on the CPU, 32 1.7 times as long.
MEMES_A_ROW = 8
# What predict.py answers (its FALLBACK_PROBABILITY) for a meme that has neither text nor caption.
UNSCORED = 0.5


@dataclass(frozen=True)
class EncodedMeme:
    """One meme's views as suffix tokens (content, then the question's end), with its label (0 ok, 1 offensive)."""

    suffixes: list[list[int]]
    label: int
    cut_tokens: int  # content tokens over the limit, dropped


def encode_memes(prompt: GuardPrompt, rows, max_text_tokens: int = 256) -> list[EncodedMeme]:
    """Encode dataset rows (mappings with `image`, a caption or None, `text` and `label`)."""
    encoded = []
    for row in rows:
        whole = [encode_content(prompt, view) for view in view_texts(prompt, row["text"], row["image"])]
        suffixes = [content[:max_text_tokens] + prompt.suffix_ids for content in whole]
        cut = sum(max(0, len(content) - max_text_tokens) for content in whole)
        encoded.append(EncodedMeme(suffixes, int(row["label"]), cut))
    return encoded


@torch.no_grad()
def view_margins(model, prompt: GuardPrompt, memes: list[EncodedMeme]) -> list[np.ndarray]:
    """Per meme, logit(offensive) - logit(ok) by view, float32, shape [views]."""
    model.eval()
    packed = is_packable(model, prompt, memes)
    margins = []
    for start in range(0, len(memes), MEMES_A_ROW):
        batch = memes[start : start + MEMES_A_ROW]
        suffixes = [suffix for meme in batch for suffix in meme.suffixes]
        logits = label_logits(model, prompt, suffixes, packed) if suffixes else torch.zeros(0, 2)
        ends = np.cumsum([len(meme.suffixes) for meme in batch])
        margins.extend(np.split((logits[:, 1] - logits[:, 0]).cpu().numpy(), ends[:-1]))
    return margins


def score_memes(model, prompt: GuardPrompt, memes: list[EncodedMeme], temperature: float = 1.0) -> list[np.ndarray]:
    """Per meme, the probability of `offensive` by view, shape [views]; the verdict is their mean."""
    return [view_probabilities(margins, temperature) for margins in view_margins(model, prompt, memes)]


def view_probabilities(margins: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax over the two label words of logits divided by the temperature, from their difference."""
    return 1 / (1 + np.exp(-margins.astype(np.float64) / temperature))


def mean_probabilities(scores: list[np.ndarray]) -> np.ndarray:
    """Shape [memes]: the mean over each meme's views."""
    return np.array([views.mean() if len(views) else UNSCORED for views in scores])


def label_logits(model, prompt: GuardPrompt, suffixes: list[list[int]], packed: bool = True) -> torch.Tensor:
    """Float32 logits of (ok, offensive) at each suffix's answer position, shape [n, 2]."""
    if packed:
        inputs = pack_row(prompt.prefix_ids, suffixes).model_inputs(model.device, model.dtype)
        logits = model(**inputs, use_cache=False).logits[0]
    else:
        rows = [torch.tensor([prompt.prefix_ids + suffix], device=model.device) for suffix in suffixes]
        logits = torch.cat([model(row, use_cache=False, logits_to_keep=1).logits[0] for row in rows])
    return logits[:, list(prompt.label_token_ids)].float()


def is_packable(model, prompt: GuardPrompt, memes: list[EncodedMeme]) -> bool:
    """False for attention that packed rows would change (short windows, linear attention): then a row a view."""
    suffixes = [suffix for meme in memes for suffix in meme.suffixes]
    try:
        check_packable(model.config, len(prompt.prefix_ids) + max(map(len, suffixes), default=0))
        if suffixes:
            prove_packable(model, prompt.prefix_ids, suffixes[:MEMES_A_ROW], model.dtype)
    except ValueError as fault:
        print(f"scoring one view a row, which is slower: {str(fault).split(';')[0]}", file=sys.stderr)
        return False
    return True


def load_scorer(model_dir):
    """A guard model for scoring, 16-bit or GPTQ: float32 on the CPU, the device's 16-bit type on a GPU."""
    from transformers import AutoModelForCausalLM

    on_gpu = torch.cuda.is_available()
    dtype = torch.float32
    if on_gpu:
        dtype = torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
    return AutoModelForCausalLM.from_pretrained(
        model_dir,
        dtype=dtype,
        use_safetensors=True,
        attn_implementation="sdpa",
        device_map={"": 0 if on_gpu else "cpu"},
    )
