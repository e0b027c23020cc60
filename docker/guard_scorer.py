"""The chat model as a classifier: one packed row of suffixes behind the policy's cached keys and values.

The policy's keys and values are computed once a process. A batch is one row that holds every view of every meme: a
suffix's positions restart behind the policy, and its attention sees the policy and itself only, so a meme's
probability does not depend on its neighbours. No token is decoded: the logits of the two label words at a suffix's
last position are the answer. Of the output layer only those two rows are kept, and the last layer's feed-forward
network is computed for those positions alone.
"""

import os
from itertools import accumulate
from pathlib import Path

import torch
from torch.nn.functional import pad

from gptq_kernel import config_with_kernel
from packed_attention import PackedRow, UnpackableAttention, packed_attention
from scoring_prompt import ScoringPrompt, UnusableModel, build_prompt, content_ids, read_scoring

PROBE = "Image: a cat on a table, Caption: when you wake up late again"
# A packed row and a plain one differ by rounding only: 1e-6 in float32, about a hundredth in 16 bits.
LARGEST_DIFFERENCE = 0.03


class GuardScorer:
    """Scores suffixes (token lists of scoring_prompt.view_suffixes) on one device; `model` is changed for it."""

    def __init__(self, model, prompt: ScoringPrompt, tokens_a_row: int = 1024):
        from transformers import AttentionInterface

        self.model = model
        self.prompt = prompt
        self.tokens_a_row = tokens_a_row
        refuse_foreign_layers(model.config)
        model.set_output_embeddings(LabelHead(model.get_output_embeddings(), prompt.label_token_ids))
        self.policy = self._read_policy()
        probe = content_ids(prompt, PROBE) + prompt.suffix_ids
        plain = self._plain_logits(prompt.prefix_ids + probe)
        AttentionInterface.register("packed", packed_attention)
        model.set_attn_implementation("packed")
        self.last_layer = answer_only(model)
        self._compare(plain, probe)

    @torch.inference_mode()
    def probabilities(self, suffixes: list[list[int]]) -> list[float]:
        """P(offensive) of each suffix, in order, in rows of at most `tokens_a_row` tokens (a longer suffix alone)."""
        probabilities = []
        for row in cut_to_budget(suffixes, self.tokens_a_row):
            logits = self._label_logits(row) / self.prompt.temperature
            probabilities += torch.softmax(logits, dim=-1)[:, 1].tolist()
        return probabilities

    def _label_logits(self, suffixes: list[list[int]]) -> torch.Tensor:
        """Float32 logits of (ok, offensive), shape [suffixes, 2]."""
        device = self.model.device
        lengths = [len(suffix) for suffix in suffixes]
        policy_length = len(self.prompt.prefix_ids)
        bounds, positions = packed_layout(lengths, policy_length)
        self._make_room(max(lengths))
        answers = torch.tensor([end - 1 for _, end in bounds], device=device)
        if self.last_layer is not None:
            self.last_layer.positions = answers
        tokens = torch.tensor([[token for suffix in suffixes for token in suffix]])
        return (
            self.model(
                input_ids=tokens.to(device),
                position_ids=positions[None].to(device),
                use_cache=False,
                packed_row=PackedRow(bounds, policy_length, self.policy),
                logits_to_keep=answers,
            )
            .logits[0]
            .float()
        )

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
    def _plain_logits(self, tokens: list[int], **cache) -> torch.Tensor:
        """The label logits behind one whole row, by the model's own attention."""
        row = torch.tensor([tokens], device=self.model.device)
        return self.model(input_ids=row, logits_to_keep=1, **cache).logits[0].float()

    @torch.inference_mode()
    def _compare(self, plain: torch.Tensor, probe: list[int]) -> None:
        """Raises UnusableModel where a packed row gives the probe another probability than the model itself does."""
        try:
            packed = self._label_logits([probe, probe])  # two: a neighbour that is seen would show in the second
        except UnpackableAttention as error:
            raise UnusableModel(f"its rows cannot be packed ({error}): use another chat model") from None
        difference = (packed.softmax(-1) - plain.softmax(-1)).abs().max().item()
        if not difference <= LARGEST_DIFFERENCE:  # NaN is refused too
            raise UnusableModel(f"packed and plain rows of it differ by {difference:.3f}: use another chat model")


class LabelHead(torch.nn.Module):
    """The output layer's two rows that are asked for, in float32: a logit costs no vocabulary and is not rounded."""

    def __init__(self, head: torch.nn.Module, label_token_ids: tuple[int, int]):
        super().__init__()
        if not isinstance(getattr(head, "weight", None), torch.Tensor):
            raise UnusableModel("its output layer is quantised: quantise it anew with quantize_model.py")
        rows = list(label_token_ids)
        self.weight = torch.nn.Parameter(head.weight[rows].detach().float(), requires_grad=False)
        self.bias = 0 if getattr(head, "bias", None) is None else head.bias[rows].detach().float()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Float32 [..., 2] of hidden states [..., hidden size]."""
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


def answer_only(model) -> AnswerOnly | None:
    """Wrap the last layer's feed-forward network; None for a model that does not call it `mlp`."""
    last = getattr(model.base_model, "layers", [None])[-1]
    if not isinstance(getattr(last, "mlp", None), torch.nn.Module):
        return None
    last.mlp = AnswerOnly(last.mlp)
    return last.mlp


def packed_layout(lengths: list[int], policy_length: int) -> tuple[list[tuple[int, int]], torch.Tensor]:
    """((start, end) of each suffix, position of each token [L]) for suffixes of these lengths in one row."""
    ends = list(accumulate(lengths))
    bounds = [(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    return bounds, torch.cat([torch.arange(length) for length in lengths]) + policy_length


def cut_to_budget(suffixes: list[list[int]], tokens_a_row: int) -> list[list[list[int]]]:
    """Consecutive rows of at most `tokens_a_row` tokens; a suffix longer than that makes a row of its own."""
    rows, used = [], 0
    for suffix in suffixes:
        if not rows or used + len(suffix) > tokens_a_row:
            rows.append([])
            used = 0
        rows[-1].append(suffix)
        used += len(suffix)
    return rows


def refuse_foreign_layers(config) -> None:
    """Raises UnusableModel for layers that are no attention over all earlier tokens or a window of them."""
    foreign = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if foreign:
        raise UnusableModel(f"layers of kind {', '.join(sorted(foreign))} cannot be packed: use another chat model")


def load_scorer(model_dir: Path, device: str, dtype: str, tokens_a_row: int, gptq_backend: str = "auto") -> GuardScorer:
    """Load tokenizer and weights (safetensors, 16-bit or GPTQ) and compute the policy's cache."""
    scoring = read_scoring(model_dir)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if (os.cpu_count() or 1) <= 2:  # gptqmodel's loader asks for two workers and dies where it counts fewer
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
        prompt = build_prompt(tokenizer, scoring)
        model = AutoModelForCausalLM.from_pretrained(
            model_dir,
            config=config_with_kernel(model_dir, device, gptq_backend),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            device_map={"": device},
        )
    except (ImportError, OSError, ValueError, KeyError) as error:
        raise UnusableModel(f"{model_dir} cannot be loaded (safetensors only): {error}") from error
    return GuardScorer(model.eval(), prompt, tokens_a_row)
