"""The chat model as a classifier: one packed row of suffixes behind the policy's cached keys and values.

The policy's keys and values are computed once a process. A batch is one row that holds every view of every meme: a
suffix's positions restart behind the policy, and a 4-D mask lets it see the policy and itself only, so a meme's
probability does not depend on its neighbours. The row is cropped off the cache again afterwards. No token is decoded:
the logits of the two label words at a suffix's last position are the answer.
"""

import os
from pathlib import Path

import torch

from gptq_kernel import config_with_kernel
from scoring_prompt import ScoringPrompt, UnusableModel, build_prompt, read_scoring


class GuardScorer:
    """Scores suffixes (token lists of scoring_prompt.view_suffixes) on one device."""

    def __init__(self, model, prompt: ScoringPrompt, tokens_a_row: int = 2048, longest_suffix: int = 512):
        self.model = model
        self.prompt = prompt
        self.tokens_a_row = tokens_a_row
        self.policy_length = len(prompt.prefix_ids)
        self.window = attention_window(model.config, self.policy_length + longest_suffix)
        self.cache = self._cache_policy()

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
        device, dtype = self.model.device, self.model.dtype
        owner, positions, ends = packed_layout([len(suffix) for suffix in suffixes], self.policy_length)
        mask = packed_mask(owner, positions, self.policy_length, self.window)
        additive = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
        tokens = torch.tensor([[token for suffix in suffixes for token in suffix]])
        try:
            logits = self.model(
                input_ids=tokens.to(device), position_ids=positions[None].to(device),
                attention_mask=additive[None, None].to(device), past_key_values=self.cache, use_cache=True,
                logits_to_keep=ends.to(device),
            ).logits[0]
        finally:
            self._crop_to_policy()
        return logits[:, list(self.prompt.label_token_ids)].float()

    @torch.inference_mode()
    def _cache_policy(self):
        from transformers import DynamicCache

        # Without a config every layer keeps all keys: a sliding window is in the mask, not in the cache.
        cache = DynamicCache()
        length = self.policy_length
        positions = torch.arange(length)
        mask = packed_mask(torch.zeros(length, dtype=torch.long), positions, 0, self.window)
        dtype = self.model.dtype
        additive = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
        device = self.model.device
        self.model(
            input_ids=torch.tensor([self.prompt.prefix_ids], device=device), position_ids=positions[None].to(device),
            attention_mask=additive[None, None].to(device), past_key_values=cache, use_cache=True, logits_to_keep=1,
        )
        return cache

    def _crop_to_policy(self) -> None:
        for layer in self.cache.layers:  # each by itself: a row that failed half-way left some of them uneven
            layer.crop(self.policy_length - layer.keys.shape[-2])


def packed_layout(lengths: list[int], policy_length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(owner, position, index of the last token) for suffixes of these lengths in one row; shapes [L], [L], [n]."""
    counts = torch.tensor(lengths)
    ends = counts.cumsum(0)
    owner = torch.repeat_interleave(torch.arange(len(lengths)), counts)
    positions = torch.arange(int(ends[-1])) - (ends - counts)[owner] + policy_length
    return owner, positions, ends - 1


def packed_mask(owner: torch.Tensor, positions: torch.Tensor, policy_length: int, window: int | None) -> torch.Tensor:
    """True where a token (row) sees a key (column): bool [L, policy_length + L]; `window` in tokens of its own path."""
    own = (owner[:, None] == owner[None, :]) & (positions[None, :] <= positions[:, None])
    mask = torch.cat([torch.ones(len(owner), policy_length, dtype=torch.bool), own], dim=1)
    if window is None:
        return mask
    key_positions = torch.cat([torch.arange(policy_length), positions])
    return mask & (positions[:, None] - key_positions[None, :] < window)


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


def attention_window(config, longest_path: int) -> int | None:
    """Sliding window that every layer of the model keeps, None where none bites; raises UnusableModel for mixtures."""
    kinds = set(getattr(config, "layer_types", None) or [])
    foreign = kinds - {"full_attention", "sliding_attention"}
    if foreign:
        raise UnusableModel(f"layers of kind {', '.join(sorted(foreign))} cannot be packed: use another chat model")
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if window is None or window >= longest_path or kinds == {"full_attention"}:
        return None
    if len(kinds) > 1:
        raise UnusableModel(
            f"some layers see {window} tokens, fewer than policy and text ({longest_path}): lower MAX_TEXT_TOKENS")
    return window


def load_scorer(model_dir: Path, device: str, dtype: str, tokens_a_row: int, max_text_tokens: int,
                gptq_backend: str = "auto") -> GuardScorer:
    """Load tokenizer and weights (safetensors, 16-bit or GPTQ) and compute the policy's cache."""
    scoring = read_scoring(model_dir)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if (os.cpu_count() or 1) <= 2:  # gptqmodel's loader asks for two workers and dies where it counts fewer
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
        prompt = build_prompt(tokenizer, scoring)
        model = AutoModelForCausalLM.from_pretrained(
            model_dir, config=config_with_kernel(model_dir, device, gptq_backend),
            local_files_only=True, trust_remote_code=False, use_safetensors=True,
            dtype=getattr(torch, dtype), attn_implementation="sdpa", device_map={"": device},
        )
    except (ImportError, OSError, ValueError, KeyError) as error:
        raise UnusableModel(f"{model_dir} cannot be loaded (safetensors only): {error}") from error
    return GuardScorer(model.eval(), prompt, tokens_a_row, max_text_tokens + len(prompt.suffix_ids))
