"""Score memes with a guard model: packed rows in, one probability of `offensive` a view out."""

from dataclasses import dataclass

import numpy as np
import torch

from guard_template import GuardPrompt, encode_content, view_texts
from packed_rows import pack_row

MEMES_A_ROW = 16


@dataclass(frozen=True)
class EncodedMeme:
    """One meme's views as suffix tokens (content, then the question's end), with its label (0 ok, 1 offensive)."""

    suffixes: list[list[int]]
    label: int
    cut_tokens: int  # content tokens over the limit, dropped


def encode_memes(prompt: GuardPrompt, rows, max_text_tokens: int = 256) -> list[EncodedMeme]:
    """Encode dataset rows (mappings with `image`, `text`, `label`)."""
    encoded = []
    for row in rows:
        whole = [encode_content(prompt, view) for view in view_texts(prompt, row["text"], row["image"])]
        suffixes = [content[:max_text_tokens] + prompt.suffix_ids for content in whole]
        cut = sum(max(0, len(content) - max_text_tokens) for content in whole)
        encoded.append(EncodedMeme(suffixes, int(row["label"]), cut))
    return encoded


@torch.no_grad()
def score_memes(model, prompt: GuardPrompt, memes: list[EncodedMeme], temperature: float = 1.0) -> list[np.ndarray]:
    """Per meme, the probability of `offensive` by view, shape [views]; the verdict is their mean."""
    model.eval()
    scores = []
    for start in range(0, len(memes), MEMES_A_ROW):
        batch = memes[start:start + MEMES_A_ROW]
        suffixes = [suffix for meme in batch for suffix in meme.suffixes]
        logits = label_logits(model, prompt, suffixes)
        probabilities = torch.softmax(logits.float() / temperature, dim=-1)[:, 1].cpu().numpy()
        ends = np.cumsum([len(meme.suffixes) for meme in batch])
        scores.extend(np.split(probabilities, ends[:-1]))
    return scores


def label_logits(model, prompt: GuardPrompt, suffixes: list[list[int]]) -> torch.Tensor:
    """Logits of (ok, offensive) at each suffix's answer position, shape [n, 2]."""
    row = pack_row(prompt.prefix_ids, suffixes, model.dtype)
    logits = model(**row.model_inputs(model.device)).logits[0]
    return logits[:, list(prompt.label_token_ids)]


def mean_probabilities(scores: list[np.ndarray]) -> np.ndarray:
    """Shape [memes]: the mean over each meme's views."""
    return np.array([views.mean() for views in scores])


def load_scorer(model_dir):
    """A guard model for scoring, 16-bit or GPTQ: float32 on the CPU, the device's 16-bit type on a GPU."""
    from transformers import AutoModelForCausalLM

    on_gpu = torch.cuda.is_available()
    dtype = torch.float32
    if on_gpu:
        dtype = torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
    return AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=dtype, use_safetensors=True, attn_implementation="sdpa",
        device_map={"": 0 if on_gpu else "cpu"})
