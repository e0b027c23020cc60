"""Reads a chat model's reply: meme items or translations, or one word on why it holds none.

Models are told to answer in JSON and mostly do; some give Python lists, numbered `Image:`/`Text:` lines, quotes
inside quotes, code fences or half a bracket. Whatever still shows its items plainly is read.
"""

import json
import re

import json_repair

from raw.raw_folder import Json
from raw.text_checks import is_refusal

Item = dict[str, str]  # image: the description; text: what is written on the meme


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
        "required": ["image", "text"],
        "properties": {"image": {"type": "string"}, "text": {"type": "string"}},
    },
)
THOUGHTS = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
FENCE = re.compile(r"^\s*```[\w-]*\s*$", re.MULTILINE)
# A label opens a value: at a line's or string's start, after numbering, a bracket or a comma; never amid a sentence.
LABEL = re.compile(
    r"(?:^|(?<=[\[{(,\"'“‘\n]))[ \t]*(?:[-*•]|\(?\d{1,3}[.):])?[ \t]*[*_]{0,2}(?P<opened>[\"'“‘]?)"
    r"(?P<label>image|text)(?:[ \t]+(?:description|caption)|[ \t]*\d{1,2})?(?P<closed>[\"'”’]?)"
    r"[*_]{0,2}[ \t]*:[*_]{0,2}\s*",
    re.IGNORECASE | re.MULTILINE,
)
TRAILING_STRUCTURE = re.compile(r"(?:[\s,;\[\]{}]|^(?:[-*•]|\(?\d{1,3}[.)])\s*$|^#+.*$|[*_]{2}$)+\Z", re.MULTILINE)
QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}


def read_items(reply: Json) -> tuple[list[Item], str | None]:
    """Items and None, or [] and one of length, content_filter, empty, refusal, malformed."""
    content, reason = reply_content(reply)
    if reason:
        return [], reason
    items = parse_items(content)
    if all(is_refusal(item["text"]) for item in items) and (items or is_refusal(content)):
        return [], "refusal"
    return (items, None) if items else ([], "malformed")


def reply_content(reply: Json) -> tuple[str, str | None]:
    """The reply's text without a reasoning model's thoughts, and why it cannot be used where it cannot."""
    choice = (reply.get("choices") or [{}])[0] or {}
    finish, message = choice.get("finish_reason"), choice.get("message") or {}
    content = THOUGHTS.sub("", message.get("content") or "").strip()
    if finish in ("length", "content_filter"):
        return content, finish
    if not content:
        return "", "refusal" if message.get("refusal") else "empty"
    return content, None


def parse_items(content: str) -> list[Item]:
    """[{"image", "text"}] from a reply's content, [] where there is no whole item."""
    content = FENCE.sub("", content).strip()
    for read in (_strict_json, _labelled_values, _repaired_json):
        items = read(content)
        if items:
            return items
    return []


def parse_translations(content: str) -> list[object] | None:
    """The list of translations in a reply's content, None where there is none."""
    content = FENCE.sub("", content).strip()
    found = _loaded(content)
    if found is None:
        found = json_repair.loads(_bracketed(content))
    if isinstance(found, dict):
        found = next((value for value in found.values() if isinstance(value, list)), None)
    return found if isinstance(found, list) else None


def _strict_json(content: str) -> list[Item]:
    return _items_in(_loaded(content))


def _repaired_json(content: str) -> list[Item]:
    """What json_repair makes of it, once with and once without what follows the last closing bracket."""
    bracketed = _bracketed(content)
    if not bracketed:
        return []
    unfinished = content[content.index(bracketed) :]
    return max((_items_in(json_repair.loads(candidate)) for candidate in (bracketed, unfinished)), key=len)


def _loaded(content: str) -> object:
    for candidate in (content, _bracketed(content)):
        try:
            return json.loads(candidate, strict=False)
        except ValueError:
            continue
    return None


def _bracketed(content: str) -> str:
    """From the first opening to the last closing bracket; to the end where no bracket closes."""
    opened = re.search(r"[\[{]", content)
    if not opened:
        return ""
    closed = max(content.rfind("]"), content.rfind("}"))
    return content[opened.start() : closed + 1] if closed > opened.start() else content[opened.start() :]


def _items_in(found: object) -> list[Item]:
    """Items of a list of objects, of pairs, of a flat list of strings, or of an object that holds such a list."""
    if isinstance(found, dict):
        if {str(name).casefold() for name in found} >= {"image", "text"}:
            return [item for item in [_item(found)] if item]
        return next((items for items in map(_items_in, found.values()) if items), [])
    if not isinstance(found, list) or not found:
        return []
    if all(isinstance(entry, str) for entry in found) and len(found) % 2 == 0:
        found = list(zip(found[::2], found[1::2], strict=True))
    items = [_item(entry) for entry in found]
    return [item for item in items if item]


def _item(entry: object) -> Item | None:
    if isinstance(entry, dict):
        named = {str(name).casefold().strip(): value for name, value in entry.items()}
        image, text = named.get("image"), named.get("text")
    elif isinstance(entry, list | tuple) and len(entry) == 2:
        image, text = (LABEL.sub("", part, count=1) if isinstance(part, str) else part for part in entry)
    else:
        return None
    if not isinstance(image, str) or not isinstance(text, str):
        return None
    image, text = image.strip(), text.strip()
    return {"image": image, "text": text} if image and text else None


def _labelled_values(content: str) -> list[Item]:
    labels = list(LABEL.finditer(content))
    ends = [label.start() for label in labels[1:]] + [len(content)]
    values = [
        (label["label"].casefold(), _bare_value(content[label.end() : end], _quote_around(label)))
        for label, end in zip(labels, ends, strict=bool(labels))
    ]
    items = []
    for (first, image), (second, text) in zip(values, values[1:], strict=False):
        if (first, second) == ("image", "text") and image and text:
            items.append({"image": image, "text": text})
    return items


def _quote_around(label: re.Match[str]) -> str:
    """The quote that opened before the label and is still open after it, as in 'Image: a cat'."""
    return QUOTES[label["opened"]] if label["opened"] and not label["closed"] else ""


def _bare_value(value: str, quote_around: str) -> str:
    """The value without what belongs to the list around it: closing brackets, commas, the next number, its quotes."""
    value = TRAILING_STRUCTURE.sub("", _without_afterword(value, quote_around or QUOTES.get(value[:1], ""))).strip()
    if quote_around:
        return value.removesuffix(quote_around).strip()
    for opening, closing in QUOTES.items():
        if value.startswith(opening) and value.endswith(closing) and len(value) > 1:
            return value[1:-1].replace('\\"', '"').replace("\\n", "\n").strip()
    return value


def _without_afterword(value: str, closing_quote: str) -> str:
    """Cut what a model says after the list: from the last quote that a closing bracket follows."""
    if not closing_quote:
        return value
    ends = list(re.finditer(re.escape(closing_quote) + r"[\s,]*[\]}]", value))
    return value[: ends[-1].start() + 1] if ends else value
