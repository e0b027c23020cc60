"""Near duplicates by MinHash and LSH (rensa), and the groups that they tie together.

Similarity is Jaccard over a text's character 5-grams (3-grams in Chinese, whose words are about two characters),
after case, punctuation and repeated spaces are taken out. Memory is about 1 kB a text that is kept.
"""

import re

PERMUTATIONS = 128  # standard error of an estimate at 0.8: 0.035
# Four rows a band. rensa's own choice for 0.85 finds 60 % of the pairs at 0.85 to 0.90 and 93 % at 0.90 to 0.95.
BANDS = 32
NON_WORDS = re.compile(r"[\W_]+")
SHINGLE_LENGTHS = {"zh": 3}
EVALUATION = "\x00"  # begins the keys of texts that are held out


def shingles(text: str, language: str) -> list[str]:
    """Character n-grams with one space at each end, so that short texts have some and edges count."""
    length = SHINGLE_LENGTHS.get(language, 5)
    # \W would take Tamil's vowel signs for punctuation.
    plain = " ".join(text.casefold().split()) if language == "ta" else NON_WORDS.sub(" ", text.casefold()).strip()
    plain = f" {plain} "
    return [plain[start : start + length] for start in range(max(1, len(plain) - length + 1))]


class NearDuplicates:
    """Texts of one language seen so far; the first of similar texts is the one that stays."""

    def __init__(self, language: str, threshold: float) -> None:
        from rensa import RMinHashDeduplicator

        self._language = language
        self._index = RMinHashDeduplicator(threshold, PERMUTATIONS, True, BANDS)

    def add(self, texts: list[tuple[str, str]]) -> list[str | None]:
        """For each (key, text) the key of an earlier text that it nearly repeats, None where it is new."""
        tokens = [(key, shingles(text, self._language)) for key, text in texts]
        are_new = self._index.add_pairs(tokens)
        return [None if is_new else self._similar_to(grams)
                for (_, grams), is_new in zip(tokens, are_new, strict=True)]

    def _similar_to(self, grams: list[str]) -> str:
        """A held-out text if there is one among the similar, so that contamination is told from repetition."""
        found = self._index.get_duplicate_sets([grams])[0]
        return min(found, default="")


class Groups:
    """Groups that must not be parted by a split: union-find, a set named by its first member in sort order."""

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
