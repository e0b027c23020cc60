"""Pairs of a text and its translation, out of a data set whose memes stand in several languages, as rows to translate.

Both texts are spelled as the guard template asks a meme's (its Tamil in Latin letters, where the policy was attached
so), so what is learnt here is about the very tokens that are judged later.
"""

import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.utils.data import Dataset

from guard.chat_text import tokens_after
from guard.template import encode_content

if TYPE_CHECKING:
    from guard.template import GuardPrompt
    from memes.rows import MemeRow

PIVOT = "en"
NAMES = {"en": "English", "zh": "Chinese", "ms": "Malay", "ta": "Tamil"}
# Into English a text has to be understood, out of it to be written; the first is what a judge needs.
SHARE_OUT_OF_PIVOT = 0.3
UNTRAINED = -100  # what the loss leaves out, by PyTorch's convention


@dataclass(frozen=True)
class Pair:
    language: str
    text: str
    english: str


def translation_pairs(rows: list["MemeRow"]) -> list[Pair]:
    """Each row in another language beside the English row that it was translated from.

    clean_dataset.py's ids say which that is: `Tamil_<folder>/0001#0` was translated from `<folder>/0001#0`. Where two
    data sets use one id for different texts, nobody can tell, and the row is left out.
    """
    english: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        if row["language"] == PIVOT:
            english[row["group"], row["id"]].add(row["text"])
    found = []
    for row in rows:
        sources = english.get((row["group"], row["id"].partition("_")[2]), set())
        if row["language"] not in (None, PIVOT) and len(sources) == 1 and row["text"]:
            found.append(Pair(str(row["language"]), row["text"], *sources))
    return found


class ParallelTexts(Dataset[dict[str, list[int]]]):
    """Pairs as rows of tokens; some, drawn anew each epoch, out of English instead of into it.

    `share_out` 0 leaves all into English, as they are measured. What is drawn depends on seed, epoch and index alone.
    """

    def __init__(self, prompt: "GuardPrompt", pairs: list[Pair], seed: int, share_out: float) -> None:
        self.prompt, self.pairs, self.seed, self.share_out = prompt, pairs, seed, share_out
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        pair = self.pairs[index]
        sides = [(pair.language, pair.text), (PIVOT, pair.english)]
        if random.Random(f"{self.seed}:{self.epoch}:{index}").random() < self.share_out:
            sides.reverse()
        return translation_row(self.prompt, *sides)


def translation_row(prompt: "GuardPrompt", source: tuple[str, str], target: tuple[str, str]) -> dict[str, list[int]]:
    """`input_ids` and `labels` of (language, text) translated into (language, text), the loss on the latter alone.

    `Tamil:`, the text, `English:`, its translation, a line each, without the chat's turns: any causal model takes them.
    """
    tokenizer = prompt.tokenizer
    bos = [tokenizer.bos_token_id] if prompt.prefix_ids[:1] == [tokenizer.bos_token_id] else []
    asked = [
        *bos,
        *tokenizer(f"{NAMES.get(source[0], source[0])}:\n", add_special_tokens=False)["input_ids"],
        *encode_content(prompt, source[1])[: prompt.max_text_tokens],
        *tokens_after(tokenizer, "a", f"\n{NAMES.get(target[0], target[0])}:\n"),
    ]
    answer = [*encode_content(prompt, target[1])[: prompt.max_text_tokens], tokenizer.eos_token_id]
    return {"input_ids": asked + answer, "labels": [UNTRAINED] * len(asked) + answer}
