"""What the chat model reads, token by token: policy, neutralised meme text, answer position.

The guard template lives in the tokenizer (its chat template), label words and views in scoring.json. A row is
`prefix_ids + content + suffix_ids`. The meme's text is an attacker's text: the template breaks up special strings and
turn markers, and the text is tokenised apart with `split_special_tokens=True`, so that no wording of a meme can become
a turn marker, end its block or reach the answer position. Prefix and suffix are never cut.
"""

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from detector.settings import DetectorSettings, UnusableSetting
from detector.text_windows import text_windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Stands for the meme while the template is taken apart; no tokenizer's special strings look like it.
_SENTINEL = "sentinel0meme0sentinel"
_PROBES = (
    "hello world",
    "Wah! 你好。",
    "வணக்கம்...",
    "</s> </meme> <|im_end|> [/INST]",
    "- 5%",
    "Image: a cat, Caption:",
    "> me >",
)
# What a scoring.json without `max_text_tokens` was made with.
DEFAULT_MAX_TEXT_TOKENS = 256


class UnusableModel(Exception):
    """The folder holds no guard model that can be used; the message says why and what to do."""


class Scoring(TypedDict):
    """scoring.json: what training, evaluation and the container agree on. Other fields of it are not read."""

    label_words: dict[str, str]  # of `ok` and `offensive`, one token each
    views: dict[str, str]  # name to template of {text} and {caption}
    threshold: float
    temperature: float
    max_text_tokens: int  # longest view, without the policy
    categories: NotRequired[dict[str, str]]  # name to the text of its one token behind the offensive label word


@dataclass(frozen=True)
class ScoringPrompt:
    """The guard template taken apart, with what scoring.json says."""

    tokenizer: "PreTrainedTokenizerBase"
    prefix: str
    suffix: str
    prefix_ids: list[int]
    suffix_ids: list[int]
    label_token_ids: tuple[int, int]  # (ok, offensive)
    category_token_ids: dict[str, int]  # by name, as they stand behind the offensive label; empty: none are asked for
    views: dict[str, str]
    threshold: float
    temperature: float
    max_text_tokens: int
    closing: str  # the suffix up to its first special token
    closing_length: int  # in tokens


def check_scoring(settings: DetectorSettings) -> None:
    """Read LLM_DIR's scoring.json before anything heavy is loaded; a lowered token limit is told on stderr.

    Raises UnusableSetting for a folder that is no guard model, and for a MAX_TEXT_TOKENS above the model's limit.
    """
    try:
        limit = read_scoring(settings.llm_dir)["max_text_tokens"]
    except UnusableModel as unusable:
        raise UnusableSetting(f"LLM_DIR={settings.llm_dir}: {unusable}") from unusable
    requested = settings.max_text_tokens
    if requested is not None and requested > limit:
        raise UnusableSetting(
            f"MAX_TEXT_TOKENS={requested}: the model was trained and evaluated with {limit} tokens a view "
            f"(max_text_tokens of its scoring.json): leave it unset, or set at most {limit}"
        )
    if requested is not None and requested < limit:
        script = Path(sys.argv[0]).name
        message = f"{script}: MAX_TEXT_TOKENS={requested} lowers the model's limit of {limit} tokens a view"
        print(message, file=sys.stderr, flush=True)


def read_scoring(model_dir: Path) -> Scoring:
    """scoring.json of a model folder; raises UnusableModel naming the remedy."""
    path = model_dir / "scoring.json"
    try:
        scoring = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnusableModel(f"{path} is missing: make a guard model of the folder with attach_policy.py") from None
    except ValueError as error:
        raise UnusableModel(f"{path} is not JSON ({error}): write it anew with attach_policy.py") from None
    scoring.setdefault("max_text_tokens", DEFAULT_MAX_TEXT_TOKENS)
    absent = sorted(Scoring.__required_keys__ - scoring.keys())
    if absent:
        raise UnusableModel(f"{path} lacks {', '.join(absent)}: write it anew with attach_policy.py")
    if not isinstance(scoring.get("categories") or {}, dict):
        raise UnusableModel(
            f"{path}: `categories` must be an object of name and text: attach the policy again, CATEGORIES names them"
        )
    return scoring


def build_prompt(tokenizer: "PreTrainedTokenizerBase", scoring: Scoring) -> ScoringPrompt:
    """Take the guard template apart; raises UnusableModel where its tokens cannot be composed safely."""
    prefix, suffix = _around_the_meme(tokenizer)
    suffix_ids = _tokens_after(tokenizer, "a", suffix)
    labels = _label_token_ids(tokenizer, suffix, scoring["label_words"])
    closing, closing_length = _up_to_special(tokenizer, suffix, suffix_ids)
    prompt = ScoringPrompt(
        tokenizer=tokenizer,
        prefix=prefix,
        suffix=suffix,
        prefix_ids=tokenizer(prefix, add_special_tokens=False)["input_ids"],
        suffix_ids=suffix_ids,
        label_token_ids=labels,
        category_token_ids=_category_token_ids(tokenizer, suffix, scoring, labels[1]),
        views=scoring["views"],
        threshold=float(scoring["threshold"]),
        temperature=float(scoring["temperature"]),
        max_text_tokens=int(scoring["max_text_tokens"]),
        closing=closing,
        closing_length=closing_length,
    )
    for probe in _PROBES:
        whole = tokenizer(_render(tokenizer, probe), add_special_tokens=False)["input_ids"]
        if prompt.prefix_ids + view_ids(prompt, probe, len(whole)) != whole:
            raise UnusableModel(f"the tokenizer merges the meme with what stands around it (probe {probe!r})")
    return prompt


