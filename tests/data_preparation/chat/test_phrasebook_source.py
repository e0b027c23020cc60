"""The phrasebook as a source of replies: its order, its slots, its errors; and what is written in it."""

import json

import pytest

from chat.phrasebook_source import (
    LANGUAGES,
    PhrasebookError,
    fill,
    fillings_of,
    generation_reply,
    key_digest,
    load_phrasebook,
    runs_in,
    sequence,
    translation_reply,
)
from generate_data import PROMPT_KEYS
from raw.text_checks import translation_problem

SLOTS = {
    "food": [
        {"en": "laksa", "zh": "叻沙", "ms": "laksa", "ta": "லக்சா"},
        {"en": "satay", "zh": "沙爹", "ms": "sate", "ta": "சாத்தே"},
    ]
}


def idea(number, text="I like {food}", **changed):
    return {
        "id": f"i{number}",
        "key": "general_ok",
        "area": "everyday",
        "kind": "food",
        "image": f"a plate {number}",
        "en": f"{text} {number}",
        "zh": "我喜欢{food}",
        "ms": "Saya suka {food}",
        "ta": "எனக்கு {food} பிடிக்கும்",
        **changed,
    }


def book_of(folder, *ideas):
    (folder / "ok").mkdir()
    (folder / "slots.json").write_text(json.dumps(SLOTS))
    (folder / "ok" / "everyday.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in ideas))
    return load_phrasebook(folder)


def test_the_first_pass_gives_every_idea_once_and_a_second_its_other_fillings(tmp_path):
    plain = dict.fromkeys(LANGUAGES, "plain")
    book = book_of(tmp_path, *map(idea, range(6)), idea(6, **plain))
    pairs = sequence(book, "general_ok", seed=1)
    assert len(pairs) == 13 and runs_in(pairs, 5) == 3
    assert {found.id for found, _ in pairs[:7]} == {f"i{number}" for number in range(7)}
    assert {found.id for found, _ in pairs[7:]} == {f"i{number}" for number in range(6)}, "i6 has one filling only"
    texts = [fill(found.templates["en"], filling, "en") for found, filling in pairs]
    assert len(set(texts)) == 13
    assert pairs == sequence(book, "general_ok", seed=1) != sequence(book, "general_ok", seed=2)


def test_a_reply_looks_like_a_chat_completion(tmp_path):
    pairs = sequence(book_of(tmp_path, *map(idea, range(3))), "general_ok", seed=1)
    reply = generation_reply(pairs, "general_ok", 2, items_a_reply=2)
    message = reply["choices"][0]["message"]
    assert {"id", "object", "model", "created", "usage"} <= set(reply) and reply["object"] == "chat.completion"
    items = json.loads(message["content"])
    assert [set(item) for item in items] == [{"image", "text", "category"}] * 2
    assert {item["category"] for item in items} == {"everyday"}, "the name of the file that the idea is in"
    assert message["idea_ids"] == [found.id for found, _ in pairs[2:4]]


def test_an_idea_that_moves_to_another_category_is_noticed(tmp_path):
    before = book_of(tmp_path, idea(1))
    (tmp_path / "ok" / "everyday.jsonl").rename(tmp_path / "ok" / "class.jsonl")
    moved = load_phrasebook(tmp_path)
    assert {found.category for found in moved.ideas.values()} == {"class"}
    assert key_digest(moved, "general_ok") != key_digest(before, "general_ok")


def test_a_line_about_a_thing_is_about_no_group(tmp_path):
    book = book_of(tmp_path, idea(1), idea(2, form="other_target"), idea(3, form="quoted"))
    assert [found.category for found in book.ideas.values()] == ["everyday", "none", "everyday"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{food} is life", "Laksa is life"),
        ("Eat. {food} again", "Eat. Laksa again"),
        ("I eat {food}", "I eat laksa"),
        ('"{food}!" she said', '"Laksa!" she said'),
        ("{food}, {food}", "Laksa, laksa"),
        ("Now: {food}", "Now: laksa"),
    ],
)
def test_a_slot_that_opens_a_sentence_gets_a_capital(template, text):
    assert fill(template, {"food": SLOTS["food"][0]}, "en") == text


def test_a_translation_fills_the_same_slot(tmp_path):
    book = book_of(tmp_path, idea(1))
    reply = translation_reply(book, [{"group": "i1", "text": "I like satay 1"}], "zh", "name")
    assert json.loads(reply["choices"][0]["message"]["content"]) == {"translations": ["我喜欢沙爹"]}


@pytest.mark.parametrize(
    "entry",
    [
        {**idea(1), "ta": "no slot"},
        {**idea(1), "image": "{drink} on a table"},
        {"id": "i1"},
        idea(0),
        {**idea(1), **dict.fromkeys(LANGUAGES, "{nothing}")},
    ],
    ids=["slots differ", "image slot", "fields", "same id", "unknown slot"],
)
def test_a_broken_line_is_named(tmp_path, entry):
    with pytest.raises(PhrasebookError, match=r"ok/everyday\.jsonl:2"):
        book_of(tmp_path, idea(0), entry)


@pytest.fixture(scope="module")
def book(repo):
    return load_phrasebook(repo / "data_preparation" / "phrasebook")


def test_the_phrasebook_has_ideas_for_every_key(book):
    assert {found.key for found in book.ideas.values()} == set(PROMPT_KEYS)


def test_there_are_many_ideas_of_both_labels(book):
    labels = [found.key.rsplit("_", 1)[1] for found in book.ideas.values()]
    assert labels.count("ok") >= 400 and labels.count("offensive") >= 300


def test_its_wordings_pass_the_checks_of_translations(book):
    problems = [
        (found.id, language, problem)
        for found in book.ideas.values()
        for language in ("zh", "ms", "ta")
        for filling in fillings_of(book, found)[:3]
        if (
            problem := translation_problem(
                fill(found.templates["en"], filling, "en"), fill(found.templates[language], filling, language), language
            )
        )
    ]
    assert problems == []


def test_no_two_fillings_of_an_idea_read_alike(book):
    for found in book.ideas.values():
        texts = [fill(found.templates["en"], filling, "en") for filling in fillings_of(book, found)]
        assert len(set(texts)) == len(texts), found.id


def test_twins_share_a_group_and_are_translated_each_by_its_own_wording(tmp_path):
    harmless = idea(1, group="twins", ta="{food} நல்லது")
    harmful = idea(2, group="twins", key="general_offensive", ta="{food} கெட்டது")
    book = book_of(tmp_path, harmless, harmful)
    items = []
    for key in ("general_ok", "general_offensive"):
        message = generation_reply(sequence(book, key, seed=1), key, 1, items_a_reply=1)["choices"][0]["message"]
        assert message["idea_ids"] == ["twins"]
        items += [{**item, "group": "twins"} for item in json.loads(message["content"])]
    reply = translation_reply(book, items, "ta", "twins")
    translated = json.loads(reply["choices"][0]["message"]["content"])["translations"]
    assert [text.split()[-1] for text in translated] == ["நல்லது", "கெட்டது"]
