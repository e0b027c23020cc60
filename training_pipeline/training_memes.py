"""The training split as the Trainer takes it: encoded memes, noise and view drawn anew every epoch."""

import random
from dataclasses import replace

from torch.utils.data import Dataset
from transformers import TrainerCallback

from guard_scores import EncodedMeme, encode_memes
from guard_template import GuardPrompt
from text_noise import as_read_by_ocr


class NoisyMemes(Dataset):
    """Encoded memes; a share of them, drawn anew each epoch, has its text as OCR would have read it.

    With `one_view` each has one of its views, also drawn anew: half the tokens, and both are seen in time. All that is
    drawn depends on seed, epoch and index alone, so a resumed run sees what an unbroken one sees.
    """

    def __init__(
        self,
        prompt: GuardPrompt,
        rows: list[dict],
        clean: list[EncodedMeme],
        share: float,
        max_text_tokens: int,
        seed: int,
        one_view: bool = False,
    ):
        self.prompt, self.rows, self.clean = prompt, rows, clean
        self.share, self.max_text_tokens, self.seed = share, max_text_tokens, seed
        self.one_view = one_view
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> EncodedMeme:
        choice = random.Random(f"{self.seed}:{self.epoch}:{index}")
        meme = self._read(index, choice) if choice.random() < self.share else self.clean[index]
        return replace(meme, suffixes=[choice.choice(meme.suffixes)]) if self.one_view else meme

    def _read(self, index: int, choice: random.Random) -> EncodedMeme:
        row = self.rows[index]
        noisy = {**row, "text": as_read_by_ocr(row["text"], row["language"], choice)}
        return encode_memes(self.prompt, [noisy], self.max_text_tokens)[0]


class CountEpochs(TrainerCallback):
    """Tells the memes which epoch it is; a resumed run begins inside one."""

    def __init__(self, memes: NoisyMemes):
        self.memes = memes

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.memes.epoch = int((state.epoch or 0) + 1e-6)
