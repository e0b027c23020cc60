"""Near duplicates by MinHash (rensa) and locality-sensitive hashing, and the groups that they tie together.

Similarity is Jaccard over a text's character 5-grams (3-grams in Chinese, whose words are about two characters),
after case, punctuation and repeated spaces are taken out, estimated from 128 hashes: 512 bytes a text. rensa's own
index needs 3.8 kB a text for the same recall, so bands are sorted here instead, one after the other.
"""

import re
from collections.abc import Iterable
from itertools import islice

import numpy

HASHES = 128  # standard error of an estimate at 0.8: 0.035
# Four hashes a band: of pairs at 0.6 similarity 99 % meet in some band, at 0.8 all but one in ten million.
BANDS = 32
LOOK_BACK = 8
CHUNK = 5_000
NON_WORDS = re.compile(r"[\W_]+")
TAMIL_NON_WORDS = re.compile(r"(?:(?![\u0b80-\u0bff])[\W_])+")
SHINGLE_LENGTHS = {"zh": 3}


def shingles(text: str, language: str) -> list[str]:
    """Character n-grams with one space at each end, so that short texts have some and edges count."""
    length = SHINGLE_LENGTHS.get(language, 5)
    # \W would take Tamil's vowel signs for punctuation; Chinese has no spaces for punctuation to stand for.
    pattern = TAMIL_NON_WORDS if language == "ta" else NON_WORDS
    plain = f" {pattern.sub('' if language == 'zh' else ' ', text.casefold()).strip()} "
    return [plain[start : start + length] for start in range(max(1, len(plain) - length + 1))]


def signatures(texts: Iterable[str], count: int, language: str) -> numpy.ndarray:
    """MinHash signatures of `count` texts: uint32, shape (count, HASHES)."""
    from rensa import RMinHash

    hashes = numpy.empty((count, HASHES), dtype=numpy.uint32)
    texts = iter(texts)
    for start in range(0, count, CHUNK):
        tokens = [shingles(text, language) for text in islice(texts, CHUNK)]
        hashes[start : start + CHUNK] = RMinHash.digest_matrix_from_token_sets(tokens, HASHES, 42).to_rows()
    return hashes


def similar_pairs(hashes: numpy.ndarray, rows: numpy.ndarray, threshold: float) -> numpy.ndarray:
    """Distinct (earlier, later) pairs of `rows` whose estimated similarity reaches the threshold: shape (n, 2).

    Rows that meet in a band are compared with the eight before them and with the first there, not all with all: many
    variants of one text cost no more than their number, and stay connected.
    """
    found = [numpy.empty((0, 2), dtype=numpy.int64)]
    for band in range(BANDS):
        pairs = _meetings(hashes, rows, band)
        for start in range(0, len(pairs), 100_000):
            some = pairs[start : start + 100_000]
            agreement = (hashes[some[:, 0]] == hashes[some[:, 1]]).mean(axis=1)
            found.append(some[agreement >= threshold])
    return numpy.unique(numpy.concatenate(found), axis=0)


def _meetings(hashes: numpy.ndarray, rows: numpy.ndarray, band: int) -> numpy.ndarray:
    width = HASHES // BANDS
    key: numpy.ndarray = numpy.zeros(len(rows), dtype=numpy.uint64)
    for column in range(band * width, (band + 1) * width):
        key = (key ^ hashes[rows, column]) * numpy.uint64(0x9E3779B97F4A7C15)
        key ^= key >> numpy.uint64(29)
    order = numpy.argsort(key, kind="stable")  # rows ascend within a run of equal keys
    key, rows = key[order], rows[order]
    repeats = numpy.flatnonzero(key[1:] == key[:-1]) + 1
    starts = numpy.concatenate([[0], numpy.flatnonzero(key[1:] != key[:-1]) + 1])
    first = starts[numpy.searchsorted(starts, repeats, side="right") - 1]
    before = [first, *(numpy.maximum(repeats - back, first) for back in range(1, LOOK_BACK + 1))]
    return numpy.unique(numpy.concatenate([numpy.stack([rows[one], rows[repeats]], 1) for one in before]), axis=0)


def repeats_of(hashes: numpy.ndarray, held_out: int, threshold: float) -> dict[int, int]:
    """For each row that nearly repeats an earlier one that stays: that earlier row.

    The first `held_out` rows are an evaluation set's, which always stay; a row that repeats one of them is given that.
    """
    like: dict[int, int] = {}
    rows: numpy.ndarray = numpy.arange(len(hashes))
    while True:
        pairs = similar_pairs(hashes, rows, threshold)
        pairs = pairs[pairs[:, 1] >= held_out]
        if not len(pairs):
            return like
        dropped: dict[int, int] = {}
        for earlier, later in pairs[numpy.lexsort((pairs[:, 0], pairs[:, 1]))].tolist():
            if earlier not in dropped:
                dropped.setdefault(later, earlier)
        like |= dropped
        # With these gone others meet in a band: look again until no row repeats another.
        rows = rows[~numpy.isin(rows, list(dropped))]


class Groups:
    """Groups that must lie in one split: union-find, each set named by its first member in sort order."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def root(self, group: str) -> str:
        while (parent := self._parents.get(group, group)) != group:
            self._parents[group] = self._parents.get(parent, parent)
            group = parent
        return group

    def tie(self, one: str, other: str) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        if first != second:
            self._parents[second] = first
