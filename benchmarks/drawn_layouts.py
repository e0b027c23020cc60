"""Pictures whose text has an order, drawn on the spot for bench_ocr.py: columns, panels, tilt, chats, webtoons."""

import random
from collections.abc import Callable, Iterator

from PIL import Image, ImageDraw, ImageFont

from rendered_memes import FONT_ROOT, background, broken, phrases

FONTS = ["DejaVuSans-Bold", "DejaVuSans", "DejaVuSerif", "DejaVuSansCondensed-Bold"]
PAPERS = ["white", "ivory", "lightblue", "mistyrose", "honeydew"]


class Page:
    """A picture that notes what is written on it, in reading order."""

    def __init__(self, chance: random.Random, size: tuple[int, int], paper: str | None = None, pixels: int = 0):
        self.chance = chance
        self.picture = Image.new("RGB", size, paper or chance.choice(PAPERS))
        self.pen = ImageDraw.Draw(self.picture)
        self.pixels = pixels or chance.randint(24, 36)
        self.font = ImageFont.truetype(str(FONT_ROOT / f"truetype/dejavu/{chance.choice(FONTS)}.ttf"), self.pixels)
        self.text: list[str] = []

    def write(
        self, text: str, left: float, top: float, width: float, centred: bool = False, outlined: bool = False
    ) -> float:
        """Write in lines of at most `width` pixels, black, or white with an outline; returns where the block ends."""
        style = {"fill": "white", "stroke_width": 3, "stroke_fill": "black"} if outlined else {"fill": "black"}
        step = self.pixels * self.chance.uniform(1.25, 1.6)
        for line in broken(text, self.font, width, keep_words=True):
            start = left + (width - self.font.getlength(line)) / 2 if centred else left
            self.pen.text((start, top), line, font=self.font, **style)
            top += step
        self.text.append(text)
        return top

    def blob(self, box: tuple[float, float, float, float]) -> None:
        self.pen.ellipse(box, fill=self.chance.choice(["pink", "lightgreen", "orange", "skyblue"]))

    def drawn(self) -> tuple[Image.Image, str]:
        return self.picture, " ".join(self.text)


def meme(chance: random.Random, say: Callable[[], str]) -> Page:
    """Words above and below a picture."""
    page = Page(chance, (640, 640), pixels=chance.randint(28, 38))
    page.picture.paste(background((640, 640), chance))
    page.write(say().upper(), 20, 10, 600, centred=True, outlined=True)
    page.write(say().upper(), 20, 440, 600, centred=True, outlined=True)
    return page


def columns(chance: random.Random, say: Callable[[], str], title: bool = False) -> Page:
    """Two or three columns above pictures, with a line between them or without."""
    count = chance.choice([2, 2, 3])
    width = 420 if count == 2 else 320
    page = Page(chance, (count * width, 820))
    top = page.write(say(), 20, 14, count * width - 40, centred=True) + chance.randint(10, 30) if title else 60
    line = chance.random() < 0.5
    for column in range(count):
        left = column * width
        bottom = page.write(f"{say()} {say()}", left + 20, top, width - 50)
        page.blob((left + 60, bottom + 20, left + width - 60, bottom + 150))
        if line and column:
            page.pen.line((left, top, left, 820), fill="black", width=chance.choice([2, 6]))
    return page


def titled_columns(chance: random.Random, say: Callable[[], str]) -> Page:
    return columns(chance, say, title=True)


