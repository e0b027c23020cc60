"""Meme items of JSON in whatever shape: a list of objects, pairs, columns, numbered keys, strings that hold both.

The whole of a value is read, or none of it: a shape that is half understood would give memes that nobody wrote. A
category is taken where it is plain, and never decides whether there is an item.
"""

import json
import re
from collections.abc import Callable

from chat.json_keys import any_kind, category_kind, meme_kind, number_of, part_order, plain
from chat.pairing import Item, Labelled, paired, with_category

StringReader = Callable[[str], list[Item]]  # reads `Image:` and `Text:` inside a string

OWN_LABEL = {kind: re.compile(rf"\s*{kind}\s*:", re.IGNORECASE) for kind in ("image", "text")}
# Beside the items, what such a key holds is none of them.
NO_ITEMS = re.compile(
    r"\b(?:drafts?|reject\w*|discard\w*|example|template|placeholder|schema|before|originals?|old|bad|thoughts?|reasoning)\b"
)


class UnknownShapeError(Exception):
    """The value names images or texts in a way that is not understood."""


class Members(list[tuple[str, object]]):
    """An object's members as they stand: to a model a repeated key is no error."""


def json_values(content: str) -> tuple[list[object], str]:
    """The objects and arrays that a text holds, each whole, and the text around them."""
    decoder = json.JSONDecoder(object_pairs_hook=Members, strict=False)
    values: list[object] = []
    around: list[str] = []
    position = 0
    for bracket in re.finditer(r"[\[{]", content):
        if bracket.start() < position:
            continue
        try:
            value, end = decoder.raw_decode(content, bracket.start())
        except RecursionError:  # and each bracket inside would take as long again
            break
        except ValueError:
            continue
        around.append(content[position : bracket.start()])
        values.append(value)
        position = end
    return values, "\n".join([*around, content[position:]])


def without_half_letters(text: str) -> str:
    """Surrogates joined to the letters that they are halves of, and dropped where the other half is missing.

    No file in UTF-8 can hold a half, and `\\ud83d\\ude00` is one emoji.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def items_of(value: object, of_string: StringReader) -> list[Item]:
    """Items of any value; an entry whose image or text is missing or empty gives none.

    Raises UnknownShapeError.
    """
    if isinstance(value, Members):
        return _of_object(value, of_string)
    if isinstance(value, list):
        return _of_list(value, of_string)
    if not isinstance(value, str):
        return []
    inner, around = json_values(value)
    return items_of(inner[0], of_string) if len(inner) == 1 and not around.strip() else of_string(value)


def names_items(value: object) -> bool:
    """Whether an image or a text is named anywhere in the value."""
    if isinstance(value, Members):
        return any(meme_kind(name) or names_items(held) for name, held in value)
    return isinstance(value, list) and any(map(names_items, value))


def _of_object(members: Members, of_string: StringReader) -> list[Item]:
    named = _named(members, meme_kind)
    if not named:
        return _of_wrapper(members, of_string)
    rest = [held for name, held in members if not meme_kind(name)]
    if any(names_items(held) for held in rest):
        raise UnknownShapeError
    if all(isinstance(held, list) for _, _, held in named):
        return _of_columns([(kind, held) for kind, _, held in named], members)
    if _count(named, "image") <= 1:
        return [with_category(item, _category_of(members)) for item in _of_entry(named)]
    labels = [
        Labelled(kind, _category(held) if kind == "category" else _value(kind, held), 0, number_of(name))
        for kind, name, held in _named(members, any_kind)
    ]
    items = paired(labels)
    if len(named) != 2 * len(items):
        raise UnknownShapeError
    return items


def _named(members: Members, kind_of: Callable[[str], str | None]) -> list[tuple[str, str, object]]:
    """(kind, name, value) of what names an image or a text; beside `text` itself, `text caption` is something else."""
    named = [(kind, name, held) for name, held in members if (kind := kind_of(name))]
    exact = {kind for kind, name, _ in named if plain(name) == kind}
    return [
        (kind, name, held)
        for kind, name, held in named
        if kind not in exact or plain(name) == kind or number_of(name) is not None
    ]


def _category_of(members: Members) -> str | None:
    """What an object says of its category: the first of those under its plainest name."""
    found = _named(members, category_kind)
    return _category(found[0][2]) if found else None


def _category(held: object) -> str | None:
    """A category that is one string, also in a list of one; what is anything else is none."""
    if isinstance(held, list) and not isinstance(held, Members) and len(held) == 1:
        held = held[0]
    return held if isinstance(held, str) else None


def _count(named: list[tuple[str, str, object]], kind: str) -> int:
    return sum(1 for of, _, _ in named if of == kind)


def _of_entry(named: list[tuple[str, str, object]]) -> list[Item]:
    """One meme, its text in one member or in parts such as top_text and bottom_text."""
    images = [_value(kind, held) for kind, _, held in named if kind == "image"]
    written = [(name, _value(kind, held)) for kind, name, held in named if kind == "text"]
    if len(written) > 1:
        order = [part_order(name) for name, _ in written]
        if None in order or len(set(order)) < len(order):
            raise UnknownShapeError
        written = [part for _, part in sorted(zip(order, written, strict=True), key=lambda pair: pair[0] or 0)]
    text = "\n".join(part for _, part in written if part)
    return [{"image": images[0], "text": text}] if images and images[0] and text else []


def _value(kind: str, held: object) -> str:
    """A member as one string; "" for null. Raises UnknownShapeError for what is neither a text nor its parts."""
    if held is None:
        return ""
    if isinstance(held, str):
        return held.strip()
    if isinstance(held, int) and not isinstance(held, bool):
        return str(held)
    if isinstance(held, Members):
        held = _in_reading_order(kind, held)
    if isinstance(held, list) and all(isinstance(part, str) for part in held) and (kind == "text" or len(held) <= 1):
        return "\n".join(part.strip() for part in held if part.strip())
    raise UnknownShapeError


def _in_reading_order(kind: str, members: Members) -> list[object]:
    """The parts of a text by their keys, or an image's one description."""
    if kind == "image" and len(members) == 1:
        return [held for _, held in members]
    order = [part_order(name) for name, _ in members if name.strip()]
    if len(order) < len(members) or None in order or len(set(order)) < len(order):
        raise UnknownShapeError
    return [held for _, (_, held) in sorted(zip(order, members, strict=True), key=lambda pair: pair[0] or 0)]


