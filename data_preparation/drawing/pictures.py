"""Draw a meme: colour-emoji objects on a background, with its text laid out by `text_layout`, and a caption of it.

The objects are Noto's colour emoji. Every choice comes from the `random.Random` that is handed in.
"""

import random
import re
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw

from drawing.text_layout import Block, font, lay_out, write

Colour = tuple[int, ...]  # red, green, blue
EMOJI_PIXELS = 109  # the one bitmap size that Noto Color Emoji holds

# What a caption calls an object: (emoji, the adjective it always carries). The name alone is the object's label.
# Nothing that turns into an insult beside a group's name: no monkey, dog or pig, no banana, no watermelon.
OBJECTS = {
    "bus": ("🚌", "white"),
    "car": ("🚗", "red"),
    "train": ("🚆", "blue"),
    "bicycle": ("🚲", "grey"),
    "plane": ("✈️", "blue"),
    "cat": ("🐱", "orange"),
    "guitar": ("🎸", "red"),
    "bird": ("🐦", "blue"),
    "fish": ("🐠", "striped"),
    "teddy bear": ("🧸", "brown"),
    "bowl of noodles": ("🍜", "hot"),
    "cup of coffee": ("☕", "hot"),
    "slice of pizza": ("🍕", "hot"),
    "apple": ("🍎", "red"),
    "cake": ("🎂", "white"),
    "umbrella": ("☂️", "purple"),
    "phone": ("📱", "black"),
    "clock": ("⏰", "red"),
    "pile of books": ("📚", "high"),
    "tree": ("🌳", "green"),
    "sunflower": ("🌻", "yellow"),
    "house": ("🏠", "small"),
    "football": ("⚽", "white"),
    "shoe": ("👟", "blue"),
}
# Words of an image description that an object can stand for, where the object's own last word is not enough.
ALSO_CALLED = {
    "bowl of noodles": "noodles?|laksa|mee|ramen|soup",
    "cup of coffee": "coffee|kopi|teh|tea|mug|cup",
    "phone": "(?:hand|smart)?phones?|mobile|screen|whatsapp",
    "pile of books": "books?|textbooks?|homework|library",
    "plane": "(?:aero|air)?planes?|airport|flight",
    "train": "trains?|mrt",
    "football": "football|soccer|ball",
    "house": "house|home|flat|hdb|kampung",
    "bicycle": "bicycles?|bikes?|cyclist",
    "clock": "clock|alarm|watch",
    "slice of pizza": "pizzas?",
    "cat": "cats?|kittens?",
    "tree": "trees?|park|garden",
    "bus": "bus(?:es)?",
    "shoe": "shoes?|slippers?|sneakers?",
    "sunflower": "(?:sun)?flowers?",
    "car": "cars?|taxis?|grab",
    "cake": "cakes?|birthday",
    "fish": "fish|aquarium",
    "bird": "birds?|parrots?|pigeons?",
    "apple": "apples?|fruits?",
}
COLOURS = {
    "white": (238, 238, 236),
    "grey": (128, 130, 134),
    "black": (26, 26, 30),
    "red": (196, 52, 48),
    "orange": (232, 140, 48),
    "yellow": (240, 208, 84),
    "green": (72, 150, 82),
    "blue": (62, 110, 196),
    "purple": (124, 84, 170),
    "pink": (236, 160, 186),
}
SCENES = {  # caption: (sky above, sky at the horizon, ground at the horizon, ground below)
    "on a beach": ((86, 164, 226), (196, 228, 244), (238, 216, 160), (220, 188, 122)),
    "on a field of grass": ((112, 178, 232), (206, 232, 246), (122, 178, 84), (70, 128, 54)),
    "on a road at night": ((16, 20, 52), (52, 56, 104), (70, 70, 78), (40, 40, 46)),
    "in a room": ((226, 210, 186), (214, 196, 168), (156, 112, 72), (120, 82, 50)),
}
SIZES = [(320, 320), (400, 300), (400, 400), (480, 360), (360, 480), (500, 400), (560, 420), (600, 450)]


@dataclass(frozen=True)
class Meme:
    """One drawn picture and what is in it."""

    image: Image.Image
    caption: str
    main_object: str


def draw_meme(
    text: str,
    language: str,
    description: str,
    size: tuple[int, int],
    rng: random.Random,
    main_object: str | None = None,
) -> Meme:
    """A meme of `size` (width, height) pixels with `text` on it.

    The main object is the one that `description` names, else `main_object`, else a random one; a second, smaller one
    stands beside it in two of five pictures.
    """
    main = named_object(description) or main_object or rng.choice(list(OBJECTS))
    second = rng.choice([name for name in OBJECTS if name != main]) if rng.random() < 0.4 else None
    canvas, where = _background(size, rng)
    bars = rng.random() < 0.2
    shouted = language in ("en", "ms") and rng.random() < 0.6
    blocks = lay_out(
        text.upper() if shouted else text,
        language,
        size,
        rng.choice(["top", "bottom", "both"]),
        pixels=round(size[1] * rng.uniform(0.085, 0.125)),
    )
    _paste_objects(canvas, main, second, _free_strip(blocks, size[1], 1.0 if bars else 0.75), rng)
    for block in blocks:
        write(canvas, block, bars)
    return Meme(canvas, _caption(main, second, where), main)


