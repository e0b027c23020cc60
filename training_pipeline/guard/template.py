"""The question that every row asks: a chat model's template turned into a guard template, and its exact tokens.

A guard template (the idea is Llama Guard's) renders `[{"role": "user", "content": <meme text>}]` into

    prefix (turn marker, policy, "<meme>\\n") + neutralised text + suffix (" </meme>", question, answer position)

so that any server which applies the tokenizer's own chat template asks the same question as this project. The policy
is policy.txt, which stands in `{meme}` for the text and in `{unsafe}` and `{safe}` for the label words.

A meme's text is an attacker's text. Two measures keep it from being read as markup: the template breaks up every
special string of the tokenizer, and `encode_content` tokenises the text apart with `split_special_tokens=True`. Both
must give the same tokens as tokenising the whole render in one go; `read_guard_prompt` checks that on probes and
refuses otherwise.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from guard.model_folder import MAX_TEXT_TOKENS, Scoring, read_scoring
from guard.text_windows import text_windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

POLICY_FILE = Path(__file__).resolve().parents[1] / "policy.txt"
LABEL_WORDS = ("unsafe", "safe")
VIEWS = {"text": "{text}", "image_text": "Image: {caption}, Caption: {text}"}
# Stands for the meme while a template is taken apart; no tokenizer's special strings look like it.
SENTINEL = "sentinel0meme0sentinel"
MEME_MARKS = ("<meme>", "</meme>")
PROBES = ("hello world", "Wah! 你好。", "வணக்கம்...", "</s> </meme> <|im_end|> [/INST]", "- 5%", "Image: a cat, Caption:")


class Meme(TypedDict):
    text: str
    image: str | None  # a caption of the picture
    label: int  # 0 ok, 1 offensive


@dataclass(frozen=True)
class GuardPrompt:
    """The tokens around a meme's text: every row is `prefix_ids + content + suffix_ids`, its answer one label token."""

    tokenizer: "PreTrainedTokenizerBase"
    prefix: str
    suffix: str
    prefix_ids: list[int]
    suffix_ids: list[int]
    label_token_ids: tuple[int, int]  # (ok, offensive): the index is the dataset's label
    views: dict[str, str]
    max_text_tokens: int  # of one view's content


@dataclass(frozen=True)
class EncodedMeme:
    """One meme's views as suffix tokens (content, then the question's end), with its label (0 ok, 1 offensive)."""

    suffixes: list[list[int]]
    label: int
    cut_tokens: int  # content tokens over the limit, dropped


def guard_template(tokenizer: "PreTrainedTokenizerBase", policy: str, label_words: tuple[str, str]) -> str:
    """Jinja source of the guard template for a chat tokenizer; `label_words` are (unsafe, safe).

    Raises ValueError where the tokenizer has no chat template or its template changes the message's text.
    """
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer has no chat template; set one (tokenizer.chat_template) before attaching")
    if "{meme}" not in policy:
        raise ValueError("the policy lacks {meme}, the place of the meme's text")
    question = policy_text(policy.strip(), label_words).replace("{meme}", SENTINEL)
    prefix, suffix = around(tokenizer, question, SENTINEL)
    breaks = "".join(
        f" | replace({_literal(mark)}, {_literal(mark[0] + ' ' + mark[1:])})" for mark in _marks(tokenizer)
    )
    meme = f"((messages | first)['content'].split() | join(' ')){breaks}"
    return f"{{{{ {_literal(prefix)} }}}}{{{{ {meme} }}}}{{{{ {_literal(suffix)} }}}}"


def policy_text(policy: str, label_words: tuple[str, str] = LABEL_WORDS) -> str:
    """The policy with its label words, (unsafe, safe), filled in; {meme} stays."""
    unsafe, safe = (word.strip() for word in label_words)
    return policy.replace("{unsafe}", unsafe).replace("{safe}", safe)


def attach_guard(
    tokenizer: "PreTrainedTokenizerBase",
    policy: str,
    label_words: tuple[str, str] = LABEL_WORDS,
    max_text_tokens: int = MAX_TEXT_TOKENS,
) -> Scoring:
    """Give `tokenizer` the guard template and return its scoring settings (the content of scoring.json).

    Raises ValueError, with the remedy, where a label word is not one token at the answer position.
    """
    tokenizer.chat_template = guard_template(tokenizer, policy, label_words)
    _, suffix = around(tokenizer, SENTINEL, SENTINEL)
    # A SentencePiece model answers "Assistant:" with " unsafe"; one whose turn ends in a newline with "unsafe".
    spaces = ("",) if suffix[-1:].isspace() else ("", " ")
    for space in spaces:
        if words := answer_tokens(tokenizer, suffix, [space + word.strip() for word in label_words]):
            return {
                "label_words": {"offensive": words[0], "ok": words[1]},
                "views": VIEWS,
                "threshold": 0.5,
                "temperature": 1.0,
                "max_text_tokens": max_text_tokens,
            }
    raise ValueError(
        f"{' and '.join(label_words)} cannot be told apart by one token for this tokenizer; "
        "set LABEL_WORDS to two words that can, such as LABEL_WORDS=bad,good"
    )


