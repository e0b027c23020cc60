"""Memes drawn on the spot for bench_ocr.py: phrasebook wording in four languages, several fonts, sizes, backgrounds."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PHRASEBOOK = Path(__file__).parents[1] / "data_preparation" / "phrasebook"
FONT_ROOT = Path("/usr/share/fonts")
LATIN = [
    "truetype/noto/NotoSans-Bold.ttf",
    "truetype/noto/NotoSerif-Bold.ttf",
    "truetype/dejavu/DejaVuSans-Bold.ttf",
    "truetype/dejavu/DejaVuSansCondensed-Bold.ttf",
    "truetype/noto/NotoSans-Regular.ttf",
]
FONTS = {
    "en": LATIN,
    "ms": LATIN,
    "zh": [
        "opentype/noto/NotoSansCJK-Bold.ttc",
        "opentype/noto/NotoSerifCJK-Bold.ttc",
        "opentype/noto/NotoSansCJK-Regular.ttc",
    ],
    "ta": [
        "truetype/noto/NotoSansTamil-Bold.ttf",
        "truetype/noto/NotoSerifTamil-Bold.ttf",
        "truetype/noto/NotoSansTamil-Regular.ttf",
    ],
}
SIZES = [(480, 360), (600, 450), (500, 500), (800, 600), (720, 960)]
SIMPLIFIED_CHINESE_FACE = 2


def rendered_memes(count: int, seed: int = 7) -> Iterator[tuple[str, Image.Image, str]]:
    """(language, picture, exact text), `count` a language; needs Debian's fonts-noto-core and fonts-noto-cjk."""
    ideas = phrases()
    for language in FONTS:
        chance = random.Random(f"{seed}:{language}")
        for idea in chance.sample(ideas, min(count, len(ideas))):
            text = idea[language].upper() if language in ("en", "ms") and chance.random() < 0.5 else idea[language]
            yield language, draw_meme(text, language, chance), text


def phrases() -> list[dict[str, str]]:
    """What the phrasebook says without slots, by language."""
    ideas = [json.loads(line) for path in sorted(PHRASEBOOK.glob("*/*.jsonl")) for line in path.open(encoding="utf-8")]
    return [idea for idea in ideas if "{" not in idea["en"]]


def draw_meme(text: str, language: str, chance: random.Random) -> Image.Image:
    """White letters with a black outline over a busy background, or black ones on a white bar."""
    size = chance.choice(SIZES)
    picture = background(size, chance)
    face = SIMPLIFIED_CHINESE_FACE if language == "zh" else 0
    pixels = round(size[0] * chance.uniform(0.05, 0.085))
    font = ImageFont.truetype(str(FONT_ROOT / chance.choice(FONTS[language])), pixels, index=face)
    lines = broken(text, font, size[0] * 0.94, keep_words=language != "zh")
    on_bar = chance.random() < 0.3
    step = round(pixels * 1.45)
    top = 8 if on_bar or chance.random() < 0.5 else max(8, size[1] - step * len(lines) - 10)
    pen = ImageDraw.Draw(picture)
    if on_bar:
        pen.rectangle((0, 0, size[0], top + step * len(lines)), fill="white")
    style = (
        {"fill": "black"} if on_bar else {"fill": "white", "stroke_width": max(1, pixels // 14), "stroke_fill": "black"}
    )
    for number, line in enumerate(lines):
        left = (size[0] - font.getlength(line)) / 2
        pen.text((left, top + number * step), line, font=font, **style)
    return picture


def background(size: tuple[int, int], chance: random.Random) -> Image.Image:
    """Plain, a gradient, or noise blown up to soft blobs."""
    colour = tuple(chance.randrange(30, 226) for _ in range(3))
    kind = chance.choice(["plain", "gradient", "blobs"])
    if kind == "plain":
        return Image.new("RGB", size, colour)
    if kind == "gradient":
        return Image.linear_gradient("L").resize(size).convert("RGB")
    noise = np.random.default_rng(chance.randrange(2**32)).integers(20, 236, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def broken(text: str, font, width: float, keep_words: bool) -> list[str]:
    """`text` in lines of at most `width` pixels, broken at spaces, or anywhere (Chinese)."""
    pieces = text.split() if keep_words else list(text)
    lines = [pieces[0]]
    for piece in pieces[1:]:
        longer = lines[-1] + (" " if keep_words else "") + piece
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(piece)
    return lines
