"""Memes as lines with labels: what ends a value, and which image belongs to which text."""

import pytest

from chat.prose_items import prose_items
from chat.replies import parse_items

CAT, DOG, BUS = (
    {"image": "a cat", "text": "hello"},
    {"image": "a dog", "text": "bye"},
    {"image": "a bus", "text": "late"},
)
ITEM = "Image: a cat\nText: hello"


@pytest.mark.parametrize(
    "after",
    [
        "\n\nI hope these fit! Let me know if you would like more.",
        "\nLet me know if you want others.",
        "\n\nI can't create more offensive content than this.",
        "\nI cannot create any more hateful content.",
        "\n\n---\nAnything at all stands behind a rule",
        "\n---",
        "\n\n### What these do\nThey play on being late.",
        "\nExplanation: cats do not greet.",
        "\n**Note:** no real cats.",
        "\n\n希望这些对您有帮助！",
        "\n\nSemoga membantu!",
        "\n\n_All are made up._",
        "\n(Explanation: a greeting.)",
        "\nWhy it's harmful: it leaves dogs out.",
    ],
)
def test_what_follows_the_last_meme_is_no_part_of_its_text(after):
    assert prose_items(ITEM + after) == [CAT]


@pytest.mark.parametrize(
    "between",
    [
        "\n\n---\n\n",
        "\n***\n",
        "\n\n### Meme 2\n",
        "\n\n**Meme 2: The Dog**\n",
        "\n\nMeme #2 - the dog:\n",
        "\n\n2.\n",
        "\n2. The Dog\n",
        "\n\nSecond meme:\n",
        "\n\n*This one is about greetings.*\n\n",
        "\n\n(A play on greetings.)\n\n",
        "\nExplanation: a greeting.\n\n",
        "\n\nNote: the next is gentle.\n\n",
        "\n\nHere is another one:\n\n",
        "\n\n2. ",
        "\n\n",
        "\n",
        "\n\n> An aside.\n\n",
    ],
)
def test_what_stands_between_two_memes_is_no_part_of_either(between):
    assert prose_items(f"{ITEM}{between}Image: a dog\nText: bye") == [CAT, DOG]


def test_a_paragraph_that_may_be_the_texts_end_leaves_the_meme_out():
    assert prose_items(f"{ITEM}\n\nand good night\n\nImage: a dog\nText: bye") == [DOG]


@pytest.mark.parametrize(
    "text",
    [
        "first line\nsecond line",
        "Mom: clean up\nMe: five minutes",
        "My plan:\n1. wake up\n2. sleep",
        '"a" and "b"',
        "bye (again)",
        "her text: come home",
        "If you like this\nyou are late",
    ],
)
def test_a_text_keeps_its_own_lines_and_marks(text):
    assert prose_items(f"Image: a cat\nText: {text}\n\nImage: a dog\nText: bye") == [
        {"image": "a cat", "text": text},
        DOG,
    ]


@pytest.mark.parametrize(
    "written",
    [
        '"hello"',
        "“hello”",
        '**"hello"**',
        "**hello**",
        "hello**",
        '"hello"\n\nand more',
        "\nhello",
        '\n\n> "hello"',
        "hello<br>",
    ],
)
def test_marks_around_a_value_are_none_of_it(written):
    content = f"**Image:** a cat\n**Text:** {written}\n\n**Image:** a dog\n**Text:** bye"
    assert prose_items(content) == [CAT, DOG]


def test_quotes_of_a_remark_are_none_of_the_text():
    for text in ("“hello” 😂", '"hello" 😂', '"hello', "'tis late"):
        assert prose_items(f"Image: a cat\nText: {text}\n\nI hope you like “these” and \"those\" and 'others'") == [
            {"image": "a cat", "text": text}
        ]


def test_quotes_hold_a_text_together_over_a_blank_line():
    assert prose_items('Image: a cat\nText: "TOP\n\nBOTTOM"\n\nI hope it fits.') == [
        {"image": "a cat", "text": "TOP\n\nBOTTOM"}
    ]


