"""Lay out a meme's text: fonts for four languages, line breaking, white letters with a black outline or black on a bar.

Noto Sans, Noto Sans CJK and Noto Sans Tamil come from Debian packages; HarfBuzz shapes Tamil through Pillow's Raqm
layout. Nothing here is random.
"""

import math
import re
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

FONTS = {  # script: (file, face in the file, Debian package)
    "latin": ("truetype/noto/NotoSans-Bold.ttf", 0, "fonts-noto-core"),
    "tamil": ("truetype/noto/NotoSansTamil-Bold.ttf", 0, "fonts-noto-core"),
    "chinese": ("opentype/noto/NotoSansCJK-Bold.ttc", 2, "fonts-noto-cjk"),  # face 2 is Simplified Chinese
    "emoji": ("truetype/noto/NotoColorEmoji.ttf", 0, "fonts-noto-color-emoji"),
}
FONT_ROOT = Path("/usr/share/fonts")
LEADING = 1.22  # baseline to baseline, in type sizes; Tamil vowel signs need it
SMALLEST_TYPE = 13  # pixels; smaller type is not legible to OCR
BLOCK_SHARES = {"top": 0.36, "bottom": 0.36, "both": 0.25}  # of the picture's height, at most, for each block


@dataclass(frozen=True)
class Block:
    """Lines of text at the top or the bottom edge of a picture; `pixels` is the type size, `top` and `depth` the
    strip that they take up."""

    lines: list[str]
    language: str
    pixels: int
    top: int
    depth: int


class MissingFontsError(RuntimeError):
    """A font is not installed; the message says which Debian packages hold it."""


def require_fonts(root: Path = FONT_ROOT) -> None:
    """Raise MissingFontsError, with the remedy, unless every font lies under `root` and Pillow can shape Tamil."""
    missing = [(root / file, package) for file, _, package in FONTS.values() if not (root / file).is_file()]
    if missing:
        packages = " ".join(sorted({package for _, package in missing}))
        raise MissingFontsError(
            f"missing {', '.join(str(path) for path, _ in missing)}: run `apt-get install {packages}`"
        )
    if not (features.check("raqm") and features.check("fribidi")):
        raise MissingFontsError(
            "this Pillow has no Raqm layout, which Tamil needs: use Pillow's own wheel, or "
            "`apt-get install libfribidi0`"
        )


@cache
def font(script: str, pixels: int) -> ImageFont.FreeTypeFont:
    file, face, _ = FONTS[script]
    return ImageFont.truetype(str(FONT_ROOT / file), pixels, index=face, layout_engine=ImageFont.Layout.RAQM)


def lay_out(text: str, language: str, size: tuple[int, int], placement: str, pixels: int) -> list[Block]:
    """The blocks of `text` on a picture of `size`, at its "top", "bottom" or "both", in type of `pixels` or less."""
    halves = split_in_two(text, language) if placement == "both" else [text]
    edges = ["top", "bottom"] if placement == "both" else [placement]
    return [
        _block(half, language, size, edge, pixels, BLOCK_SHARES[placement])
        for edge, half in zip(edges, halves, strict=False)
    ]


def write(canvas: Image.Image, block: Block, bar: bool) -> None:
    """Draw the block: black on a white bar, or white with a black outline."""
    pen = ImageDraw.Draw(canvas)
    if bar:
        pen.rectangle((0, block.top, canvas.width, block.top + block.depth), fill="white")
    outline = {"fill": "white", "stroke_width": max(1, math.ceil(block.pixels / 14)), "stroke_fill": "black"}
    ink = {"fill": "black"} if bar else outline
    for number, line in enumerate(block.lines):
        left = (canvas.width - line_width(line, block.language, block.pixels)) / 2
        baseline = block.top + round(block.pixels * (1.12 + number * LEADING))
        for run, face in _runs(line, block.language, block.pixels):
            pen.text((left, baseline), run, font=face, anchor="ls", **ink)
            left += face.getlength(run)


def split_in_two(text: str, language: str) -> list[str]:
    """The text in two, at the punctuation (else the gap between words) nearest to its middle; in one if it has none."""
    chinese = [r"[,.!?;:，。！？；：]+", r"(?=.)"]
    patterns = chinese if language == "zh" else [r"[,.!?;:]\s+", r"\s+"]
    for pattern in patterns:
        gaps = [match.end() for match in re.finditer(pattern, text) if len(text) / 5 < match.end() < len(text) * 4 / 5]
        if gaps:
            cut = min(gaps, key=lambda gap: abs(gap - len(text) / 2))
            return [text[:cut].strip(), text[cut:].strip()]
    return [text]


def wrap(text: str, language: str, pixels: int, width: float) -> list[str]:
    """Greedy lines no wider than `width`; Chinese may break after any character but not before punctuation."""
    pattern = r"(?:[A-Za-z0-9'\-]+|\S)[,.!?;:，。！？；：、”’）》]*\s*" if language == "zh" else r"\S+\s*"
    lines = [""]
    for piece in re.findall(pattern, text):
        if lines[-1] and line_width((lines[-1] + piece).rstrip(), language, pixels) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def line_width(line: str, language: str, pixels: int) -> float:
    return sum(face.getlength(run) for run, face in _runs(line, language, pixels))


def _runs(line: str, language: str, pixels: int) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """The line cut where the font changes: Noto Sans Tamil has no Latin letters, Noto Sans no Tamil ones."""
    if language == "zh":
        return [(line, font("chinese", pixels))]
    scripts = groupby(
        line, lambda letter: "tamil" if "\u0b80" <= letter <= "\u0bff" or letter in "\u200c\u200d" else "latin"
    )
    return [("".join(letters), font(script, pixels)) for script, letters in scripts]


def _block(text: str, language: str, size: tuple[int, int], edge: str, pixels: int, share: float) -> Block:
    """The type shrinks from `pixels` until the wrapped lines fit the block, but not below SMALLEST_TYPE."""
    width, height = size[0] * 0.94, size[1] * share
    lines = wrap(text, language, pixels, width)
    while pixels > SMALLEST_TYPE and (
        len(lines) * pixels * LEADING > height or max(line_width(line, language, pixels) for line in lines) > width
    ):
        pixels -= 1
        lines = wrap(text, language, pixels, width)
    depth = round(pixels * (len(lines) * LEADING + 0.4))
    return Block(lines, language, pixels, 0 if edge == "top" else size[1] - depth, depth)
