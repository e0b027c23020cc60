"""The Hugging Face Trainer on packed rows: one sequence a batch, loss at the answer positions alone."""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import Trainer

from guard_scores import EncodedMeme
from guard_template import GuardPrompt
from packed_rows import pack_row


@dataclass(frozen=True)
class RowCollator:
    """A batch of memes as model inputs; `labels` [n] are label token ids, `views` [memes] how many each meme has."""

    prompt: GuardPrompt
    dtype: torch.dtype
    packed: bool

    def __call__(self, memes: list[EncodedMeme]) -> dict[str, torch.Tensor]:
        suffixes = [suffix for meme in memes for suffix in meme.suffixes]
        labels = [self.prompt.label_token_ids[meme.label] for meme in memes for _ in meme.suffixes]
        inputs = self._packed(suffixes) if self.packed else self._padded(suffixes)
        views = [len(meme.suffixes) for meme in memes]
        return {**inputs, "labels": torch.tensor(labels), "views": torch.tensor(views)}

    def _packed(self, suffixes: list[list[int]]) -> dict[str, torch.Tensor]:
        return pack_row(self.prompt.prefix_ids, suffixes, self.dtype).model_inputs("cpu")

    def _padded(self, suffixes: list[list[int]]) -> dict:
        """One example a row, padded on the left so that every answer position is the last."""
        rows = [self.prompt.prefix_ids + suffix for suffix in suffixes]
        longest = max(map(len, rows))
        pad = self.prompt.tokenizer.pad_token_id
        pad = self.prompt.tokenizer.eos_token_id if pad is None else pad
        input_ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        return {"input_ids": input_ids, "attention_mask": mask, "position_ids": positions, "logits_to_keep": 1}


class PackedTrainer(Trainer):
    """A Trainer whose examples are memes, whose loss is the answer's and whose predictions are probabilities."""

    def __init__(self, *args, prompt: GuardPrompt, **kwargs):
        self.prompt = prompt
        super().__init__(*args, **kwargs)
        # The loss below divides by the number of answers itself when it is given (gradient accumulation).
        self.model_accepts_loss_kwargs = True

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        logits = answer_logits(model, inputs)
        reduction = "mean" if num_items_in_batch is None else "sum"
        loss = torch.nn.functional.cross_entropy(logits, inputs["labels"], reduction=reduction)
        if num_items_in_batch is not None:
            loss = loss / num_items_in_batch
        return (loss, logits) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Loss, probability of `offensive` a meme (mean over its views), label a meme."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            loss, logits = self.compute_loss(model, inputs, return_outputs=True)
        pair = list(self.prompt.label_token_ids)
        by_view = torch.softmax(logits[:, pair].float(), dim=-1)[:, 1]
        views = inputs["views"].tolist()
        memes = torch.stack([scores.mean() for scores in by_view.split(views)])
        firsts = torch.tensor(np.cumsum([0] + views[:-1]), device=inputs["labels"].device)
        labels = (inputs["labels"][firsts] == pair[1]).long()
        return loss, memes, labels


def answer_logits(model, inputs: dict) -> torch.Tensor:
    """Logits over the vocabulary at every answer position, shape [n, V]."""
    forward = {name: value for name, value in inputs.items() if name not in ("labels", "views")}
    logits = model(**forward, use_cache=False).logits
    return logits.reshape(-1, logits.shape[-1]).float()