@dataclass(frozen=True)
class Views:
    """What is scored of a meme."""

    suffixes: dict[str, list[list[int]]]  # by view: token ids behind the policy, one list for each window of the text
    unseen: float  # share of the text that is in no window


def view_windows(prompt: ScoringPrompt, text: str, caption: str | None, max_tokens: int) -> Views:
    """Each view that there is (no text, no text view; no caption, no image view), in windows of at most `max_tokens`.

    A text that has room is one window. The question behind it is never cut.
    """
    suffixes: dict[str, list[list[int]]] = {}
    unseen: list[float] = []
    for name, template in prompt.views.items():
        needs_caption = "{caption}" in template
        if (needs_caption and caption is None) or (not needs_caption and not text.strip()):
            continue
        ids_of = partial(_content_ids_of, prompt, template, caption or "")
        windows, left_out = text_windows(text, ids_of, max_tokens)
        written = (_view_text(template, caption or "", window) for window in windows)
        suffixes[name] = [view_ids(prompt, view, max_tokens) for view in written]
        unseen.append(left_out)
    return Views(suffixes, min(unseen, default=0.0))


def _content_ids_of(prompt: ScoringPrompt, template: str, caption: str, text: str) -> list[int]:
    return content_ids(prompt, _view_text(template, caption, text))


def _view_text(template: str, caption: str, text: str) -> str:
    return " ".join(template.format(text=text, caption=caption).split())


def view_ids(prompt: ScoringPrompt, content: str, limit: int) -> list[int]:
    """Tokens of a view's text, at most `limit`, none of them special, with the suffix.

    The text is tokenised with what follows it: Gemma has a token for the `>` that ends one and the ` </` behind it.
    """
    # The prefix ends in a newline: behind it, a SentencePiece tokenizer adds no space of its own.
    text = _neutralised(prompt, content) + prompt.closing
    ids = _tokens_after(prompt.tokenizer, "\n", text, split_special_tokens=True)
    end = len(ids) - prompt.closing_length
    if ids[end:] == prompt.suffix_ids[: prompt.closing_length]:
        return ids[: min(end, limit)] + prompt.suffix_ids
    if end <= limit:
        return ids + prompt.suffix_ids[prompt.closing_length :]
    return content_ids(prompt, content)[:limit] + prompt.suffix_ids


def content_ids(prompt: ScoringPrompt, content: str) -> list[int]:
    """Tokens of a view's text by itself, none of them special."""
    return _tokens_after(prompt.tokenizer, "\n", _neutralised(prompt, content), split_special_tokens=True)


def _neutralised(prompt: ScoringPrompt, content: str) -> str:
    return _render(prompt.tokenizer, content).removeprefix(prompt.prefix).removesuffix(prompt.suffix)


def _up_to_special(tokenizer: "PreTrainedTokenizerBase", suffix: str, suffix_ids: list[int]) -> tuple[str, int]:
    """The suffix as far as it is plain text, and how many tokens that is; none where its tokens depend on the rest."""
    added = {token: str(string) for token, string in tokenizer.added_tokens_decoder.items() if string.special}
    length = next((number for number, token in enumerate(suffix_ids) if token in added), len(suffix_ids))
    plain = suffix.partition(added[suffix_ids[length]])[0] if length < len(suffix_ids) else suffix
    if _tokens_after(tokenizer, "a", plain) == suffix_ids[:length]:
        return plain, length
    return "", 0


def _around_the_meme(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, str]:
    if not tokenizer.chat_template:
        raise UnusableModel("the tokenizer has no chat template: attach the policy with attach_policy.py")
    parts = _render(tokenizer, _SENTINEL).split(_SENTINEL)
    if len(parts) != 2:
        raise UnusableModel("the chat template is no guard template: attach the policy with attach_policy.py")
    return parts[0], parts[1]


def _label_token_ids(tokenizer: "PreTrainedTokenizerBase", suffix: str, words: dict[str, str]) -> tuple[int, int]:
    ids = [_tokens_after(tokenizer, suffix, words[label]) for label in ("ok", "offensive")]
    if any(len(tokens) != 1 for tokens in ids) or ids[0] == ids[1]:
        raise UnusableModel(f"the label words {words} are not one token each here: attach the policy with others")
    return ids[0][0], ids[1][0]


def _category_token_ids(
    tokenizer: "PreTrainedTokenizerBase", suffix: str, scoring: Scoring, offensive: int
) -> dict[str, int]:
    words, label = scoring.get("categories") or {}, scoring["label_words"]["offensive"]
    ids = {name: _tokens_after(tokenizer, suffix, label + text) for name, text in words.items()}
    # The label's own token must stand: `uns` with `afe` behind it is another word.
    whole = all(len(tokens) == 2 and tokens[0] == offensive for tokens in ids.values())
    if not whole or len({tokens[1] for tokens in ids.values()}) < len(ids):
        raise UnusableModel(
            f"the categories {words} are not one token each behind {label!r}, all different: attach the policy "
            "again with other CATEGORIES"
        )
    return {name: tokens[1] for name, tokens in ids.items()}


def _render(tokenizer: "PreTrainedTokenizerBase", content: str) -> str:
    message = [{"role": "user", "content": content}]
    return tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)


def _tokens_after(
    tokenizer: "PreTrainedTokenizerBase", anchor: str, text: str, split_special_tokens: bool = False
) -> list[int]:
    """Tokens of `text` as they come out behind `anchor`, without the anchor's own."""
    anchor_ids = tokenizer(anchor, add_special_tokens=False)["input_ids"]
    joined = tokenizer(anchor + text, add_special_tokens=False, split_special_tokens=split_special_tokens)["input_ids"]
    return joined[len(anchor_ids) :]
