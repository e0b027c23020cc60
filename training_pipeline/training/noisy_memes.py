"""The training split as the Trainer takes it: encoded memes, noise and view drawn anew every epoch.

The data sets hold clean text; the container reads pictures. Training on some texts as OCR would give them keeps the
guard model from leaning on any single word. What goes wrong is what OCR of memes is known for: lost spaces,
look-alikes, words that are not found, watermarks, and capitals, in which memes are set. The rates are chosen, not
measured.
"""

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset
from transformers import TrainerCallback

from guard.template import EncodedMeme, GuardPrompt, Meme, encode_memes
from memes.rows import MemeRow

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from training.parallel_texts import ParallelTexts

LOST_SPACE, SWAPPED_LETTER, LOST_WORD, WATERMARK = 0.2, 0.04, 0.12, 0.15
CAPITALS = 0.5  # memes are set in capitals, which written text hardly ever is
LOOK_ALIKES = {
    "O": "0",
    "0": "O",
    "o": "0",
    "l": "I",
    "I": "l",
    "1": "l",
    "i": "l",
    "S": "5",
    "5": "S",
    "B": "8",
    "8": "B",
    "g": "9",
    "Z": "2",
    "e": "c",
    "c": "e",
    "u": "v",
    "n": "h",
    "己": "已",
    "未": "末",
    "人": "入",
    "大": "太",
    "日": "曰",
    "土": "士",
}
WATERMARKS = ("imgflip.com", "made with mematic", "@memes", "memegenerator.net", "9GAG", "IG: dailymemes")


class NoisyMemes(Dataset[EncodedMeme]):
    """Encoded memes; a share of them, drawn anew each epoch, has its text as OCR would have read it.

    With `one_view` each has one of its views, also drawn anew: half the tokens, and both are seen in time. All that is
    drawn depends on seed, epoch and index alone, so a resumed run sees what an unbroken one sees.
    """

    def __init__(
        self,
        prompt: GuardPrompt,
        rows: list[MemeRow],
        clean: list[EncodedMeme],
        share: float,
        seed: int,
        one_view: bool = False,
    ) -> None:
        self.prompt, self.rows, self.clean = prompt, rows, clean
        self.share, self.seed, self.one_view = share, seed, one_view
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> EncodedMeme:
        choice = random.Random(f"{self.seed}:{self.epoch}:{index}")
        meme = self._read(index, choice) if choice.random() < self.share else self.clean[index]
        return replace(meme, suffixes=[choice.choice(meme.suffixes)]) if self.one_view else meme

    def _read(self, index: int, choice: random.Random) -> EncodedMeme:
        row = self.rows[index]
        read: Meme = {
            "text": as_read_by_ocr(row["text"], row["language"], choice),
            "image": row["image"],
            "label": row["label"],
            "target": row["target"],
        }
        return encode_memes(self.prompt, [read])[0]


class CountEpochs(TrainerCallback):
    """Tells what is drawn anew every epoch which epoch it is; a resumed run begins inside one."""

    def __init__(self, drawn: "NoisyMemes | ParallelTexts") -> None:
        self.drawn = drawn

    def on_epoch_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        self.drawn.epoch = int((state.epoch or 0) + 1e-6)


def as_read_by_ocr(text: str, language: str | None, choice: random.Random) -> str:
    """`text` with the errors of a reading; each kind of error strikes half of the texts. Never empties a text."""
    noisy = text.upper() if choice.random() < CAPITALS else text
    if choice.random() < 0.5:
        noisy = lose_words(noisy, language, choice)
    if choice.random() < 0.5:
        noisy = "".join(
            LOOK_ALIKES.get(letter, letter) if choice.random() < SWAPPED_LETTER else letter for letter in noisy
        )
    if choice.random() < 0.5:
        noisy = "".join("" if letter == " " and choice.random() < LOST_SPACE else letter for letter in noisy)
    if choice.random() < WATERMARK:
        noisy = f"{noisy} {choice.choice(WATERMARKS)}"
    return noisy


def lose_words(text: str, language: str | None, choice: random.Random) -> str:
    """Drop single words; in Chinese, which has no spaces, pairs of characters. At least one is kept."""
    if language == "zh":
        parts, joint = [text[start : start + 2] for start in range(0, len(text), 2)], ""
    else:
        parts, joint = text.split(), " "
    kept = [part for part in parts if choice.random() >= LOST_WORD]
    return joint.join(kept or parts[:1])
