"""Where a chat model answers, and with which tokens: read off the way its template renders an assistant's message.

A template for thinking models puts `<think>` and its end before an answer, one with channels the channel's name: that
belongs to the prompt, since the model would not answer without it. Whether a space stands before the answer, and so
whether `unsafe` or ` unsafe` is the token, is the template's to say, too. A category is the token behind the harmful
label's own: `unsafe race`.
"""

import re
from typing import TYPE_CHECKING

from guard.chat_text import ANSWER_SENTINEL, SENTINEL, render, render_chat, tokens_after

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Offered, if they can be told apart by one token each, where the words that are set cannot.
OTHER_LABEL_WORDS = (("unsafe", "safe"), ("harmful", "harmless"), ("bad", "good"), ("yes", "no"), ("No", "Yes"))


def before_answer(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, tuple[str, ...]]:
    """What the prompt needs beyond the template's own, and what may stand before a word: nothing or a space.

    Both are tried, in this order, where the template does not show it: it renders no assistant's message.
    """
    asked = render(tokenizer, SENTINEL)
    answered = render_chat(tokenizer, ("user", SENTINEL), ("assistant", ANSWER_SENTINEL), asks=False) or ""
    start = answered.split(ANSWER_SENTINEL)[0]
    if answered.count(ANSWER_SENTINEL) == 1 and start.startswith(asked):
        missing = start.removeprefix(asked)
        # SentencePiece, and byte-level BPE as well, have a word's space in the word's token.
        return missing.rstrip(" "), (missing[len(missing.rstrip(" ")) :],)
    if answered.count(ANSWER_SENTINEL) == 1 and asked.startswith(start):
        return end_of_thought(asked.removeprefix(start)), ("",)
    return "", ("",) if asked[-1:].isspace() else (" ", "")


def end_of_thought(opened: str) -> str:
    """What ends a thought that the prompt has begun (`<think>` of DeepSeek R1): it stays empty."""
    tag = re.search(r"<(\w+)>\s*$", opened)
    return f"{'' if opened.endswith(chr(10)) else chr(10)}\n</{tag[1]}>\n\n" if tag else ""


def label_answers(
    tokenizer: "PreTrainedTokenizerBase", suffix: str, label_words: tuple[str, str], spaces: tuple[str, ...]
) -> list[str]:
    """The text of the token that stands for each label word behind `suffix`; ValueError names words that would do."""
    if found := _answers(tokenizer, suffix, label_words, spaces):
        return found
    fit = [words for words in OTHER_LABEL_WORDS if _answers(tokenizer, suffix, words, spaces)]
    remedy = " or ".join(f"LABEL_WORDS={','.join(words)}" for words in fit[:2])
    raise ValueError(
        f"{' and '.join(label_words)} cannot be told apart by one token for this tokenizer; "
        f"set LABEL_WORDS to two words that can{f', such as {remedy}' if remedy else ''}"
    )


def category_answers(tokenizer: "PreTrainedTokenizerBase", suffix: str, categories: tuple[str, ...]) -> dict[str, str]:
    """By category, the text of the token that stands for it behind `suffix`, which ends in the harmful label.

    Empty for no categories. Raises ValueError where two of them begin with the same token.
    """
    found = answer_tokens(tokenizer, suffix, [f" {name}" for name in categories])
    if found is None:
        raise ValueError(
            f"the categories {', '.join(categories)} cannot be told apart by one token each for this tokenizer; set "
            "CATEGORIES to others, or leave {categories} out of POLICY_FILE"
        )
    return dict(zip(categories, found, strict=True))


def _answers(
    tokenizer: "PreTrainedTokenizerBase", suffix: str, label_words: tuple[str, str], spaces: tuple[str, ...]
) -> list[str] | None:
    for space in spaces:
        if found := answer_tokens(tokenizer, suffix, [space + word.strip() for word in label_words]):
            return found
    return None


def answer_tokens(tokenizer: "PreTrainedTokenizerBase", suffix: str, words: list[str]) -> list[str] | None:
    """The token, as text, that stands for each word behind `suffix`: the word itself, or what it begins with.

    A model may begin "unsafe" with "uns", where only " unsafe", with a space that nobody writes there, is one token.
    None where the first tokens are the same, or are no part of the words.
    """
    first = [tokens_after(tokenizer, suffix, word)[:1] for word in words]
    pieces = [_piece(tokenizer, suffix, word, token) for word, token in zip(words, first, strict=True)]
    found = [piece for piece in pieces if piece]
    return found if len({*map(tuple, first)}) == len(found) == len(words) else None


def _piece(tokenizer: "PreTrainedTokenizerBase", suffix: str, word: str, token: list[int]) -> str | None:
    """The longest start of `word` that is this one token behind `suffix`; None where none is, or it has no token."""
    starts = (word[:length] for length in range(len(word), 0, -1)) if token else ()
    return next((start for start in starts if tokens_after(tokenizer, suffix, start) == token), None)
