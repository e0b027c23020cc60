"""What the keys of an object name, in whatever spelling: an image, a text or a part of one, a category, a number."""

import re

KEY = re.compile(
    r"(?:meme )?(image|text)s?(?: (?:description|caption|overlay|content|prompt|on (?:the )?(?:meme|image)))?s?"
)
# The group that a meme attacks or is about, as the prompts call it and as models do.
CATEGORY_KEY = re.compile(
    r"(?:(?:target(?:ed)?|attacked|social|protected|group|meme|harm|hate) )?"
    r"(?:categor(?:y|ies)|groups?|targets?|characteristics?)(?: (?:attacked|targeted))?"
)
KEY_NUMBER = re.compile(r"^(.*?)[ #]*(\d{1,4})$")
# Keys of a text in parts, in reading order.
PARTS = ("header", "top", "upper", "first", "middle", "center", "centre", "second", "bottom", "lower", "footer", "last")


def plain(name: str) -> str:
    """`Image_Description` and `imageDescription` as `image description`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.sub(r"[\s_:*-]+", " ", spaced).strip().casefold()


def meme_kind(name: str) -> str | None:
    """image or text where a key names one, numbered or not, else None."""
    bare = _without_number(name)
    match = KEY.fullmatch(bare)
    if match:
        return match[1]
    words = plain(name).split()
    return "text" if len(words) == 2 and words[0] in PARTS and words[1] in ("text", "caption", "line") else None


def category_kind(name: str) -> str | None:
    """category where a key names one, numbered or not, else None."""
    return "category" if CATEGORY_KEY.fullmatch(_without_number(name)) else None


def any_kind(name: str) -> str | None:
    """image, text or category, else None."""
    return meme_kind(name) or category_kind(name)


def number_of(name: str) -> int | None:
    """2 of `image_2`."""
    numbered = KEY_NUMBER.match(plain(name))
    return int(numbered[2]) if numbered else None


def part_order(name: str) -> int | None:
    """Where a part of a text stands among the others, by its name or else its number."""
    first = plain(name).partition(" ")[0]
    return PARTS.index(first) if first in PARTS else number_of(name)


def _without_number(name: str) -> str:
    numbered = KEY_NUMBER.match(plain(name))
    return numbered[1] if numbered else plain(name)