def named_object(description: str) -> str | None:
    """The object that is mentioned first in an English image description; None where there is none."""
    found = [(match.start(), name) for name in OBJECTS if (match := _object_pattern(name).search(description))]
    return min(found)[1] if found else None


@cache
def _object_pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{ALSO_CALLED.get(name, name + 's?')})\b", re.IGNORECASE)


def _caption(main: str, second: str | None, where: str) -> str:
    def noun(name: str) -> str:
        phrase = f"{OBJECTS[name][1]} {name}"
        return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"

    return f"{noun(main)} {where}" if second is None else f"{noun(main)} and {noun(second)} {where}"


# --- backgrounds ---------------------------------------------------------------------------------------------------


def _background(size: tuple[int, int], rng: random.Random) -> tuple[Image.Image, str]:
    """A canvas and how a caption speaks of it."""
    kind = rng.choice(["plain", "gradient", "striped", "scene"])
    if kind == "scene":
        where = rng.choice(list(SCENES))
        return _scene(size, SCENES[where], rng), where
    name = rng.choice(list(COLOURS))
    colour = tuple(max(0, min(255, channel + rng.randint(-14, 14))) for channel in COLOURS[name])
    article = "an" if name[0] in "aeiou" else "a"
    if kind == "striped":
        return _stripes(size, colour, rng), f"on {article} {name} striped background"
    if kind == "gradient":
        return _gradient(size, _shade(colour, 1.15), _shade(colour, 0.75)), f"on {article} {name} background"
    return Image.new("RGB", size, colour), f"on {article} {name} background"


def _shade(colour: Colour, factor: float) -> Colour:
    return tuple(max(0, min(255, round(channel * factor))) for channel in colour)


def _gradient(size: tuple[int, int], above: Colour, below: Colour) -> Image.Image:
    ramp = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, below), Image.new("RGB", size, above), ramp)


def _stripes(size: tuple[int, int], colour: Colour, rng: random.Random) -> Image.Image:
    canvas = Image.new("RGB", size, colour)
    pen, width = ImageDraw.Draw(canvas), max(size) // rng.randint(8, 14)
    slant = rng.choice([-size[1], 0, size[1]])
    for left in range(-size[1], size[0] + size[1], 2 * width):
        pen.polygon(
            [(left, 0), (left + width, 0), (left + width + slant, size[1]), (left + slant, size[1])],
            fill=_shade(colour, 0.82),
        )
    return canvas


def _scene(size: tuple[int, int], colours: tuple[Colour, ...], rng: random.Random) -> Image.Image:
    horizon = round(size[1] * rng.uniform(0.45, 0.65))
    canvas = _gradient(size, colours[2], colours[3])
    canvas.paste(_gradient((size[0], horizon), colours[0], colours[1]), (0, 0))
    return canvas


# --- objects -------------------------------------------------------------------------------------------------------


def _free_strip(blocks: list[Block], height: int, kept_free: float) -> tuple[int, int]:
    """(top, bottom) of where the objects stand; less than all `kept_free` of a block lets them reach under it."""
    top = max([block.depth for block in blocks if block.top == 0], default=height * 0.02)
    bottom = min([block.top for block in blocks if block.top > 0], default=height * 0.98)
    return round(top * kept_free), round(height - (height - bottom) * kept_free)


def _paste_objects(
    canvas: Image.Image, main: str, second: str | None, strip: tuple[int, int], rng: random.Random
) -> None:
    top, bottom = strip
    height = round(min(bottom - top, canvas.width * 0.62) * rng.uniform(0.78, 0.98))
    centre = canvas.width // 2
    if second is None:
        middles = [(main, height, centre + round(canvas.width * rng.uniform(-0.18, 0.18)))]
    else:
        side = rng.choice([-1, 1])
        smaller = round(height * rng.uniform(0.5, 0.6))
        middles = [
            (second, smaller, centre + side * round(canvas.width * 0.32)),
            (main, round(height * 0.95), centre - side * round(canvas.width * 0.14)),
        ]
    for name, pixels, middle in middles:
        picture = _object_picture(name, pixels, rng)
        lowest = bottom - picture.height
        canvas.paste(picture, (middle - picture.width // 2, rng.randint(min(top, lowest), max(top, lowest))), picture)


def _object_picture(name: str, pixels: int, rng: random.Random) -> Image.Image:
    """The emoji, cropped to its ink, mirrored or not, a little turned, `pixels` high at most."""
    picture = _emoji(name)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True)
    factor = pixels / max(picture.size)
    return picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.LANCZOS)


@cache
def _emoji(name: str) -> Image.Image:
    sheet = Image.new("RGBA", (2 * EMOJI_PIXELS, 2 * EMOJI_PIXELS))
    ImageDraw.Draw(sheet).text((20, 20), OBJECTS[name][0], font=font("emoji", EMOJI_PIXELS), embedded_color=True)
    return sheet.crop(sheet.getbbox())
