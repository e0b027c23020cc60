"""The question that every row asks: the guard template taken apart into tokens, and a meme's views in its middle.

The guard template is the tokenizer's chat template (guard/attaching.py makes it). A row is prefix, neutralised text,
suffix. A meme's text is an attacker's text. Two measures keep it from being read as markup: the template breaks up
special strings and turn markers (guard/markup.py), and the text is tokenised apart with `split_special_tokens=True`.
Both must give the same tokens as tokenising the whole render in one go; `read_guard_prompt` checks that on probes and
refuses otherwise.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from guard.attaching import POLICY_FILE, attach_guard
from guard.chat_text import SENTINEL, around, render, tokens_after
from guard.model_folder import Scoring, read_scoring
from guard.text_windows import text_windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBES = (
    "hello world",
    "Wah! 你好。",
    "வணக்கம்...",
    "</s> </meme> <|im_end|> [/INST]",
    "- 5%",
    "Image: a cat, Caption:",
    "> me >",
)
# The last tokens of the prompt that are shown: as many as name a turn.
SHOWN_TOKENS = 8


class Meme(TypedDict):
    text: str
    image: str | None  # a caption of the picture
    label: int  # 0 ok, 1 offensive
    target: NotRequired[str | None]  # whom it attacks or is about, where that is known


# On these a merge is proved, and a model's willingness to answer is told.
SAMPLE_MEMES: list[Meme] = [
    {"text": "Monday again, and the coffee machine is broken.", "image": "A tired cat beside a cup", "label": 0},
    {"text": "These people should not be allowed in here.", "image": "A closed door", "label": 1},
    {"text": "星期一又来了", "image": "A bus in the rain", "label": 0},
    {"text": "", "image": "A dog on a green background", "label": 0},
]


@dataclass(frozen=True)
class GuardPrompt:
    """The tokens around a meme's text: a row is `prefix_ids + content + suffix_ids`, its answer a label's token.

    Behind the offensive one a category's follows, if the model has categories.
    """

    tokenizer: "PreTrainedTokenizerBase"
    prefix: str
    suffix: str
    prefix_ids: list[int]
    suffix_ids: list[int]
    label_token_ids: tuple[int, int]  # (ok, offensive): the index is the dataset's label
    category_token_ids: dict[str, int]  # by name, the token behind the offensive one; empty where none is asked
    views: dict[str, str]
    max_text_tokens: int  # of one view's content
    closing: str  # the suffix up to its first special token
    closing_length: int  # in tokens


@dataclass(frozen=True)
class EncodedMeme:
    """One meme's views as suffix tokens (content, then the question's end), with what is the right answer."""

    suffixes: list[list[int]]
    label: int  # 0 ok, 1 offensive
    cut_tokens: int  # content tokens over the limit, dropped
    category_token: int | None = None  # of an offensive meme whose category is known to the model


def load_guard_prompt(model_dir: Path, max_text_tokens: int | None = None) -> tuple[GuardPrompt, Scoring]:
    """Prompt and scoring settings of a model folder; one without scoring.json gets guard template and default policy.

    `max_text_tokens`, where given, takes the place of the folder's own limit. Raises ValueError, with the remedy.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    scoring = read_scoring(model_dir) or attach_guard(tokenizer, POLICY_FILE.read_text(encoding="utf-8"))
    if max_text_tokens is not None:
        scoring["max_text_tokens"] = max_text_tokens
    return read_guard_prompt(tokenizer, scoring), scoring


def read_guard_prompt(tokenizer: "PreTrainedTokenizerBase", scoring: Scoring) -> GuardPrompt:
    """Take the guard template apart into tokens; raises ValueError where composing tokens differs from one go."""
    prefix, suffix = around(tokenizer, SENTINEL, SENTINEL)
    words = scoring["label_words"]
    label_ids = [tokens_after(tokenizer, suffix, words[label]) for label in ("ok", "offensive")]
    if any(len(ids) != 1 for ids in label_ids):
        raise ValueError(f"a label word of {words} is not one token here; attach the policy again with LABEL_WORDS")
    suffix_ids = tokens_after(tokenizer, "a", suffix)
    closing, closing_length = _up_to_special(tokenizer, suffix, suffix_ids)
    prompt = GuardPrompt(
        tokenizer=tokenizer,
        prefix=prefix,
        suffix=suffix,
        prefix_ids=list(tokenizer(prefix, add_special_tokens=False)["input_ids"]),
        suffix_ids=suffix_ids,
        label_token_ids=(label_ids[0][0], label_ids[1][0]),
        category_token_ids=_category_token_ids(tokenizer, suffix, scoring),
        views=scoring["views"],
        max_text_tokens=scoring["max_text_tokens"],
        closing=closing,
        closing_length=closing_length,
    )
    for probe in PROBES:
        whole = tokenizer(render(tokenizer, probe), add_special_tokens=False)["input_ids"]
        if prompt.prefix_ids + encode_view(prompt, probe, len(whole))[0] != whole:
            raise ValueError(
                f"this tokenizer merges the meme with what stands around it (probe {probe!r}); in POLICY_FILE, "
                "begin a line with {meme}"
            )
    return prompt