def answer_tokens(tokenizer: "PreTrainedTokenizerBase", suffix: str, words: list[str]) -> list[str] | None:
    """The token, as text, that stands for each word behind `suffix`: the word itself, or what sets it apart.

    A model whose turn ends in a newline begins "unsafe" with "uns" where only " unsafe", with a space that nobody
    writes there, is one token. None where the first tokens are the same or no part of the words, or where the turn
    ends in no white space and the words are more than one token.
    """
    ids = [_tokens_after(tokenizer, suffix, word) for word in words]
    if all(len(found) == 1 for found in ids):
        return words
    pieces = [tokenizer.decode(found[:1]) for found in ids]
    fit = [
        piece.strip() and word.startswith(piece) and _tokens_after(tokenizer, suffix, piece) == found[:1]
        for piece, word, found in zip(pieces, words, ids, strict=True)
    ]
    return pieces if suffix[-1:].isspace() and all(fit) and pieces[0] != pieces[1] else None


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
    label_ids = [_tokens_after(tokenizer, suffix, words[label]) for label in ("ok", "offensive")]
    if any(len(ids) != 1 for ids in label_ids):
        raise ValueError(f"a label word of {words} is not one token here; attach the policy again with LABEL_WORDS")
    prompt = GuardPrompt(
        tokenizer=tokenizer,
        prefix=prefix,
        suffix=suffix,
        prefix_ids=tokenizer(prefix, add_special_tokens=False)["input_ids"],
        suffix_ids=_tokens_after(tokenizer, "a", suffix),
        label_token_ids=(label_ids[0][0], label_ids[1][0]),
        views=scoring["views"],
        max_text_tokens=scoring["max_text_tokens"],
    )
    for probe in PROBES:
        whole = tokenizer(render(tokenizer, probe), add_special_tokens=False)["input_ids"]
        if prompt.prefix_ids + encode_content(prompt, probe) + prompt.suffix_ids != whole:
            raise ValueError(f"this tokenizer merges the meme with what stands around it (probe {probe!r})")
    return prompt


def encode_memes(prompt: GuardPrompt, memes: Iterable[Meme]) -> list[EncodedMeme]:
    """Memes as tokens: each view is cut to the prompt's limit, the policy and the question around it never are."""
    encoded = []
    for meme in memes:
        whole = [encode_content(prompt, view) for view in view_texts(prompt, meme["text"], meme["image"]).values()]
        suffixes = [content[: prompt.max_text_tokens] + prompt.suffix_ids for content in whole]
        cut = sum(max(0, len(content) - prompt.max_text_tokens) for content in whole)
        encoded.append(EncodedMeme(suffixes, int(meme["label"]), cut))
    return encoded


def encode_windows(prompt: GuardPrompt, meme: Meme) -> tuple[list[EncodedMeme], float]:
    """(each view that a meme has, as predict.py asks it: a suffix for each window; share of its text in no window)."""
    views, unseen = [], []
    for name in view_texts(prompt, meme["text"], meme["image"]):
        ids_of = partial(_view_ids, prompt, prompt.views[name], meme["image"])
        windows, left_out = text_windows(meme["text"], ids_of, prompt.max_text_tokens)
        suffixes = [ids_of(window)[: prompt.max_text_tokens] + prompt.suffix_ids for window in windows]
        views.append(EncodedMeme(suffixes, int(meme["label"]), cut_tokens=0))
        unseen.append(left_out)
    return views, min(unseen, default=0.0)


def _view_ids(prompt: GuardPrompt, template: str, caption: str | None, text: str) -> list[int]:
    return encode_content(prompt, " ".join(template.format(text=text, caption=caption).split()))


def encode_content(prompt: GuardPrompt, content: str) -> list[int]:
    """All tokens of a view's text, none of them special."""
    neutralised = render(prompt.tokenizer, content).removeprefix(prompt.prefix).removesuffix(prompt.suffix)
    if not neutralised:
        return []
    # The prefix ends in a newline: behind it, a SentencePiece tokenizer adds no space of its own.
    return _tokens_after(prompt.tokenizer, "\n", neutralised, split_special_tokens=True)


def view_texts(prompt: GuardPrompt, text: str, caption: str | None) -> dict[str, str]:
    """The text of each view that a meme has, by name: no text, no text view; no caption, no image view."""
    return {
        name: " ".join(template.format(text=text, caption=caption).split())
        for name, template in prompt.views.items()
        if (caption is not None if "{caption}" in template else text.strip())
    }


def around(tokenizer: "PreTrainedTokenizerBase", content: str, mark: str) -> tuple[str, str]:
    """What the chat template puts before and behind `mark` in a user message; ValueError where it changes the text."""
    rendered = render(tokenizer, content)
    if rendered.count(mark) != 1:
        raise ValueError("the chat template does not keep a user message's text as it is, exactly once")
    before, behind = rendered.split(mark)
    return before, behind


def render(tokenizer: "PreTrainedTokenizerBase", content: str) -> str:
    """The tokenizer's chat template on one user message, up to the answer position."""
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )


def _marks(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """What a meme's text must not contain: special strings (one `<|` for all that begin so), the policy's marks."""
    special = {str(token) for token in tokenizer.added_tokens_decoder.values()} | set(tokenizer.all_special_tokens)
    marks = {"<|" if string.startswith("<|") else string for string in special if len(string) > 1}
    return sorted(marks | set(MEME_MARKS), key=lambda mark: (-len(mark), mark))


def _tokens_after(
    tokenizer: "PreTrainedTokenizerBase", anchor: str, text: str, split_special_tokens: bool = False
) -> list[int]:
    """Tokens of `text` as they come out behind `anchor`, without the anchor's own."""
    anchor_ids = tokenizer(anchor, add_special_tokens=False)["input_ids"]
    joined = tokenizer(anchor + text, add_special_tokens=False, split_special_tokens=split_special_tokens)["input_ids"]
    return joined[len(anchor_ids) :]


def _literal(text: str) -> str:
    """A Jinja string literal; Jinja reads Python's escapes."""
    return "'" + text.encode("unicode_escape").decode("ascii").replace("'", "\\'") + "'"
