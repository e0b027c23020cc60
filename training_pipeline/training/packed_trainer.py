"""The Hugging Face Trainer on packed rows: one sequence a batch, loss at the answer positions alone."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, roc_auc_score
from transformers import Trainer, TrainerCallback

from evaluation.metrics import bounded_log_loss
from guard.packed_rows import pack_row
from guard.scores import predicted_labels
from guard.template import EncodedMeme, GuardPrompt

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import EvalPrediction, PreTrainedModel, TrainerControl, TrainerState, TrainingArguments
    from transformers.modeling_outputs import CausalLMOutputWithPast


@dataclass(frozen=True)
class RowCollator:
    """A batch of memes as model inputs; `views` [memes] says how many each meme has.

    `labels` [n + m] are the tokens that answer: the n views' labels, then the m categories of those that have one.
    """

    prompt: GuardPrompt
    dtype: torch.dtype
    packed: bool
    by_suffix: bool = False  # the model computes suffix_attention: no mask is made

    def __call__(self, memes: list[EncodedMeme]) -> dict[str, Any]:
        views = [(meme, suffix) for meme in memes for suffix in meme.suffixes]
        suffixes = [suffix for _, suffix in views]
        categories = [meme.category_token for meme, _ in views]
        labels = [self.prompt.label_token_ids[meme.label] for meme, _ in views]
        labels += [token for token in categories if token is not None]
        asked = [token is not None for token in categories]
        inputs = self._packed(suffixes, asked) if self.packed else self._padded(suffixes, asked)
        return {**inputs, "labels": torch.tensor(labels), "views": torch.tensor([len(meme.suffixes) for meme in memes])}

    def _packed(self, suffixes: list[list[int]], asked: list[bool]) -> dict[str, Any]:
        """Views of which a category is `asked` end in the harmful label."""
        harmful = self.prompt.label_token_ids[1]
        ended = [[*suffix, harmful] if more else suffix for suffix, more in zip(suffixes, asked, strict=True)]
        return pack_row(self.prompt.prefix_ids, ended, asked).model_inputs("cpu", self.dtype, self.by_suffix)

    def _padded(self, suffixes: list[list[int]], asked: list[bool]) -> dict[str, Any]:
        """One answer a row, padded on the left so that every answer position is the last."""
        rows = [self.prompt.prefix_ids + suffix for suffix in suffixes]
        rows += [[*row, self.prompt.label_token_ids[1]] for row, more in zip(rows, asked, strict=True) if more]
        longest = max(map(len, rows))
        pad = self.prompt.tokenizer.pad_token_id
        pad = self.prompt.tokenizer.eos_token_id if pad is None else pad
        input_ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        return {"input_ids": input_ids, "attention_mask": mask, "position_ids": positions, "logits_to_keep": 1}


class PackedTrainer(Trainer):
    """A Trainer whose examples are memes, whose loss is the answer's and whose predictions are probabilities."""

    def __init__(self, *args: Any, prompt: GuardPrompt, **kwargs: Any) -> None:
        self.prompt = prompt
        self.pace = Pace()
        super().__init__(*args, compute_loss_func=answer_loss, **kwargs)
        self.add_callback(self.pace)
        self.model_accepts_loss_kwargs = False  # the loss is answer_loss's, the model computes none
        # One label an answer position: the Trainer must not count one less, as it does where labels are shifted.
        self._loss_shifts_labels = False

    def compute_loss(
        self,
        model: "PreTrainedModel",
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        inputs = {name: value for name, value in inputs.items() if name != "views"} | {"use_cache": False}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def training_step(
        self, model: "PreTrainedModel", inputs: dict[str, Any], num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        self.pace.count(int(inputs["views"].sum()), inputs["input_ids"].numel())
        return super().training_step(model, inputs, num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        is_training = {"loss", "train_loss"} & set(logs)  # train_loss: the end, with what was not logged yet
        super().log({**logs, **self.pace.take(self.accelerator)} if is_training else logs, start_time)

    def prediction_step(
        self,
        model: "PreTrainedModel",
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The verdict's loss, probability of `offensive` a meme (mean over its views), label a meme."""
        inputs = self._prepare_inputs(inputs)
        views = inputs["views"].tolist()
        with torch.no_grad():
            _, outputs = self.compute_loss(model, inputs, return_outputs=True)
        verdicts = slice(sum(views))  # not the categories, of which some batches have more: their mean would be another
        loss = torch.nn.functional.cross_entropy(answer_logits(outputs)[verdicts], inputs["labels"][verdicts])
        pair = list(self.prompt.label_token_ids)
        by_view = torch.softmax(answer_logits(outputs)[verdicts, pair], dim=-1)[:, 1]
        memes = torch.stack([scores.mean() for scores in by_view.split(views)])
        firsts = torch.tensor(np.cumsum([0] + views[:-1]), device=inputs["labels"].device)
        labels = (inputs["labels"][firsts] == pair[1]).long()
        return loss.detach(), memes, labels


def answer_logits(outputs: "CausalLMOutputWithPast") -> torch.Tensor:
    """Float32 logits over the vocabulary at every answer position, shape [n, V], of packed or padded rows."""
    return outputs.logits.reshape(-1, outputs.logits.shape[-1]).float()


def answer_loss(
    outputs: "CausalLMOutputWithPast", labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy of the answers: their mean, or their sum over all answers of an optimizer step where given."""
    if num_items_in_batch is None:
        return torch.nn.functional.cross_entropy(answer_logits(outputs), labels)
    return torch.nn.functional.cross_entropy(answer_logits(outputs), labels, reduction="sum") / num_items_in_batch


def ranking_metrics(languages: list[str]) -> Callable[["EvalPrediction"], dict[str, float]]:
    """compute_metrics for the Trainer: probabilities [memes] against labels [memes], by language too.

    AUROC, accuracy at 0.5 and log-loss; a language with one label only has no AUROC.
    """
    of_language = {language: np.array(languages) == language for language in sorted(set(languages))}

    def metrics(predictions: "EvalPrediction") -> dict[str, float]:
        probabilities, labels = predictions
        found = {
            "auroc": float(roc_auc_score(labels, probabilities)),
            "accuracy": float(accuracy_score(labels, predicted_labels(probabilities, 0.5))),
            "log_loss": bounded_log_loss(labels, probabilities),
        }
        for language, chosen in of_language.items():
            if len(set(labels[chosen])) == 2:
                found[f"auroc_{language}"] = float(roc_auc_score(labels[chosen], probabilities[chosen]))
        return found

    return metrics


class Pace(TrainerCallback):
    """Rows (views) and tokens a second of the optimizer steps alone, evaluations and saving left out; peak memory."""

    def __init__(self) -> None:
        self.rows = self.tokens = 0
        self.seconds = 0.0

    def count(self, rows: int, tokens: int) -> None:
        self.rows += rows
        self.tokens += tokens

    def on_step_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        self.started = time.perf_counter()

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        self.seconds += time.perf_counter() - self.started

    def take(self, accelerator: "Accelerator") -> dict[str, float]:
        """Figures since the last call, of all processes together; `rows` is how many views were trained on."""
        counted = torch.tensor([[self.rows, self.tokens]], device=accelerator.device)
        rows, tokens = accelerator.gather(counted).sum(0).tolist()
        seconds = max(self.seconds, 1e-9)
        self.rows = self.tokens = 0
        self.seconds = 0.0
        return {
            "rows": rows,
            "rows_per_second": round(rows / seconds, 2),
            "tokens_per_second": round(tokens / seconds),
            "peak_memory_gb": round(peak_memory_bytes() / 1e9, 3),
        }


def peak_memory_bytes() -> int:
    """The GPU's allocated peak, or this process's peak resident set (Linux counts it in kilobytes)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
