"""The embedded source of text: written ideas with slots, in four languages, answered as a chat model would.

A run's reply depends on the phrasebook, the prompt key, the run number and the seed alone. Run r takes items
(r-1)*n to r*n of one sequence a key: a first pass gives every idea of the key once, each further pass gives every
idea that still has one a new filling of its slots.
"""

import hashlib
import itertools
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

from raw.raw_folder import Json
from raw.text_checks import LANGUAGE_NAMES

PHRASEBOOK = "offline/phrasebook"  # the MODEL_ID that stands for it
NO_GROUP = "other_target"  # the form of a line that says of a thing what its neighbours say of a group
LANGUAGES = ("en", *LANGUAGE_NAMES.values())
Wording = dict[str, str]  # language code: the wording of one thing in that language
Filling = dict[str, Wording]  # slot: what fills it
SLOT = re.compile(r"\{(\w+)\}")
# A slot opens a sentence at the start, or after a full stop, with opening quotes and brackets passed over.
SENTENCE_OPENS = re.compile(r"(?:^|[.!?…][\"'”’)]*\s+)[\"'“‘(]*$")


class PhrasebookError(Exception):
    """The phrasebook is broken or cannot give what was requested; the message says where, or what it can give."""


@dataclass(frozen=True)
class Idea:
    """One written idea: templates by language, the English image description, and the group that it is about."""

    id: str
    group: str  # its own id, or what it shares with its twin of the other label
    key: str
    image: str
    category: str  # the name of its file; none where it is about no group
    templates: dict[str, str]


@dataclass(frozen=True)
class Phrasebook:
    """Ideas by id, and the wordings that each slot can take, by language."""

    ideas: dict[str, Idea]
    slots: dict[str, list[Wording]]

    def of_group(self, group: str) -> list[Idea]:
        return [idea for idea in self.ideas.values() if idea.group == group]


def load_phrasebook(folder: Path) -> Phrasebook:
    """Read <folder>/slots.json and <folder>/<label>/<category>.jsonl; errors name file and line."""
    slots = json.loads((folder / "slots.json").read_text(encoding="utf-8"))
    ideas: dict[str, Idea] = {}
    for path in sorted(folder.glob("*/*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.strip():
                _add_idea(ideas, slots, line, path, number)
    return Phrasebook(ideas, slots)


def _add_idea(ideas: dict[str, Idea], slots: dict[str, list[Wording]], line: str, path: Path, number: int) -> None:
    where = f"{path.parent.name}/{path.name}:{number}"
    try:
        entry = json.loads(line)
        templates = {language: entry[language] for language in LANGUAGES}
        category = "none" if entry.get("form") == NO_GROUP else path.stem
        idea = Idea(entry["id"], entry.get("group", entry["id"]), entry["key"], entry["image"], category, templates)
    except (ValueError, KeyError, TypeError) as error:
        raise PhrasebookError(f"phrasebook {where}: not an idea ({type(error).__name__}: {error})") from None
    used = {language: set(SLOT.findall(template)) for language, template in idea.templates.items()}
    unknown = set(SLOT.findall(idea.image)) - used["en"] | used["en"] - set(slots)
    if unknown or any(names != used["en"] for names in used.values()):
        raise PhrasebookError(f"phrasebook {where}: slots differ between languages or are unknown: {used}")
    if idea.id in ideas:
        raise PhrasebookError(f"phrasebook {where}: the id {idea.id} is taken")
    ideas[idea.id] = idea


def fill(template: str, filling: Filling, language: str) -> str:
    """Put the filling's wording into the template, with a capital where a slot opens a sentence."""

    def wording(match: re.Match[str]) -> str:
        word = filling[match[1]][language]
        opens = SENTENCE_OPENS.search(template[: match.start()])
        return word[0].upper() + word[1:] if opens else word

    return SLOT.sub(wording, template)


def fillings_of(book: Phrasebook, idea: Idea, seed: int = 1) -> list[Filling]:
    """Every filling of the idea's slots in a seeded order; one empty filling for an idea without slots."""
    names = sorted(set(SLOT.findall(idea.templates["en"])))
    choices = [
        dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*(book.slots[name] for name in names))
    ]
    random.Random(f"{seed}:{idea.id}").shuffle(choices)
    return choices


def sequence(book: Phrasebook, key: str, seed: int) -> list[tuple[Idea, Filling]]:
    """All (idea, filling) pairs of a key in the order in which runs take them."""
    ideas = sorted((idea for idea in book.ideas.values() if idea.key == key), key=lambda idea: idea.id)
    remaining = [(idea, fillings_of(book, idea, seed)) for idea in ideas]
    ordered = []
    for turn in range(max((len(fillings) for _, fillings in remaining), default=0)):
        remaining = [(idea, fillings) for idea, fillings in remaining if turn < len(fillings)]
        random.Random(f"{seed}:{key}:{turn}").shuffle(remaining)
        ordered += [(idea, fillings[turn]) for idea, fillings in remaining]
    return ordered


def runs_in(pairs: list[tuple[Idea, Filling]], items_a_reply: int) -> int:
    return -(-len(pairs) // items_a_reply)


def key_digest(book: Phrasebook, key: str) -> str:
    """Hash of everything that a key's sequence is made of, so that an edited phrasebook is noticed."""
    ideas = sorted((idea for idea in book.ideas.values() if idea.key == key), key=lambda idea: idea.id)
    slots = {name: book.slots[name] for idea in ideas for name in SLOT.findall(idea.templates["en"])}
    groups = {idea.id: idea.group for idea in ideas if idea.group != idea.id}
    said = [[idea.id, idea.image, idea.category, idea.templates] for idea in ideas]
    written = [said, slots, *([groups] if groups else [])]
    return hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()[:16]


def generation_reply(pairs: list[tuple[Idea, Filling]], key: str, run: int, items_a_reply: int) -> Json:
    """A chat completion whose content is a JSON list of {"image", "text", "category"}; idea_ids name their groups."""
    chosen = pairs[(run - 1) * items_a_reply : run * items_a_reply]
    items = [
        {
            "image": fill(idea.image, filling, "en"),
            "text": fill(idea.templates["en"], filling, "en"),
            "category": idea.category,
        }
        for idea, filling in chosen
    ]
    return _completion(f"phrasebook-{key}-{run:04d}", items, [idea.group for idea, _ in chosen])


def translation_reply(book: Phrasebook, items: list[Json], language: str, name: str) -> Json:
    """A chat completion whose content is {"translations": [...]}, found by group and English wording."""
    written = [_translated(book, item["group"], item["text"], language) for item in items]
    return _completion(name, {"translations": written}, [item["group"] for item in items])


def _translated(book: Phrasebook, group: str, text: str, language: str) -> str:
    ideas = book.of_group(group)
    if not ideas:
        raise PhrasebookError(
            f"the phrasebook translates only its own ideas, and {group} is none of them: "
            "set MODEL_ID to a chat model and API_KEY to translate other text"
        )
    for idea in ideas:
        for filling in fillings_of(book, idea):
            if fill(idea.templates["en"], filling, "en") == text:
                return fill(idea.templates[language], filling, language)
    raise PhrasebookError(f"the phrasebook's idea {group} no longer gives {text!r}: generate the folder again")


def _completion(name: str, content: list[Json] | Json, idea_ids: list[str]) -> Json:
    message = {"role": "assistant", "content": json.dumps(content, ensure_ascii=False), "idea_ids": idea_ids}
    return {
        "id": name,
        "object": "chat.completion",
        "created": 0,
        "model": PHRASEBOOK,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
