"""Meme items of lines such as `**Image:** a cat`, without what a model writes around them.

Between two memes stand headings, numbers, rules and explanations, behind the last one a remark. A value goes on over
lines without a blank between them; what follows a blank line is known for something else, or the meme is left out.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from chat.pairing import BLANK_LINE, BOUNDARY, NUMBER, Item, Labelled, paired
from raw.refusals import is_refusal

QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」", "«": "»"}
_LABEL = (
    r"[*_]{0,3}(?:meme[ \t]+)?(?P<label>image|text)(?:[ \t]+(?:description|caption|overlay|content|prompt"
    r"|on[ \t]+(?:the[ \t]+)?"
    r"(?:meme|image)))?(?:[ \t]*\(?#?(?P<number>\d{1,3})\)?)?[*_]{0,3}[ \t]*[:：][*_]{0,3}[ \t]*"
)
_OPENS = (
    r"^[ \t>]*[*_#]{0,6}[ \t]*(?:[-*•+–][ \t]+)?"
    r"(?P<marker>\(?\d{1,3}[.):][ \t]*|(?:meme|item|example)[ \t]*#?\d{1,3}[ \t]*[-:–.)]+[ \t]*)?(?:[-*•+–#]+[ \t]+)?"
)
LABEL_LINE = re.compile(_OPENS + _LABEL, re.IGNORECASE)
_CATEGORY = (
    r"[*_]{0,3}(?:category|(?:target(?:ed)?|attacked|protected|social)[ \t]+(?:group|category)|group[ \t]+attacked%s)"
    r"(?:[ \t]*\(?#?(?P<number>\d{1,3})\)?)?[*_]{0,3}[ \t]*[:：][*_]{0,3}[ \t]*"
)
CATEGORY_LINE = re.compile(_OPENS + _CATEGORY % "|target" + "(?P<category>.+)", re.IGNORECASE)
# At a line's end, as in `hello | Category: race`; behind a comma or a full stop only where labels stand in one row.
_AT_END = r"[ \t]*" + _CATEGORY % "" + r"(?P<category>[^\W\d_][\w /&-]{0,40}?)[*_]{0,3}[.)\]]*[ \t]*$"
CATEGORY_BEHIND = re.compile(r"(?:[|;(\[—–]|(?<=[\"”'’]),?|(?=\*\*|__))" + _AT_END, re.IGNORECASE)
CATEGORY_IN_ROW = re.compile(r"(?:[|;(\[—–,/]|(?<=[\"”'’.!?…]),?|(?=\*\*|__)|(?<=[ \t])-)" + _AT_END, re.IGNORECASE)
INLINE_LABEL = re.compile(r"(?:(?<=[.;|,/—–)\]!?*\"”'’])|(?<=[ \t]-))[ \t]*\(?" + _LABEL, re.IGNORECASE)

LINE_BREAK = re.compile(r"(?:(?<=\S)\\|<br ?/?>)\s*$")
EMPTY_VALUE = re.compile(r"[ \t*_]*(?:[|>][-+]?)?[ \t]*")  # YAML writes | or > and goes on below
OTHER_LABEL = re.compile(r"[ \t]*[-*•]?[ \t]*[*_]{0,2}[A-Za-z][\w -]{0,30}[*_]{0,2}:")
RULE = re.compile(r"[ \t]*(?:[-*_=~—–•·][ \t]*){3,}")
HEADING = re.compile(
    r"[ \t]*(?:#{1,6}[ \t].*|\*\*[^*]+\*\*:?|__[^_]+__:?|\(?\d{1,3}[.)]"
    r"|[*_]{0,3}(?:meme|item|example|entry)[ \t]*#?(?:\d{1,3}|one|two|three|four|five"
    r"|six)[*_]{0,3}[ \t]*(?:[-:.(–—)].{0,80})?"
    r"|(?:(?:here is )?the[ \t]+)?(?:first|second|third|fourth|fifth|sixth|next|last|final"
    r"|another)\b.{0,20}\bmeme\b.{0,40})",
    re.IGNORECASE,
)
HEADING_MARK = re.compile(r"^[^:：]*[#>]")
NUMBERED = re.compile(r"[ \t]*[*_]{0,2}\(?(\d{1,3})[.)][ \t]*[*_]{0,2}[ \t]*\S")
SET_APART = re.compile(r"[ \t]*(?:\*[^*]+\*|_[^_]+_|\(.*\)|\[.*\]|>.*|```.*|.{1,60}[:：]\**)")
META = re.compile(
    r"[ \t]*[-*•]?[ \t]*\*\*[^*]{1,40}(?::\*\*|\*\*:)|[ \t]*[(\[]?[-*•_]*[ \t]*(?:explanation|notes?|categor(?:y|ies)"
    r"|context|reason(?:ing)?|rationale|humou?r|tone|topic"
    r"|theme|harm\w*|stereotype|functional test|analysis|subtext|implication|why (?:it|this|that)(?:'s|’s)?|"
    r"title|label|tags?|hashtags|language|description|disclaimer|warning|target|style|format|setting|punchline"
    r"|source|"
    r"(?:attacked|targeted|protected|social) (?:group|category)|group attacked|"
    r"translation|meaning|alt(?: text)?|caption|type|intent|audience|culture|why it works|why this works|"
    r"解释|说明|注意?|备注|类别|分类|标签|penjelasan|nota|kategori|விளக்கம்|குறிப்பு)"
    r"\b[^:：\n]{0,30}[:：].*",
    re.IGNORECASE,
)
REMARK = re.compile(
    r"[ \t]*(?:(?:i|we) hope (?:you|these|this|they|that|it)\b|hope (?:you|these|this|they|that|it)\b|let me know\b"
    r"|feel free\b"
    r"|would you like\b|do you want me\b|if you(?:'d| would)? (?:like|want|need|prefer|have)\b|please (?:note|let"
    r"|remember|be aware|keep)\b"
    r"|note that\b|these (?:memes|jokes|examples|items|texts|are)\b|(?:this|the above|each) (?:meme|list|set"
    r"|example|one)\b"
    r"|here(?:'s| is| are)\b|as (?:requested|you asked)\b|remember\b|happy to\b|glad to\b|enjoy\b|i(?:'m"
    r"| am) (?:happy|glad|here) to\b"
    r"|i(?:'ve| have) (?:kept|tried|made|avoided|written|created|included|used)\b|i can (?:also|make|write|create"
    r"|adjust)\b|have fun\b"
    r"|all (?:of these|five|memes)\b|that's (?:all|it|five)\b|(?:more|anything else)\b.*\?"
    r"|希望|如果(?:您|你)?(?:需要|想|还)|如需|请(?:告诉|注意|告知)|以上|这些|semoga|beritahu saya|maklumkan"
    r"|jika anda|harap|sila\b|இவை|தேவைப்பட்டால்"
    r"|நம்புகிறேன்)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Label:
    """Where a label stands: its line, and the part of the line behind it."""

    kind: str
    number: int | None
    is_marked: bool
    line: int
    rest: str
    category: Labelled | None = None  # at the line's end


def prose_items(content: str) -> list[Item]:
    """Items of labels at the starts of lines; where that leaves some unpaired, also of labels within lines."""
    lines = [LINE_BREAK.sub("", line) for line in content.splitlines()]
    for is_inline in (False, True):
        labels = [label for number, line in enumerate(lines) for label in _labels_of(line, number, is_inline)]
        items = paired(list(_with_values(labels, lines))) if labels else []
        if labels and len(labels) == 2 * len(items):
            break
    return items


def _labels_of(line: str, number: int, is_inline: bool) -> list[Label]:
    match = LABEL_LINE.match(line)
    if not match:
        return []
    label = _label(match, number, line[match.end() :], bool(match["marker"]))
    others = INLINE_LABEL.finditer(label.rest) if is_inline else iter(())
    other = next((other for other in others if other["label"].casefold() != label.kind), None)
    if other is None:
        return [_without_category(label, CATEGORY_BEHIND)]
    in_row = (
        replace(label, rest=label.rest[: other.start()].rstrip(" \t|;,/–—-*_")),
        _label(other, number, label.rest[other.end() :].rstrip(" \t|"), False),
    )
    return [_without_category(label, CATEGORY_IN_ROW) for label in in_row]


def _without_category(label: Label, behind: re.Pattern[str]) -> Label:
    """The label without the category that stands at the end of its line."""
    match = behind.search(label.rest)
    return replace(label, rest=label.rest[: match.start()].rstrip(), category=_category(match)) if match else label


def _category(match: re.Match[str]) -> Labelled:
    return Labelled("category", _bare(match["category"]), 0, int(match["number"]) if match["number"] else None)


def _is_category_beside(line: str, label_line: str) -> bool:
    """Whether a line names a category as another one names an image or a text: both as headings or none, no number."""
    match = CATEGORY_LINE.match(line)
    headings = {bool(HEADING_MARK.search(beside)) for beside in (line, label_line)}
    return bool(match and not match["marker"]) and len(headings) == 1


def _categories_in(lines: list[str]) -> Iterator[Labelled]:
    yield from (_category(match) for line in lines if (match := CATEGORY_LINE.match(line)))


def _label(match: re.Match[str], line: int, rest: str, is_marked: bool) -> Label:
    return Label(match["label"].casefold(), int(match["number"]) if match["number"] else None, is_marked, line, rest)


def _with_values(labels: list[Label], lines: list[str]) -> Iterator[Labelled]:
    """Each label with its value, and with what parts it from the one before; and categories, where they stand."""
    yield from _categories_in(lines[: labels[0].line])
    headed = bool(labels[0].line and lines[labels[0].line - 1].strip())
    seen: Counter[str] = Counter()
    gap = 0
    for label, following in zip(labels, [*labels[1:], None], strict=True):
        seen[label.kind] += 1
        between = lines[label.line + 1 : following.line if following else len(lines)]
        value, left, is_closed = _value(label, between, following is None, seen[label.kind] + 1)
        if following and not is_closed and not _is_something_else(left, headed):
            value = None
        yield Labelled(label.kind, value, gap, label.number)
        yield from [label.category] if label.category else []
        yield from _categories_in(left)
        # Another label, as `Explanation:`, may stand inside of a meme as well as behind it.
        others = [line for line in left if line.strip() and not _is_category_beside(line, lines[label.line])]
        if any(not META.match(line) and not OTHER_LABEL.match(line) for line in others):
            gap = BOUNDARY
        else:
            gap = NUMBER if following and following.is_marked else BLANK_LINE if not all(map(str.strip, left)) else 0


def _value(label: Label, lines: list[str], is_last: bool, next_number: int) -> tuple[str | None, list[str], bool]:
    """The label's value, the lines below that are none of it, and whether quotes say that it ends."""
    rest = label.rest
    if EMPTY_VALUE.fullmatch(rest):
        opens = next((index for index, line in enumerate(lines) if line.strip()), None)
        if opens is None or RULE.fullmatch(lines[opens]) or HEADING.fullmatch(lines[opens]):
            return "", lines, True
        rest, lines = lines[opens].lstrip(" \t>"), lines[opens + 1 :]
    for count in range(len(lines) + 1):
        if count and _ends_value(lines[count - 1], True, next_number):
            break
        quoted = _inside_quotes("\n".join([rest, *lines[:count]]))
        if quoted is not None:
            return quoted, lines[count:], True
    taken = [rest]
    for line in lines:
        if not line.strip() or _ends_value(line, is_last, next_number):
            break
        if label.kind == "image" and OTHER_LABEL.match(line):  # in a text it may be who speaks
            break
        if NUMBERED.match(line):  # a list inside the text: its numbers are none of the memes'
            next_number = 0
        taken.append(line)
    return _bare("\n".join(line.strip() for line in taken)), lines[len(taken) - 1 :], False


