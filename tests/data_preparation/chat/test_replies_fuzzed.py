"""Whatever a model says around, inside and instead of its memes: each item read is one that a person would read there.

Hypothesis makes replies of known memes in many forms, and breaks them. What is read must be among these memes, whole
and in order; a plain form must give all of them.
"""

import json

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from chat.json_items import Members, names_items
from chat.replies import parse_items, read_items

# A machine that does other work, too, is no fault of the parser's.
fuzzed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Words that are structure elsewhere. None opens a value, and none is a label that a person would take for one.
WORDS = (
    "hello",
    "the",
    "cat",
    "it's",
    '"no"',
    "(again)",
    "[0]",
    "{x}",
    "1.",
    "Me:",
    "late,",
    "you—me",
    "#1",
    "**",
    "_",
    "|",
    "'tis",
    "text",
    "image",
    "null",
    "]",
    "}",
    "\\",
    "/",
    "<b>",
    "你好，世界",
    "மழை",
    "😀",
    "I can't",
    "---",
    "2)",
    "}, {",
    '"',
    "memes",
)
PLAIN_WORDS = (
    "hello",
    "cat",
    "it's",
    "late",
    "bus",
    "again",
    "you",
    "me",
    "你好",
    "மழை",
    "😀",
    "I",
    "2",
    "(again)",
    "Me:",
)


def values(words):
    opening = st.sampled_from(["When", "Why", "Nobody", "Today", "今天"])
    return st.tuples(opening, st.lists(st.sampled_from(words), max_size=6)).map(
        lambda parts: " ".join([parts[0], *parts[1]])
    )


def memes(words, least=1):
    item = st.fixed_dictionaries({"image": values(words), "text": values(words)})
    return st.lists(item, min_size=least, max_size=5, unique_by=lambda item: (item["image"], item["text"]))


def dumped(found):
    return st.sampled_from([json.dumps(found), json.dumps(found, ensure_ascii=False), json.dumps(found, indent=2)])


CATEGORIES = ("race", "sexual orientation", "Race/Ethnicity", "other", "none", "健康")


def with_categories(found):
    """The same memes, each with a category."""
    return st.lists(st.sampled_from(CATEGORIES), min_size=len(found), max_size=len(found)).map(
        lambda said: [{**item, "category": category} for item, category in zip(found, said, strict=True)]
    )


def without_category(item):
    return {name: value for name, value in item.items() if name != "category"}


def key(name):
    return {"image": "Image", "text": "TEXT", "category": "TargetGroup"}[name]


