"""Candidate rows on disk, and the few bytes a row that decide their fate in memory (about 150)."""

import json
from array import array
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

CHUNK = 5_000
KEPT, DISPUTED = 1, 2


class Spool:
    """Rows by number in the order of reading; what is rejected goes to rejected.jsonl at once."""

    def __init__(self, path: Path, rejects: TextIO) -> None:
        self.rejected: Counter[str] = Counter()
        self.languages: list[str] = []
        self.repeats: list[tuple[str, int]] = []  # (group of a repeat, number of the row that it repeats)
        self.kept = 0
        self._rejects = rejects
        self._path = path
        self._file = open(path, "wb")
        self._offsets = array("Q")
        self._fates = bytearray()
        self._first: dict[int, int] = {}  # text key -> number
        self._offensive = bytearray()

    def add(self, row: dict, key: int) -> None:
        """Take a row in, unless its text is known: as a duplicate, or in conflict where the labels differ."""
        number = self._first.setdefault(key, len(self._offsets))
        is_offensive = row["label"] == "offensive"
        if number == len(self._offsets):
            self._offsets.append(self._file.tell())
            self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            self._fates.append(0)
            self._offensive.append(is_offensive)
            if row["language"] not in self.languages:
                self.languages.append(row["language"])
        elif self._offensive[number] == is_offensive:
            self.repeats.append((row["group"], number))
            self.reject(row, "duplicate")
        else:
            self._fates[number] |= DISPUTED
            self.reject(row, "label_conflict")

    def close(self) -> None:
        """End of reading: rows can be read back from here on, and the keys' memory is given back."""
        self._file.close()
        self._first.clear()
        self._file = open(self._path, "rb")

    def reject(self, row: dict, reason: str) -> None:
        self.rejected[reason] += 1
        self._write_reject({"reason": reason, **row})

    def refuse_file(self, name: str, fault: str) -> None:
        self._write_reject({"reason": "bad_file", "file": name, "fault": fault})

    def _write_reject(self, entry: dict) -> None:
        self._rejects.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def row(self, number: int) -> dict:
        self._file.seek(self._offsets[number])
        return json.loads(self._file.readline())

    def rows(self) -> Iterator[tuple[int, dict]]:
        with open(self._path, "rb") as file:
            for number, line in enumerate(file):
                yield number, json.loads(line)

    def chunks(self) -> Iterator[tuple[tuple[int, dict], ...]]:
        rows = self.rows()
        while chunk := tuple(islice(rows, CHUNK)):
            yield chunk

    def keep(self, number: int) -> None:
        self._fates[number] |= KEPT
        self.kept += 1

    def is_kept(self, number: int) -> bool:
        return bool(self._fates[number] & KEPT)

    def rejected_as_conflict(self, number: int, row: dict) -> bool:
        """Reject the row if a later one had its text and the other label."""
        if not self._fates[number] & DISPUTED:
            return False
        self.reject(row, "label_conflict")
        return True
