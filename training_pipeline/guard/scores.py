"""Score memes with a guard model: packed rows in, a probability of `offensive` and of each category a view out."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from guard.packed_rows import LARGEST_DIFFERENCE, check_packable, pack_row, prove_packable
from guard.progress import Progress
from guard.suffix_attention import try_suffix_attention
from guard.template import EncodedMeme, GuardPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# With a mask, whose cost grows with the square of the row: on the CPU 8 memes took 0.7 of the time of 16.
MASKED_TOKENS_A_ROW = 700
# Without one the policy is all that a row adds, and long rows share it among more memes.
TOKENS_A_ROW = 4096
PROOF_ROWS = 16
# Views on which the labels' share is told, and the share below which an untrained model hardly answers with them.
SHARE_VIEWS = 4
LEAST_SHARE = 0.1
# What predict.py answers (its FALLBACK_PROBABILITY) for a meme that has neither text nor caption.
UNSCORED = 0.5


@dataclass(frozen=True)
class ViewAnswers:
    """What the model answers of one meme's views."""

    margins: np.ndarray  # float32 [views], logit(offensive) - logit(ok)
    categories: np.ndarray  # float32 [views, categories of the prompt], P(category | offensive)


def view_margins(model: "PreTrainedModel", prompt: GuardPrompt, memes: list[EncodedMeme]) -> list[np.ndarray]:
    """Per meme, logit(offensive) - logit(ok) by view, float32, shape [views]; no category is asked."""
    answers = view_answers(model, replace(prompt, category_token_ids={}), memes)
    return [meme.margins for meme in answers]


@torch.no_grad()
def view_answers(model: "PreTrainedModel", prompt: GuardPrompt, memes: list[EncodedMeme]) -> list[ViewAnswers]:
    """The model's answers on each meme, in order."""
    model.eval()
    suffixes = asked_suffixes(prompt, [suffix for meme in memes for suffix in meme.suffixes])
    margins = np.zeros(len(suffixes), dtype=np.float32)
    categories = np.zeros((len(suffixes), len(prompt.category_token_ids)), dtype=np.float32)
    packed = is_packable(model, prompt, suffixes)
    by_suffix = packed and computes_by_suffix(model, prompt, suffixes)
    # Similar lengths come to lie in one row: attention by suffix pads within it.
    order = sorted(range(len(suffixes)), key=lambda index: len(suffixes[index]))
    progress = Progress(len(suffixes), "views")
    for row in cut_to_budget(order, suffixes, TOKENS_A_ROW if by_suffix else MASKED_TOKENS_A_ROW):
        logits = answer_logits(model, prompt, [suffixes[index] for index in row], packed, by_suffix)
        margins[row] = (logits[:, 1] - logits[:, 0]).cpu().numpy()
        categories[row] = logits[:, 2:].softmax(-1).cpu().numpy()
        progress.advance(count=len(row))
    progress.close()
    ends = np.cumsum([len(meme.suffixes) for meme in memes])[:-1]
    parts = zip(np.split(margins, ends), np.split(categories, ends), strict=True) if memes else ()
    return [ViewAnswers(*part) for part in parts]


def asked_suffixes(prompt: GuardPrompt, suffixes: list[list[int]]) -> list[list[int]]:
    """The suffixes as they are asked: where the model has categories, the harmful label stands behind each."""
    harmful = [prompt.label_token_ids[1]] if prompt.category_token_ids else []
    return [suffix + harmful for suffix in suffixes]


def cut_to_budget(order: list[int], suffixes: list[list[int]], tokens_a_row: int) -> Iterator[list[int]]:
    """Indices of suffixes, in `order`, in rows of at most `tokens_a_row` tokens; a longer suffix is a row alone."""
    row: list[int] = []
    used = 0
    for index in order:
        if row and used + len(suffixes[index]) > tokens_a_row:
            yield row
            row, used = [], 0
        row.append(index)
        used += len(suffixes[index])
    if row:
        yield row


def is_packable(model: "PreTrainedModel", prompt: GuardPrompt, suffixes: list[list[int]]) -> bool:
    """False for attention that packed rows would change (short windows, linear attention): then a row a view."""
    try:
        check_packable(model.config, len(prompt.prefix_ids) + max(map(len, suffixes), default=0))
        if suffixes:
            prove_packable(model, prompt.prefix_ids, suffixes[:PROOF_ROWS], model.dtype)
    except ValueError as error:
        print(f"scoring one view a row, which is slower: {str(error).split(';')[0]}", file=sys.stderr)
        return False
    return True


def computes_by_suffix(model: "PreTrainedModel", prompt: GuardPrompt, suffixes: list[list[int]]) -> bool:
    """Have a model attend suffix by suffix, if that gives the same answers; returns whether it does."""
    if not suffixes:
        return False
    row = pack_row(prompt.prefix_ids, suffixes[:PROOF_ROWS])
    return try_suffix_attention(model, row, LARGEST_DIFFERENCE[model.dtype])


def answer_logits(
    model: "PreTrainedModel", prompt: GuardPrompt, suffixes: list[list[int]], packed: bool, by_suffix: bool = False
) -> torch.Tensor:
    """Float32 logits of (ok, offensive, each category) behind `asked_suffixes`, shape [n, 2 + categories]."""
    asks = bool(prompt.category_token_ids)
    if packed:
        packed_row = pack_row(prompt.prefix_ids, suffixes, [asks] * len(suffixes))
        inputs = packed_row.model_inputs(model.device, model.dtype, by_suffix)
        logits = model(**inputs, use_cache=False).logits[0]
    else:
        rows = [torch.tensor([prompt.prefix_ids + suffix], device=model.device) for suffix in suffixes]
        kept = [model(row, use_cache=False, logits_to_keep=1 + asks).logits[0] for row in rows]
        logits = torch.stack(kept, 1).flatten(0, 1)  # first answers, then second ones, as in a packed row
    labels = logits[: len(suffixes), list(prompt.label_token_ids)]
    categories = logits[-len(suffixes) :, list(prompt.category_token_ids.values())]
    return torch.cat([labels, categories], 1).float()


@torch.no_grad()
def label_share(model: "PreTrainedModel", prompt: GuardPrompt, memes: list[EncodedMeme]) -> float:
    """Share of the next token's probability that both labels have together, the mean over the first few views."""
    was_training = model.training
    model.eval()
    suffixes = [suffix for meme in memes for suffix in meme.suffixes][:SHARE_VIEWS]
    rows = [torch.tensor([prompt.prefix_ids + suffix], device=model.device) for suffix in suffixes]
    logits = torch.cat([model(row, use_cache=False, logits_to_keep=1).logits[0] for row in rows]).float()
    model.train(was_training)
    return float(logits.softmax(-1)[:, list(prompt.label_token_ids)].sum(-1).mean())


def share_sentence(share: float) -> str:
    """What `label_share` says of a model that is not trained yet."""
    told = f"both labels together have {share:.1%} of the probability where the model answers"
    if share >= LEAST_SHARE:
        return told
    return f"warning: {told}: untrained, it hardly answers with them; train it, or try other LABEL_WORDS"


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
