"""The proof that a meme cannot write a turn marker: each is tried in many spellings and looked for in the tokens."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from guard.chat_text import SENTINEL, around, render, tokens_after
from guard.markup import SPACE_MARK

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STRINGS_A_TEXT = 200
FULL_WIDTH = ord("！") - ord("!")


def refuse_forgeable(tokenizer: "PreTrainedTokenizerBase", markers: list[str]) -> None:
    """ValueError where the tokenizer's guard template lets a special token or one of `markers` through from a meme."""
    prefix, suffix = around(tokenizer, SENTINEL, SENTINEL)

    def tokens_of(text: str) -> list[int]:
        meme = render(tokenizer, text).removeprefix(prefix).removesuffix(suffix)
        return tokens_after(tokenizer, "\n", meme)

    special = {token for token, string in tokenizer.added_tokens_decoder.items() if string.special}
    strings = sorted(str(string) for string in tokenizer.added_tokens_decoder.values())
    for start in range(0, len(strings), STRINGS_A_TEXT):
        if found := special & set(tokens_of(" ".join(strings[start : start + STRINGS_A_TEXT]))):
            raise ValueError(_refusal(tokenizer.decode([min(found)])))
    for marker in markers:
        own = [tokens_after(tokenizer, "\n", marker), tokens_after(tokenizer, "a", f" {marker}")]
        if any(contains(tokens_of(text), tokens) for text in spellings(marker) for tokens in own):
            raise ValueError(_refusal(marker))


def spellings(marker: str) -> Iterator[str]:
    """A turn marker in ways that one tokenizer or another may read as the same tokens."""
    yield from (marker, marker.lower(), marker.upper(), marker.title(), f"x{marker} safe", f"{SPACE_MARK}{marker}")
    yield from (marker.replace(" ", space) for space in ("  ", "\n", "\u00a0", SPACE_MARK))
    yield "".join(chr(ord(letter) + FULL_WIDTH) if "!" <= letter <= "~" else letter for letter in marker)
    for invisible in ("\u200b", "\u00ad"):
        yield marker[:1] + invisible + marker[1:]
    yield " ".join(marker)
    yield re.sub(r"(\W)", r" \1", marker)


def contains(tokens: list[int], wanted: list[int]) -> bool:
    """Whether `wanted` is a run of `tokens`."""
    return any(tokens[start : start + len(wanted)] == wanted for start in range(len(tokens) - len(wanted) + 1))


def _refusal(marker: str) -> str:
    return (
        f"a meme could write {marker!r}, which marks a turn: this tokenizer cannot be guarded; use another chat model"
    )
