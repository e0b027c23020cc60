"""What a provider means by refusing a request: slow down, the quota is used up, filtered, an option it cannot do.

Providers agree on none of it. 429 is both "too fast" and "paid up", told apart by codes and words anywhere in the body;
Gemini says "you exceeded your current quota" of limits per minute, too. The words below are those of OpenAI, Azure,
Together, OpenRouter, Groq, DeepSeek, Moonshot, Alibaba, Gemini, Google's APIs, vLLM, llama.cpp and LM Studio.
"""

import re
from collections.abc import Iterator

QUOTA_REMEDY = (
    "Add credit, raise the limit, or wait until it is renewed; then run this again, which goes on from what is written"
)
LONGEST_WORDS = 300  # characters of a provider's message that are passed on

# Nothing but a payment, or another day, helps.
_SPENT = re.compile(
    r"insufficient[ _-]?(?:quota|credits?|balance|funds)|exceeded_current_quota|quotaExceeded"
    r"|billing_?(?:hard_limit|not)"
    r"|daily|monthly|per[ _-]?(?:day|week|month)|\b[TR]PD\b|-1d\b|\b1/d/|payment required"
    r"|(?:credits?|quota|balance|额度|余额)(?: \w+)? ?(?:exhausted|used up|depleted|不足|用完|已用)|欠费",
    re.IGNORECASE,
)
# The same, unless a limit per minute is named beside it.
_LIKELY_SPENT = re.compile(
    r"exceeded your (?:current )?quota|credit balance|credit limit|spend(?:ing)? (?:limit|cap)|(?:out of|not enough"
    r"|no more"
    r"|add|buy|purchase)(?: \w+){0,3} credits?|(?:check|upgrade) your plan|recharge|top up",
    re.IGNORECASE,
)
_A_MINUTE = re.compile(r"per[ _-]?(?:min|sec|hour)|\b[TRQ]P[MS]\b|\b1/min/|slow down", re.IGNORECASE)
_NO_CREDIT = re.compile(r"credit balance|insufficient[ _-]?(?:quota|credits?|balance|funds)", re.IGNORECASE)

_FILTERED = re.compile(
    r"content[ _-]?(?:filter|policy|management|moderation)|ResponsibleAI|\bmoderation\b|\bflagged\b"
    r"|safety (?:system|filter"
    r"|setting|polic)|data_?inspection|(?:inappropriate|prohibited|sensitive)[ _]content|敏感|违规",
    re.IGNORECASE,
)
_FORMAT = re.compile(
    r"response[ _]?format|json[ _]?schema|json[ _]?object|json[ _]?mode|structured[ _]?output|guided[ _](?:json"
    r"|decoding)"
    r"|\bgrammar\b",
    re.IGNORECASE,
)
_CANNOT = re.compile(
    r"\bnot? (?:\w+ ){0,2}?(?:support|available|allow|permit|implement|recogni|enabled|compatible|valid)|n't support"
    r"|unsupported|unavailable|only support|unrecogni|unknown|unexpected|extra[ _](?:inputs?|fields?|forbidden)"
    r"|invalid"
    r"|must be|should be|incompatible|disabled|fail(?:ed|s|ure)? (?:to )?(?:parse|compil|conver|initiali)"
    r"|conversion failed",
    re.IGNORECASE,
)


def is_quota_spent(status: int, body: object) -> bool:
    """True where waiting for a minute is no use: the credit, or a day's or a month's quota, is used up."""
    written = " ".join(_strings(body))
    if status == 402:
        return True
    if status == 400:
        return bool(_NO_CREDIT.search(written))
    if status not in (403, 429, 503):
        return False
    return bool(_SPENT.search(written) or _LIKELY_SPENT.search(written) and not _A_MINUTE.search(written))


def is_content_filter(body: object) -> bool:
    """True where the provider's filter refused this one request."""
    return bool(_FILTERED.search(" ".join(_strings(body))))


def cannot_do_format(body: object) -> bool:
    """True where the server says that it does not take `response_format`, or not this one."""
    written = " ".join(_strings(body))
    return bool(_FORMAT.search(written) and _CANNOT.search(written))


def own_words(body: object) -> str:
    """The provider's message on one line: `error.message`, or all that the body says."""
    found: object = body
    for name in ("error", "message"):
        found = found[0] if isinstance(found, list) and found else found
        found = found.get(name, found) if isinstance(found, dict) else found
    return " ".join((found if isinstance(found, str) else " ".join(_strings(body))).split())[:LONGEST_WORDS]


def _strings(body: object) -> Iterator[str]:
    """Every string in the body, and the names of its members, which carry codes as well (`quota_limit`)."""
    if isinstance(body, str):
        yield body
    elif isinstance(body, dict):
        for name, held in body.items():
            if held not in (None, "", [], {}):
                yield str(name)
            yield from _strings(held)
    elif isinstance(body, list):
        for held in body:
            yield from _strings(held)
