"""What reading text off a picture does to it: capitals, lost spaces, look-alikes, words not found, watermarks.

The data sets hold clean text; the container reads pictures. Training on some texts as OCR would give them keeps the
guard model from leaning on any single word. The kinds are those that OCR of memes is known for; their rates are chosen,
not measured.
"""

import random

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


def as_read_by_ocr(text: str, language: str, choice: random.Random) -> str:
    """`text` with the faults of a reading; each kind of fault strikes half of the texts. Never empties a text."""
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


def lose_words(text: str, language: str, choice: random.Random) -> str:
    """Drop single words; in Chinese, which has no spaces, pairs of characters. At least one is kept."""
    if language == "zh":
        parts, joint = [text[start : start + 2] for start in range(0, len(text), 2)], ""
    else:
        parts, joint = text.split(), " "
    kept = [part for part in parts if choice.random() >= LOST_WORD]
    return joint.join(kept or parts[:1])
