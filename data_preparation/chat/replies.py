"""Reads a chat model's reply: meme items or translations, or one word on why it holds none.

Models are told to answer in JSON and mostly do; some give another shape of JSON, Python lists, numbered
`Image:`/`Text:` lines, quotes inside quotes, code fences or half a bracket. Each item read is one that a person would
read there. JSON that is valid is never read as if it were prose.
"""

import json
import re

from chat.broken_json import QUOTED_LABEL, are_delimited, labelled_items, repaired_items, repaired_values
from chat.json_items import Members, UnknownShapeError, items_of, json_values, without_half_letters
from chat.pairing import Item
from chat.prose_items import LABEL_LINE, prose_items
from chat.reply_content import reply_content
from raw.raw_folder import Json
from raw.refusals import is_refusal


def _list_format(name: str, entry: Json) -> Json:
    """Asks the provider for JSON: an object whose one field is a list of such entries."""
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": [name],
        "properties": {name: {"type": "array", "items": entry}},
    }
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


TRANSLATIONS_FORMAT = _list_format("translations", {"type": "string"})
ITEMS_FORMAT = _list_format(
    "memes",
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["image", "text", "category"],
        "properties": {name: {"type": "string"} for name in ("image", "text", "category")},
    },
)
FENCE = re.compile(r"^\s*```[\w-]*\s*$", re.MULTILINE)
# Beside JSON that is whole: a bracket that encloses some of it and never closes, or a key as in JavaScript.
BROKEN_JSON = re.compile(r"[\[{]\s*(?:[\"'“‘\[{,\]}]|\Z)|[{,]\s*(?:image|text)\s*:", re.IGNORECASE)


def read_items(reply: Json) -> tuple[list[Item], str | None]:
    """Items and None, or [] and one of length, content_filter, empty, refusal, malformed."""
    content, reason = reply_content(reply)
    if reason:
        return [], reason
    items = parse_items(content)
    if all(is_refusal(item["text"]) for item in items) and (items or is_refusal(content)):
        return [], "refusal"
    return (items, None) if items else ([], "malformed")


def parse_items(content: str) -> list[Item]:
    """[{"image", "text"}] from a reply's content, [] where there is no whole item or where what is there is unclear.

    An item whose category is plain has that, too.
    """
    content = FENCE.sub("", _decoded(content)).strip()
    values, around = json_values(content)
    values = [value for value in values if _holds_strings(value)]
    if values and not _holds_more(around):
        items = _of_values(values)
    else:
        items = labelled_items(content) or prose_items(content) or repaired_items(content, prose_items)
    bare = [{name: without_half_letters(value).strip() for name, value in item.items()} for item in items]
    return [item for item in bare if item["image"] and item["text"]]


def _decoded(content: str) -> str:
    """What a JSON string holds, where the whole content is one: some servers encode twice."""
    try:
        inner = json.loads(content) if content.lstrip().startswith('"') else None
    except ValueError:
        return content
    return inner if isinstance(inner, str) else content


def _holds_strings(value: object) -> bool:
    """False for what stands in brackets beside the items, such as [1]."""
    if isinstance(value, Members):
        return any(_holds_strings(held) for _, held in value)
    return isinstance(value, str) or isinstance(value, list) and any(map(_holds_strings, value))


def _holds_more(around: str) -> bool:
    """Whether some of the memes stand outside of the JSON that is whole."""
    prose = any(LABEL_LINE.match(line) for line in around.splitlines())
    return prose or bool(QUOTED_LABEL.search(around) or BROKEN_JSON.search(around))


def _of_values(values: list[object]) -> list[Item]:
    """One value holds all items, or each of several holds one, as in JSON Lines."""
    try:
        found = [items for value in values if (items := items_of(value, prose_items))]
    except UnknownShapeError:
        return []
    if len(found) > 1 and any(len(items) > 1 for items in found):
        return []  # a draft and its better version, or two halves: which?
    return [item for items in found for item in items]


def parse_translations(content: str) -> list[object] | None:
    """The list of translations in a reply's content, None where there is none, or none that can be told."""
    content = FENCE.sub("", _decoded(content)).strip()
    values, _ = json_values(content)
    lists = [found for value in values if (found := _translations_of(value))]
    if not lists:
        repaired = [found for value in repaired_values(content) if (found := _translations_of(value))]
        strings = [list(map(str, found)) for found in repaired]
        whole = [found for found, read in zip(repaired, strings, strict=True) if are_delimited(read, read, content)]
        lists = sorted(whole, key=len)[-1:]
    if len(lists) != 1:
        return None
    return [without_half_letters(text) if isinstance(text, str) else text for text in lists[0]]


def _translations_of(value: object) -> list[object] | None:
    """The list under `translations`, or the only one there is; by number where the keys are numbers."""
    if not isinstance(value, Members):
        return list(map(_translation, value)) if isinstance(value, list) else None
    if value and all(name.strip().isdecimal() for name, _ in value):
        return [_translation(held) for _, held in sorted(value, key=lambda member: int(member[0]))]
    held = [held for name, held in value if "translat" in name.casefold()]
    held = held or [held for _, held in value if isinstance(held, list)]
    return _translations_of(held[0]) if len(held) == 1 else None


def _translation(entry: object) -> object:
    """A string, also one of an object such as {"text": ..., "translation": ...}."""
    named = [held for name, held in entry if "translat" in name.casefold()] if isinstance(entry, Members) else []
    return named[0] if len(named) == 1 else entry