def _of_columns(columns: list[tuple[str, object]], members: Members) -> list[Item]:
    """{"image": [...], "text": [...]}, as long as each other, and categories beside them where they are as long."""
    held = dict(columns)
    images, texts = held.get("image"), held.get("text")
    if len(columns) != 2 or not isinstance(images, list) or not isinstance(texts, list) or len(images) != len(texts):
        raise UnknownShapeError
    beside = next((held for _, _, held in _named(members, category_kind)), None)
    categories = beside if isinstance(beside, list) and len(beside) == len(images) else [None] * len(images)
    rows = [
        (_value("image", image), _value("text", text), _category(category))
        for image, text, category in zip(images, texts, categories, strict=True)
    ]
    return [with_category({"image": image, "text": text}, category) for image, text, category in rows if image and text]


def _of_wrapper(members: Members, of_string: StringReader) -> list[Item]:
    """An object that names neither: what it wraps is one list, or single memes under a key each."""
    found = [(name, items_of(held, of_string)) for name, held in members if not isinstance(held, str)]
    found = [(name, items) for name, items in found if items]
    if not found:
        found = [
            (name, items) for name, held in members if isinstance(held, str) and (items := items_of(held, of_string))
        ]
    if any(NO_ITEMS.search(plain(name)) for name, _ in found):
        raise UnknownShapeError
    numbered = all(number_of(name) is not None for name, _ in found)
    same_name = len({name for name, _ in found}) == 1
    if len(found) > 1 and not numbered and not same_name and any(len(items) > 1 for _, items in found):
        raise UnknownShapeError  # as {"first try": [...], "memes": [...]}: which of them is meant?
    category = None if any(category_kind(name) for name, _ in found) else _category_of(members)
    return [item if "category" in item else with_category(item, category) for _, items in found for item in items]


def _of_list(entries: list[object], of_string: StringReader) -> list[Item]:
    if all(isinstance(entry, str) for entry in entries):
        return _of_strings([str(entry) for entry in entries], of_string)
    if all(isinstance(entry, Members) for entry in entries):
        return [item for entry in entries for item in items_of(entry, of_string)]
    if all(_is_plain_list(entry) for entry in entries):
        return _of_lists([entry for entry in entries if isinstance(entry, list)], of_string)
    if names_items(entries):
        raise UnknownShapeError
    return []


def _is_plain_list(entry: object) -> bool:
    return isinstance(entry, list) and not isinstance(entry, Members)


def _of_lists(rows: list[list[object]], of_string: StringReader) -> list[Item]:
    """[["a cat", "hello"], ...], under a row of headings or not; else lists of what items_of reads."""
    if any(names_items(row) for row in rows):
        return [item for row in rows for item in items_of(row, of_string)]
    strings = [[str(cell) for cell in row] for row in rows if all(isinstance(cell, str) for cell in row)]
    if len(strings) < len(rows):
        raise UnknownShapeError
    heading = [any_kind(cell) for cell in strings[0]] if strings else []
    if sorted(map(str, heading)) in (["image", "text"], ["category", "image", "text"]):
        return [item for row in strings[1:] for item in _of_headed_row(row, heading, of_string)]
    return [item for row in strings for item in _of_row(row, of_string)]


def _of_headed_row(row: list[str], heading: list[str | None], of_string: StringReader) -> list[Item]:
    if len(row) != len(heading):
        return _of_row(row, of_string)
    cells = dict(zip(heading, row, strict=True))
    return [with_category(item, cells.get("category")) for item in _of_row([cells["image"], cells["text"]], of_string)]


def _of_row(row: list[str], of_string: StringReader) -> list[Item]:
    if items := _of_strings(row, of_string):
        return items
    if len(row) != 2:
        raise UnknownShapeError
    image, text = (OWN_LABEL[kind].sub("", cell).strip() for kind, cell in zip(("image", "text"), row, strict=True))
    return [{"image": image, "text": text}] if image and text else []


def _of_strings(strings: list[str], of_string: StringReader) -> list[Item]:
    """Strings that hold an image and a text each, or in turns, as ["Image: a cat", "Text: hello", ...]."""
    each = [items_of(string, of_string) for string in strings]
    if strings and all(len(items) == 1 for items in each):
        return [items[0] for items in each]
    if any(each):
        raise UnknownShapeError
    split = [string.partition(":") for string in strings]
    kinds = [any_kind(name) for name, _, _ in split]
    labels = [
        Labelled(kind, value.strip(), 0, number_of(name))
        for kind, (name, _, value) in zip(kinds, split, strict=True)
        if kind
    ]
    return paired(labels) if len(labels) == len(strings) else []