def panels(chance: random.Random, say: Callable[[], str]) -> Page:
    """2 x 2 or 2 x 3 panels, each with its words at the top: row by row, with borders, colours, photos or nothing."""
    wide, high = chance.randint(330, 480), chance.randint(300, 400)
    rows = chance.choice([2, 2, 3])
    page = Page(chance, (2 * wide, rows * high), pixels=chance.randint(22, 30))
    kind = chance.choice(["borders", "colours", "photos", "nothing"])
    for row in range(rows):
        for column in range(2):
            left, top = column * wide, row * high
            box = (left, top, left + wide, top + high)
            if kind == "colours":
                page.pen.rectangle(box, fill=PAPERS[(2 * row + column) % len(PAPERS)])
            if kind == "photos":
                page.picture.paste(background((wide, high), chance), (left, top))
            if kind == "borders":
                page.pen.rectangle(box, outline="black", width=4)
            centred = chance.random() < 0.5
            bottom = page.write(say(), left + 18, top + 14, wide - 40, centred, outlined=kind == "photos")
            if kind != "photos":
                page.blob((left + 90, bottom + 30, left + wide - 90, top + high - 20))
    return page


def beside_pictures(chance: random.Random, say: Callable[[], str]) -> Page:
    """Two or three rows, each a picture and the words beside it."""
    rows = chance.choice([2, 3])
    page = Page(chance, (700, 280 * rows))
    for row in range(rows):
        page.blob((30, 280 * row + 30, 300, 280 * row + 250))
        page.write(say(), 350, 280 * row + chance.randint(20, 60), 330)
    return page


def chat(chance: random.Random, say: Callable[[], str]) -> Page:
    """Messages left and right by turns, short and long."""
    page = Page(chance, (720, 1200), "white", pixels=26)
    top, left_side = 40.0, True
    while top < 1000:
        words = say().split()[: chance.choice([2, 3, 30])]
        width = 300 if len(words) < 4 else 460
        left = 30 if left_side else 690 - width
        top = page.write(" ".join(words), left, top, width) + chance.randint(25, 45)
        left_side = not left_side
    return page


def strip(chance: random.Random, say: Callable[[], str]) -> Page:
    """A webtoon: words now and then down a picture 7 to 16 times as high as it is wide."""
    page = Page(chance, (800, 800 * chance.randint(7, 16)), "white", pixels=chance.randint(26, 40))
    top = 60.0
    while top < page.picture.height - 700:
        width = chance.randint(330, 720)
        top = page.write(say(), chance.randint(20, 780 - width), top, width, centred=True)
        page.blob((150, top + 40, 650, top + 40 + chance.randint(150, 400)))
        top += 480
    return page


def tilted(chance: random.Random, say: Callable[[], str]) -> Page:
    """Rows in pieces that stand apart, or columns, turned by a few degrees."""
    if chance.random() < 0.4:
        page = columns(chance, say)
    else:
        page = Page(chance, (900, 560), "white", pixels=40)
        top = 60
        for _ in range(chance.choice([2, 3])):
            words = say().split()[:4]
            left = chance.randint(20, 60)
            for piece in (words[:2], words[2:]):
                page.write(" ".join(piece), left, top, 900)
                left = round(left + page.font.getlength(" ".join(piece)) + chance.randint(80, 130))
            top += 170
    angle = chance.choice([-1, 1]) * chance.uniform(2, 10)
    page.picture = page.picture.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    return page


def turned(chance: random.Random, say: Callable[[], str]) -> Page:
    """Upside down, or on its side."""
    page = chance.choice([meme, columns, panels])(chance, say)
    turns = [
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_180,
        Image.Transpose.ROTATE_180,
        Image.Transpose.ROTATE_270,
    ]
    page.picture = page.picture.transpose(chance.choice(turns))
    return page


LAYOUTS = (meme, columns, titled_columns, panels, beside_pictures, chat, strip, tilted, turned)


def drawn_layouts(count: int, seed: int = 11) -> Iterator[tuple[str, Image.Image, str]]:
    """(name of the layout, picture, text in reading order), `count` of each; needs Debian's fonts-dejavu-core."""
    sentences = [idea["en"] for idea in phrases() if idea["key"].endswith("_ok") and len(idea["en"].split()) > 3]
    for layout in LAYOUTS:
        chance = random.Random(f"{seed}:{layout.__name__}")
        for _ in range(count):
            page = layout(chance, lambda chance=chance: chance.choice(sentences))
            yield f"layout {layout.__name__.replace('_', ' ')}", *page.drawn()