def _category_token_ids(tokenizer: "PreTrainedTokenizerBase", suffix: str, scoring: Scoring) -> dict[str, int]:
    label, categories = scoring["label_words"]["offensive"], scoring.get("categories", {})
    tokens = {name: tokens_after(tokenizer, suffix + label, word) for name, word in categories.items()}
    if any(len(ids) != 1 for ids in tokens.values()) or len({*map(tuple, tokens.values())}) < len(tokens):
        raise ValueError(f"the categories {categories} are not one token each here; attach the policy with CATEGORIES")
    return {name: ids[0] for name, ids in tokens.items()}


def describe_question(prompt: GuardPrompt) -> str:
    """One line: the two tokens that are compared, and the last ones in front of them."""
    ok, offensive = (f"{_shown(prompt.tokenizer, token)} ({token})" for token in prompt.label_token_ids)
    last = " ".join(_shown(prompt.tokenizer, token) for token in prompt.suffix_ids[-SHOWN_TOKENS:])
    asked = f", then one of {', '.join(prompt.category_token_ids)}" if prompt.category_token_ids else ""
    return f"token {offensive} against {ok}, behind {last}{asked}"


def encode_memes(prompt: GuardPrompt, memes: Iterable[Meme]) -> list[EncodedMeme]:
    """Memes as tokens: each view is cut to the prompt's limit, the policy and the question around it never are."""
    encoded = []
    for meme in memes:
        texts = view_texts(prompt, meme["text"], meme["image"]).values()
        views = [encode_view(prompt, text, prompt.max_text_tokens) for text in texts]
        category = prompt.category_token_ids.get(meme.get("target") or "") if meme["label"] else None
        cut_tokens = sum(cut for _, cut in views)
        encoded.append(EncodedMeme([ids for ids, _ in views], int(meme["label"]), cut_tokens, category))
    return encoded


def encode_windows(prompt: GuardPrompt, meme: Meme) -> tuple[list[EncodedMeme], float]:
    """(each view that a meme has, as predict.py asks it: a suffix for each window; share of its text in no window)."""
    views, unseen, limit = [], [], prompt.max_text_tokens
    for name in view_texts(prompt, meme["text"], meme["image"]):
        template = prompt.views[name]
        windows, left_out = text_windows(meme["text"], partial(_content_of, prompt, template, meme["image"]), limit)
        written = (_view_text(template, meme["image"], window) for window in windows)
        suffixes = [encode_view(prompt, view, limit)[0] for view in written]
        views.append(EncodedMeme(suffixes, int(meme["label"]), cut_tokens=0))
        unseen.append(left_out)
    return views, min(unseen, default=0.0)


def _content_of(prompt: GuardPrompt, template: str, caption: str | None, text: str) -> list[int]:
    return encode_content(prompt, _view_text(template, caption, text))


def _view_text(template: str, caption: str | None, text: str) -> str:
    return " ".join(template.format(text=text, caption=caption).split())


def encode_view(prompt: GuardPrompt, content: str, limit: int) -> tuple[list[int], int]:
    """Tokens of a view's text, at most `limit`, none of them special, with the suffix; and how many were cut.

    The text is tokenised with what follows it: Gemma has a token for the `>` that ends one and the ` </` behind it.
    """
    neutralised = _neutralised(prompt, content)
    # The prefix ends in a newline: behind it, a SentencePiece tokenizer adds no space of its own.
    ids = tokens_after(prompt.tokenizer, "\n", neutralised + prompt.closing, split_special_tokens=True)
    end = len(ids) - prompt.closing_length
    if ids[end:] != prompt.suffix_ids[: prompt.closing_length]:
        if end <= limit:
            return ids + prompt.suffix_ids[prompt.closing_length :], 0
        ids = encode_content(prompt, content)
        end = len(ids)
    return ids[: min(end, limit)] + prompt.suffix_ids, max(0, end - limit)


def encode_content(prompt: GuardPrompt, content: str) -> list[int]:
    """All tokens of a view's text by itself, none of them special."""
    return tokens_after(prompt.tokenizer, "\n", _neutralised(prompt, content), split_special_tokens=True)


def view_texts(prompt: GuardPrompt, text: str, caption: str | None) -> dict[str, str]:
    """The text of each view that a meme has, by name: no text, no text view; no caption, no image view."""
    return {
        name: " ".join(template.format(text=text, caption=caption).split())
        for name, template in prompt.views.items()
        if (caption is not None if "{caption}" in template else text.strip())
    }


def _neutralised(prompt: GuardPrompt, content: str) -> str:
    return render(prompt.tokenizer, content).removeprefix(prompt.prefix).removesuffix(prompt.suffix)


def _shown(tokenizer: "PreTrainedTokenizerBase", token: int) -> str:
    """A token as quoted text; a SentencePiece decoder leaves out the space that one begins with."""
    begins_with_space = str(tokenizer.convert_ids_to_tokens(token)).startswith("▁")
    text = str(tokenizer.decode([token]))
    return repr(f" {text.lstrip()}" if begins_with_space else text)


def _up_to_special(tokenizer: "PreTrainedTokenizerBase", suffix: str, suffix_ids: list[int]) -> tuple[str, int]:
    """The suffix as far as it is plain text, and how many tokens that is; none where its tokens depend on the rest."""
    added = {token: str(string) for token, string in tokenizer.added_tokens_decoder.items() if string.special}
    length = next((number for number, token in enumerate(suffix_ids) if token in added), len(suffix_ids))
    plain = suffix.partition(added[suffix_ids[length]])[0] if length < len(suffix_ids) else suffix
    if tokens_after(tokenizer, "a", plain) == suffix_ids[:length]:
        return plain, length
    return "", 0