JSON_SHAPES = {
    "list": lambda items: items,
    "object": lambda items: {"memes": items},
    "deep": lambda items: {"response": {"count": len(items), "data": {"items": items}}},
    "capitals": lambda items: [{**{key(name): item[name] for name in item}, "tags": ["a", "b"]} for item in items],
    "numbered": lambda items: {"memes": {str(number): item for number, item in enumerate(items, start=1)}},
    "named": lambda items: {f"meme_{number}": item for number, item in enumerate(items, start=1)},
    "columns": lambda items: {name: [item[name] for item in items] for name in items[0]},
    "plural": lambda items: {f"{name}s": [item[name] for item in items] for name in ("text", "image")},
    "numbered members": lambda items: {
        f"{name}_{number}": item[name] for number, item in enumerate(items, start=1) for name in item
    },
    "pairs": lambda items: [[item["image"], item["text"]] for item in items],
    "header": lambda items: [[*items[0]], *([item[name] for name in items[0]] for item in items)],
    "flat": lambda items: [f"{name.capitalize()}: {item[name]}" for item in items for name in items[0]],
    "in a string": lambda items: {"answer": json.dumps({"memes": items})},
}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["image", "text", "stop"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["image", "text", "memes", "type", "content", "parts", "thinking", "1"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def with_members(value):
    """As the parser sees it."""
    return json.loads(json.dumps(value), object_pairs_hook=Members)


OPENINGS = ("", "Sure! Here are your memes:\n\n", "Here you go [smiles]:\n```json\n", "I wrote these {n} memes.\n")
REMARKS = (
    "",
    "\n```\nI hope these fit!",
    "\n\nLet me know if you would like more.",
    "\n\nI can't create more offensive content than this.",
    "\n\n---\n*Each of them plays on a stereotype.*",
    "\n\n希望对您有帮助！",
    "\n\nNote: these are fictional [1].",
)


@fuzzed
@given(
    st.data(), memes(WORDS), st.sampled_from(sorted(JSON_SHAPES)), st.sampled_from(OPENINGS), st.sampled_from(REMARKS)
)
def test_json_of_any_shape_is_read_whole(data, items, shape, opening, remark):
    assert parse_items(opening + data.draw(dumped(JSON_SHAPES[shape](items))) + remark) == items


@fuzzed
@given(
    st.data(),
    memes(WORDS),
    st.sampled_from(sorted(JSON_SHAPES.keys() - {"pairs", "plural"})),
    st.sampled_from(OPENINGS),
    st.sampled_from(REMARKS),
)
def test_a_category_is_read_with_its_item_in_json_of_any_shape(data, items, shape, opening, remark):
    items = data.draw(with_categories(items))
    assert parse_items(opening + data.draw(dumped(JSON_SHAPES[shape](items))) + remark) == items


@fuzzed
@given(
    memes(WORDS), st.lists(json_values, min_size=5, max_size=5), st.sampled_from(["category", "Target group", "group"])
)
def test_a_strange_category_costs_no_item(items, strange, name):
    said = [{**item, name: value} for item, value in zip(items, strange, strict=False)]
    assume(not any(map(names_items, map(with_members, strange))))
    assert list(map(without_category, parse_items(json.dumps(said)))) == items


@fuzzed
@given(memes(WORDS), st.sampled_from(["\n", ",\n", "\n\nAnd another one:\n\n", "\n```\n\n```json\n"]))
def test_one_object_after_another_is_read_whole(items, between):
    assert parse_items(between.join(map(json.dumps, items))) == items


@fuzzed
@given(memes(WORDS, least=2))
def test_repeated_keys_lose_nothing(items):
    members = [f"{json.dumps(name)}: {json.dumps(item[name])}" for item in items for name in ("image", "text")]
    assert parse_items("{" + ", ".join(members) + "}") == items


@fuzzed
@given(st.data(), memes(WORDS, least=2))
def test_repeated_keys_have_the_category_that_stands_with_them(data, items):
    items = data.draw(with_categories(items))
    order = data.draw(st.permutations(["image", "text", "category"]))
    members = [f"{json.dumps(name)}: {json.dumps(item[name])}" for item in items for name in order]
    assert parse_items("{" + ", ".join(members) + "}") == items


SHAPES_TO_BREAK = st.sampled_from(["list", "object", "numbered", "capitals", "pairs"])


@fuzzed
@given(st.data(), memes(WORDS), SHAPES_TO_BREAK)
def test_json_that_is_cut_off_gives_whole_items_or_none(data, items, shape):
    written = data.draw(dumped(JSON_SHAPES[shape](items)))
    written = written[: data.draw(st.integers(0, len(written)))]
    found = parse_items(written)
    assert all(item in items for item in found), (written, found)


@fuzzed
@given(
    st.data(),
    memes([word for word in WORDS if word != '"']),
    st.sampled_from(["list", "object", "numbered", "capitals", "flat"]),
    st.booleans(),
)
def test_broken_json_takes_no_category_into_a_text_and_gives_none_to_another_item(data, items, shape, is_cut):
    items = data.draw(with_categories(items))
    order = data.draw(st.permutations(["image", "text", "category"]))
    ordered = [{name: item[name] for name in order} for item in items]
    written = data.draw(dumped(JSON_SHAPES[shape](ordered)))
    written = written[: data.draw(st.integers(0, len(written)))] if is_cut else written.replace('\\"', '"')
    found = parse_items(written)
    assert all(item in items or item in map(without_category, items) for item in found), (written, found)


@fuzzed
@given(st.data(), memes([word for word in WORDS if word != '"']), SHAPES_TO_BREAK)
def test_json_with_bare_quotes_in_its_strings_gives_whole_items_or_none(data, items, shape):
    written = data.draw(dumped(JSON_SHAPES[shape](items))).replace('\\"', '"')
    found = parse_items(written)
    assert all(item in items for item in found), (written, found)


LABELS = st.sampled_from(["{}:", "**{}:**", "**{}**:", "- {}:", "* **{}:**", "{} description:", "__{}:__", "#### {}:"])
NUMBERS = st.sampled_from(
    ["", "{}. ", "{}) ", "**Meme {}**\n", "### Meme {}: the next\n", "Meme #{}:\n", "---\n", "{}.\n"]
)
AFTER_ITEM = st.sampled_from(
    [
        "",
        "",
        "Explanation: it plays on: being late\n",
        "\n*(This one is gentle.)*\n",
        "\nNote: no real people.\n",
        "\n---\n",
    ]
)


@fuzzed
@given(
    st.data(),
    memes(PLAIN_WORDS),
    LABELS,
    NUMBERS,
    AFTER_ITEM,
    st.sampled_from([("image", "text"), ("text", "image")]),
    st.sampled_from(["{}", '"{}"', "“{}”"]),
    st.sampled_from(OPENINGS[:2]),
    st.sampled_from(REMARKS[2:]),
)
def test_lines_with_labels_give_every_meme_and_nothing_around(
    data, items, label, number, after, order, quotes, opening, remark
):
    written = "\n".join(
        number.format(count)
        + "".join(f"{label.format(name.capitalize())} {quotes.format(item[name])}\n" for name in order)
        + after
        for count, item in enumerate(items, start=1)
    )
    assert parse_items(opening + written.rstrip() + remark) == items, opening + written + remark


@fuzzed
@given(
    st.data(),
    memes(PLAIN_WORDS),
    LABELS.filter(lambda label: "description" not in label),
    NUMBERS,
    AFTER_ITEM,
    st.permutations(["image", "text", "category"]),
    st.sampled_from(["{}", '"{}"', "“{}”"]),
    st.sampled_from(OPENINGS[:2]),
    st.sampled_from(REMARKS[2:]),
)
def test_lines_with_labels_give_every_category_to_its_meme(
    data, items, label, number, after, order, quotes, opening, remark
):
    items = data.draw(with_categories(items))
    written = "\n".join(
        number.format(count)
        + "".join(f"{label.format(name.capitalize())} {quotes.format(item[name])}\n" for name in order)
        + after
        for count, item in enumerate(items, start=1)
    )
    assert parse_items(opening + written.rstrip() + remark) == items, opening + written + remark


@fuzzed
@given(
    st.data(),
    memes(PLAIN_WORDS),
    st.sampled_from([" | ", ", ", " - ", "; "]),
    st.sampled_from(["{}:", "**{}:**", "**{}**:"]),
    st.permutations(["text", "category"]),
)
def test_labels_in_a_row_give_every_category_to_its_meme(data, items, between, label, order):
    items = data.draw(with_categories(items))
    rows = [
        f"{count}. " + between.join(f"{label.format(name.capitalize())} {item[name]}" for name in ["image", *order])
        for count, item in enumerate(items, start=1)
    ]
    assert parse_items("\n".join(rows)) == items, rows


@fuzzed
@given(
    st.data(),
    memes(WORDS),
    LABELS,
    NUMBERS,
    AFTER_ITEM,
    st.sampled_from(["{}", '"{}"']),
    st.sampled_from(["", "\n", "\n\n"]),
)
def test_lines_of_which_some_are_lost_or_moved_pair_no_words_of_two_memes(
    data, items, label, number, after, quotes, between
):
    blocks, has_pair = [], False
    for count, item in enumerate(items, start=1):
        names = data.draw(
            st.sampled_from([("image", "text"), ("image", "text"), ("text", "image"), ("image",), ("text",)])
        )
        lines = "".join(f"{label.format(name.capitalize())} {quotes.format(item[name])}\n" for name in names)
        has_pair = has_pair or len(names) == 2
        blocks.append(number.format(count) + lines + after)
    # Without any pair that stands out, labels that take turns are all that a person sees, too.
    has_evidence = (number or between) and has_pair
    found = parse_items(between.join(blocks))
    assert not has_evidence or all(item in items for item in found), (between.join(blocks), found)


THOUGHTS = (
    "<think>{}</think>",
    "{}</think>",
    "<thinking>\n{}\n</thinking>",
    "<thought>{}</thought>\n",
    "<reasoning>{}</reasoning>",
    "[THINK]{}[/THINK]",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "analysisThe user wants memes. {}assistantfinal",
    "<|begin_of_thought|>{}<|end_of_thought|>\n",
    "◁think▷{}◁/think▷",
    "Here is my thought process: {}\nHere is my response:\n",
    "<think>One <think> more: {}</think>",
    "{}\n\n**Final answer:**\n",
)


@fuzzed
@given(memes(WORDS), memes(PLAIN_WORDS), st.sampled_from(THOUGHTS), st.sampled_from(["json", "lines"]))
def test_drafts_in_thoughts_are_no_data(items, drafts, thoughts, form):
    draft = (
        json.dumps(drafts) if form == "json" else "\n".join(f"Image: {d['image']}\nText: {d['text']}" for d in drafts)
    )
    content = thoughts.replace("{}", draft) + json.dumps({"memes": items})
    assert read_items({"choices": [{"message": {"content": content}}]}) == (items, None)


@fuzzed
@given(memes(PLAIN_WORDS), st.sampled_from(THOUGHTS[:1] + THOUGHTS[2:]))
def test_thoughts_that_never_end_give_nothing(drafts, thoughts):
    content = thoughts.split("{}")[0] + json.dumps(drafts)
    if thoughts.startswith(("Here is", "{}")):  # only words: nothing tells that these are thoughts
        return
    assert read_items({"choices": [{"message": {"content": content}}]}) == ([], "empty")


@fuzzed
@given(json_values, json_values)
@example({"type": []}, None)
@example([{"type": "text", "text": [{"type": "thinking"}]}], ["stop"])
def test_no_content_however_typed_ends_in_an_error(content, finish):
    for message in ({"content": content}, content):
        items, reason = read_items({"choices": [{"message": message, "finish_reason": finish}]})
        assert bool(items) != bool(reason)
        assert all(item["image"].strip() and item["text"].strip() for item in items)
    read_items({"choices": content})


@fuzzed
@given(st.text(st.sampled_from("[]{}\":,\\n'“”imagetextIT 1.*#-_|<>/thk你\n"), max_size=120))
def test_no_structure_ends_in_an_error(content):
    assert all(item["image"].strip() and item["text"].strip() for item in parse_items(content))


def test_brackets_without_end_are_no_traceback():
    for content in ("[" * 100_000, '{"memes": ' * 5_000, "[{" * 5_000 + "1" * 5_000):
        assert parse_items(content) == []
