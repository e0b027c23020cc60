"""Tamil in Latin letters, for models whose tokenizer has no tokens for Tamil.

SmolLM2's takes 15 tokens for a Tamil word, most of them single bytes, and 4 for the same word in Latin letters, as
people also write Tamil in chats: `கோபம் வருது` is `koabam varuthu`. Letters that sound alike fall together. A model that
knows Tamil reads it better in its own letters.
"""

from unicodedata import normalize

CONSONANTS = {
    **{"க": "k", "ங": "ng", "ச": "s", "ஞ": "nj", "ட": "t", "ண": "n", "த": "th", "ந": "n", "ப": "p", "ம": "m", "ய": "y"},
    **{"ர": "r", "ல": "l", "வ": "v", "ழ": "zh", "ள": "l", "ற": "r", "ன": "n"},
    **{"ஜ": "j", "ஶ": "sh", "ஷ": "sh", "ஸ": "s", "ஹ": "h"},
}
# By sound: the letter that begins a word, and the sign behind a consonant.
VOWELS = {
    "aa": ("ஆ", "ா"),
    "i": ("இ", "ி"),
    "ee": ("ஈ", "ீ"),
    "u": ("உ", "ு"),
    "oo": ("ஊ", "ூ"),
    "e": ("எ", "ெ"),
    "ae": ("ஏ", "ே"),
    "ai": ("ஐ", "ை"),
    "o": ("ஒ", "ொ"),
    "oa": ("ஓ", "ோ"),
    "au": ("ஔ", "ௌ"),
    "": ("", "்"),  # no vowel at all
}


def latin_spelling() -> list[tuple[str, str]]:
    """(what is replaced, by what), to be applied in this order: a consonant brings an `a`, which a sign replaces."""
    signs = {sign: sound for sound, (_, sign) in VOWELS.items()}
    letters = {"அ": "a"} | {letter: sound for sound, (letter, _) in VOWELS.items() if letter}
    in_parts = [(parts, whole) for whole in [*signs, *letters] if (parts := normalize("NFD", whole)) != whole]
    return [
        *in_parts,
        ("ஃ", ""),  # in front of ப it makes an f, which few words have
        *((consonant, sound + "a") for consonant, sound in CONSONANTS.items()),
        *((f"a{sign}", sound) for sign, sound in signs.items()),
        *letters.items(),
    ]
