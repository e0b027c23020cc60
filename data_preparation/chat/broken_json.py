"""Meme items of almost-JSON: quotes inside quotes, Python lists, a bracket missing at the end.

A value counts where its closing quote is seen with a bracket, a comma or the end behind it, so that one which was cut
off is no item. json_repair, which would close it, reads what carries no labels; its strings must stand in the text.
"""

import json
import re
from collections.abc import Iterable

import json_repair

from chat.json_items import StringReader, UnknownShapeError, items_of, json_values, without_half_letters
from chat.pairing import BOUNDARY, Item, Labelled, paired, with_category

LONGEST_REPAIRED = 200_000  # characters, far beyond what a reply holds: it takes seconds for more
QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}
# `"image": `, `'Image: ` and the like: behind a bracket, a comma or a line's start, never amid a sentence.
QUOTED_LABEL = re.compile(
    r"(?:^|(?<=[\[{(,\n]))[ \t]*(?P<opened>[\"'“‘])(?:meme[ _])?(?P<label>image|text)"
    r"(?:[ _](?:description|caption))?(?:[ _]?(?P<number>\d{1,3}))?(?P<closed>[\"'”’]?)[ \t]*:\s*",
    re.IGNORECASE | re.MULTILINE,
)
QUOTED_CATEGORY = re.compile(
    r"(?:^|(?<=[\[{(,\n]))[ \t]*(?P<opened>[\"'“‘])(?P<label>category|(?:target|attacked)[ _]group|group[ _]attacked)"
    r"(?:[ _]?(?P<number>\d{1,3}))?(?P<closed>[\"'”’]?)[ \t]*:\s*",
    re.IGNORECASE | re.MULTILINE,
)
OTHER_KEY = re.compile(r"(?<=[\"'”’])\s*,\s*[\"'“‘][\w -]{1,40}[\"'”’]\s*:")
OBJECT_ENDS = re.compile(r"[\]})]\s*,?\s*[\[{(]?\s*\Z|[\[{(]\s*\Z")


def labelled_items(content: str) -> list[Item]:
    """Items of quoted labels and their quoted values."""
    found = list(QUOTED_LABEL.finditer(content))
    if not found:
        return []
    found = sorted([*found, *QUOTED_CATEGORY.finditer(content)], key=re.Match.start)
    ends = [label.start() for label in found[1:]] + [len(content)]
    labels = []
    is_apart = False
    for label, end in zip(found, ends, strict=True):
        value, rest = _quoted_value(content[label.end() : end], label, end == len(content))
        number = int(label["number"]) if label["number"] else None
        is_category = label.re is QUOTED_CATEGORY
        kind = "category" if is_category else label["label"].casefold()
        labels.append(Labelled(kind, value, BOUNDARY if is_apart else 0, number))
        is_apart = is_apart and is_category or bool(OBJECT_ENDS.search(rest))
    return paired(labels)


def _quoted_value(region: str, label: re.Match[str], is_last: bool) -> tuple[str | None, str]:
    """The value at the start of a region, None where it does not end, and what follows it."""
    key = OTHER_KEY.search(region)
    region, further = (region[: key.start()], region[key.start() :]) if key else (region, "")
    if label["opened"] and not label["closed"]:  # 'Image: a cat': the quote was opened before the label
        closing, start = QUOTES[label["opened"]], 0
    else:
        closing, start = QUOTES.get(region[:1], ""), 1
    if not closing:
        return None, region + further
    ends = [
        end
        for end in re.finditer(re.escape(closing) + r"(?=\s*[\]}),]|\s*\Z)", region[start:])
        if not _is_escaped(region, start + end.start())
    ]
    if (key or not is_last) and ends and not region[start + ends[-1].end() :].strip(", \t\r\n"):
        closed = ends  # right before the next key, whatever brackets the value holds
    else:
        closed = [end for end in ends if re.match(r"\s*,?\s*[\]})]", region[start + end.end() :])]
    if not ends or is_last and not closed and len(ends) > 1:
        return None, region + further
    end = (closed or ends)[-1]
    value = region[start : start + end.start()]
    if closing == '"' and len(re.findall(r'(?<!\\)"', value)) % 2:
        return None, region + further
    return _unescaped(value).strip(), region[start + end.end() :] + further


def _is_escaped(text: str, position: int) -> bool:
    before = text[:position]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _unescaped(value: str) -> str:
    try:
        return str(json.loads('"' + re.sub(r'(?<!\\)"', r"\"", value) + '"', strict=False))
    except ValueError:
        return value.replace("\\'", "'").replace('\\"', '"').replace("\\n", "\n")


def repaired_items(content: str, of_string: StringReader) -> list[Item]:
    """What json_repair makes of it, where each image and text stands in the content as a string of its own."""
    found: list[list[Item]] = [[]]
    for value in repaired_values(content):
        try:
            items = items_of(value, of_string)
        except UnknownShapeError:
            continue
        found.append(_delimited_items(items, content))
    return max(found, key=len)


def _delimited_items(items: list[Item], content: str) -> list[Item]:
    """Those whose image and text are delimited, with their category where that is, too."""
    strings = [item[kind] for item in items for kind in ("image", "text")]
    categories = [item["category"] for item in items if "category" in item]
    delimited = []
    for item in items:
        image, text, category = item["image"], item["text"], item.get("category")
        if are_delimited([image, text], strings, content):
            is_whole = category is not None and are_delimited([category], categories, content)
            delimited.append(with_category({"image": image, "text": text}, category if is_whole else None))
    return delimited


def repaired_values(content: str) -> list[object]:
    """What json_repair makes of a text without and with what follows its last bracket; [] where it makes nothing."""
    opened = re.search(r"[\[{]", content)
    if not opened or len(content) > LONGEST_REPAIRED:
        return []
    closed = max(content.rfind("]"), content.rfind("}"))
    repaired = []
    for candidate in dict.fromkeys((content[opened.start() : closed + 1], content[opened.start() :])):
        try:
            values, _ = json_values(without_half_letters(json_repair.repair_json(candidate, ensure_ascii=False)))
        except (ValueError, RecursionError):
            continue
        repaired += values if len(values) == 1 else []
    return repaired


def are_delimited(values: Iterable[str], read: list[str], content: str) -> bool:
    """Whether each value stands in quotes of its own, as often as it was read: an opening one, and one that ends it."""
    return all(_times_delimited(value, content) >= read.count(value) for value in values)


def _times_delimited(value: str, content: str) -> int:
    written = {value, json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1], value.replace("'", "\\'")}
    anyhow = "|".join(map(re.escape, written))
    return len(re.findall(rf"(?<=[\[{{(,:])\s*[\"'“‘]\s*(?:{anyhow})\s*[\"'”’]\s*(?=[\]}}),:]|\Z)", content))
