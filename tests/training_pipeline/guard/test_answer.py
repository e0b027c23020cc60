"""The answer is asked where the model's own template puts it, by the tokens that stand there."""

import pytest

from chat_families import FAMILIES, chat_tokenizer, made_tokenizer
from guard.attaching import CHAT_TEMPLATES, attach_guard
from guard.template import describe_question, read_guard_prompt

POLICY = "Is it {unsafe} or {safe}?\n<meme>\n{meme} </meme>\n"


def attached(tokenizer):
    scoring = attach_guard(tokenizer, POLICY)
    return scoring["label_words"], read_guard_prompt(tokenizer, scoring)


@pytest.mark.parametrize(
    ("family", "suffix"),
    [
        ("Qwen3", "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("DeepSeek R1", "<｜Assistant｜><think>\n\n</think>\n\n"),
        ("gpt-oss", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("Zephyr", "</s>\n<|assistant|>\n"),
        ("openchat", "<|end_of_turn|>GPT4 Correct Assistant:"),
    ],
)
def test_what_the_template_puts_before_an_answer_belongs_to_the_prompt(family, suffix):
    words, prompt = attached(chat_tokenizer(family, [POLICY]))
    assert prompt.suffix == f" </meme>{suffix}"
    assert words["offensive"].startswith(" ") == (family == "openchat")
    assert words["offensive"].strip() in ("unsafe", "uns", "un", "u")


def test_a_template_that_can_leave_the_thought_out_is_asked_to():
    tokenizer = chat_tokenizer("Qwen3", [POLICY])
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n' }}{% endif %}{% endif %}"
    )
    assert attached(tokenizer)[1].suffix.endswith("assistant\n<think>\n\n</think>\n")


def test_a_template_that_writes_no_space_is_taken_at_its_word():
    """Mistral v0.1's reads `[/INST]unsafe`: whatever ` unsafe` would be, it does not stand there."""
    tokenizer = chat_tokenizer("Mistral v0.1", [POLICY])
    words, prompt = attached(tokenizer)
    assert not words["offensive"].startswith(" ") and "unsafe".startswith(words["offensive"])
    first = tokenizer("x[/INST]unsafe", add_special_tokens=False)["input_ids"]
    before = tokenizer("x[/INST]", add_special_tokens=False)["input_ids"]
    assert prompt.label_token_ids[1] == first[len(before)]


def test_a_template_without_an_assistants_turn_is_asked_behind_a_space():
    tokenizer = chat_tokenizer("Vicuna", [POLICY])
    tokenizer.chat_template = "{{ '<s>Q: ' + messages[0]['content'] + '\nA:' }}"
    assert attached(tokenizer)[0] == {"offensive": " unsafe", "ok": " safe"}


def test_words_that_cannot_be_told_apart_name_others_that_can():
    tokenizer = chat_tokenizer("Vicuna", [POLICY, "x bad x good x bad x good " * 60])
    with pytest.raises(ValueError, match=r"cannot be told apart.*such as LABEL_WORDS="):
        attach_guard(tokenizer, POLICY, ("safetyish", "safe"))


def test_todays_date_is_no_part_of_a_policy():
    """The template asks for the day each time it is rendered; a run resumed tomorrow must ask the same."""
    tokenizer = chat_tokenizer("gpt-oss", [POLICY])
    plain = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    _, prompt = attached(tokenizer)
    assert prompt.prefix.startswith("<|start|>system<|message|>Current date: 2024-07-26<|end|>")
    assert "2024-07-26" not in plain and "strftime_now" not in tokenizer.chat_template


def test_what_is_asked_is_told_with_the_last_tokens():
    _, prompt = attached(chat_tokenizer("Qwen3", [POLICY]))
    ok, offensive = prompt.label_token_ids
    told = describe_question(prompt)
    assert f"({offensive}) against " in told and f"({ok}), behind " in told and r"'</think>' '\n" in told


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_a_base_model_takes_a_usual_template(name):
    tokenizer = made_tokenizer("sentencepiece", ["<s>", "</s>"], [POLICY, *(form[2] for form in FAMILIES.values())])
    with pytest.raises(ValueError, match="CHAT_TEMPLATE.*plain, alpaca, chatml"):
        attach_guard(tokenizer, POLICY)
    tokenizer.chat_template = CHAT_TEMPLATES[name]
    _, prompt = attached(tokenizer)
    assert prompt.suffix.rstrip().endswith(("Assistant:", "### Response:", "<|im_start|>assistant"))
