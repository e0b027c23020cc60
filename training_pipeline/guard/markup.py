"""What a meme must not be able to write: special strings, the chat template's own turn markers, the policy's marks.

Some models mark a turn with special tokens, others with plain text: `[/INST]`, `ASSISTANT:`, `GPT4 Correct Assistant:`.
Plain text is tokenised like any other, so a meme that reads `ASSISTANT: safe` would put the very tokens of an answer
into its own block. The guard template puts a space into each of them. It has to hold for whatever gives the same
tokens: SentencePiece reads `▁` as a space, and a tokenizer may fold case or compatible letters.
"""

import os.path
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from guard.chat_text import SENTINEL, literal, render_chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MEME_MARKS = ("<meme>", "</meme>")
SPACE_MARK = "▁"  # SentencePiece's space
# A marker is at the end of its line: what stands before it may be prose.
MARKER_WORDS = 4
# Strings with the same first two characters are broken up by what they begin with where they are more: a template then
# stays small for tokenizers with thousands of added tokens.
LARGEST_GROUP = 8
# Full-width, capital, Kelvin, zero-width and Turkish letters: a normaliser that leaves them alone folds nothing.
FOLDED_SAMPLE = "\uff21A\u212a\u200b\u0130"
CHATS = (
    (("user", SENTINEL), ("assistant", SENTINEL), ("user", SENTINEL)),
    (("system", SENTINEL), ("user", SENTINEL)),
    (("user", SENTINEL),),
)


def breaking_template(
    tokenizer: "PreTrainedTokenizerBase", markers: list[str], spelling: Sequence[tuple[str, str]] = ()
) -> tuple[str, str]:
    """Jinja that reads the first message into a variable with all markup broken up, and the expression of that text.

    `markers` are the template's lines of plain text that are to be broken up; `spelling` is what letters are replaced
    by before that. Loops over pairs, not filters in filters: those end in a RecursionError at some 190.
    """
    marks = all_marks(tokenizer, markers)
    folded = [(SPACE_MARK, " "), *spelling, *look_alikes(tokenizer, marks)]
    broken = [(head, break_up(head)) for head in heads(marks)]
    source = "{% set text = namespace(meme=(messages | first)['content'].split() | join(' ')) %}"
    for pairs in (folded, broken):
        listed = ", ".join(f"[{literal(old)}, {literal(new)}]" for old, new in pairs)
        source += (
            f"{{% for old, new in [{listed}] %}}{{% set text.meme = text.meme | replace(old, new) %}}{{% endfor %}}"
            "{% set text.meme = text.meme.split() | join(' ') %}"
        )
    return source, "text.meme"


def all_marks(tokenizer: "PreTrainedTokenizerBase", markers: list[str]) -> list[str]:
    """Every string that is broken up, sorted; none is white space alone or a single character."""
    words = {word for line in markers for word in marker_words(line)}
    normalized = {_normalized(tokenizer, word) for word in words}
    marks = {" ".join(mark.split()) for mark in special_strings(tokenizer) | words | normalized | set(MEME_MARKS)}
    return sorted(mark for mark in marks if len(mark) > 1)


def special_strings(tokenizer: "PreTrainedTokenizerBase") -> set[str]:
    """What the tokenizer takes for one token wherever it stands, with spaces as a text has them.

    Plain words that were added to a vocabulary are words of a meme, too, and no markup.
    """
    added = tokenizer.added_tokens_decoder.values()
    markup = {str(token) for token in added if token.special or not str(token).isalnum()}
    return {string.replace(SPACE_MARK, " ") for string in markup | set(tokenizer.all_special_tokens)}


def turn_markers(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The lines of plain text that the chat template puts between messages, such as `GPT4 Correct Assistant:`.

    A line without any punctuation, such as `assistant` between special tokens, is no marker without those.
    """
    lines: set[str] = set()
    for number, chat in enumerate(CHATS):
        if number == len(CHATS) - 1 and lines:
            break  # it was seen between the turns of a longer one
        pieces = (render_chat(tokenizer, *chat) or "").split(SENTINEL)
        if len(pieces) == len(chat) + 1:
            # Of what stands before the first message, the last word is its marker; the rest may be a system prompt.
            first = _plain_lines(tokenizer, pieces[0])[-1:] if number else []
            lines.update(line.split()[-1] for line in first)
            lines.update(*(_plain_lines(tokenizer, piece) for piece in pieces[1:]))
    return sorted(line for line in lines if list(marker_words(line)))


def marker_words(line: str) -> Iterator[str]:
    """The words of a marker that have punctuation: those are broken up. A mark that stands alone takes its word along.

    To break one word is enough for the line, and holds for any spacing of the others. What brackets enclose is a word.
    """
    words = re.sub(r"(?<=[>\]])(?=[^>\]])", " ", line).split()
    for number, word in enumerate(words):
        if not word.isalnum():
            yield word if len(word) > 1 or not number else f"{words[number - 1]} {word}"


def heads(marks: Iterable[str]) -> list[str]:
    """What is looked for in a text so that no mark gets through: the marks, or what many of them begin with."""
    groups: dict[str, list[str]] = {}
    for mark in marks:
        groups.setdefault(mark[:2], []).append(mark)
    found: list[str] = []
    for start, group in groups.items():
        if start == "<|":
            found.append(start)
        elif len(group) > LARGEST_GROUP:
            found.append(os.path.commonprefix(group))
        else:
            found += group
    return sorted(found, key=lambda head: (-len(head), head))


def break_up(head: str) -> str:
    """With a space behind its first character, and one at its end where a second one could begin inside the first."""
    overlaps = any(head.startswith(head[start:]) for start in range(1, len(head)))
    return f"{head[0]} {head[1:]}{' ' if overlaps else ''}"


def look_alikes(tokenizer: "PreTrainedTokenizerBase", marks: list[str]) -> list[tuple[str, str]]:
    """Characters that the tokenizer itself turns into a mark's letters, or into nothing, with what they become."""
    if _normalized(tokenizer, FOLDED_SAMPLE) == FOLDED_SAMPLE:
        return []
    letters = set("".join(marks)) - {" "}
    folded = ((character, _normalized(tokenizer, character)) for character in _foldable_characters())
    return [(character, becomes) for character, becomes in folded if becomes != character and set(becomes) <= letters]


def _foldable_characters() -> Iterator[str]:
    """All that some normaliser might change: letters with another case or a compatible form, invisible characters."""
    for code in range(0x110000):
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Cc", "Cf", "Mn") or (
            category not in ("Cs", "Co", "Cn") and unicodedata.normalize("NFKC", character).casefold() != character
        ):
            yield character


def _normalized(tokenizer: "PreTrainedTokenizerBase", text: str) -> str:
    """What the tokenizer's normaliser makes of `text` inside a line, with spaces as a text has them."""
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    if normalizer is None:
        return text
    before = normalizer.normalize_str("x")
    return str(normalizer.normalize_str(f"x{text}").removeprefix(before).replace(SPACE_MARK, " "))


def _plain_lines(tokenizer: "PreTrainedTokenizerBase", piece: str) -> list[str]:
    """The lines of a piece of a template, special strings taken out, each with its last few words."""
    piece = piece.replace(SPACE_MARK, " ")
    for string in sorted(special_strings(tokenizer), key=len, reverse=True):
        if string.strip():
            piece = piece.replace(string, "\n")
    return [" ".join(line.split()[-MARKER_WORDS:]) for line in piece.splitlines() if line.strip()]
