"""A chat template at work: what it renders, what it puts around a message, and the tokens of a text in its place."""

from typing import TYPE_CHECKING

from jinja2 import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Stand for a message while a template is taken apart; no tokenizer's special strings look like them.
SENTINEL = "sentinel0meme0sentinel"
ANSWER_SENTINEL = "sentinel0answer0sentinel"
# What templates of thinking models ask in order to leave the thought out; others do not look.
NO_THOUGHT = {"enable_thinking": False, "thinking": False}
# The day that Llama 3.2's own template takes where it is told none, by strftime's directives. A policy that held the
# day of its attaching would be another tomorrow, when a run is resumed.
FROZEN_DAY = {
    **{"%Y": "2024", "%y": "24", "%m": "07", "%-m": "7", "%b": "Jul", "%B": "July", "%d": "26", "%-d": "26"},
    **{"%e": "26", "%j": "208", "%F": "2024-07-26"},
    **{"%a": "Fri", "%A": "Friday", "%u": "5", "%w": "5", "%H": "12", "%I": "12", "%p": "PM", "%M": "00", "%S": "00"},
}


def render(tokenizer: "PreTrainedTokenizerBase", content: str) -> str:
    """The tokenizer's chat template on one user message, up to the answer position."""
    return _rendered(tokenizer, [("user", content)], add_generation_prompt=True)


def render_chat(tokenizer: "PreTrainedTokenizerBase", *turns: tuple[str, str], asks: bool = True) -> str | None:
    """A chat of (role, content), up to the answer position if it `asks`; None where the template takes no such chat."""
    try:
        return _rendered(tokenizer, list(turns), add_generation_prompt=asks)
    except (TemplateError, TypeError, KeyError, IndexError):
        return None


def around(tokenizer: "PreTrainedTokenizerBase", content: str, mark: str) -> tuple[str, str]:
    """What the chat template puts before and behind `mark` in a user message; ValueError where it changes the text."""
    rendered = render(tokenizer, content)
    if rendered.count(mark) != 1:
        raise ValueError("the chat template does not keep a user message's text as it is, exactly once")
    before, behind = rendered.split(mark)
    return before, behind


def freeze_date(chat_template: str) -> str:
    """The template with one day for `strftime_now`, whenever it is rendered."""
    if "strftime_now" not in chat_template:
        return chat_template
    day = "".join(f" | replace({literal(directive)}, {literal(value)})" for directive, value in FROZEN_DAY.items())
    # `+%}` keeps a line break at the start of the template.
    return f"{{% macro strftime_now(format) %}}{{{{ format{day} }}}}{{% endmacro +%}}{chat_template}"


def tokens_after(
    tokenizer: "PreTrainedTokenizerBase", anchor: str, text: str, split_special_tokens: bool = False
) -> list[int]:
    """Tokens of `text` as they come out behind `anchor`, without the anchor's own."""
    anchor_ids = tokenizer(anchor, add_special_tokens=False)["input_ids"]
    joined = tokenizer(anchor + text, add_special_tokens=False, split_special_tokens=split_special_tokens)["input_ids"]
    return list(joined[len(anchor_ids) :])


def literal(text: str) -> str:
    """A Jinja string literal; Jinja reads Python's escapes."""
    return "'" + text.encode("unicode_escape").decode("ascii").replace("'", "\\'") + "'"


def _rendered(tokenizer: "PreTrainedTokenizerBase", turns: list[tuple[str, str]], add_generation_prompt: bool) -> str:
    return str(
        tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in turns],
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **NO_THOUGHT,
        )
    )
