"""A text in windows that each have room in a view: what stands behind the token limit is what may do harm.

Halves of a text that has no room, their halves where those have none, each a little longer than that, so that no
phrase is torn apart. Of a text too long even so, the beginning and the end are kept.
"""

from collections.abc import Callable

# Windows' worth of tokens that are read of a text; a picture full of small letters has some five.
MOST_WINDOWS = 16
# With less room than this beside a caption, a text is cut, not read word by word.
LEAST_ROOM = 8
# Characters that two neighbours share, and the share of a short text that is too much to share.
SHARED, MOST_SHARED = 60, 8


def text_windows(text: str, tokens: Callable[[str], list[int]], limit: int) -> tuple[list[str], float]:
    """(windows of `text`, each of at most `limit` tokens; share of the text that is in none).

    `tokens` are those of a window with what stands around it. Where that alone leaves no room, the one window
    is the whole text, for the caller to cut.
    """
    needed = len(tokens(text))
    if needed <= limit:
        return [text], 0.0
    around = len(tokens(""))
    room, wanted = limit - around, needed - around
    if room < LEAST_ROOM:
        return [text], 1 - max(0, room) / wanted if wanted > 0 else 0.0
    kept = min(1.0, MOST_WINDOWS * room / wanted)
    if kept == 1:
        return _halved(text, tokens, limit), 0.0
    each = int(len(text) * kept / 2)
    ends = (text[:each], text[len(text) - each :])
    return [window for end in ends for window in _halved(end, tokens, limit)], 1 - kept


def _halved(text: str, tokens: Callable[[str], list[int]], limit: int) -> list[str]:
    if len(text) < 2 or len(tokens(text)) <= limit:
        return [text]
    middle, shared = len(text) // 2, min(SHARED, len(text) // MOST_SHARED)
    first, second = text[: _at_space(text, middle + shared)], text[_at_space(text, middle - shared) :]
    return _halved(first, tokens, limit) + _halved(second, tokens, limit)


def _at_space(text: str, place: int) -> int:
    """The last space shortly before `place`; `place` where there is none, as in Chinese."""
    found = text.rfind(" ", place - len(text) // 16, place)
    return place if found < 0 else found
