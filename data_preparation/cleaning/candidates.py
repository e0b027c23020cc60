"""Candidate rows on disk, and in memory the few bytes a row (about 200) by which it is kept or rejected."""

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

from cleaning.rows import Rejected, Row, text_key
from raw.raw_folder import Json

KEPT, DISPUTED = 1, 2


class Candidates:
    """Rows by number, in the order of reading; what is rejected goes to rejected.jsonl at once."""

    def __init__(self, path: Path, rejects: TextIO) -> None:
        self.files_read = self.files_refused = self.items_read = 0
        self.rejected: Counter[str] = Counter()
        self.languages: list[str] = []
        self.repeats: list[tuple[str, int]] = []  # (group of a repeat, number of the row that it repeats)
        self.kept = 0
        self._rejects = rejects
        self._path = path
        self._file: BinaryIO = open(path, "wb")
        self._offsets: array[int] = array("Q")
        self._marks = bytearray()
        self._first: dict[int, int] = {}  # text key -> number
        self._offensive = bytearray()
        self._languages = bytearray()  # positions in `languages`
        self._groups: array[int] = array("q")  # hashes of the groups' names

    def read_items(self, rows: Iterable[Row | Rejected]) -> None:
        """Take in what became of one raw file's items."""
        self.files_read += 1
        for row in rows:
            self.items_read += 1
            if isinstance(row, Rejected):
                self.reject(row)
            else:
                self._add(row)

    def _add(self, row: Row) -> None:
        """Take a row in, unless its text is known: as a duplicate, or in conflict where the labels differ."""
        number = self._first.setdefault(text_key(row), len(self._offsets))
        is_offensive = row["label"] == "offensive"
        if number == len(self._offsets):
            self._offsets.append(self._file.tell())
            self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            self._marks.append(0)
            self._offensive.append(is_offensive)
            self._groups.append(hash(row["group"]))
            if row["language"] not in self.languages:
                self.languages.append(row["language"])
            self._languages.append(self.languages.index(row["language"]))
        elif self._offensive[number] == is_offensive:
            self.repeats.append((row["group"], number))
            self.reject(Rejected({**row}, "duplicate"))
        else:
            self._marks[number] |= DISPUTED
            self.reject(Rejected({**row}, "label_conflict"))

    def close(self) -> None:
        """End of reading: rows can be read back from here on, and the memory of the keys is freed."""
        self._file.close()
        self._first.clear()
        self._file = open(self._path, "rb")

    def reject(self, rejected: Rejected) -> None:
        self.rejected[rejected.reason] += 1
        self._write_reject({"reason": rejected.reason, **rejected.entry})

    def reject_number(self, number: int, reason: str, **more: str) -> None:
        """Reject a row that was taken in earlier; `more` is written behind it."""
        self.reject(Rejected({**self.row(number), **more}, reason))

    def reject_file(self, name: str, error: str) -> None:
        self.files_refused += 1
        self._write_reject({"reason": "bad_file", "file": name, "error": error})

    def _write_reject(self, entry: Json) -> None:
        self._rejects.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def row(self, number: int) -> Row:
        self._file.seek(self._offsets[number])
        return json.loads(self._file.readline())

    def rows(self) -> Iterator[tuple[int, Row]]:
        with open(self._path, "rb") as file:
            for number, line in enumerate(file):
                yield number, json.loads(line)

    def rows_at(self, numbers: Sequence[int]) -> Iterator[Row]:
        """The rows of ascending numbers, read in one go through the file."""
        wanted = iter(numbers)
        number = next(wanted, None)
        for at, row in self.rows():
            if at == number:
                yield row
                number = next(wanted, None)

    def undisputed(self, language: str) -> "array[int]":
        """Numbers of a language's rows; rejects those of them whose text a later row had with the other label."""
        numbers: array[int] = array("Q")
        code = self.languages.index(language)
        for number, (mark, own) in enumerate(zip(self._marks, self._languages, strict=True)):
            if own != code:
                continue
            if mark & DISPUTED:
                self.reject_number(number, "label_conflict")
            else:
                numbers.append(number)
        return numbers

    def same_group(self, one: int, other: int) -> bool:
        return self._groups[one] == self._groups[other]

    def keep(self, number: int) -> None:
        self._marks[number] |= KEPT
        self.kept += 1

    def drop_groups_of(self, numbers: set[int], reason: str) -> None:
        """Reject what was kept of the groups of these rows, and of the groups in which their very texts stood again."""
        dropped = {self._groups[number] for number in numbers}
        dropped |= {hash(group) for group, number in self.repeats if number in numbers}
        for number, group in enumerate(self._groups):
            if group in dropped and self.is_kept(number):
                self._marks[number] &= ~KEPT
                self.kept -= 1
                self.reject_number(number, reason)

    def is_kept(self, number: int) -> bool:
        return bool(self._marks[number] & KEPT)
