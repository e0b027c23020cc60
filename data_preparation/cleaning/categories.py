"""The groups that a meme can attack, or be about: the names on the list, and which of them was meant."""

import re
from collections import Counter

from raw.raw_folder import Json

CATEGORIES = "race,religion,nationality,orientation,gender,age,class,health,other"
# What chat models say for a name, where it is on the list.
OTHER_WORDS = {
    "race": ("races", "racial", "racism", "ethnic", "ethnicity", "ethnic group", "race ethnicity", "race or ethnicity"),
    "religion": ("religions", "religious", "religious group", "faith"),
    "nationality": ("nationalities", "national origin", "migration", "immigration", "migrants", "immigrants"),
    "orientation": ("sexual orientation", "sexuality", "homophobia"),
    "gender": ("genders", "sex", "sexism", "gender identity"),
    "age": ("ages", "ageism", "age group"),
    "class": ("classes", "classism", "social class", "income", "job", "occupation", "socioeconomic status"),
    "health": ("illness", "disease", "disability", "disabilities", "ableism", "mental health", "mental illness"),
    "other": ("others",),
}
MEANT = {word: name for name, words in OTHER_WORDS.items() for word in words}
NOTHING = ("", "none", "no", "no group", "n a", "null", "nothing", "nobody", "not applicable")
MOST_NAMED = 10


def distinct_names(value: str) -> str:
    """Names with commas, in lower case, without blanks around them; ValueError for none, or for one named twice."""
    names = [name.strip().casefold() for name in value.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ValueError("names nothing, or one category twice")
    return ",".join(names)


def listed_category(said: object, categories: list[str]) -> str | None:
    """The name on the list that was meant, capitals and a few other words allowed; None where there is none."""
    word = _plain(said)
    names = {_plain(name): name for name in categories}
    return names.get(word) or names.get(MEANT.get(word, ""))


def unlisted_categories(items: list[Json], categories: list[str]) -> Counter[str]:
    """What a raw file's items call their category that is none of the list; to say nothing, or none, is no fault."""
    said = [item.get("category") for item in items if isinstance(item, dict)]
    unlisted = (str(word) for word in said if word is not None and not listed_category(word, categories))
    return Counter(word for word in unlisted if _plain(word) not in NOTHING)


def told_counts(counts: Counter[str]) -> str:
    """The most common with their counts, and how many others there are."""
    told = [f"{name} {count:,}" for name, count in counts.most_common(MOST_NAMED)]
    others = len(counts) - len(told)
    return ", ".join([*told, *([f"and {others:,} more"] if others else [])])


def _plain(said: object) -> str:
    """`Sexual_Orientation (gay men).` as `sexual orientation`; empty for what is no string."""
    bare = re.sub(r"\([^()]*\)", " ", said) if isinstance(said, str) else ""
    return re.sub(r"[\W_]+", " ", bare).strip().casefold()
