"""What chat models answer, read into items or told apart by why not."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat.replies import parse_items, parse_translations, read_items

CAT, DOG = {"image": "a cat", "text": "hello"}, {"image": "a dog", "text": "bye"}
PAIR = [CAT, DOG]


@pytest.mark.parametrize(
    ("content", "items"),
    [
        ('[{"image": "a cat", "text": "hello"}, {"image": "a dog", "text": "bye"}]', PAIR),
        ('{"memes": [{"image": "a cat", "text": "hello"}, {"image": "a dog", "text": "bye"}]}', PAIR),
        (
            'Sure!\n```json\n[{"Image": "a cat", "TEXT": "hello"}, {"image": "a dog", "text": "bye"},]\n```\nEnjoy.',
            PAIR,
        ),
        ('[["a cat", "hello"], ["a dog", "bye"]]', PAIR),
        ("[['Image: a cat', 'Text: hello'], ['image: a dog', 'TEXT: bye'],]", PAIR),
        ('["Image: a cat", "Text: hello", "Image: a dog", "Text: bye"]', PAIR),
        ("1. Image: a cat\n   Text: hello\n\n2. Image: a dog\n   Text: bye", PAIR),
        ('1) **Image:** a cat\n**Text:** "hello"\n\n2) **Image:** a dog\n**Text:** “bye”', PAIR),
        ("- image description: a cat\n- text: hello\n- Image Description: a dog\n- Text: bye", PAIR),
        ('[{"image": "a cat", "text": "hello"}, {"image": "a dog", "text": "bye"', PAIR),
        ('[["a cat", "hello"], ["a dog", "bye"', PAIR),
        ('<think>two memes: [1]</think>[["a cat", "hello"], ["a dog", "bye"]]', PAIR),
        ('[{"image": "a cat", "text": "he said "no" to me"}]', [{"image": "a cat", "text": 'he said "no" to me'}]),
        ("[['Image: a cat', 'Text: it's fine']]", [{"image": "a cat", "text": "it's fine"}]),
        ("Image: a cat\nText: first line\nsecond line", [{"image": "a cat", "text": "first line\nsecond line"}]),
        ('[{"image": "a cat", "text": "her text: come home"}]', [{"image": "a cat", "text": "her text: come home"}]),
        ("Image: a cat\nText: bye (again)", [{"image": "a cat", "text": "bye (again)"}]),
        ('[{"image": "a cat"}, {"image": "", "text": "bye"}]', []),
        ("Here are five memes for you.", []),
        ("", []),
    ],
)
def test_items_are_read_from_whatever_still_shows_them(content, items):
    reply = {"choices": [{"finish_reason": "stop", "message": {"content": content}}]}
    assert read_items(reply)[0] == items


line = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).filter(str.strip)


memes = st.lists(st.fixed_dictionaries({"image": line, "text": line}), min_size=1, max_size=6)


@settings(deadline=None)
@given(memes, st.sampled_from([0, 1, 2]))
def test_json_is_read_back_exactly_whatever_it_holds(items, form):
    plain = json.dumps(items)
    written = [plain, json.dumps({"memes": items}, ensure_ascii=False), f"```json\n{plain}\n```"]
    assert parse_items(written[form]) == [{name: value.strip() for name, value in item.items()} for item in items]


@settings(deadline=None)
@given(st.text())
def test_no_content_breaks_the_parser(content):
    assert all(item["image"].strip() and item["text"].strip() for item in parse_items(content))


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"finish_reason": "length", "message": {"content": '[["a cat", "hel'}}, "length"),
        ({"finish_reason": "content_filter", "message": {"content": None}}, "content_filter"),
        ({"finish_reason": "stop", "message": {"content": "  "}}, "empty"),
        ({"finish_reason": "stop", "message": None}, "empty"),
        ({"finish_reason": "stop", "message": {"content": None, "refusal": "no"}}, "refusal"),
        ({"finish_reason": "stop", "message": {"content": "I’m sorry, but I can’t help with that."}}, "refusal"),
        (
            {"finish_reason": "stop", "message": {"content": '[["a cat", "I cannot create hateful content"]]'}},
            "refusal",
        ),
        ({"finish_reason": "stop", "message": {"content": "42"}}, "malformed"),
    ],
)
def test_what_is_no_data_has_one_reason(choice, reason):
    assert read_items({"choices": [choice]}) == ([], reason)


def test_a_reply_without_choices_is_empty():
    assert read_items({"choices": []}) == ([], "empty")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"translations": ["a", "b"]}', ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ('```json\n{"translations": ["a", "b",]}\n```', ["a", "b"]),
        ("none", None),
        ('{"a": 1}', None),
    ],
)
def test_translations_are_read_from_an_object_or_a_list(content, found):
    assert parse_translations(content) == found
