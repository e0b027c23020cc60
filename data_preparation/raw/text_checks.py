"""What can be told about a text without a model: its script and language, and whether it can be a translation."""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from raw.refusals import is_refusal

LANGUAGE_NAMES = {"Chinese": "zh", "Malay": "ms", "Tamil": "ta"}
# Share of a text's letters that must be of its language's script: a Chinese or Tamil meme may well keep MRT or PSLE.
SCRIPT_SHARES = {"zh": ("CJK", 0.3), "ta": ("TAMIL", 0.3), "ms": ("LATIN", 0.9), "en": ("LATIN", 0.9)}
# Bounds of translated length over English length, in characters: Chinese is short, Tamil long.
LENGTH_RATIOS = {"zh": (0.08, 1.5), "ms": (0.4, 3.0), "ta": (0.4, 4.0)}
LATIN_LETTER = re.compile("[A-Za-z]")
# Small words that the other language does not have; what both have ("air", "main", "dan" in a name) is left out.
MALAY_WORDS = frozenset(
    "abang ada adalah adik aku akan anak apa apakah atau awak bagi bahawa banyak baru beli belum benar bila bisa boleh "
    "buat bukan cakap cara cuma dah dalam dan dapat dari daripada dekat dengan di dia dorang duit engkau esok guna "
    "hanya harus hari hendak hidup ialah ibu ini itu jadi jadikan jangan je jika juga kalau kami kat kau kawan ke "
    "kecuali kena kenapa kepada kerana kerja kita kalian kamu korang kot lagi lain lelaki lebih macam makan makcik "
    "mana masa masih masuk mereka mesti mungkin nak nampak nanti nya oleh orang pada pakai paling pakcik pandai pasal "
    "perempuan pergi perlu pernah pula pun punya rasa rumah saja sahaja saling sama sampai sangat satu saya sebab "
    "sebelum sedang sekarang selalu selepas semua sendiri seorang seperti siapa sini suka sudah sungguh supaya "
    "tahu tahun tak takde tanpa tapi telah tempat tentang terus tetapi tiada tiap tidak tolong tu untuk waktu walaupun "
    "wanita yang memang semuanya makin bakal sikit betul kecil besar contoh gambar dunia khabar selamat malam "
    "cinta".split()
)
ENGLISH_WORDS = frozenset(
    "a about after all also always am an and another any are as at be because been before being but by can cannot "
    "could did do does doing down ever every for from get gets go goes going gonna got had has have he her here him "
    "his how i if in into is it its just know let like make man me more most must my never no nobody not now of off on "
    "once one only or other our out over people really said same say says see she should so some someone still such "
    "take than that the their them then there these they this those time to too under until up us very want wants was "
    "we were what when where which while who whole why will with without would you your".split()
)
WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
NO_LETTERS = re.compile(r"[\W_]+")
SHORT_TEXT_SLACK = 24  # characters above the ratio that a short text may always take


@lru_cache(maxsize=100_000)
def _script_of(character: str) -> str:
    """First word of a letter's or vowel sign's Unicode name (LATIN, CJK, TAMIL, ...), empty for all else."""
    is_letter = unicodedata.category(character)[0] in "LM"
    return unicodedata.name(character, "UNKNOWN").split(" ")[0] if is_letter else ""


def script_share(text: str, script: str) -> float:
    """Share of the letters that are of the script; 1.0 for a text without letters."""
    scripts = Counter(map(_script_of, text))
    letters = scripts.total() - scripts[""]
    return scripts[script] / letters if letters else 1.0


def has_expected_script(text: str, language: str) -> bool:
    script, least = SCRIPT_SHARES[language]
    if text.isascii():
        return script == "LATIN" or not LATIN_LETTER.search(text)
    return script_share(text, script) >= least


def language_of(text: str) -> str:
    """`en`, `zh`, `ms` or `ta`: by script, and Malay or English by their small words; English where nothing tells."""
    for language in ("ta", "zh"):
        script, least = SCRIPT_SHARES[language]
        if text and not text.isascii() and script_share(text, script) >= least:
            return language
    words = WORD.findall(text.casefold())
    malay = sum(word in MALAY_WORDS for word in words)
    return "ms" if malay > sum(word in ENGLISH_WORDS for word in words) else "en"


def letters_only(text: str) -> str:
    """Casefolded letters, vowel signs and digits: what is left when two texts are compared for sameness."""
    if text.isascii():
        return NO_LETTERS.sub("", text.casefold())
    return "".join(character for character in text.casefold() if unicodedata.category(character)[0] in "LMN")


def translation_problem(source: str, translated: object, language: str) -> str | None:
    """Why `translated` is no translation of the English `source` into `language`, or None where it may be one."""
    if not isinstance(translated, str):
        return "malformed"
    if not translated.strip():
        return "empty"
    if is_refusal(translated) and not is_refusal(source):
        return "refusal"
    if letters_only(translated) == letters_only(source):
        return "untranslated"
    if not has_expected_script(translated, language):
        return "wrong_script"
    shortest, longest = LENGTH_RATIOS[language]
    if not shortest * len(source) <= len(translated) <= longest * len(source) + SHORT_TEXT_SLACK:
        return "implausible_length"
    return None
