"""JSON in other shapes than the one asked for, and JSON that is broken: read whole, or not at all."""

import json

import pytest

from chat.replies import parse_items, parse_translations

CAT, DOG, BUS = (
    {"image": "a cat", "text": "hello"},
    {"image": "a dog", "text": "bye"},
    {"image": "a bus", "text": "late"},
)
BOTH = {"image": "a cat", "text": "TOP\nBOTTOM"}


@pytest.mark.parametrize(
    ("shape", "items"),
    [
        ({"image": ["a cat", "a dog"], "text": ["hello", "bye"]}, [CAT, DOG]),
        ({"memes": {"texts": ["hello", "bye"], "images": ["a cat", "a dog"]}}, [CAT, DOG]),
        ({"image": ["a cat", "a dog"], "text": ["hello"]}, []),
        ({"memes": {"1": CAT, "2": DOG, "3": BUS}}, [CAT, DOG, BUS]),
        ({"meme_one": CAT, "meme_two": DOG}, [CAT, DOG]),
        ({"image1": "a cat", "text1": "hello", "image2": "a dog", "text2": "bye"}, [CAT, DOG]),
        ({"memes": ["Image: a cat\nText: hello", "Image: a dog\nText: bye"]}, [CAT, DOG]),
        (["Image: a cat, Text: hello", "Image: a dog, Text: bye"], [CAT, DOG]),
        (["Text: hello", "Image: a cat", "Text: bye", "Image: a dog"], [CAT, DOG]),
        ([json.dumps(CAT), json.dumps(DOG)], [CAT, DOG]),
        (["a cat", "hello", "a dog", "bye"], []),
        ([["image", "text"], ["a cat", "hello"]], [CAT]),
        ([["Text", "Image"], ["hello", "a cat"]], [CAT]),
        ([["a cat", "hello", "bye"]], []),
        ([{"image": "a cat", "text": ["TOP", "BOTTOM"]}], [BOTH]),
        ([{"image": "a cat", "text": {"bottom": "BOTTOM", "top": "TOP"}}], [BOTH]),
        ([{"image": "a cat", "top_text": "TOP", "bottom_text": "BOTTOM"}], [BOTH]),
        ([{"image": "a cat", "text": {"en": "hello", "zh": "你好"}}], []),
        ([{"image": {"description": "a cat"}, "text": "hello"}], [CAT]),
        ([{"image": "a cat", "text": 42}], [{"image": "a cat", "text": "42"}]),
        ([CAT, {"image": "a dog"}, {"image": "a bus", "text": None}], [CAT]),
        ({"count": 2, "tags": ["a", "b"], "memes": [CAT, DOG], "meta": {"model": "x"}}, [CAT, DOG]),
        ({"response": {"data": {"items": [CAT, DOG]}}}, [CAT, DOG]),
        ({"drafts": [BUS], "memes": [CAT, DOG]}, []),
        ({"first try": [BUS], "second try": [CAT, DOG]}, []),
        ({"result": "1. Image: a cat\nText: hello\n\n2. Image: a dog\nText: bye"}, [CAT, DOG]),
        ([{**CAT, "caption": "x", "image_prompt": "y"}], [CAT]),
    ],
)
def test_valid_json_is_read_whole_or_not_at_all(shape, items):
    assert parse_items(json.dumps(shape)) == items
    assert (
        parse_items(
            f"Here are the memes:\n```json\n{json.dumps(shape, indent=1)}\n```\nText and image fit, I hope: enjoy!"
        )
        == items
    )


RACE, AGE = {**CAT, "category": "race"}, {**DOG, "category": "age"}


@pytest.mark.parametrize(
    ("shape", "items"),
    [
        ([{**CAT, "category": "race"}, {**DOG, "Target Group": "age"}], [RACE, AGE]),
        ([{**CAT, "targetGroup": "race"}, {**DOG, "group_attacked": "age"}], [RACE, AGE]),
        ([{**CAT, "group": "race", "why": "fun"}, {**DOG, "categories": ["age"]}], [RACE, AGE]),
        ([{**CAT, "target": "women", "category": " race "}], [RACE]),
        ([{**CAT, "category": None}, {**DOG, "category": {"kind": "age"}}, {**BUS, "category": 4}], [CAT, DOG, BUS]),
        ([{**CAT, "category": ["race", "age"]}, {**DOG, "category": "  "}], [CAT, DOG]),
        ({"image": ["a cat", "a dog"], "text": ["hello", "bye"], "category": ["race", "age"]}, [RACE, AGE]),
        ({"image": ["a cat", "a dog"], "text": ["hello", "bye"], "category": ["race"]}, [CAT, DOG]),
        ({"image": ["a cat", ""], "text": ["hello", "bye"], "category": [None, "age"]}, [CAT]),
        ({"image1": "a cat", "text1": "hello", "category1": "race", "image2": "a dog", "text2": "bye"}, [RACE, DOG]),
        ([["image", "category", "text"], ["a cat", "race", "hello"], ["a dog", "age", "bye"]], [RACE, AGE]),
        ([["a cat", "hello", "race"]], []),
        (["Image: a cat", "Text: hello", "Category: race"], [RACE]),
        ([["Category: race", "Image: a cat", "Text: hello"]], [RACE]),
        (["Image: a cat, Text: hello, Category: race", "Image: a dog\nText: bye\nCategory: age"], [RACE, AGE]),
        ({"category": "race", "memes": [CAT, {**DOG, "category": "age"}]}, [RACE, AGE]),
        ({"memes": [{"target": "race", "items": [CAT]}, {"target": "age", "items": [DOG]}]}, [RACE, AGE]),
        ({"categories": ["race", "age"], "memes": [CAT, DOG]}, [CAT, DOG]),
        ({"category 1": CAT, "category 2": DOG}, [CAT, DOG]),
    ],
)
def test_a_category_that_is_plain_goes_with_its_item_and_any_other_is_left_out(shape, items):
    assert parse_items(json.dumps(shape)) == items


