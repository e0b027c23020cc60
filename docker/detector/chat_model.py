"""The chat model as a classifier: one packed row of suffixes behind the policy's cached keys and values.

The policy's keys and values are computed once a process. A batch is one row that holds every view of every meme: a
suffix's positions restart behind the policy, and its attention sees the policy and itself only, so a meme's
probability does not depend on its neighbours (packed_rows.py). No token is decoded: the logits of the two label words
at a suffix's last position are the answer. Where the model has categories, one token more stands behind each suffix,
the harmful label, and the logits of the categories' tokens there say whom it attacks. Of the output layer only the
rows of these words are kept, and the last layer's feed-forward network is computed for those positions alone.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from detector.gptq_kernel import chosen_kernel, config_with_kernel, with_kernel
from detector.packed_rows import PackedRow, UnpackableAttention, cut_to_budget, packed_attention, packed_layout
from detector.prompt import ScoringPrompt, UnusableModel, build_prompt, content_ids, read_scoring
from detector.whole_model import UnusableFolder, check_tokenizer, check_weights, load_whole

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

PROBE = "Image: a cat on a table, Caption: when you wake up late again"
# A packed row and a plain one differ by rounding only: 1e-6 in float32, about a hundredth in 16 bits.
LARGEST_DIFFERENCE = 0.03


@dataclass(frozen=True)
class Answer:
    """What the model says of one suffix."""

    probability: float  # of harm
    categories: dict[str, float]  # by name, if it is harmful: they sum to 1; empty for a model without categories

    @property
    def is_sound(self) -> bool:
        """False for numbers that are none (NaN), as a sick device or overflowing weights give them."""
        return all(0 <= share <= 1 for share in (self.probability, *self.categories.values()))


class ChatModel:
    """Scores suffixes (token lists of prompt.view_windows) on one device; `model` is changed for it."""

    def __init__(self, model: "PreTrainedModel", prompt: ScoringPrompt, tokens_a_row: int = 1024):
        from transformers import AttentionInterface

        self.model = model
        self.prompt = prompt
        self.tokens_a_row = tokens_a_row
        # Behind each suffix; the label is read before it, the category behind it.
        self.asked_behind = [prompt.label_token_ids[1]] if prompt.category_token_ids else []
        refuse_foreign_layers(model.config)
        words = [*prompt.label_token_ids, *prompt.category_token_ids.values()]
        model.set_output_embeddings(AnswerHead(model.get_output_embeddings(), words))
        self.policy = self._read_policy()
        probe = content_ids(prompt, PROBE) + prompt.suffix_ids + self.asked_behind
        plain = self._plain_logits(prompt.prefix_ids + probe)
        AttentionInterface.register("packed", packed_attention)
        model.set_attn_implementation("packed")
        self.last_layer = answer_only(model)
        self._compare(plain, probe)

    @torch.inference_mode()
    def answers(self, suffixes: list[list[int]]) -> list[Answer]:
        """The answer to each suffix, in order, in rows of at most `tokens_a_row` tokens (a longer suffix alone)."""
        names = list(self.prompt.category_token_ids)
        answers = []
        for row in cut_to_budget([suffix + self.asked_behind for suffix in suffixes], self.tokens_a_row):
            for _, harmful, *kinds in shares(self._packed_logits(row), self.prompt.temperature).tolist():
                answers.append(Answer(harmful, dict(zip(names, kinds, strict=True))))
        return answers

    def _packed_logits(self, suffixes: list[list[int]]) -> torch.Tensor:
        """Logits of (ok, offensive, each category), as `_read_at_ends` has them; suffixes end in `asked_behind`."""
        device = self.model.device
        lengths = [len(suffix) for suffix in suffixes]
        policy_length = len(self.prompt.prefix_ids)
        bounds, positions = packed_layout(lengths, policy_length)
        self._make_room(max(lengths))
        ends = torch.tensor([end - 1 for _, end in bounds], device=device)
        answers = torch.cat([ends - 1, ends]) if self.asked_behind else ends
        if self.last_layer is not None:
            self.last_layer.positions = answers
        tokens = torch.tensor([[token for suffix in suffixes for token in suffix]])
        packed_row = PackedRow(bounds, policy_length, self.policy)
        logits = self.model(
            input_ids=tokens.to(device),
            position_ids=positions[None].to(device),
            use_cache=False,
            packed_row=packed_row,
            logits_to_keep=answers,
        ).logits[0]
        packed_row.refuse_layers_of_their_own(self.model.config.get_text_config().num_hidden_layers)
        return self._read_at_ends(logits, len(suffixes))

    def _read_at_ends(self, logits: torch.Tensor, suffixes: int) -> torch.Tensor:
        """Float32 [suffixes, words]: the labels read where a suffix ends, the categories behind the harmful label.

        `logits` has every word at every position that was kept: first all ends, then all that stands behind them.
        """
        by_position = logits.float().unflatten(0, (1 + len(self.asked_behind), suffixes))
        return torch.cat([by_position[0, :, :2], by_position[-1, :, 2:]], dim=-1)

    @torch.inference_mode()
    def _read_policy(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of each layer, shape [1, key-value heads, policy, head size]."""
        from transformers import DynamicCache

        cache = DynamicCache()  # without a config every layer keeps all keys, whatever its window
        self._plain_logits(self.prompt.prefix_ids, past_key_values=cache, use_cache=True)
        return [(layer.keys, layer.values) for layer in cache.layers]

    def _make_room(self, tokens: int) -> None:
        """Let a suffix of so many tokens fit behind the policy's keys and values."""
        missing = len(self.prompt.prefix_ids) + tokens - self.policy[0][0].shape[2]
        if missing > 0:
            self.policy = [
                (pad(keys, (0, 0, 0, missing)), pad(values, (0, 0, 0, missing))) for keys, values in self.policy
            ]

    @torch.inference_mode()
    def _plain_logits(self, tokens: list[int], **cache: Any) -> torch.Tensor:
        """The logits at the end of one whole row, by the model's own attention; shape [1, words]."""
        row = torch.tensor([tokens], device=self.model.device)
        logits = self.model(input_ids=row, logits_to_keep=1 + len(self.asked_behind), **cache).logits[0]
        return self._read_at_ends(logits, 1)

    @torch.inference_mode()
    def _compare(self, plain: torch.Tensor, probe: list[int]) -> None:
        """Raises UnusableModel where a packed row gives the probe other probabilities than the model itself does."""
        try:
            packed = self._packed_logits([probe, probe])  # two: a neighbour that is seen would show in the second
        except torch.OutOfMemoryError:
            raise
        except (UnpackableAttention, RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            # Attention that hands no arguments through, or whose cache holds no plain keys and values.
            reason = str(error).split("\n")[0]
            raise UnusableModel(f"its rows cannot be packed ({reason}): use another chat model") from error
        difference = (shares(packed) - shares(plain)).abs().max().item()
        if not difference <= LARGEST_DIFFERENCE:  # NaN is refused too
            raise UnusableModel(f"packed and plain rows of it differ by {difference:.3f}: use another chat model")


def shares(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Probabilities, shape [suffixes, words]: the two labels' sum to 1, and so do the categories'.

    The temperature is the labels' alone: it was fitted to them.
    """
    labels, categories = logits[:, :2], logits[:, 2:]
    return torch.cat([(labels / temperature).softmax(-1), categories.softmax(-1)], dim=-1)


class AnswerHead(torch.nn.Module):
    """The output layer's rows of labels and categories, in float32: no other logit is computed, and none is rounded."""

    def __init__(self, head: torch.nn.Module, token_ids: list[int]):
        super().__init__()
        weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
        if not isinstance(weight, torch.Tensor):
            raise UnusableModel("its output layer is quantised: quantise it anew with quantize_model.py")
        self.weight = torch.nn.Parameter(weight[token_ids].detach().float(), requires_grad=False)
        self.bias = 0 if bias is None else bias[token_ids].detach().float()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Float32 [..., words] of hidden states [..., hidden size]."""
        # Summed, not multiplied as matrices: a product's last bits would depend on how many states there are.
        return (states.float()[..., None, :] * self.weight).sum(-1) + self.bias


class AnswerOnly(torch.nn.Module):
    """A feed-forward network that is computed where its output is read, at `positions`; elsewhere it gives zeros."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network
        self.positions: torch.Tensor | None = None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[1, row, hidden size] in and out."""
        answers = torch.zeros_like(states)
        answers[:, self.positions] = self.network(states[:, self.positions])
        return answers


def answer_only(model: "PreTrainedModel") -> AnswerOnly | None:
    """Wrap the last layer's feed-forward network; None for a model that does not call it `mlp`."""
    last = getattr(model.base_model, "layers", [None])[-1]
    if not isinstance(getattr(last, "mlp", None), torch.nn.Module):
        return None
    last.mlp = AnswerOnly(last.mlp)
    return last.mlp


def refuse_foreign_layers(config: "PretrainedConfig") -> None:
    """Raises UnusableModel for layers that are no attention over all earlier tokens or a window of them."""
    foreign = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if foreign:
        raise UnusableModel(f"layers of kind {', '.join(sorted(foreign))} cannot be packed: use another chat model")


def load_chat_model(
    model_dir: Path, device: str, dtype: str, tokens_a_row: int, gptq_backend: str = "auto"
) -> ChatModel:
    """Load tokenizer and weights (safetensors, 16-bit or GPTQ) and compute the policy's cache; raises UnusableModel."""
    scoring = read_scoring(model_dir)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if (os.cpu_count() or 1) <= 2:  # gptqmodel's loader asks for two workers and dies where it counts fewer
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    try:
        check_weights(model_dir)
        check_tokenizer(model_dir)
        tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
        prompt = build_prompt(tokenizer, scoring)
        kernel = chosen_kernel(model_dir, device, getattr(torch, dtype), gptq_backend)
        model = load_whole(
            AutoModelForCausalLM,
            model_dir,
            config=config_with_kernel(model_dir, kernel),
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            device_map={"": device},
        )
    except (UnusableFolder, ImportError, OSError, ValueError, KeyError) as error:
        raise UnusableModel(str(error)) from error
    return ChatModel(with_kernel(model, kernel, getattr(torch, dtype)).eval(), prompt, tokens_a_row)
