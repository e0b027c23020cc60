"""A chat model's template turned into a guard template, and the scoring settings that belong to it.

A guard template (the idea is Llama Guard's) renders `[{"role": "user", "content": <meme text>}]` into

    prefix (turn marker, policy, "<meme>\\n") + neutralised text + suffix (" </meme>", question, answer position)

so that any server which applies the tokenizer's own chat template asks the same question as this project. The policy
is policy.txt, which stands in `{meme}` for the text, in `{unsafe}` and `{safe}` for the label words and, if it asks
for a category as well, in `{categories}` for their list.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from guard.answer import before_answer, category_answers, label_answers
from guard.chat_text import SENTINEL, around, freeze_date, literal
from guard.forging import refuse_forgeable
from guard.latin_tamil import latin_spelling
from guard.markup import breaking_template, turn_markers
from guard.model_folder import MAX_TEXT_TOKENS, Scoring

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

POLICY_FILE = Path(__file__).resolve().parents[1] / "policy.txt"
LABEL_WORDS = ("unsafe", "safe")
# What people are attacked for, by the policy.
CATEGORIES = ("race", "religion", "nationality", "orientation", "gender", "age", "class", "health", "other")
VIEWS = {"text": "{text}", "image_text": "Image: {caption}, Caption: {text}"}
# For base models, which have no chat template: what many were later fine-tuned with.
CHAT_TEMPLATES = {
    "plain": "{{ bos_token }}{% for message in messages %}"
    "{{ message['role'] | capitalize }}: {{ message['content'] }}\n\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}",
    "alpaca": "{{ bos_token }}{% for message in messages %}"
    "### {{ 'Response' if message['role'] == 'assistant' else 'Instruction' }}:\n{{ message['content'] }}\n\n"
    "{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}",
    "chatml": "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
}


def attach_guard(
    tokenizer: "PreTrainedTokenizerBase",
    policy: str,
    label_words: tuple[str, str] = LABEL_WORDS,
    max_text_tokens: int = MAX_TEXT_TOKENS,
    categories: tuple[str, ...] = CATEGORIES,
    latin_tamil: bool = False,
) -> Scoring:
    """Give `tokenizer` the guard template and return its scoring settings (the content of scoring.json).

    `label_words` are (unsafe, safe); `categories` count where the policy has a place for them; `latin_tamil` has a
    meme's Tamil asked in Latin letters. Raises ValueError, with the remedy, where the tokenizer has no chat template,
    where that changes the message's text, where the label words, or the categories, cannot be told apart at the answer
    position, and where a meme could write what marks a turn.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            "the tokenizer has no chat template (a base model's has none): give it one with CHAT_TEMPLATE of "
            f"attach_policy.py, a file or one of {', '.join(CHAT_TEMPLATES)}"
        )
    if "{meme}" not in policy:
        raise ValueError("the policy lacks {meme}, the place of the meme's text")
    tokenizer.chat_template = freeze_date(tokenizer.get_chat_template())
    try:
        question = policy_text(policy.strip(), label_words, categories)
        prefix, suffix = around(tokenizer, question.replace("{meme}", SENTINEL), SENTINEL)
    except TemplateError as error:
        raise ValueError(f"its chat template takes no single message of a user ({error})") from error
    thought, spaces = before_answer(tokenizer)
    answers = label_answers(tokenizer, suffix + thought, label_words, spaces)
    asked = categories if "{categories}" in policy else ()
    categories_asked = category_answers(tokenizer, suffix + thought + answers[0], asked)
    markers = [*turn_markers(tokenizer), *thought.split()]
    reading, meme = breaking_template(tokenizer, markers, latin_spelling() if latin_tamil else ())
    tokenizer.chat_template = (
        f"{reading}{{{{ {literal(prefix)} }}}}{{{{ {meme} }}}}{{{{ {literal(suffix + thought)} }}}}"
    )
    refuse_forgeable(tokenizer, markers)
    scoring: Scoring = {
        "label_words": {"offensive": answers[0], "ok": answers[1]},
        "views": VIEWS,
        "threshold": 0.5,
        "temperature": 1.0,
        "max_text_tokens": max_text_tokens,
    }
    return {**scoring, "categories": categories_asked} if categories_asked else scoring


def policy_text(
    policy: str, label_words: tuple[str, str] = LABEL_WORDS, categories: tuple[str, ...] = CATEGORIES
) -> str:
    """The policy with its label words, (unsafe, safe), and its categories filled in; {meme} stays."""
    unsafe, safe = (word.strip() for word in label_words)
    listed = ", ".join(categories[:-1]) + (" or " if categories[1:] else "") + "".join(categories[-1:])
    return policy.replace("{unsafe}", unsafe).replace("{safe}", safe).replace("{categories}", listed)
