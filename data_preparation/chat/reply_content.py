"""The text that a chat completion answers with: its content however it is typed, without a reasoning model's thoughts.

Drafts are written in thoughts, and read like data. Chat templates open the thoughts in the prompt, so that a reply may
hold the closing tag alone; servers that know a model's tags badly leave them in, or strip the tags and leave the words.
"""

import json
import re

from raw.raw_folder import Json

CUT_SHORT = ("length", "max_tokens", "model_length")
FILTERED = ("content_filter", "safety", "prohibited_content", "blocklist", "recitation")
ABOUT_THOUGHTS = re.compile(r"think|thought|reason|analysis", re.IGNORECASE)  # in the type of a chunk of content

_NAME = (
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratch_?pad|seed:think|chain_of_thought|cot|"
    r"(?:inner|internal)_monologue|planning|drafts?)"
)
# <think>, <thinking time="3">, <|begin_of_thought|>, <|START_THINKING|>, [THINK], ◁think▷, <|channel>thought
_OPENED = rf"<\|?(?:begin_of_|start_)?{_NAME}(?:\s[^<>]*)?\|?>|\[think(?:ing)?\]|◁think▷|<\|channel>\s*thought"
_CLOSED = rf"<\|?\s*(?:/\s*|end_of_|end_){_NAME}\s*\|?>|\[/think(?:ing)?\]|◁/think▷|<channel\|>"
THOUGHT_TAG = re.compile(rf"(?P<opened>{_OPENED})|(?P<closed>{_CLOSED})", re.IGNORECASE)
# What announces the answer after thoughts that carry no tag: gpt-oss without its special tokens, Granite, a heading.
ANSWER_OPENS = re.compile(
    r"(?-i:assistantfinal)|here is my response:"
    r"|^[ \t]*(?:#{1,6}[ \t]*[*_]{0,2}|[*_]{2})final (?:answer|output|response|version|list|memes|json)\b[*_: \t]*$"
    r"|^[ \t]*final (?:answer|output|response|version|list|memes|json)[ \t]*:",
    re.MULTILINE | re.IGNORECASE,
)
BARE_ANALYSIS = re.compile(r"\s*analysis(?=[A-Z])")  # gpt-oss without its special tokens, thoughts only
FINAL_CHANNEL = re.compile(r"\bfinal\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>", re.IGNORECASE)
ANSWER = re.compile(
    r"<(answer|final_answer|response|output|solution)>(.*?)(?:</\1>|\Z)"
    r"|<\|(?:begin_of_solution|START_RESPONSE)\|>(?P<special>.*?)(?:<\|(?:end_of_solution|END_RESPONSE)\|>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
WHOLE_FENCE = re.compile(r"\s*```\w*\n(.*)\n```\s*", re.DOTALL)
# What ends a turn where a server leaves it in.
END_OF_TURN = re.compile(r"(?:\s*(?:<\|[\w ]{1,30}\|>|</s>|<end_of_turn>|<eos>))+\s*\Z")


def reply_content(reply: Json) -> tuple[str, str | None]:
    """The reply's answer as text, and why it cannot be used where it cannot: length, content_filter, refusal, empty."""
    choice = _first_choice(reply)
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {"content": choice.get("text") if message is None else message}
    content = without_thoughts(content_text(message.get("content"))).strip()
    finish = str(choice.get("finish_reason")).casefold()
    if finish in CUT_SHORT:
        return content, "length"
    if finish in FILTERED:
        return content, "content_filter"
    if not content:
        return "", "refusal" if message.get("refusal") or _declines(message.get("content")) else "empty"
    return content, None


def _first_choice(reply: Json) -> Json:
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else {"text": choice}


def content_text(content: object) -> str:
    """A message's content as one text: a string, chunks of any provider, or an object that a server has parsed."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, dict) and _is_chunk(content):
        return _chunk_text(content)
    if isinstance(content, list) and all(isinstance(part, str) or _is_chunk(part) for part in content):
        return "".join(part if isinstance(part, str) else _chunk_text(part) for part in content)
    return json.dumps(content, ensure_ascii=False)


def _is_chunk(part: object) -> bool:
    """{"type": "text", "text": ...}, or an object of nothing but a text, as Gemini's parts are; no meme item."""
    if not isinstance(part, dict):
        return False
    return isinstance(part.get("type"), str) and "image" not in part or set(part) <= {"text", "content", "parts"}


def _chunk_text(chunk: Json) -> str:
    kind = chunk.get("type")
    if isinstance(kind, str) and ABOUT_THOUGHTS.search(kind) or chunk.get("thought") is True:
        return ""
    held = next((chunk[name] for name in ("text", "content", "parts", "value") if name in chunk), None)
    if isinstance(held, dict) and isinstance(held.get("value"), str):
        return held["value"]
    return content_text(held)


def _declines(content: object) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") == "refusal" for part in content
    )


def without_thoughts(text: str) -> str:
    """What is left for the reader; a text that is JSON from end to end holds no thoughts, whatever its strings say."""
    if _is_json(text):
        return text
    for answer_of in (_final_channel, _outside_tags, _announced, _tagged_answer):
        text = answer_of(text)
    return END_OF_TURN.sub("", text)


def _is_json(text: str) -> bool:
    fenced = WHOLE_FENCE.fullmatch(text)
    try:
        json.loads(fenced[1] if fenced else text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _final_channel(text: str) -> str:
    """gpt-oss: <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>answer<|return|>"""
    if "<|message|>" not in text:
        return text
    final = list(FINAL_CHANNEL.finditer(text))
    return re.split(r"<\|(?:end|return|start|channel|call)\|>", text[final[-1].end() :])[0] if final else ""


def _outside_tags(text: str) -> str:
    """Without what lies between tags, before a closing tag that nothing opened, after an opening one never closed."""
    kept: list[str] = []
    position, thinking = 0, False
    for tag in THOUGHT_TAG.finditer(text):
        if tag["opened"] and not thinking:
            kept.append(text[position : tag.start()])
            thinking = True
        elif tag["closed"]:
            if not thinking:
                kept = []
            position, thinking = tag.end(), False
    return "".join(kept) + ("" if thinking else text[position:])


def _announced(text: str) -> str:
    opens = list(ANSWER_OPENS.finditer(text))
    if opens:
        return text[opens[-1].end() :]
    return "" if BARE_ANALYSIS.match(text) else text


def _tagged_answer(text: str) -> str:
    """The inside of <answer>...</answer> where there is one such block."""
    blocks = list(ANSWER.finditer(text))
    return next(filter(None, blocks[0].group(2, "special")), "") if len(blocks) == 1 else text