@pytest.mark.parametrize(
    ("content", "items"),
    [
        (
            "1. Text: hello\n   Image: a cat\n2. Text: bye\n   Image: a dog\n3. Text: late\n   Image: a bus",
            [CAT, DOG, BUS],
        ),
        ("Text: hello\nImage: a cat\nText: bye\nImage: a dog", [CAT, DOG]),
        ("1. Image: a cat\n2. Text: bye\n   Image: a dog\n3. Text: late\n   Image: a bus", [DOG, BUS]),
        ("Image: a cat\n\nText: bye\nImage: a dog\n\nText: late\nImage: a bus\n\nText: x", [DOG, BUS]),
        ("Image 1: a cat\nImage 2: a dog\nText 1: hello\nText 2: bye", [CAT, DOG]),
        ("Image: a cat\nImage: a dog\nText: hello\nText: bye", []),
        ("Meme 1\nImage: a cat\nMeme 2\nText: bye", []),
        ("Image: a cat\n---\nText: bye", []),
        ("Image: a cat\nText: TOP\nText: BOTTOM", []),
        ("1. Image: a cat\n2. Text: hello\n3. Image: a dog\n4. Text: bye", [CAT, DOG]),
        ("**Image:** a cat\n\n**Text:** hello\n\n**Image:** a dog\n\n**Text:** bye", [CAT, DOG]),
        (
            "## Cats\nImage: a cat\nText: hello\n\nImage: a bus\nText: late\n## Dogs\nImage: a dog\nText: bye",
            [CAT, BUS, DOG],
        ),
        ("The Cat\nImage: a cat\nText: hello\n\nThe Dog\nImage: a dog\nText: bye", [CAT, DOG]),
        ("1. Image: a cat | Text: hello\n2. Image: a dog | Text: bye", [CAT, DOG]),
        ("1. **Image**: a cat **Text**: hello\n2. **Image**: a dog **Text**: bye", [CAT, DOG]),
        ("- **Image:** a cat, **Text:** hello\n- **Image:** a dog, **Text:** bye", [CAT, DOG]),
        ("Image: a phone, text: no\nText: hello", [{"image": "a phone, text: no", "text": "hello"}]),
        ("- image: a cat\n  text: |\n    hello\n- image: a dog\n  text: >-\n    bye", [CAT, DOG]),
        ("Image: a cat\nScene: a kitchen\nText: hello\n**Mood:** sour", [CAT]),
        ("Image:\nText: hello\n\nImage: a dog\nText: bye", [DOG]),
    ],
)
def test_each_image_gets_its_own_text_or_none(content, items):
    assert parse_items(content) == items


RACE, AGE = {**CAT, "category": "race"}, {**DOG, "category": "age"}


@pytest.mark.parametrize(
    ("content", "items"),
    [
        (f"1. {ITEM}\nCategory: race\n\n2. Image: a dog\nText: bye\nCategory: age\n\nI hope these fit!", [RACE, AGE]),
        (f"**Category:** race\n{ITEM}\n\n**Category:** age\nImage: a dog\nText: bye", [RACE, AGE]),
        (
            "1. Target group: race\n   Image: a cat\n   Text: hello\n"
            "2. Target group: age\n   Image: a dog\n   Text: bye",
            [RACE, AGE],
        ),
        ("Image: a cat\n\nCategory: race\n\nText: hello\n\nImage: a dog\n\nCategory: age\n\nText: bye", [RACE, AGE]),
        ("#### Image: a cat\n#### Category: race\n#### Text: hello", [RACE]),
        ("Image 1: a cat\nText 1: hello\nCategory 1: race\nImage 2: a dog\nText 2: bye\nCategory 2: age", [RACE, AGE]),
        (f'{ITEM}\nGroup attacked: "race"', [RACE]),
        ("1. Image: a cat | Text: hello | Category: race\n2. Image: a dog | Text: bye | Category: age", [RACE, AGE]),
        ("- **Image:** a cat, **Category:** race, **Text:** hello", [RACE]),
        ("1. **Image**: a cat **Text**: hello **Category**: race", [RACE]),
        ('Image: a cat\nText: "hello" (Category: race)\n\nImage: a dog\nText: bye [category: age]', [RACE, AGE]),
        ("1. Image: a cat, Text: hello. Category: race", [{**RACE, "text": "hello."}]),
    ],
)
def test_a_category_is_no_part_of_a_text_and_goes_with_its_item(content, items):
    assert parse_items(content) == items


@pytest.mark.parametrize(
    ("content", "items"),
    [
        (f"{ITEM}\nCategory: race\n\nImage: a dog\nText: bye", [CAT, DOG]),
        (f"Category: race\n\n{ITEM}\n\nImage: a dog\nText: bye", [CAT, DOG]),
        (f"{ITEM}\nCategory: race\nTarget: women", [CAT]),
        ("Image: a cat\nText: hello\nand a category of its own", [{**CAT, "text": "hello\nand a category of its own"}]),
        ("Image: a cat\nText: my plan, category: sleep", [{**CAT, "text": "my plan, category: sleep"}]),
        ("Image: a cat; text: sorted by category: late", [{**CAT, "text": "sorted by category: late"}]),
    ],
)
def test_where_it_is_not_told_whose_a_category_is_no_item_has_one(content, items):
    assert parse_items(content) == items