@pytest.mark.parametrize(
    ("content", "items"),
    [
        (
            '[{"image": "a cat", "text": "hello", "category": "race"}, '
            '{"image": "a dog", "text": "bye", "category": "ag',
            [RACE, DOG],
        ),
        (
            '[{"category": "race", "image": "a cat", "text": "hello"}, '
            '{"category": "age", "image": "a dog", "text": "bye"',
            [RACE, AGE],
        ),
        (
            '[{"image": "a cat", "text": "he (aka "the boss") said "no"", "category": "race"}]',
            [{"image": "a cat", "text": 'he (aka "the boss") said "no"', "category": "race"}],
        ),
        (
            "[['Image: a cat', 'Text: hello', 'Category: race'], ['Image: a dog', 'Text: bye', 'Category: age'],]",
            [RACE, AGE],
        ),
        (
            '{memes: [{image: "a cat", text: "hello", category: "race"}, {image: "a dog", text: "bye", category: "ag',
            [RACE, DOG],
        ),
        (
            '[{"image": "a cat", "text": "hello", "category": race}, '
            '{"image": "a dog", "text": "bye", "category": "age"}]',
            [CAT, AGE],
        ),
        ('[{"image": "a cat", "text": "hello"}, {"image": "a dog", "text": None, "category": "age"}]', [CAT]),
        (
            '{"text": "hello", "image": "a cat", "category": "race", '
            '"text": "bye", "image": "a dog", "category": "age"}',
            [RACE, AGE],
        ),
        ('{"image": "a cat", "text": "hello", "category": "race", "image": "a dog", "text": "bye"}', [CAT, DOG]),
    ],
)
def test_a_category_in_broken_json_is_no_part_of_a_text(content, items):
    assert parse_items(content) == items


@pytest.mark.parametrize(
    ("content", "items"),
    [
        ('{"image": "a cat", "text": "hello", "image": "a dog", "text": "bye"}', [CAT, DOG]),
        ('{"meme": {"image": "a cat", "text": "hello"}, "meme": {"image": "a dog", "text": "bye"}}', [CAT, DOG]),
        ('{"image": "a cat", "text": "hello"}\n{"image": "a dog", "text": "bye"}', [CAT, DOG]),
        (
            '[{"image": "a bus", "text": "late"}]\nBetter:\n'
            '[{"image": "a cat", "text": "hello"}, {"image": "a dog", "text": "bye"}]',
            [],
        ),
        (
            '[{"image": "a cat", "text": "hello", "why": "fun"}, {"image": "a dog", "text": "bye", "why": "so "fun""',
            [CAT, DOG],
        ),
        ('[{"image": "a cat", "text": "hello"}, {"image": "a dog", "text": "by', [CAT]),
        ('{memes: [{image: "a cat", text: "hello"}, {image: "a dog", text: "bye"}]}', [CAT, DOG]),
        ('[{"image": "a cat", "text": "hello"}, {"image": "a dog", "text": None}]', [CAT]),
        (
            '[{"text": "hello", "image": "a cat"}, {"text": "he said "no"", "image": "a dog"}]',
            [CAT, {"image": "a dog", "text": 'he said "no"'}],
        ),
        ('[{"image": "a cat \\ud83d", "text": "hello"}]', [CAT]),
        (json.dumps(json.dumps([CAT, DOG])), [CAT, DOG]),
        ("[[['a cat', 'hello'", []),
    ],
)
def test_broken_json_gives_what_is_whole_in_it(content, items):
    assert parse_items(content) == items


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"translations": {"2": "b", "1": "a"}}', ["a", "b"]),
        ('{"texts": ["x"], "translations": ["a"]}', ["a"]),
        ('[{"text": "x", "translation": "a"}]', ["a"]),
        ('{"translations": ["he said "no" to me", "b"]}', ['he said "no" to me', "b"]),
        ('["draft"]\nBetter:\n["a"]', None),
        ('{"translations": ["a", "b c', None),
        ('{"translations": ["a", "b"]', ["a", "b"]),
        ("1. a\n2. b", None),
    ],
)
def test_translations_in_other_shapes(content, found):
    assert parse_translations(content) == found
