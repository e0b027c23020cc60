"""Which image belongs to which text, in a reply that names both by labels.

Two neighbouring labels are not yet a pair: where each text comes first, an image is followed by the next meme's text.
What lies between two labels (nothing, a blank line, a number, a heading) tells where one meme ends; where it tells
nothing, the labels must take turns from the first to the last. What fits neither is no item.

A reply's categories belong to its items where each item has one, in the same place; else to none of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Item = dict[str, str]  # image: the description; text: what is written on the meme; category, where one is named
BLANK_LINE, NUMBER, BOUNDARY = 1, 2, 3


@dataclass(frozen=True)
class Labelled:
    """One label of a reply with its value; None where it cannot be told where the value ends."""

    kind: str  # image, text, category
    value: str | None
    gap: int  # what parts it from the label before: 0, BLANK_LINE, NUMBER, or BOUNDARY (heading, rule, bracket)
    number: int | None = None  # as in `Image 2:`


def paired(labels: list[Labelled]) -> list[Item]:
    """An item for each pair that is told apart from its neighbours, in the reply's order."""
    items = _pairs([label for label in labels if label.kind != "category"])
    categories = _categories(labels, len(items))
    return [with_category(item, category) for item, category in zip(items, categories, strict=True)]


def with_category(item: Item, category: str | None) -> Item:
    """The item and what is said to be its category, if anything is."""
    return {**item, "category": category.strip()} if category and category.strip() else item


def _categories(labels: list[Labelled], count: int) -> list[str | None]:
    """The categories of `count` items in their order; nothing for all where it cannot be told whose each is."""
    by_number = {label.number: label.value for label in labels if label.kind == "category"}
    numbers = dict.fromkeys(label.number for label in labels if label.kind != "category")
    if None not in {*numbers, *by_number} and len(numbers) == count > 1:
        return [by_number.get(number) for number in numbers]
    kinds = [label.kind for label in labels]
    if sorted(kinds[:3]) == ["category", "image", "text"] and kinds == kinds[:3] * count:
        return [label.value for label in labels if label.kind == "category"]
    return [None] * count


def _pairs(labels: list[Labelled]) -> list[Item]:
    if not labels:
        return []
    if all(label.number is not None for label in labels) and len({label.number for label in labels}) > 1:
        numbers = dict.fromkeys(label.number for label in labels)
        return _items([label for label in labels if label.number == number] for number in numbers)
    divisions = [list(_split(labels, gap)) for gap in (BOUNDARY, NUMBER, BLANK_LINE)]
    for blocks in divisions:
        if all(map(_is_pair, blocks)):
            return _items(blocks)
    if _take_turns(labels):
        return _items(labels[index : index + 2] for index in range(0, len(labels), 2))
    # Some are no pair: the others count where blocks are told from single labels.
    for blocks in divisions:
        if 1 < len(blocks) < len(labels):
            return _items(blocks)
    return []


def _split(labels: list[Labelled], gap: int) -> Iterator[list[Labelled]]:
    starts = [index for index, label in enumerate(labels) if index == 0 or label.gap >= gap]
    for start, end in zip(starts, [*starts[1:], len(labels)], strict=True):
        yield labels[start:end]


def _is_pair(block: list[Labelled]) -> bool:
    return sorted(label.kind for label in block) == ["image", "text"]


def _take_turns(labels: list[Labelled]) -> bool:
    """Image and text alternate, and no two of a pair are further apart than two of different pairs, or than others."""
    kinds = [label.kind for label in labels]
    if len(labels) % 2 or any(one == next_ for one, next_ in zip(kinds, kinds[1:], strict=False)):
        return False
    within, between = [label.gap for label in labels[1::2]], [label.gap for label in labels[2::2]]
    nearest = min(between, default=BOUNDARY)
    return max(within) < BOUNDARY and (max(within) < nearest or min(within) == max(within) == nearest)


def _items(blocks: Iterable[list[Labelled]]) -> list[Item]:
    items = []
    for block in blocks:
        values = {label.kind: label.value for label in block}
        image, text = values.get("image"), values.get("text")
        if _is_pair(block) and image and text:
            items.append({"image": image, "text": text})
    return items
