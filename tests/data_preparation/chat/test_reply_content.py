"""A reply's answer, however its content is typed and however its thoughts are marked."""

import json

import pytest

from chat.replies import read_items
from chat.reply_content import content_text, reply_content, without_thoughts

CAT, DOG, DRAFT = (
    {"image": f"a {animal}", "text": text} for animal, text in (("cat", "hi"), ("dog", "bye"), ("x", "TODO"))
)
ANSWER = json.dumps({"memes": [CAT, DOG]})
SKETCH = json.dumps({"memes": [DRAFT]})


@pytest.mark.parametrize(
    "content",
    [
        f"<think>{SKETCH}</think>{ANSWER}",
        f"{SKETCH} weak.\n</think>\n\n{ANSWER}",
        f"<thought>{SKETCH}</thought>{ANSWER}",
        f'<reasoning effort="high">\nImage: x\nText: TODO\n</reasoning>\n{ANSWER}',
        f"<thinking>One <think> in it: {SKETCH}</thinking>{ANSWER}",
        f"[THINK]{SKETCH}[/THINK]{ANSWER}",
        f"◁think▷{SKETCH}◁/think▷{ANSWER}",
        f"<|begin_of_thought|>{SKETCH}<|end_of_thought|><|begin_of_solution|>{ANSWER}<|end_of_solution|>",
        f"<|START_THINKING|>{SKETCH}<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
        f"<|channel|>analysis<|message|>{SKETCH}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>",
        f"<|channel|>analysis<|message|>{SKETCH}<|end|><|channel|>final <|constrain|>json<|message|>{ANSWER}",
        f"analysisWe need memes: {SKETCH}assistantfinal{ANSWER}",
        f"<think>{SKETCH}</think><answer>{ANSWER}</answer>",
        f"Here is my thought process: {SKETCH}\nHere is my response:\n{ANSWER}",
        f"{SKETCH}\n\n### Final answer\n{ANSWER}",
        f"Thought: {SKETCH} will not do\nFinal Answer: {ANSWER}",
        f"{ANSWER}<|eot_id|>",
    ],
)
def test_thoughts_are_no_part_of_the_answer(content):
    assert read_items({"choices": [{"message": {"content": content}}]}) == ([CAT, DOG], None)


@pytest.mark.parametrize(
    "content",
    [
        f"<think>{SKETCH}",
        f"{SKETCH}</think>",
        f"<|channel|>analysis<|message|>{SKETCH}",
        f"analysisThe user wants memes: {SKETCH}",
    ],
)
def test_thoughts_without_an_answer_are_empty(content):
    assert reply_content({"choices": [{"message": {"content": content}}]}) == ("", "empty")


@pytest.mark.parametrize(
    "text", ['[{"image": "a cat", "text": "</think> hi"}]', '```json\n["<think>", "assistantfinal"]\n```']
)
def test_json_from_end_to_end_holds_no_thoughts(text):
    assert without_thoughts(text) == text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("a", "a"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}], "a"),
        ([{"type": "output_text", "text": "a", "annotations": []}], "a"),
        ([{"type": "text", "text": {"value": "a", "annotations": []}}], "a"),
        ([{"thought": True, "text": "hm"}, {"text": "a"}], '[{"thought": true, "text": "hm"}, {"text": "a"}]'),
        ([{"text": "a"}, {"text": "b"}], "ab"),
        ({"parts": [{"text": "a"}]}, "a"),
        (["a", "b"], "ab"),
        ([CAT], json.dumps([CAT])),
        ({"memes": [CAT]}, json.dumps({"memes": [CAT]})),
        (7, "7"),
    ],
)
def test_content_of_any_type_is_one_text(content, text):
    assert content_text(content) == text


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({}, "empty"),
        ({"choices": None}, "empty"),
        ({"choices": [None]}, "empty"),
        ({"choices": {"0": 1}}, "empty"),
        ({"choices": [{"message": [1]}]}, None),
        ({"choices": [{"message": "plain"}]}, None),
        ({"choices": [{"text": "as completions give it"}]}, None),
        ({"choices": [{"message": {"content": [{"type": "refusal", "refusal": "no"}]}}]}, "refusal"),
        ({"choices": [{"finish_reason": "MAX_TOKENS", "message": {"content": "a"}}]}, "length"),
        ({"choices": [{"finish_reason": "SAFETY", "message": {"content": ""}}]}, "content_filter"),
        ({"choices": [{"finish_reason": ["stop"], "message": {"content": "a"}}]}, None),
    ],
)
def test_no_reply_however_typed_ends_in_an_error(reply, reason):
    assert reply_content(reply)[1] == reason