def _inside_quotes(text: str) -> str | None:
    """What stands in quotes that go around the whole text, else None, as for `"a" and "b"`."""
    text = text.strip().strip("*_").strip()
    closing = QUOTES.get(text[:1])
    if closing is None or len(text) < 2 or not text.endswith(closing):
        return None
    inner = text[1:-1]
    first = inner.find(closing)
    if closing == '"' and first > 0 and not inner[first - 1].isspace():
        return None
    if closing not in "\"'" and first >= 0 and text[0] not in inner[:first]:
        return None
    return inner.strip().replace('\\"', '"')


def _ends_value(line: str, is_last: bool, next_number: int) -> bool:
    """Whether a line straight below a value is known for something else; most could be the meme's second line."""
    plain = line.replace("’", "'")
    numbered = NUMBERED.match(line)
    return bool(
        RULE.fullmatch(line)
        or HEADING.fullmatch(line)
        or META.match(line)
        or numbered
        and int(numbered[1]) == next_number
        or is_last
        and (REMARK.match(plain) or is_refusal(plain))
    )


def _is_something_else(lines: list[str], headed: bool) -> bool:
    """Whether the lines between a value and the next label are known for something else than the value's end.

    `headed`: a line stands on top of the reply's first label, so that one on top of another is a heading, too.
    """
    first = next((line for line in lines if line.strip()), None)
    if first is None or lines[0].strip():  # a line straight below the value has already ended it
        return True
    plain = first.replace("’", "'")
    known = (RULE, HEADING, SET_APART)
    if any(pattern.fullmatch(first) for pattern in known) or META.match(first) or NUMBERED.match(first):
        return True
    return bool(REMARK.match(plain)) or is_refusal(plain) or headed and bool(lines[-1].strip())


def _bare(value: str) -> str:
    """Without emphasis around the whole, or an end of it whose beginning stands before the label."""
    value = value.strip()
    if bold := re.fullmatch(r"(\*\*|__)(.+)\1", value, re.DOTALL):
        value = bold[2] if bold[1] not in bold[2] else value
    elif re.search(r"\S(?:\*\*|__)\Z", value) and value.count(value[-2:]) % 2:
        value = value[:-2]
    quoted = _inside_quotes(value)
    return (value if quoted is None else quoted).strip()
